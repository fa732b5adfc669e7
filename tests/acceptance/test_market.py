"""The market's routes over HTTP: quotes of both DEXs, tokens, pools."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer

from service.api.market_schemas import PoolListSchema, QuoteSchema, TokenListSchema
from service.api.problem_schemas import ProblemSchema
from service.domain.failures import FailureCode
from service.domain.tokens import TOKENS
from tests.conftest import service_on
from tests.support.orders import Client, Json, execute
from tests.support.paper import quiet_slot_ms
from tests.support.servers import TestCluster, TestServers

Serve = Callable[..., Awaitable[Client]]

# One service for all tests that change nothing.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SELL = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50"}
BUY = {"tokenIn": "SOL", "tokenOut": "USDC", "amountOut": "150.5"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: TestCluster) -> AsyncIterator[Client]:
    async with client_of(cluster.new()) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def serve(servers: TestServers) -> AsyncIterator[Serve]:
    """Return a starter of services for one test."""
    async with AsyncExitStack() as stack:

        async def serve(**environment: str) -> Client:
            return await stack.enter_async_context(client_of(servers, **environment))

        yield serve


def client_of(servers: TestServers, **environment: str) -> Client:
    """Return a client of a service whose market changes only by orders."""
    service = service_on(servers, SLOT_MS=str(quiet_slot_ms(servers)), PAPER_SEED="7", **environment)
    return TestClient(TestServer(service.web))


async def ask(client: Client, path: str, **query: str) -> Json:
    async with client.get(path, params=query) as answer:
        body: Json = await answer.json()
        assert answer.status == 200, body
        return body


async def refused(client: Client, path: str, query: Any, status: int = 422) -> Json:
    """Return the problem of a rejected query."""
    async with client.get(path, params=query) as answer:
        body: Json = await answer.json(content_type="application/problem+json")
        assert answer.status == body["status"] == status, body
    assert ProblemSchema().validate(body) == {}
    return body


def number(text: str) -> Fraction:
    return Fraction(text)


# --- GET /api/quotes


async def test_a_quote_shows_both_dexs_side_by_side(client: Client) -> None:
    quote = await ask(client, "/api/quotes", **SELL)
    assert QuoteSchema().validate(quote) == {}
    assert (quote["tokenIn"], quote["tokenOut"], quote["swapMode"]) == ("SOL", "USDC", "exactIn")
    assert (quote["amountIn"], quote["slippageBps"]) == ("1.5", 100)
    offers = quote["quotes"]
    assert {offer["venue"] for offer in offers} == {"raydium", "meteora"}
    assert len(offers) == 4
    best = max(offers, key=lambda offer: number(offer["amountOut"]))
    assert best["chosen"]
    assert (quote["venue"], quote["amountOut"]) == (best["venue"], best["amountOut"])
    assert number(quote["priceImpact"]) == number(best["priceImpact"])
    for offer in offers:
        [fee] = offer["fees"]
        assert fee["token"] in {"SOL", "USDC"}
        assert number(fee["amount"]) > 0
        assert 0 <= number(offer["priceImpact"]) < Fraction(1, 100)


async def test_a_quote_has_the_possible_outcomes_of_its_order(client: Client) -> None:
    quote = await ask(client, "/api/quotes", **SELL, slippageBps="50")
    out = number(quote["amountOut"]) * 10**6
    assert number(quote["minimumOut"]) * 10**6 == out * 9_950 // 10_000
    assert quote["maximumIn"] == quote["amountIn"]
    assert 0 <= out / 10**6 / number("1.5") - number(quote["price"]) < Fraction(1, 10**14)
    made, over = (datetime.fromisoformat(quote[name]) for name in ("quotedAt", "expiresAt"))
    assert over - made == timedelta(seconds=2)
    assert abs(datetime.now(made.tzinfo) - made) < timedelta(seconds=30)
    assert quote["quotedAt"].endswith("Z")


async def test_an_amount_out_is_quoted_with_its_amount_in(client: Client) -> None:
    quote = await ask(client, "/api/quotes", **BUY)
    assert QuoteSchema().validate(quote) == {}
    assert (quote["swapMode"], quote["amountOut"], quote["minimumOut"]) == ("exactOut", "150.5", "150.5")
    paid = number(quote["amountIn"]) * 10**9
    assert number(quote["maximumIn"]) * 10**9 == paid * 10_100 // 10_000
    cheapest = min(quote["quotes"], key=lambda offer: number(offer["amountIn"]))
    assert quote["amountIn"] == cheapest["amountIn"]
    assert cheapest["chosen"]
    # The quoted cost buys that amount, and one unit less does not.
    back = await ask(client, "/api/quotes", tokenIn="SOL", tokenOut="USDC", amountIn=quote["amountIn"])
    assert number(back["amountOut"]) >= number("150.5")


async def test_quoting_changes_nothing(client: Client) -> None:
    before = await ask(client, "/api/pools")
    first = await ask(client, "/api/quotes", **SELL)
    second = await ask(client, "/api/quotes", **SELL)
    timeless = dict.fromkeys(("quotedAt", "expiresAt"))
    assert {**first, **timeless} == {**second, **timeless}
    assert (await ask(client, "/api/pools"))["pools"] == before["pools"]


async def test_a_large_amount_is_quoted_over_both_dexs(client: Client) -> None:
    quote = await ask(client, "/api/quotes", tokenIn="SOL", tokenOut="USDC", amountIn="20000")
    assert QuoteSchema().validate(quote) == {}
    assert quote["venue"] == quote["route"]["venue"] == "multiple"
    legs = [leg for path in quote["route"]["paths"] for leg in path["legs"]]
    assert {leg["venue"] for leg in legs} == {"raydium", "meteora"}
    best = max(number(offer["amountOut"]) for offer in quote["quotes"])
    assert number(quote["route"]["beat"]["amountOut"]) == best < number(quote["amountOut"])
    assert number(quote["priceImpact"]) > Fraction(1, 1_000)


@pytest.mark.parametrize("amount", [{"amountIn": "100"}, {"amountOut": "100000"}])
async def test_a_pair_without_a_pool_is_quoted_through_a_hub(client: Client, amount: dict[str, str]) -> None:
    quote = await ask(client, "/api/quotes", tokenIn="JUP", tokenOut="BONK", **amount)
    assert QuoteSchema().validate(quote) == {}
    assert quote["quotes"] == []
    for path in quote["route"]["paths"]:
        assert [leg["tokenOut"] for leg in path["legs"]][-1] == "BONK"
        assert len(path["legs"]) == 2


@pytest.mark.parametrize(
    "query",
    [{}, {"amountIn": "0.00001"}, {"amountIn": "1000000"}, {"slippageBps": "0"}, {"slippageBps": "10000"}],
)
@pytest.mark.parametrize("token_in", TOKENS)
async def test_every_pair_has_a_quote(client: Client, token_in: str, query: dict[str, str]) -> None:
    for token_out in TOKENS:
        if token_out != token_in:
            asked = {"tokenIn": token_in, "tokenOut": token_out, "amountIn": "10", **query}
            async with client.get("/api/quotes", params=asked) as answer:
                body = await answer.json(content_type=None)
            if answer.status == 200:
                assert QuoteSchema().validate(body) == {}
            else:
                assert (answer.status, body["reason"]) in {
                    (422, "amount_too_small"),
                    (422, "insufficient_liquidity"),
                }, body


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ({}, ["#/amountIn", "#/tokenIn", "#/tokenOut"]),
        ({"tokenIn": "SOL"}, ["#/amountIn", "#/tokenOut"]),
        ({"tokenIn": "SOL", "tokenOut": "USDC"}, ["#/amountIn"]),
        ({**SELL, "amountOut": "1"}, ["#/amountOut"]),
        ({**SELL, "tokenIn": "DOGE"}, ["#/tokenIn"]),
        ({**SELL, "tokenIn": ""}, ["#/tokenIn"]),
        ({**SELL, "tokenOut": "\0"}, ["#/tokenOut"]),
        ({**SELL, "tokenOut": "sol"}, ["#/tokenOut"]),
        ({**SELL, "tokenOut": "SOL"}, ["#/tokenOut"]),
        *(
            ({**SELL, "amountIn": text}, ["#/amountIn"])
            for text in (
                "",
                "0",
                "-1",
                "1e3",
                "NaN",
                "1,5",
                ".5",
                "1.",
                "9" * 2_000,
                "\uff11",
                "1.0000000001",
            )
        ),
        *(
            ({**BUY, "amountOut": text}, ["#/amountOut"])
            for text in ("", "0", "0.0000001", "18446744073709.6")
        ),
        *(
            ({**SELL, "slippageBps": text}, ["#/slippageBps"])
            for text in ("", "-1", "10001", "1.5", "x", "1" * 30, "+1")
        ),
        ({**SELL, "orderType": "market"}, ["#/orderType"]),
        ({**SELL, "a/b~c": "1"}, ["#/a~1b~0c"]),
        ([*SELL.items(), ("amountIn", "2")], ["#/amountIn"]),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_bad_query_for_a_quote_is_422_and_named(
    client: Client, query: Any, pointers: list[str]
) -> None:
    problem = await refused(client, "/api/quotes", query)
    assert sorted(error["pointer"] for error in problem["errors"]) == pointers


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"tokenIn": "BONK", "tokenOut": "SOL", "amountIn": "0.00001"}, "amount_too_small"),
        ({"tokenIn": "SOL", "tokenOut": "USDC", "amountOut": "18446744073709"}, "insufficient_liquidity"),
        ({"tokenIn": "JUP", "tokenOut": "BONK", "amountOut": "184467440737095"}, "insufficient_liquidity"),
    ],
)
async def test_a_pair_that_cannot_be_quoted_has_a_reason(
    client: Client, query: dict[str, str], reason: str
) -> None:
    problem = await refused(client, "/api/quotes", query)
    assert problem["reason"] == reason
    assert problem["detail"].endswith(".")
    assert "errors" not in problem


async def test_a_quote_is_503_while_no_venue_responds(serve: Serve) -> None:
    client = await serve(PAPER_FAULTS="down=1")
    for query in (SELL, {"tokenIn": "JUP", "tokenOut": "BONK", "amountIn": "100"}):
        async with client.get("/api/quotes", params=query) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
            assert (await answer.json(content_type=None))["reason"] == "quotes_unavailable"


async def test_a_quote_waits_for_a_slow_venue_until_its_time_out(serve: Serve) -> None:
    client = await serve(QUOTE_DELAY_MS="60000", QUOTE_TIMEOUT_MS="50")
    problem = await refused(client, "/api/quotes", SELL, 503)
    assert problem["reason"] == FailureCode.QUOTES_UNAVAILABLE


async def test_other_methods_are_405(client: Client) -> None:
    for path in ("/api/quotes", "/api/tokens", "/api/pools"):
        async with client.post(path, json={}) as answer:
            assert (answer.status, answer.content_type) == (405, "application/problem+json")


async def test_an_order_gets_its_quote(serve: Serve) -> None:
    client = await serve()
    for terms in (SELL, BUY, {"tokenIn": "JUP", "tokenOut": "BONK", "amountIn": "100"}):
        quote = await ask(client, "/api/quotes", **terms)
        order = await execute(client, **terms)
        assert (order["quotes"], order["route"]) == (quote["quotes"], quote["route"])
        assert number(order["amountOut"]) == number(quote["amountOut"])
        assert number(order["amountIn"]) == number(quote["amountIn"])
        assert order["realisedSlippage"] == "0"


# --- GET /api/tokens


async def test_every_token_is_listed(client: Client) -> None:
    body = await ask(client, "/api/tokens")
    assert TokenListSchema().validate(body) == {}
    assert [token["symbol"] for token in body["tokens"]][:6] == ["SOL", "USDC", "USDT", "JUP", "RAY", "BONK"]
    assert body["tokens"][0] == {
        "symbol": "SOL",
        "mint": "So11111111111111111111111111111111111111112",
        "decimals": 9,
    }


# --- GET /api/pools


async def test_every_pool_is_listed(client: Client) -> None:
    body = await ask(client, "/api/pools")
    assert PoolListSchema().validate(body) == {}
    assert body["slot"] > 0
    pools = body["pools"]
    assert [pool["id"] for pool in pools] == sorted(pool["id"] for pool in pools)
    assert {(pool["venue"], pool["program"]) for pool in pools} == {
        ("raydium", "raydium_cpmm"),
        ("raydium", "raydium_amm_v4"),
        ("meteora", "meteora_dlmm"),
        ("meteora", "meteora_damm_v2"),
    }
    for pool in pools:
        assert min(number(pool["amountA"]), number(pool["amountB"]), number(pool["price"])) > 0
    # The two DEXs' prices of a pair differ as the setting says, by 2 to 5 %.
    prices = {
        venue: [
            number(p["price"])
            for p in pools
            if (p["venue"], p["tokenA"], p["tokenB"]) == (venue, "SOL", "USDC")
        ]
        for venue in ("raydium", "meteora")
    }
    apart = abs(prices["raydium"][0] / prices["meteora"][0] - 1)
    assert Fraction(15, 1_000) < apart < Fraction(6, 100)


@pytest.mark.parametrize("venue", ["raydium", "meteora"])
async def test_pools_are_listed_by_venue_and_token(client: Client, venue: str) -> None:
    every = (await ask(client, "/api/pools"))["pools"]
    of_venue = (await ask(client, "/api/pools", venue=venue))["pools"]
    assert of_venue == [pool for pool in every if pool["venue"] == venue]
    of_both = (await ask(client, "/api/pools", venue=venue, token="BONK"))["pools"]
    assert of_both == [pool for pool in of_venue if "BONK" in {pool["tokenA"], pool["tokenB"]}]
    assert of_both


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"venue": ""}, "#/venue"),
        ({"venue": "orca"}, "#/venue"),
        ({"venue": "multiple"}, "#/venue"),
        ({"token": ""}, "#/token"),
        ({"token": "DOGE"}, "#/token"),
        ({"token": "\0"}, "#/token"),
        ({"limit": "1"}, "#/limit"),
        ([("venue", "raydium"), ("venue", "meteora")], "#/venue"),
    ],
    ids=str,
)
async def test_a_bad_query_for_pools_is_422_and_named(client: Client, query: Any, pointer: str) -> None:
    problem = await refused(client, "/api/pools", query)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_pools_show_the_effects_of_orders(serve: Serve) -> None:
    client = await serve()
    before = {pool["id"]: pool for pool in (await ask(client, "/api/pools"))["pools"]}
    order = await execute(client, amountIn="20000")
    after = {pool["id"]: pool for pool in (await ask(client, "/api/pools"))["pools"]}
    used = {leg["poolId"] for path in order["route"]["paths"] for leg in path["legs"]}
    assert {pool_id for pool_id in after if after[pool_id] != before[pool_id]} == used
