"""A limit order rests, fires when the price for its whole amount is reached, and never fills below it."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application

from service.api.responses import OrderSchema
from service.app import Service
from service.chains.venue import Swap
from tests.conftest import service_on
from tests.support.gem_market import (
    FIRED_LIFE,
    LIMIT_ORDER,
    UNIT,
    best_price,
    buy,
    ended,
    fire_by_hand,
    following,
    forget_listed_tokens,
    in_words,
    limit,
    list_pool,
    open_state,
    poll,
    quoted,
    rows,
    sell,
    transactions,
    until_status,
)
from tests.support.orders import Client, Json, execute, get, order_of, place, statuses, watch
from tests.support.paper import quiet_slot_ms
from tests.support.servers import TestServers

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]
FINEST = Fraction(1, 100 * UNIT)
"""The price of an order over 100 at which it asks for one base unit more."""


@pytest.fixture
async def market(start: Start) -> Client:
    """Return a client of a service that trades GEM."""
    client = await start()
    await list_pool(client)
    return client


async def test_an_order_is_accepted_as_it_was_sent_and_rests(market: Client) -> None:
    placed = await limit(market, "1000.50", clientOrderId="mine", slippageBps=7)
    assert placed["status"] == "pending"
    assert OrderSchema().validate(placed) == {}
    order = await get(market, placed["id"])
    assert statuses(order) == ["pending", "open"]
    assert OrderSchema().validate(order) == {}
    told = ("orderType", "limitPrice", "timeInForce", "expiresAt", "sniperConditions", "slippageBps")
    for seen in (placed, order):
        assert [seen[name] for name in told] == ["limit", "1000.50", "GTC", None, None, 7]
        assert (seen["amountIn"], seen["swapMode"], seen["attempts"]) == ("100", "exactIn", 0)
    async with market.get("/api/orders?status=open") as answer:
        assert [each["id"] for each in (await answer.json())["orders"]] == [placed["id"]]


async def test_an_order_that_is_paid_its_price_to_the_unit_fires_at_once(market: Client) -> None:
    out = await quoted(market)
    placed = await limit(market, out / 100, slippageBps=5_000)
    messages = await watch(market, placed["id"])
    assert [message["status"] for message in messages] == FIRED_LIFE
    order = await get(market, placed["id"])
    assert statuses(order) == FIRED_LIFE
    assert Fraction(order["amountOut"]) == out
    routing, _building, submitted = order["statusHistory"][2:5]
    assert routing["triggeredBy"] == {"price": in_words(out / 100)}
    # The limit is the minimum, whatever the slippage setting.
    assert Fraction(submitted["minimumOut"]) == out
    assert OrderSchema().validate(order) == {}


async def test_a_near_miss_writes_nothing(market: Client, servers: TestServers) -> None:
    await buy(market, "5000")
    price = await best_price(market)
    missed = await limit(market, price + FINEST)
    # The first unit of this order reaches its price as soon as the market moves; the whole amount does not.
    large = await limit(market, price, amountIn="20000")
    before = [await open_state(servers, each) for each in (missed, large)]
    assert before[0]["limit_out"] == await quoted(market) * UNIT + 1
    # A later order in the book that fires was checked together with them.
    paid = await limit(market, price * Fraction(98, 100), amountIn="1")
    assert statuses(await ended(market, paid)) == FIRED_LIFE
    sentinel = await limit(market, price * Fraction(1005, 1000), amountIn="1")
    await sell(market, "20000")
    assert statuses(await ended(market, sentinel)) == FIRED_LIFE
    assert statuses(await ended(market, missed)) == FIRED_LIFE
    assert await best_price(market) > price
    assert await open_state(servers, large) == before[1]
    assert statuses(await get(market, large["id"])) == ["pending", "open"]


async def test_one_unit_short_rests_until_the_market_moves(market: Client, servers: TestServers) -> None:
    await buy(market, "5000")
    out = await quoted(market)
    short = await limit(market, out / 100 + FINEST)
    before = await open_state(servers, short)
    # Another change of the same pool, and another order that it fires.
    lower = await limit(market, out / 100 * Fraction(99, 100), amountIn="1")
    await ended(market, lower)
    assert await open_state(servers, short) == before
    await sell(market, "10")
    order = await ended(market, short)
    assert statuses(order) == FIRED_LIFE
    assert Fraction(order["amountOut"]) >= out + Fraction(1, UNIT)


@pytest.mark.parametrize(
    ("amount", "price"),
    [
        ("100", "7"),
        ("1", "0.0000001"),
        ("0.000003", "0.333333333333333333333333333333333333"),
        ("33.333333", "1.000000000000000000000000000001"),
        ("3.141593", "2.718281828459045235360287471352662497757247093699"),
        ("0.000007", "0.142857142857142857142857142857"),
        ("99.999999", "9.9"),
    ],
)
async def test_the_minimum_is_the_limit_rounded_up_to_the_unit(
    market: Client, servers: TestServers, amount: str, price: str
) -> None:
    # With unlimited slippage, only the limit applies.
    order = await ended(market, await limit(market, price, amountIn=amount, slippageBps=10_000))
    least = math.ceil(Fraction(amount) * Fraction(price) * UNIT)
    assert statuses(order) == FIRED_LIFE
    assert [minimum for minimum, _height in transactions(servers, order)] == [least]
    assert rows(servers, "SELECT limit_out FROM orders WHERE id = %s", order["id"]) == [(least,)]
    assert Fraction(order["statusHistory"][4]["minimumOut"]) == Fraction(least, UNIT)
    assert Fraction(order["amountOut"]) >= Fraction(amount) * Fraction(price)


@pytest.mark.parametrize("time_in_force", ["GTC", "IOC"])
@pytest.mark.parametrize("slippage_bps", [0, 30, 5_000])
async def test_the_minimum_is_the_higher_of_the_limit_and_what_the_slippage_allows(
    market: Client, servers: TestServers, slippage_bps: int, time_in_force: str
) -> None:
    quote = await quoted(market)
    price = in_words(quote / 100 * Fraction(3, 4))  # a quarter below the quote
    placed = await limit(market, price, slippageBps=slippage_bps, timeInForce=time_in_force)
    order = await ended(market, placed)
    assert order["status"] == "confirmed"
    by_slippage = math.floor(quote * UNIT * (10_000 - slippage_bps) / 10_000)
    by_limit = math.ceil(100 * Fraction(price) * UNIT)
    assert (by_slippage > by_limit) == (slippage_bps < 2_500)
    assert [minimum for minimum, _height in transactions(servers, order)] == [max(by_slippage, by_limit)]


async def test_an_order_rests_again_after_too_much_slippage(
    make_service: Callable[..., Service], aiohttp_client: Any
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    await list_pool(client)
    prepare, go_on = service.market.venue.prepare, asyncio.Event()

    async def hold_the_smaller_one(swap: Swap) -> Any:
        if swap.maximum_in == 100 * UNIT:
            await go_on.wait()
        return await prepare(swap)

    service.market.venue.prepare = hold_the_smaller_one  # type: ignore[method-assign]
    placed = await limit(client, "1")  # a tenth of the current price
    await until_status(client, placed, "building")
    await buy(client, "10000")  # a USDC now buys a sixth less
    go_on.set()
    async with following(client, placed) as follower:
        await follower.until("submitted")
        order = await follower.until("open")
    assert order["statusHistory"][-1]["reason"] == "slippage_exceeded"


async def test_decimals_of_both_tokens_count(start: Start, servers: TestServers) -> None:
    client = await start(SLOT_MS=str(quiet_slot_ms(servers)))
    price = await best_price(client, "4", token_in="SOL", token_out="USDC")
    order = await ended(client, await limit(client, price, tokenIn="SOL", tokenOut="USDC", amountIn="4"))
    assert statuses(order) == FIRED_LIFE
    assert transactions(servers, order)[0][0] == price * 4 * UNIT
    # Through a hub, because no pool trades the pair.
    price = await best_price(client, "5", token_in="JUP", token_out="BONK")
    order = await ended(client, await limit(client, price, tokenIn="JUP", tokenOut="BONK", amountIn="5"))
    assert statuses(order) == FIRED_LIFE
    assert transactions(servers, order)[0][0] == price * 5 * 10**5


async def test_one_of_two_competing_orders_rests_again_and_fires_later(
    market: Client, servers: TestServers
) -> None:
    await buy(market, "20000")
    price = await best_price(market, "2000")
    # The market will pay 14 % more, and 11 % after one fill: the other order is then below its limit.
    rivals = [await limit(market, price * Fraction(113, 100), amountIn="2000") for _ in range(2)]
    await sell(market, "60000")
    await poll(lambda: bool(rows(servers, "SELECT 1 FROM open_orders WHERE returns > 0")))
    seen = [await get(market, each["id"]) for each in rivals]
    [winner] = [each for each in seen if each["status"] == "confirmed"]
    [loser] = [each for each in seen if each["status"] == "open"]
    assert statuses(winner) == FIRED_LIFE
    back = loser["statusHistory"][-1]
    assert statuses(loser)[:3] == ["pending", "open", "routing"]
    assert statuses(loser).count("open") == 2
    assert back["attempt"] == 1
    assert back["reason"] in {"limit_not_reached", "slippage_exceeded"}
    assert back["detail"]
    assert loser["failureReason"] is None
    state = await open_state(servers, loser)
    assert (state["returns"], state["pause_s"], state["resting"], state["fired"]) == (1, 1, True, None)
    await sell(market, "60000")
    order = await ended(market, loser)
    assert statuses(order)[-4:] == FIRED_LIFE[2:]
    refired = order["statusHistory"][-4]
    assert refired["attempt"] == 2
    assert rows(
        servers, "SELECT %s::timestamptz >= %s::timestamptz", refired["timestamp"], state["not_before"]
    ) == [(True,)]


async def test_a_price_that_is_gone_counts_as_no_retry_and_doubles_the_pause(
    start: Start, servers: TestServers
) -> None:
    client = await start(MAX_RETRIES="0")
    await list_pool(client)
    placed = await limit(client, "1000")
    pauses = []
    async with following(client, placed) as follower:
        await follower.until("open")
        for returns in range(1, 5):
            fire_by_hand(servers, placed)
            order = await follower.until("open")
            assert order["statusHistory"][-1]["reason"] == "limit_not_reached"
            assert order["statusHistory"][-1]["attempt"] == returns
            pauses.append((await open_state(servers, placed))["pause_s"])
    assert pauses == [1, 2, 4, 8]
    assert statuses(order) == ["pending", "open", *["routing", "open"] * 4]
    assert order["attempts"] == 4
    rows(servers, "UPDATE open_orders SET returns = 1000")
    async with following(client, placed, after=order["statusHistory"][-1]["sequence"]) as follower:
        fire_by_hand(servers, placed)
        await follower.until("open")
    assert (await open_state(servers, placed))["pause_s"] == 300


async def test_retries_are_counted_from_zero_after_a_rest(start: Start, servers: TestServers) -> None:
    client = await start(PAPER_FAILURE_RATE="transient=1", RETRY_BASE_DELAY_MS="10", MAX_RETRIES="1")
    await list_pool(client)
    placed = await limit(client, "1")
    order = await ended(client, placed)
    one_try = ["routing", "building", "submitted"]
    assert statuses(order) == ["pending", "open", *one_try, "pending", *one_try, "failed"]
    assert order["failureReason"] == "transaction_failed"


async def test_an_order_rests_again_if_its_price_is_gone_at_a_retry(
    start: Start, servers: TestServers
) -> None:
    client = await start(PAPER_FAILURE_RATE="slippage=1")
    await list_pool(client)
    placed = await limit(client, "1")
    async with following(client, placed) as follower:
        await follower.until("open")
        order = await follower.until("open")
    assert statuses(order) == ["pending", "open", "routing", "building", "submitted", "open"]
    assert order["statusHistory"][-1]["reason"] == "slippage_exceeded"
    assert (order["amountOut"], order["txHash"]) == (None, None)


@pytest.mark.parametrize("time_in_force", ["IOC", "FOK"])
async def test_an_ioc_or_fok_order_fills_without_resting(market: Client, time_in_force: str) -> None:
    price = await best_price(market)
    order = await ended(market, await limit(market, price, timeInForce=time_in_force))
    assert statuses(order) == ["pending", "routing", "building", "submitted", "confirmed"]
    assert order["timeInForce"] == time_in_force
    assert Fraction(order["amountOut"]) == price * 100


@pytest.mark.parametrize("time_in_force", ["IOC", "FOK"])
async def test_an_ioc_or_fok_order_expires_if_its_price_is_not_reached(
    market: Client, servers: TestServers, time_in_force: str
) -> None:
    price = await best_price(market) + FINEST
    order = await ended(market, await limit(market, price, timeInForce=time_in_force))
    assert statuses(order) == ["pending", "routing", "expired"]
    assert order["failureReason"] == "not_filled_immediately"
    assert order["statusHistory"][-1]["reason"] == "not_filled_immediately"
    assert order["attempts"] == 1
    assert transactions(servers, order) == []
    assert OrderSchema().validate(order) == {}


@pytest.mark.parametrize("kind", ["transient", "slippage", "permanent"])
async def test_an_ioc_or_fok_order_has_one_attempt(start: Start, servers: TestServers, kind: str) -> None:
    client = await start(PAPER_FAILURE_RATE=f"{kind}=1", RETRY_BASE_DELAY_MS="10")
    await list_pool(client)
    order = await ended(client, await limit(client, "1", timeInForce="IOC"))
    assert statuses(order) == ["pending", "routing", "building", "submitted", "expired"]
    assert order["failureReason"] == "not_filled_immediately"
    assert len(transactions(servers, order)) == 1


async def test_the_time_in_force_follows_from_the_expiry(market: Client) -> None:
    at = "2100-01-31T12:00:00.25+02:00"
    for changes in ({"expiresAt": at}, {"expiresAt": at, "timeInForce": "GTD"}):
        placed = await limit(market, "1000", **changes)
        assert (placed["timeInForce"], placed["expiresAt"]) == ("GTD", "2100-01-31T10:00:00.250000Z")
        assert (await get(market, placed["id"]))["expiresAt"] == placed["expiresAt"]


REFUSED: list[tuple[Json, str]] = [
    ({"amountOut": "1"}, "#/amountOut"),
    ({"amountOut": "1", "amountIn": None}, "#/amountOut"),
    ({"limitPrice": 150.25}, "#/limitPrice"),
    ({"limitPrice": "0"}, "#/limitPrice"),
    ({"limitPrice": "-1"}, "#/limitPrice"),
    ({"limitPrice": "1e3"}, "#/limitPrice"),
    ({"limitPrice": None}, "#/limitPrice"),
    ({"limitPrice": "99999999999999999999"}, "#/limitPrice"),
    ({"expiresAt": "2020-01-01T00:00:00Z"}, "#/expiresAt"),
    ({"expiresAt": "2100-01-01T00:00:00"}, "#/expiresAt"),
    ({"expiresAt": 4102444800}, "#/expiresAt"),
    ({"timeInForce": "GTD"}, "#/expiresAt"),
    ({"timeInForce": "GTC", "expiresAt": "2100-01-01T00:00:00Z"}, "#/expiresAt"),
    ({"timeInForce": "IOC", "expiresAt": "2100-01-01T00:00:00Z"}, "#/expiresAt"),
    ({"timeInForce": "DAY"}, "#/timeInForce"),
    ({"sniperConditions": {"price": {"above": "1"}}}, "#/sniperConditions"),
    ({"tokenOut": "NOPE"}, "#/tokenOut"),
    ({"orderType": "market"}, "#/limitPrice"),
]


async def test_an_invalid_limit_order_is_rejected_and_not_stored(
    market: Client, servers: TestServers
) -> None:
    for changes, pointer in REFUSED:
        body = {**LIMIT_ORDER, "limitPrice": "1000", **changes}
        if body["amountIn"] is None:
            del body["amountIn"]
        async with market.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 422, changes
            pointers = [error["pointer"] for error in (await answer.json())["errors"]]
            assert set(pointers) == {pointer}, changes
    assert rows(servers, "SELECT count(*) FROM orders") == [(0,)]


async def test_a_limit_order_needs_its_price_and_a_market_order_has_none(market: Client) -> None:
    terms: dict[str, Any] = {
        "limitPrice": "1",
        "timeInForce": "IOC",
        "sniperConditions": {"price": {"above": "1"}},
    }
    refused = [(LIMIT_ORDER, "limitPrice")] + [
        (order_of(**{name: value}), name) for name, value in terms.items()
    ]
    for body, name in refused:
        async with market.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 422
            assert [error["pointer"] for error in (await answer.json())["errors"]] == [f"#/{name}"]


async def test_a_client_order_id_places_one_resting_order(market: Client) -> None:
    at = "2100-01-31T12:00:00Z"
    placed = await limit(market, "1000", clientOrderId="once", expiresAt=at)
    body = {**LIMIT_ORDER, "limitPrice": "1000", "clientOrderId": "once", "expiresAt": at}
    async with market.post("/api/orders/execute", json={**body, "timeInForce": "GTD"}) as again:
        assert again.status == 200
        answer = await again.json()
    assert (answer["id"], statuses(answer)) == (placed["id"], ["pending", "open"])
    other: Json
    for other in (
        {"limitPrice": "1001"},
        {"expiresAt": "2100-01-31T12:00:00.000001Z"},
        {"amountIn": "101"},
        {"slippageBps": 99},
    ):
        async with market.post("/api/orders/execute", json={**body, **other}) as refused:
            assert refused.status == 409, other


async def pages(client: Client, query: str, size: int) -> list[list[str]]:
    """Return the ids of a list, page by page."""
    found: list[list[str]] = []
    cursor = ""
    while True:
        async with client.get(f"/api/orders?limit={size}{query}{cursor}") as answer:
            page = await answer.json()
            assert answer.status == 200, page
        found.append([order["id"] for order in page["orders"]])
        if page["nextCursor"] is None:
            return found
        cursor = f"&cursor={page['nextCursor']}"


async def test_lists_are_filtered_by_type_and_pair_across_pages(market: Client) -> None:
    by_kind: dict[str, list[str]] = {"gem": [], "sol": [], "market": [], "sniper": []}
    for _ in range(3):
        by_kind["gem"].insert(0, (await limit(market, "1000"))["id"])
        market_order = await execute(market, amountIn="0.1")
        by_kind["market"].insert(0, market_order["id"])
        sol = await limit(market, "1000000", tokenIn="SOL", tokenOut="USDC", amountIn="1")
        by_kind["sol"].insert(0, sol["id"])
        snipe = {"orderType": "sniper", "sniperConditions": {"price": {"above": "1000000"}}}
        by_kind["sniper"].insert(0, (await place(market, **snipe))["id"])
    for query, kinds in (
        ("&orderType=limit", ["gem", "sol"]),
        ("&orderType=market", ["market"]),
        ("&orderType=sniper", ["sniper"]),
        ("&tokenIn=USDC&tokenOut=GEM", ["gem"]),
        ("&tokenIn=SOL", ["sol", "market", "sniper"]),
        ("&tokenOut=USDC", ["sol", "market", "sniper"]),
        ("&tokenIn=SOL&orderType=limit", ["sol"]),
        ("&tokenIn=SOL&orderType=limit&status=open", ["sol"]),
        ("&tokenOut=USDC&status=confirmed", ["market"]),
        ("&orderType=limit&status=confirmed", []),
        ("&tokenIn=GEM", []),
    ):
        wanted = {order_id for kind in kinds for order_id in by_kind[kind]}
        found = await pages(market, query, 2)
        assert all(len(page) == 2 for page in found[:-1]), query
        listed = [order_id for page in found for order_id in page]
        assert listed == sorted(wanted, reverse=True), query  # newer ids sort after older ones
    async with market.get("/api/orders?orderType=stop") as answer:
        assert answer.status == 422


async def test_orders_rest_across_a_restart_and_fire_after_it(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    first: TestClient[Any, Any] = await aiohttp_client(service_on(servers).web)
    await list_pool(first)
    await buy(first, "5000")
    price = await best_price(first)
    near = await limit(first, price * Fraction(101, 100))
    far = await limit(first, price * 2)
    await first.close()
    second = await aiohttp_client(service_on(servers).web)
    # A clean stop released the market's lease, so that there is no wait for its expiry.
    async with asyncio.timeout(2):
        await sell(second, "20000")
    order = await ended(second, near)
    assert statuses(order) == FIRED_LIFE
    assert statuses(await get(second, far["id"])) == ["pending", "open"]


async def test_orders_whose_price_is_reached_at_the_start_fire(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    first = service_on(servers)
    client = await aiohttp_client(first.web)
    await list_pool(client)
    # No instance watches while the market reaches the price.
    await first.execution.triggers.stop()
    placed = await limit(client, "5")
    await client.close()
    again = await aiohttp_client(service_on(servers).web)
    assert statuses(await ended(again, placed)) == FIRED_LIFE


async def test_fired_orders_respect_the_rate_limit(start: Start, servers: TestServers) -> None:
    client = await start(QUEUE_RATE_LIMIT="3")
    await list_pool(client)
    placed = [await limit(client, "5", amountIn="1") for _ in range(6)]
    await poll(lambda: rows(servers, "SELECT count(*) FROM open_orders WHERE fired IS NOT NULL") == [(3,)])
    done = [await ended(client, each) for each in placed[:3]]
    assert all(statuses(order) == FIRED_LIFE for order in done)
    for each in placed[3:]:
        assert statuses(await get(client, each["id"])) == ["pending", "open"]


async def test_a_fired_order_that_waits_for_the_rate_limit_starts_when_it_may(
    start: Start, servers: TestServers
) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    await list_pool(client)
    first, second = [await limit(client, "5", amountIn="1") for _ in range(2)]
    await ended(client, first)
    await until_status(client, second, "open")
    await poll(lambda: rows(servers, "SELECT count(*) FROM open_orders WHERE fired IS NOT NULL") == [(1,)])
    rows(servers, "UPDATE rate_starts SET started_at = now() - interval '61 seconds'")
    rows(servers, "UPDATE open_orders SET wake_at = now()")
    order = await ended(client, second)
    assert statuses(order) == FIRED_LIFE
    assert "triggeredBy" in order["statusHistory"][2]
