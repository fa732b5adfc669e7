"""A dry run answers what the order would do, and leaves no trace of it anywhere."""

import asyncio
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import pytest
from redis.asyncio import Redis

from service.api.dry_run_schemas import DryRunSchema
from service.domain.api_key import Scope
from service.domain.key_limits import KeyLimits, LargestAmount
from service.store.api_keys import NewKey
from tests.acceptance.test_key_limits import Header, Keys, keys, send
from tests.support.gem_market import (
    GEM_POOL,
    LIMIT_ORDER,
    SNIPER_ORDER,
    forget_listed_tokens,
    list_pool,
    rows,
)
from tests.support.orders import Client, Json, execute, get, order_of, place, watch
from tests.support.paper import quiet_slot_ms
from tests.support.servers import TestServers
from tests.unit.api.test_openapi import is_valid

__all__ = ["forget_listed_tokens", "keys"]  # fixtures: pytest finds them here

Start = Callable[..., Awaitable[Client]]

EXECUTE = "/api/orders/execute"
BUY: Json = {"tokenIn": "USDC", "tokenOut": "GEM", "amountIn": "100", "orderType": "market"}
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
FIRES_ANYWAY = {"timeWindow": {"notBefore": "2020-01-01T00:00:00Z"}}
OWN = {"id", "orderId", "createdAt", "updatedAt", "statusHistory"}
"""What differs between an order and its dry run."""


async def dry_run(client: Client, body: object, headers: Header | None = None) -> Json:
    """Run an order dry, and return the response."""
    async with client.post(f"{EXECUTE}?dryRun=true", json=body, headers=headers) as answer:
        result: Json = await answer.json()
        assert (answer.status, answer.headers.get("Idempotent-Replayed")) == (200, None), result
    assert DryRunSchema().validate(result) == {}
    assert is_valid("DryRun", result)
    assert result["dryRun"] is True
    assert result["accepted"] == (result["refusals"] == [])
    return result


async def refused(client: Client, body: object, headers: Header | None = None) -> Json:
    """Run an order dry that is refused for one reason, and return that."""
    result = await dry_run(client, body, headers)
    [refusal] = result["refusals"]
    assert isinstance(refusal, dict)
    return refusal


async def quoted(client: Client, **query: str) -> Json:
    async with client.get("/api/quotes", params=query) as answer:
        quote: Json = await answer.json()
        assert answer.status == 200, quote
        return {**quote, "quotedAt": None, "expiresAt": None}


def quiet(servers: TestServers) -> dict[str, str]:
    """Return the settings of a market whose prices only trades move."""
    return {"SLOT_MS": str(quiet_slot_ms(servers))}


@pytest.mark.parametrize(
    "amount",
    [{"amountIn": "1.50"}, {"amountIn": "20000"}, {"amountOut": "150.5", "slippageBps": 30}],
)
async def test_it_tells_the_order_and_its_quote(
    start: Start, servers: TestServers, amount: dict[str, Any]
) -> None:
    client = await start(**quiet(servers), PAPER_BALANCES="SOL=20000.5")
    body: Json = order_of(**amount, label="mine", clientOrderId="first")
    result = await dry_run(client, body)
    assert (result["accepted"], result["rests"], result["repeats"]) == (True, False, False)
    assert result["balance"] == "20000.5"
    query = {
        name: str(value)
        for name, value in body.items()
        if name not in {"orderType", "label", "clientOrderId"}
    }
    quote = {**result["quote"], "quotedAt": None, "expiresAt": None}
    assert quote == await quoted(client, **query)
    fees: dict[str, Fraction] = {}
    for path in quote["route"]["paths"]:
        for leg in path["legs"]:
            for fee in leg["fees"]:
                fees[fee["token"]] = fees.get(fee["token"], Fraction(0)) + Fraction(fee["amount"])
    assert {fee["token"]: Fraction(fee["amount"]) for fee in result["fees"]} == fees
    # The order is placed as it was shown, and filled within what was shown.
    order = result["order"]
    assert (order["id"], order["orderId"], order["status"]) == (None, None, "pending")
    placed = await place(client, **body)
    assert {name: order[name] for name in order.keys() - OWN} == {
        name: placed[name] for name in placed.keys() - OWN
    }
    await watch(client, placed["id"])
    filled = await get(client, placed["id"])
    assert Fraction(filled["amountOut"]) >= Fraction(quote["minimumOut"])
    assert Fraction(filled["amountIn"]) <= Fraction(quote["maximumIn"])


