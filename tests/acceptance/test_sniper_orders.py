"""A sniper order rests until all its conditions hold, fires once, and then runs as a market order."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from aiohttp.web import Application

from service.api.responses import OrderSchema
from service.domain.chain_times import SLOT_MS
from service.domain.timestamps import format_timestamp
from tests.conftest import service_on
from tests.support.gem_market import (
    FIRED_LIFE,
    SNIPER_ORDER,
    UNIT,
    best_price,
    buy,
    ended,
    following,
    forget_listed_tokens,
    in_words,
    list_pool,
    poll,
    quoted,
    rows,
    sell,
    sniper,
    transactions,
    until_status,
)
from tests.support.orders import Client, Json, get, order_of, place, statuses, watch
from tests.support.servers import TestServers

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]
SLOT_S = 0.4
FIRES_ANYWAY = {"timeWindow": {"notBefore": "2020-01-01T00:00:00Z"}}
"""Of an order that fires when it is looked at: those that came before it have been looked at as well."""


def after(seconds: float) -> str:
    return format_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


def triggered_by(order: Json) -> Json:
    """Return the observations of an order's only firing."""
    seen = [entry["triggeredBy"] for entry in order["statusHistory"] if "triggeredBy" in entry]
    assert len(seen) == 1
    return dict(seen[0])


def entry(order: Json, status: str) -> Json:
    """Return the first entry of an order's history with a status."""
    found: Json = next(entry for entry in order["statusHistory"] if entry["status"] == status)
    return found


def seconds_between(servers: TestServers, earlier: str, later: str) -> float:
    [(seconds,)] = rows(
        servers, "SELECT extract(epoch FROM %s::timestamptz - %s::timestamptz)::float8", later, earlier
    )
    return float(seconds)


async def assert_it_rests(client: Client, *placed: Json) -> None:
    """Check that orders have been evaluated and rest."""
    assert statuses(await ended(client, await sniper(client, FIRES_ANYWAY, amountIn="1"))) == FIRED_LIFE
    for each in placed:
        assert statuses(await get(client, each["id"])) == ["pending", "open"]


async def test_an_order_is_accepted_as_it_was_sent(start: Start) -> None:
    client = await start()
    await list_pool(client)
    conditions = {
        "price": {"below": "2", "above": "1.50"},
        "poolCreated": {"venue": "any"},
        "minLiquidity": {"amount": "50000.0", "unit": "usd"},
        "volume": {"amount": "1000", "seconds": 60},
        "timeWindow": {"notBefore": "2020-01-01T00:00:00+02:00"},
    }
    placed = await sniper(client, conditions, slippageBps=250)
    order = await get(client, placed["id"])
    assert statuses(order) == ["pending", "open"]
    for seen in (placed, order):
        assert OrderSchema().validate(seen) == {}
        assert seen["sniperConditions"] == conditions
        assert [
            seen[name] for name in ("orderType", "slippageBps", "limitPrice", "timeInForce", "expiresAt")
        ] == [
            "sniper",
            250,
            None,
            None,
            None,
        ]


@pytest.mark.parametrize("venue", ["any", "raydium", "meteora"])
async def test_a_new_token_is_bought_within_a_slot_of_its_listing(
    start: Start, servers: TestServers, venue: str
) -> None:
    client = await start()
    placed = [await sniper(client, {"poolCreated": {"venue": venue}}, slippageBps=300) for _ in range(3)]
    other = "raydium" if venue == "meteora" else "meteora"
    elsewhere = await sniper(client, {"poolCreated": {"venue": other}})
    for each in (*placed, elsewhere):
        await until_status(client, each, "open")
    pool = await list_pool(client, program="meteora_damm_v2" if venue == "meteora" else "raydium_cpmm")
    [(listed_at,)] = rows(servers, "SELECT rfc3339(now())")
    for each in placed:
        order = await ended(client, each)
        assert statuses(order) == FIRED_LIFE
        seen = triggered_by(order)
        assert seen["poolId"] == pool["id"]
        assert Fraction(seen["price"]) > 0
        assert seconds_between(servers, listed_at, entry(order, "routing")["timestamp"]) <= SLOT_S
    await assert_it_rests(client, elsewhere)
    # It fires once: another pool changes nothing.
    await list_pool(client, program="raydium_amm_v4")
    await list_pool(client, program="meteora_dlmm")
    assert statuses(await ended(client, elsewhere)) == FIRED_LIFE
    for each in placed:
        assert statuses(await get(client, each["id"])) == FIRED_LIFE


