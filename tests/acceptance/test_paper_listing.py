"""A token and a pool are listed while the paper market runs, and can be traded from then on."""

import asyncio
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import psycopg2
import pytest
from aiohttp.web import Application

from service.api.market_schemas import PoolSchema
from service.chains.paper import commands
from service.chains.paper.pool_json import PROGRAMS
from service.domain.tokens import TOKENS
from tests.conftest import service_on
from tests.support.gem_market import (
    GEM_POOL,
    buy,
    ended,
    forget_listed_tokens,
    limit,
    list_pool,
    poll,
    quoted,
    rows,
    sell,
    sniper,
    until_status,
)
from tests.support.judge import audit_now
from tests.support.orders import Client, Json, execute, place
from tests.support.servers import TestServers

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]


async def get(client: Client, path: str) -> Any:
    async with client.get(path) as answer:
        assert answer.status == 200
        return await answer.json()


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_pool_of_every_program_is_listed_and_traded_both_ways(start: Start, program: str) -> None:
    client = await start()
    pool = await list_pool(client, program=program)
    assert PoolSchema().validate(pool) == {}
    assert (pool["venue"], pool["program"]) == (PROGRAMS[program], program)
    assert (pool["tokenA"], pool["tokenB"]) == ("GEM", "USDC")
    assert (pool["amountA"], pool["amountB"]) == ("1000000", "100000")
    assert abs(Fraction(pool["price"]) - Fraction(1, 10)) < Fraction(1, 1000)
    [token] = [token for token in (await get(client, "/api/tokens"))["tokens"] if token["symbol"] == "GEM"]
    assert token["decimals"] == 6
    assert [each["id"] for each in (await get(client, "/api/pools?token=GEM"))["pools"]] == [pool["id"]]
    out = await quoted(client, "50")
    assert 480 < out < 500
    bought = await buy(client, "50")
    assert (bought["status"], bought["venue"]) == ("confirmed", PROGRAMS[program])
    assert Fraction(bought["amountOut"]) == out
    assert (await sell(client, bought["amountOut"]))["status"] == "confirmed"


async def test_a_token_is_traded_through_another(start: Start) -> None:
    client = await start()
    await list_pool(client)
    order = await execute(client, tokenIn="SOL", tokenOut="GEM", amountIn="1")
    assert order["status"] == "confirmed"
    assert [leg["tokenOut"] for leg in order["route"]["paths"][0]["legs"]] == ["USDC", "GEM"]


async def test_a_token_keeps_the_decimals_of_its_first_listing(start: Start, servers: TestServers) -> None:
    client = await start()
    pool = await list_pool(client, decimals=0, amountA="5000", amountB="1000")
    assert pool["amountA"] == "5000"
    # Another pool does not change the token.
    second = await list_pool(client, program="meteora_damm_v2", decimals=9, amountA="5000", amountB="1000")
    assert second["amountA"] == "5000"
    assert rows(servers, "SELECT symbol, decimals FROM paper_tokens") == [("GEM", 0)]
    order = await buy(client, "100")
    assert order["amountOut"].isdecimal()