async def test_an_order_that_would_rest_says_so(start: Start) -> None:
    client = await start(PAPER_BALANCES="USDC=0", MAX_PRICE_IMPACT_BPS="1")
    await list_pool(client)
    far = await dry_run(client, {**LIMIT_ORDER, "limitPrice": "1000"})
    assert (far["accepted"], far["rests"], far["order"]["limitPrice"]) == (True, True, "1000")
    # It would fill at its limit, or not at all.
    assert far["quote"]["minimumOut"] == "100000"
    near = await dry_run(client, {**LIMIT_ORDER, "limitPrice": "5"})
    assert (near["accepted"], near["rests"]) == (True, True)
    assert 500 < Fraction(near["quote"]["minimumOut"]) < Fraction(near["quote"]["amountOut"])
    assert near["balance"] == "0"
    waits = await dry_run(client, {**SNIPER_ORDER, "sniperConditions": FIRES_ANYWAY})
    assert (waits["accepted"], waits["rests"], waits["quote"]["amountIn"]) == (True, True, "100")
    unlisted = await dry_run(
        client, {**SNIPER_ORDER, "tokenOut": "MOON", "sniperConditions": {"poolCreated": {"venue": "any"}}}
    )
    assert (unlisted["accepted"], unlisted["rests"]) == (True, True)
    assert (unlisted["quote"], unlisted["fees"]) == (None, None)


async def test_a_refusal_is_the_problem_of_the_order_itself(start: Start) -> None:
    client = await start(MAX_ORDER_AMOUNTS="SOL=2")
    await place(client, clientOrderId="taken", **RESTING)
    bodies: list[object] = [
        {},
        [],
        order_of(amountIn="0"),
        order_of(amountIn=1, slippageBps=-1, surprise=True),
        order_of(tokenOut="NOPE"),
        order_of(orderType="limit"),
        order_of(expiresAt="2020-01-01T00:00:00Z"),
        order_of(amountIn="3"),
        order_of(clientOrderId="taken"),
    ]
    for body in bodies:
        async with client.post(EXECUTE, json=body) as answer:
            problem = await answer.json()
            assert answer.status == problem["status"] in {403, 409, 422}
        assert await refused(client, body) == problem
    # Several at once: each is told, and the quote as well.
    both = await dry_run(client, order_of(amountIn="3", clientOrderId="taken"))
    assert [refusal["status"] for refusal in both["refusals"]] == [409, 403]
    assert both["quote"]["amountIn"] == "3"


async def test_it_is_refused_while_trading_is_halted(start: Start) -> None:
    clients = [await start(), await start()]
    assert (await clients[0].post("/api/admin/halt", json={"reason": "a fire"})).status == 200
    for client in clients:
        async with client.post(EXECUTE, json=order_of()) as answer:
            assert answer.status == 503
            assert await refused(client, order_of()) == await answer.json()
        assert (await refused(client, order_of(**RESTING)))["detail"] == "Trading is halted: a fire"
    assert (await clients[1].post("/api/admin/resume")).status == 200
    for client in clients:
        assert (await dry_run(client, order_of()))["accepted"]