async def test_an_existing_pool_is_no_new_pool(start: Start, servers: TestServers) -> None:
    client = await start(SLOT_MS="50")
    await list_pool(client)
    [(slot,)] = rows(servers, "SELECT max(opened_slot) FROM paper_pools")
    # One that opened in the slot of the order's acceptance counts.
    await poll(lambda: rows(servers, "SELECT extract(epoch FROM now()) * 20 >= %s + 1", slot) == [(True,)])
    placed = await sniper(client, {"poolCreated": {"venue": "any"}})
    await assert_it_rests(client, placed)
    pool = await list_pool(client, program="meteora_damm_v2")
    assert triggered_by(await ended(client, placed))["poolId"] == pool["id"]


async def test_a_pool_of_the_same_slot_counts(start: Start) -> None:
    # A slot so long that order and pool share it, unless it ends between them.
    client = await start(SLOT_MS="60000")
    for number in range(8):
        symbol = f"GEM{number}"
        placed = await sniper(client, {"poolCreated": {"venue": "any"}}, tokenOut=symbol)
        await list_pool(client, tokenA=symbol)
        assert statuses(await ended(client, placed, within_s=5)) == FIRED_LIFE


async def test_minimum_liquidity_in_the_bought_token(start: Start) -> None:
    client = await start()
    just = await sniper(client, {"minLiquidity": {"amount": "1000000"}})
    more = await sniper(client, {"minLiquidity": {"amount": "1000000.000001", "unit": "tokenOut"}})
    await until_status(client, more, "open")
    await list_pool(client)
    order = await ended(client, just)
    assert triggered_by(order)["liquidity"] == {"amount": "1000000", "unit": "tokenOut"}
    await assert_it_rests(client, more)
    await list_pool(client, program="meteora_damm_v2")
    seen = triggered_by(await ended(client, more))["liquidity"]
    assert Fraction(seen["amount"]) > 1_500_000


async def test_minimum_liquidity_in_dollars(start: Start) -> None:
    client = await start()
    # Twice the 100,000 USDC that the pool holds; the sentinel adds more.
    just = await sniper(client, {"minLiquidity": {"amount": "200000", "unit": "usd"}})
    more = await sniper(client, {"minLiquidity": {"amount": "200500", "unit": "usd"}})
    await list_pool(client)
    assert triggered_by(await ended(client, just))["liquidity"] == {"amount": "200000", "unit": "usd"}
    await assert_it_rests(client, more)
    await buy(client, "300")
    assert Fraction(triggered_by(await ended(client, more))["liquidity"]["amount"]) >= 200_500


async def test_price_conditions_above_and_below(start: Start) -> None:
    client = await start()
    await list_pool(client)
    # Ten GEM a USDC, less a fee of a quarter of a percent, before anything is bought.
    price = Fraction("9.975")
    above = await sniper(client, {"price": {"above": in_words(price)}}, amountIn="1")
    below = await sniper(client, {"price": {"below": "9"}}, amountIn="1")
    between = await sniper(client, {"price": {"above": "8", "below": "9"}}, amountIn="1")
    for each in (above, below, between):
        await until_status(client, each, "open")
        assert statuses(await get(client, each["id"])) == ["pending", "open"]
    await buy(client, "8000")
    for each in (below, between):
        seen = Fraction(triggered_by(await ended(client, each))["price"])
        assert 8 < seen < 9
    await assert_it_rests(client, above)
    bought = await quoted(client, "30000")
    await list_pool(client, program="raydium_amm_v4", amountA="2000000")
    order = await ended(client, above)
    assert Fraction(triggered_by(order)["price"]) > price
    assert bought > 0


async def test_the_price_is_the_one_of_the_first_unit_net_of_fees(start: Start) -> None:
    client = await start()
    await list_pool(client)
    exact = await sniper(client, {"price": {"above": "9.975"}}, amountIn="1000")
    hair = await sniper(client, {"price": {"above": "9.974999"}}, amountIn="1")
    order = await ended(client, hair)
    assert abs(Fraction(triggered_by(order)["price"]) - Fraction("9.975")) < Fraction(1, 10**6)
    await assert_it_rests(client, exact)