async def test_a_pool_that_exists_is_not_listed_twice(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    async with client.post("/api/paper/pools", json={**GEM_POOL, "amountA": "1"}) as answer:
        assert answer.status == 409
    async with client.post(
        "/api/paper/pools", json={**GEM_POOL, "tokenA": "SOL", "amountA": "100", "amountB": "20000"}
    ) as answer:
        assert answer.status == 409
    assert rows(servers, "SELECT count(*) FROM paper_pools WHERE token_a = 'GEM'") == [(1,)]


async def test_a_pool_is_the_same_in_either_order_of_its_tokens(start: Start) -> None:
    client = await start()
    await list_pool(client)
    for first, second in (("USDC", "GEM"), ("USDC", "SOL"), ("SOL", "USDC")):
        body = {**GEM_POOL, "tokenA": first, "tokenB": second}
        async with client.post("/api/paper/pools", json=body) as answer:
            assert answer.status == 409, (first, second, await answer.json())


async def test_a_pool_is_delisted_and_its_tokens_remain_known(start: Start, servers: TestServers) -> None:
    client = await start()
    pool = await list_pool(client)
    bought = await buy(client, "100")
    waiting = await limit(client, "1000000")
    later = await sniper(client, {"minLiquidity": {"amount": "40000000000"}}, slippageBps=10_000)
    path = f"/api/paper/pools/{pool['id']}"
    async with client.delete(path) as answer:
        assert answer.status == 204
    async with client.delete(path) as answer:
        assert answer.status == 404
    assert pool["id"] not in {each["id"] for each in (await get(client, "/api/pools"))["pools"]}
    assert "GEM" not in {each["symbol"] for each in (await get(client, "/api/tokens"))["tokens"]}
    # The bought tokens remain in the wallet, and cannot be sold.
    sold = await sell(client, bought["amountOut"])
    assert (sold["status"], sold["failureReason"]) == ("failed", "no_route")
    assert rows(servers, "SELECT count(*) FROM paper_wallets WHERE token = 'GEM' AND balance > 0") == [(1,)]
    assert await audit_now(servers) == []
    for order in (waiting, later):
        assert (await get(client, f"/api/orders/{order['id']}"))["status"] == "open"
    # The token is unchanged; waiting orders continue with its next pool.
    again = await list_pool(client, decimals=9, amountA="50000000000", amountB="1000")
    assert again["id"] == pool["id"]
    assert (await ended(client, waiting))["status"] == "confirmed"
    assert (await ended(client, later))["status"] == "confirmed"
    assert await audit_now(servers) == []


async def test_an_order_fails_if_its_pool_is_delisted_during_execution(start: Start) -> None:
    client = await start(EXECUTION_DELAY_MS="400", SLOT_MS="50")
    pool = await list_pool(client)
    order = await place(client, tokenIn="USDC", tokenOut="GEM", amountIn="1", orderType="market")
    await until_status(client, order, "submitted")
    async with client.delete(f"/api/paper/pools/{pool['id']}") as answer:
        assert answer.status == 204
    end = await ended(client, order)
    assert (end["status"], end["failureReason"]) == ("failed", "no_route")


async def test_only_listed_pools_are_delisted(start: Start) -> None:
    client = await start()
    for name, status in (
        ("raydium:SOL-USDC:cpmm", 409),
        ("raydium:SOL-NONE:cpmm", 404),
        ("%00", 404),
        ("%F0%9F%98%80", 404),
        ("x" * 200, 404),
    ):
        async with client.delete(f"/api/paper/pools/{name}") as answer:
            assert answer.status == status, name
            assert answer.content_type == "application/problem+json"


async def test_the_number_of_listed_pools_is_limited(
    start: Start, monkeypatch: pytest.MonkeyPatch, servers: TestServers
) -> None:
    monkeypatch.setattr(commands, "MOST_LISTED", 2)
    client = await start()
    first = await list_pool(client, tokenA="ONE")
    await list_pool(client, tokenA="TWO")
    async with client.post("/api/paper/pools", json=GEM_POOL) as answer:
        assert answer.status == 409
    async with client.delete(f"/api/paper/pools/{first['id']}") as answer:
        assert answer.status == 204
    await list_pool(client)
    # The rejected listing left no token.
    assert rows(servers, "SELECT symbol FROM paper_tokens ORDER BY 1") == [("GEM",), ("ONE",), ("TWO",)]


async def test_scheduled_pools_replace_the_oldest(
    start: Start, monkeypatch: pytest.MonkeyPatch, servers: TestServers
) -> None:
    monkeypatch.setattr(commands, "MOST_SCHEDULED", 2)
    client = await start(PAPER_LISTING_EVERY_S="1", SLOT_MS="50")
    mine = await list_pool(client)
    await poll(lambda: rows(servers, "SELECT count(*) FROM paper_tokens WHERE symbol <> 'GEM'")[0][0] >= 4)
    ids = {each["id"] for each in (await get(client, "/api/pools"))["pools"]}
    assert mine["id"] in ids
    assert "raydium:NEW1-SOL:cpmm" not in ids
    assert rows(servers, "SELECT count(*) FROM paper_pools WHERE origin = 'scheduled'") == [(2,)]


async def test_one_of_many_concurrent_listings_of_a_pool_succeeds(start: Start) -> None:
    client = await start()

    async def try_to() -> int:
        async with client.post("/api/paper/pools", json=GEM_POOL) as answer:
            return answer.status

    assert sorted(await asyncio.gather(*(try_to() for _ in range(8)))) == [201, *[409] * 7]


async def test_concurrent_listings_of_a_token_agree_on_its_decimals(
    start: Start, servers: TestServers
) -> None:
    client = await start()

    async def try_to(program: str, decimals: int) -> tuple[int, Json]:
        body = {**GEM_POOL, "program": program, "decimals": decimals}
        async with client.post("/api/paper/pools", json=body) as answer:
            return answer.status, await answer.json()

    answers = await asyncio.gather(try_to("raydium_cpmm", 6), try_to("raydium_amm_v4", 9))
    assert {status for status, _body in answers} <= {201, 409, 422}
    pools = (await get(client, "/api/pools?token=GEM"))["pools"]
    assert pools
    for pool in pools:
        assert Fraction(pool["amountA"]) == 1_000_000
    [(decimals,)] = rows(servers, "SELECT decimals FROM paper_tokens")
    assert decimals == TOKENS["GEM"].decimals


async def test_a_symbol_is_unique_without_regard_to_case(start: Start, servers: TestServers) -> None:
    client = await start()

    async def try_to(symbol: str, **changes: Any) -> tuple[int, Json]:
        body = {**GEM_POOL, "tokenA": symbol, **changes}
        async with client.post("/api/paper/pools", json=body) as answer:
            return answer.status, await answer.json()

    for side, other in (("tokenA", "tokenB"), ("tokenB", "tokenA")):
        status, body = await try_to("GEM", **{side: "usdc", other: "SOL"})
        assert (status, [error["pointer"] for error in body["errors"]]) == (422, [f"#/{side}"])
    # At once: neither request sees the other's token.
    answers = await asyncio.gather(*(try_to(symbol) for symbol in ("GEM", "gem", "Gem", "GEm")))
    assert sorted(status for status, _body in answers)[:1] == [201]
    assert {status for status, _body in answers[1:]} <= {201, 409, 422}
    assert rows(servers, "SELECT count(*) FROM paper_tokens") == [(1,)]
    [token] = [
        each for each in (await get(client, "/api/tokens"))["tokens"] if each["symbol"].upper() == "GEM"
    ]
    [pool] = (await get(client, f"/api/pools?token={token['mint']}"))["pools"]
    assert pool["tokenA"] == token["symbol"]


async def test_a_token_that_nobody_has_named_is_sniped_and_traded_by_its_mint(
    start: Start, servers: TestServers
) -> None:
    client, mint = await start(), "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
    waiting = await sniper(
        client, {"poolCreated": {"venue": "any"}}, tokenOut=mint, amountIn="10", slippageBps=10_000
    )
    assert waiting["tokenOut"] == mint
    pool = await list_pool(client, tokenA=mint)
    assert (pool["tokenA"], pool["id"]) == (mint, f"raydium:{mint}-USDC:cpmm")
    filled = await ended(client, waiting)
    assert (filled["status"], filled["tokenOut"]) == ("confirmed", mint)
    [token] = [each for each in (await get(client, "/api/tokens"))["tokens"] if each["mint"] == mint]
    assert token == {"symbol": mint, "mint": mint, "decimals": 6}
    sold = await execute(
        client, tokenIn=mint, tokenOut="USDC", amountIn=filled["amountOut"], slippageBps=10_000
    )
    assert sold["status"] == "confirmed"
    assert [each["id"] for each in (await get(client, f"/api/orders?tokenIn={mint}"))["orders"]] == [
        sold["id"]
    ]
    # Its name is its mint from now on.
    assert rows(servers, "SELECT symbol, mint FROM paper_tokens") == [(mint, mint)]
    async with client.delete(f"/api/paper/pools/{pool['id']}") as answer:
        assert answer.status == 204
    assert await audit_now(servers) == []


async def test_postgresql_rejects_a_look_alike_symbol(start: Start, servers: TestServers) -> None:
    await list_pool(await start())
    insert = "INSERT INTO paper_tokens (symbol, mint, decimals) VALUES ('{0}', 'mint of {0}', 6) RETURNING 1"
    with pytest.raises(psycopg2.errors.UniqueViolation):
        rows(servers, insert.format("gEM"))
    with pytest.raises(psycopg2.errors.CheckViolation):
        rows(servers, insert.format("uSDC"))


async def test_an_invalid_pool_is_rejected_with_a_pointer(start: Start, servers: TestServers) -> None:
    client = await start()
    refused: list[tuple[Json, str | None]] = [
        ({"program": "orca"}, "#/program"),
        ({"program": None}, "#/program"),
        ({"tokenA": "GE M"}, "#/tokenA"),
        ({"tokenA": ""}, "#/tokenA"),
        ({"tokenA": "G" * 17}, "#/tokenA"),
        ({"tokenA": 7}, "#/tokenA"),
        ({"tokenB": "GEM"}, "#/tokenB"),
        ({"tokenB": "GOLD"}, "#/tokenB"),
        ({"amountA": "0"}, "#/amountA"),
        ({"amountA": "-1"}, "#/amountA"),
        ({"amountA": 1}, "#/amountA"),
        ({"amountA": "1.0000001"}, "#/amountA"),
        ({"amountB": "99999999999999999999"}, "#/amountB"),
        ({"decimals": 13}, "#/decimals"),
        ({"decimals": -1}, "#/decimals"),
        ({"decimals": "6"}, "#/decimals"),
        ({"decimals": True}, "#/decimals"),
        ({"id": "x"}, "#/id"),
        # No program can represent such an extreme price.
        ({"program": "meteora_damm_v2", "amountA": "0.000001", "amountB": "18446744073709"}, None),
    ]
    for changes, pointer in refused:
        async with client.post("/api/paper/pools", json={**GEM_POOL, **changes}) as answer:
            body = await answer.json()
            if pointer is None:
                assert answer.status in {201, 422}, (changes, body)
                continue
            assert answer.status == 422, (changes, body)
            assert [error["pointer"] for error in body["errors"]] == [pointer], changes
    assert rows(servers, "SELECT count(*) FROM paper_tokens") in ([(0,)], [(1,)])


@pytest.mark.parametrize("program", PROGRAMS)
async def test_extreme_amounts_are_listed_or_rejected_and_never_break_the_market(
    start: Start, program: str
) -> None:
    client = await start()
    for number, (amount_a, amount_b) in enumerate(
        [
            ("0.000001", "0.000001"),
            ("0.000001", "18446744073709.551615"),
            ("18446744073709.551615", "0.000001"),
            ("18446744073709.551615", "18446744073709.551615"),
            ("1000", "0.000001"),
        ]
    ):
        body = {
            **GEM_POOL,
            "program": program,
            "tokenA": f"EDGE{number}",
            "amountA": amount_a,
            "amountB": amount_b,
        }
        async with client.post("/api/paper/pools", json=body) as answer:
            pool = await answer.json()
            assert answer.status in {201, 422}, pool
            # Exactly as sent, or not at all.
            assert answer.status == 422 or (pool["amountA"], pool["amountB"]) == (amount_a, amount_b)
    assert (await execute(client))["status"] == "confirmed"
    await get(client, "/api/pools")


async def test_listed_pools_survive_a_restart(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    first = await aiohttp_client(service_on(servers).web)
    pool = await list_pool(first, decimals=3)
    bought = await buy(first, "10")
    await first.close()
    del TOKENS["GEM"]
    second = await aiohttp_client(service_on(servers).web)
    assert TOKENS["GEM"].decimals == 3
    [there] = (await get(second, "/api/pools?token=GEM"))["pools"]
    assert there["id"] == pool["id"]
    assert (await get(second, f"/api/orders/{bought['id']}"))["amountOut"] == bought["amountOut"]
    assert (await sell(second, bought["amountOut"]))["status"] == "confirmed"


async def test_listings_are_scheduled_if_configured(start: Start, servers: TestServers) -> None:
    client = await start(PAPER_LISTING_EVERY_S="1")
    await poll(lambda: rows(servers, "SELECT count(*) FROM paper_tokens") == [(2,)])
    assert rows(servers, "SELECT symbol FROM paper_tokens ORDER BY 1") == [("NEW1",), ("NEW2",)]
    pools = (await get(client, "/api/pools?token=NEW1"))["pools"]
    assert [pool["venue"] for pool in pools] == ["raydium"]
    order = await execute(client, tokenIn="SOL", tokenOut="NEW1", amountIn="0.1")
    assert order["status"] == "confirmed"