async def test_what_an_attempt_would_fail_for_is_told(start: Start, servers: TestServers) -> None:
    client = await start(
        PAPER_BALANCES="USDC=101,SOL=0.000000001",
        MAX_PRICE_IMPACT_BPS="10",
        MAX_RETRIES="0",
        **quiet(servers),
    )
    await list_pool(client)
    for body in (
        {**BUY, "amountIn": "101"},
        # The wallet has something, and not enough of it.
        order_of(amountOut="1"),
        {**BUY, "amountIn": "0.000001", "tokenOut": "SOL"},
        order_of(amountOut="1000000000"),
    ):
        order = await execute(client, **{"amountIn": None, **body})
        refusal = await refused(client, body)
        assert (refusal["status"], refusal["reason"]) == (422, order["failureReason"]), body
        assert refusal["detail"] == order["failureDetail"]
    ioc = {**LIMIT_ORDER, "amountIn": "1", "limitPrice": "11", "timeInForce": "IOC"}
    assert (await refused(client, ioc))["reason"] == "limit_not_reached"
    result = await dry_run(client, {**ioc, "limitPrice": "9"})
    assert (result["accepted"], result["rests"]) == (True, False)
    high = await dry_run(client, {**BUY, "amountIn": "101"})
    assert (high["refusals"][0]["reason"], high["quote"]["priceImpact"]) == (
        "price_impact_too_high",
        "0.001007",
    )


async def test_the_limits_of_the_key_apply(start: Start, keys: Keys) -> None:
    client = await start()
    await list_pool(client)
    limits = KeyLimits(max_slippage_bps=50, max_amount={"USDC": LargestAmount(10**9, 6)})
    for limit, changes, rule in (
        (limits, {}, "maxSlippageBps"),
        (limits, {"slippageBps": 50, "amountIn": "1001"}, "maxAmount"),
        (KeyLimits(tokens=frozenset({"SOL"})), {}, "tokens"),
    ):
        header = await keys.header(limit)
        assert (await refused(client, {**BUY, **changes}, header))["rule"] == rule
        assert (await dry_run(client, {**BUY, "amountIn": "1", **changes}, await keys.header()))["accepted"]
    low = await keys.header(KeyLimits(max_price_impact_bps=9))
    assert (await refused(client, BUY, low))["reason"] == "price_impact_too_high"
    assert (await dry_run(client, {**BUY, "amountIn": "90"}, low))["accepted"]


async def test_an_order_that_was_placed_is_answered_again(start: Start, keys: Keys) -> None:
    client = await start()
    header, limited = await keys.header(), await keys.header(KeyLimits(max_slippage_bps=0))
    body = order_of(clientOrderId="mine", **RESTING)
    _status, placed = await send(client, header, body)
    for key in (header, limited):
        result = await dry_run(client, {**body, "amountIn": "1.5"}, key)
        assert (result["accepted"], result["repeats"], result["quote"]) == (True, True, None)
        assert result["order"]["id"] == placed["id"]
    # It exists for its own account only.
    _id, token = await keys.stored.create(NewKey("other", "bot", Scope.TRADE))
    result = await dry_run(client, body, {"Authorization": f"Bearer {token}"})
    assert (result["accepted"], result["repeats"], result["order"]["id"]) == (True, False, None)


@pytest.mark.parametrize("value", ["1", "TRUE", "yes", "", "true&dryRun=true"])
async def test_what_is_neither_true_nor_false_is_not_placed(
    start: Start, servers: TestServers, value: str
) -> None:
    client = await start()
    async with client.post(f"{EXECUTE}?dryRun={value}", json=order_of()) as answer:
        assert answer.status == 422
        assert [error["pointer"] for error in (await answer.json())["errors"]] == ["#/dryRun"]
    assert rows(servers, "SELECT count(*) FROM orders") == [(0,)]