async def test_minimum_volume_in_the_last_seconds(start: Start) -> None:
    client = await start()
    await list_pool(client)
    wanted = await sniper(client, {"volume": {"amount": "30000", "seconds": 60}}, amountIn="1")
    more = await sniper(client, {"volume": {"amount": "1000000", "seconds": 3600}}, amountIn="1")
    first = await buy(client, "2000")
    await assert_it_rests(client, wanted, more)
    assert Fraction(first["amountOut"]) < 30_000
    # Sales count like purchases.
    await sell(client, "11000")
    seen = triggered_by(await ended(client, wanted))["volume"]
    assert seen["seconds"] == 60
    assert Fraction(seen["amount"]) >= 30_000
    await assert_it_rests(client, more)


async def test_volume_survives_a_restart_and_leaves_the_window_in_time(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    first = await aiohttp_client(service_on(servers).web)
    await list_pool(first)
    await buy(first, "3000")
    await first.close()
    # As if all trades were 100 seconds ago.
    rows(servers, "UPDATE paper_volumes SET second = second - 100")
    slots = 100_000 // SLOT_MS
    rows(servers, "UPDATE paper_pools SET opened_slot = opened_slot - %s WHERE origin = 'listed'", slots)
    second = await aiohttp_client(service_on(servers).web)
    late = await sniper(second, {"volume": {"amount": "20000", "seconds": 60}}, amountIn="1")
    early = await sniper(second, {"volume": {"amount": "20000", "seconds": 200}}, amountIn="1")
    assert statuses(await ended(second, early)) == FIRED_LIFE
    await assert_it_rests(second, late)


async def test_a_window_opens_on_time(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    opens = after(0.7)
    placed = await sniper(client, {"timeWindow": {"notBefore": opens}})
    assert placed["expiresAt"] is None
    order = await ended(client, placed)
    assert statuses(order) == FIRED_LIFE
    late_s = seconds_between(servers, opens, entry(order, "routing")["timestamp"])
    assert 0 <= late_s <= SLOT_S + 0.1


async def test_an_order_expires_when_its_window_closes(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    closes = after(0.7)
    conditions = {"timeWindow": {"notAfter": closes}, "price": {"above": "1000"}}
    placed = await sniper(client, conditions)
    assert placed["expiresAt"] == closes
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "expired"]
    assert 0 <= seconds_between(servers, closes, order["updatedAt"]) <= 1
    assert transactions(servers, order) == []


async def test_a_sniper_whose_window_closes_before_its_token_is_listed_expires(start: Start) -> None:
    client = await start()
    placed = await sniper(
        client, {"poolCreated": {"venue": "any"}, "timeWindow": {"notAfter": after(0.5)}}, tokenOut="NEVER"
    )
    assert statuses(await ended(client, placed)) == ["pending", "open", "expired"]


async def test_all_conditions_must_hold_at_once(start: Start) -> None:
    client = await start()
    conditions = {
        "poolCreated": {"venue": "raydium"},
        "minLiquidity": {"amount": "200000", "unit": "usd"},
        "price": {"above": "8", "below": "9"},
        "volume": {"amount": "70000", "seconds": 60},
        "timeWindow": {"notBefore": after(-1), "notAfter": after(600)},
    }
    placed = await sniper(client, conditions)
    await list_pool(client)
    await assert_it_rests(client, placed)  # neither price nor volume
    await buy(client, "5000")
    await assert_it_rests(client, placed)  # a price of 9.05, and too little volume
    await buy(client, "3000")
    seen = triggered_by(await ended(client, placed))
    assert seen.keys() == {"price", "poolId", "liquidity", "volume"}


async def test_a_sniper_executes_with_its_own_slippage_limit(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    out = await quoted(client)
    order = await ended(client, await sniper(client, FIRES_ANYWAY, slippageBps=250))
    assert Fraction(entry(order, "submitted")["quotedOut"]) == out
    [(minimum, _height)] = transactions(servers, order)
    assert minimum == int(out * UNIT) * 9_750 // 10_000
    assert Fraction(order["amountOut"]) == out
    messages = await watch(client, order["id"])
    assert [message["status"] for message in messages] == FIRED_LIFE


async def test_a_failure_is_retried_like_that_of_a_market_order(start: Start) -> None:
    client = await start(PAPER_FAILURE_RATE="slippage=1", RETRY_BASE_DELAY_MS="10")
    await list_pool(client)
    order = await ended(client, await sniper(client, FIRES_ANYWAY))
    one_try = ["routing", "building", "submitted"]
    assert statuses(order) == ["pending", "open", *[*one_try, "pending"] * 3, *one_try, "failed"]
    assert triggered_by(order)
    assert order["failureReason"] == "slippage_exceeded"


async def test_a_sniper_expires_while_it_waits_for_a_retry(start: Start, servers: TestServers) -> None:
    client = await start(PAPER_FAILURE_RATE="transient=1", RETRY_BASE_DELAY_MS="600000", SLOT_MS="50")
    await list_pool(client)
    closes = after(0.8)
    order = await ended(client, await sniper(client, {"timeWindow": {"notAfter": closes}}))
    assert statuses(order) == ["pending", "open", "routing", "building", "submitted", "pending", "expired"]
    assert 0 <= seconds_between(servers, closes, order["updatedAt"]) <= 1


async def test_only_a_sniper_may_name_an_unlisted_token(start: Start) -> None:
    client = await start()
    kinds: list[Json] = [{}, {"orderType": "limit", "limitPrice": "1"}]
    for kind in kinds:
        body = order_of(tokenIn="USDC", tokenOut="GEM", **kind)
        async with client.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 422
            assert [error["pointer"] for error in (await answer.json())["errors"]] == ["#/tokenOut"]
    for changes in ({"tokenIn": "GEM", "tokenOut": "USDC"}, {"tokenOut": "no-symbol"}, {"tokenOut": "USDC"}):
        body = {**SNIPER_ORDER, "sniperConditions": FIRES_ANYWAY, **changes}
        async with client.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 422, changes
    placed = await sniper(client, FIRES_ANYWAY)
    await until_status(client, placed, "open")
    async with client.get("/api/orders?tokenOut=GEM") as answer:
        assert [order["id"] for order in (await answer.json())["orders"]] == [placed["id"]]
    await list_pool(client)
    assert statuses(await ended(client, placed)) == FIRED_LIFE
    # Once listed, it is like any other token.
    assert (await buy(client, "10"))["status"] == "confirmed"


REFUSED: list[tuple[Any, str]] = [
    ({}, ""),
    ([], ""),
    ("price", ""),
    (7, ""),
    ({"prise": {}}, "/prise"),
    ({"price": {}}, "/price"),
    ({"price": "1"}, "/price"),
    ({"price": None}, ""),  # as if omitted
    ({"price": {"above": 1}}, "/price/above"),
    ({"price": {"above": "1e3"}}, "/price/above"),
    ({"price": {"above": "-1"}}, "/price/above"),
    ({"price": {"above": "0"}}, "/price/above"),
    ({"price": {"above": None}}, "/price"),
    ({"price": {"above": "2", "below": "2"}}, "/price/below"),
    ({"price": {"above": "2", "equal": "2"}}, "/price/equal"),
    ({"poolCreated": {}}, "/poolCreated/venue"),
    ({"poolCreated": True}, "/poolCreated"),
    ({"poolCreated": {"venue": "orca"}}, "/poolCreated/venue"),
    ({"poolCreated": {"venue": ["any"]}}, "/poolCreated/venue"),
    ({"minLiquidity": {"unit": "usd"}}, "/minLiquidity/amount"),
    ({"minLiquidity": {"amount": 5}}, "/minLiquidity/amount"),
    ({"minLiquidity": {"amount": "5", "unit": "eur"}}, "/minLiquidity/unit"),
    ({"volume": {"amount": "5"}}, "/volume/seconds"),
    ({"volume": {"seconds": 5}}, "/volume/amount"),
    ({"volume": {"amount": "5", "seconds": 0}}, "/volume/seconds"),
    ({"volume": {"amount": "5", "seconds": 3601}}, "/volume/seconds"),
    ({"volume": {"amount": "5", "seconds": "60"}}, "/volume/seconds"),
    ({"volume": {"amount": "5", "seconds": 1.5}}, "/volume/seconds"),
    ({"volume": {"amount": "5", "seconds": True}}, "/volume/seconds"),
    ({"timeWindow": {"notAfter": "2020-01-01T00:00:00Z"}}, "/timeWindow/notAfter"),
    ({"timeWindow": {"notAfter": "2100-01-01"}}, "/timeWindow/notAfter"),
    ({"timeWindow": {"notAfter": "2100-01-01T00:00:00"}}, "/timeWindow/notAfter"),
    ({"timeWindow": {"notBefore": 5}}, "/timeWindow/notBefore"),
    (
        {"timeWindow": {"notBefore": "2100-01-02T00:00:00Z", "notAfter": "2100-01-01T00:00:00Z"}},
        "/timeWindow/notAfter",
    ),
    ({"price": {"above": "1"}, "a/b~c": 1}, "/a~1b~0c"),
]


async def test_conditions_are_parsed_strictly(start: Start, servers: TestServers) -> None:
    client = await start()
    for conditions, pointer in REFUSED:
        body = {**SNIPER_ORDER, "sniperConditions": conditions}
        async with client.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 422, conditions
            pointers = [error["pointer"] for error in (await answer.json())["errors"]]
            assert pointers == [f"#/sniperConditions{pointer}"], conditions
    others: list[tuple[Json, str]] = [
        ({"sniperConditions": None}, "#/sniperConditions"),
        ({"limitPrice": "1"}, "#/limitPrice"),
        ({"timeInForce": "IOC"}, "#/timeInForce"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "#/expiresAt"),
        ({"amountOut": "1", "amountIn": None}, "#/amountOut"),
    ]
    for changes, pointer in others:
        body = {**SNIPER_ORDER, "sniperConditions": FIRES_ANYWAY, **changes}
        if body["amountIn"] is None:
            del body["amountIn"]
        async with client.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 422, changes
            assert {error["pointer"] for error in (await answer.json())["errors"]} == {pointer}, changes
    async with client.post("/api/orders/execute", json=SNIPER_ORDER) as answer:
        assert answer.status == 422
        assert [error["pointer"] for error in (await answer.json())["errors"]] == ["#/sniperConditions"]
    assert rows(servers, "SELECT count(*) FROM orders") == [(0,)]


async def test_a_sniper_buys_a_scheduled_token(start: Start) -> None:
    client = await start(PAPER_LISTING_EVERY_S="1")
    placed = await sniper(client, {"poolCreated": {"venue": "any"}}, tokenIn="SOL", tokenOut="NEW1")
    order = await ended(client, placed)
    assert statuses(order) == FIRED_LIFE
    assert order["venue"] == triggered_by(order)["poolId"].partition(":")[0]


async def test_an_amended_sniper_fires_on_its_new_conditions(start: Start) -> None:
    client = await start()
    await list_pool(client)
    placed = await sniper(client, {"price": {"above": "1000"}})
    kept = await sniper(client, {"price": {"above": "20"}})
    async with following(client, placed) as follower:
        await follower.until("open")
        for order, conditions in ((placed, FIRES_ANYWAY), (kept, {"price": {"above": "1000"}})):
            async with client.patch(
                f"/api/orders/{order['id']}", json={"sniperConditions": conditions, "slippageBps": 9}
            ) as answer:
                assert answer.status == 200
                body = await answer.json()
            assert body["statusHistory"][-1]["amended"] == {
                "sniperConditions": {"from": order["sniperConditions"], "to": conditions},
                "slippageBps": {"from": 100, "to": 9},
            }
        done = await follower.end()
    assert statuses(done) == ["pending", "open", *FIRED_LIFE[1:]]
    await list_pool(client, program="raydium_amm_v4", amountA="9000000")
    assert await best_price(client) > 20
    await assert_it_rests(
        client, await get(client, (await sniper(client, {"price": {"above": "500"}}))["id"])
    )
    assert statuses(await get(client, kept["id"])) == ["pending", "open", "open"]


async def test_snipers_rest_across_a_restart_and_fire_after_it(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    first = await aiohttp_client(service_on(servers).web)
    placed = await sniper(first, {"poolCreated": {"venue": "any"}})
    price = await sniper(first, {"price": {"below": "9"}})
    await first.close()
    second = await aiohttp_client(service_on(servers).web)
    assert statuses(await get(second, placed["id"])) == ["pending", "open"]
    await list_pool(second)
    assert statuses(await ended(second, placed)) == FIRED_LIFE
    await buy(second, "8000")
    assert statuses(await ended(second, price)) == FIRED_LIFE


async def test_a_hundred_snipers_of_one_token_each_fire_once(start: Start, servers: TestServers) -> None:
    client = await start(WORKER_CONCURRENCY="50")
    for _ in range(100):
        await sniper(client, {"poolCreated": {"venue": "any"}}, amountIn="1", slippageBps=5_000)
    await list_pool(client)
    await poll(lambda: rows(servers, "SELECT count(*) FROM open_orders") == [(0,)])
    assert rows(
        servers,
        "SELECT status, version, attempts, count(*)::int FROM orders GROUP BY 1, 2, 3",
    ) == [("confirmed", 6, 1, 100)]
    async with client.get("/api/orders?limit=1") as answer:
        [order] = (await answer.json())["orders"]
    assert statuses(order) == FIRED_LIFE
    assert (await place(client))["status"] == "pending"