async def test_a_parameter_that_is_not_known_places_nothing(start: Start, servers: TestServers) -> None:
    client = await start()
    for path, pointer in (
        (f"{EXECUTE}?dryrun=true", "#/dryrun"),
        (f"{EXECUTE}?dryRun=false&x=1", "#/x"),
        ("/api/orders/batch?dryRun=true", "#/dryRun"),
    ):
        body = {"orders": [order_of()]} if "batch" in path else order_of()
        async with client.post(path, json=body) as answer:
            assert answer.status == 422
            assert [error["pointer"] for error in (await answer.json())["errors"]] == [pointer]
    assert rows(servers, "SELECT count(*) FROM orders") == [(0,)]
    async with client.post(f"{EXECUTE}?dryRun=false", json=order_of()) as answer:
        assert answer.status == 201


async def test_a_body_that_cannot_be_read_is_answered_as_always(start: Start) -> None:
    client = await start()
    for body, content_type, status in ((b"{", "application/json", 400), (b"{}", "text/plain", 415)):
        headers = {"Content-Type": content_type}
        async with client.post(f"{EXECUTE}?dryRun=true", data=body, headers=headers) as answer:
            assert answer.status == status
    headers = {"Idempotency-Key": "x" * 300}
    async with client.post(f"{EXECUTE}?dryRun=true", json=order_of(), headers=headers) as answer:
        assert answer.status == 400


async def contents(servers: TestServers) -> dict[str, object]:
    """Return every row of every table, and every key and stream of Redis.

    Without what the service writes by itself: heartbeats, and the leases of its leaders.
    """
    tables = [
        name
        for (name,) in rows(
            servers, "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
        )
    ]
    found: dict[str, object] = {}
    for table in tables:
        if table in {"instances", "leases", "paper_leader"}:
            found[table] = rows(servers, f"SELECT count(*) FROM {table}")  # noqa: S608 - from the catalogue
        else:
            found[table] = rows(servers, f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608
    async with Redis.from_url(servers.redis_url) as redis:
        async for key in redis.scan_iter(f"{servers.redis_prefix}*"):
            kind = await redis.type(key)
            # Of a stream, also what was sent and has been received.
            is_stream = kind in {"stream", b"stream"}
            found[str(key)] = (await redis.xinfo_stream(key))["entries-added"] if is_stream else kind
    return found


async def test_it_leaves_no_trace(start: Start, servers: TestServers) -> None:
    client = await start(**quiet(servers), REQUESTS_PER_SECOND="0")
    await list_pool(client)
    await execute(client, **BUY, clientOrderId="first")
    before = await contents(servers)
    assert before["orders"] != []
    bodies: list[Json] = [
        BUY,
        {**BUY, "clientOrderId": "new", "label": "x"},
        {**BUY, "clientOrderId": "first"},
        {**BUY, "clientOrderId": "first", "amountIn": "1"},
        {**LIMIT_ORDER, "limitPrice": "1"},
        {**LIMIT_ORDER, "limitPrice": "1", "timeInForce": "IOC"},
        {**SNIPER_ORDER, "sniperConditions": FIRES_ANYWAY},
        {**SNIPER_ORDER, "tokenOut": "MOON", "sniperConditions": FIRES_ANYWAY},
        {**BUY, "amountIn": "0"},
    ]
    key = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    results = await asyncio.gather(*(dry_run(client, body, key) for body in bodies * 5))
    assert {result["accepted"] for result in results} == {True, False}
    assert await contents(servers) == before
    assert (await (await client.get("/api/orders")).json())["orders"][1:] == []
    # Neither the client order id nor the key is taken, and what was run dry can be placed.
    async with client.post(EXECUTE, json=bodies[1], headers=key) as answer:
        assert (answer.status, answer.headers.get("Idempotent-Replayed")) == (201, None)
    assert await contents(servers) != before


async def test_prices_move_nothing_by_being_asked(start: Start, servers: TestServers) -> None:
    client = await start(**quiet(servers))
    await list_pool(client, **GEM_POOL)
    first = await dry_run(client, BUY)
    for _ in range(3):
        again = await dry_run(client, BUY)
        assert again["quote"]["amountOut"] == first["quote"]["amountOut"]
        assert again["balance"] == first["balance"]
