"""Deadlines of submission: IOC and FOK orders, expiry, and the maximum age of market orders."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.web import Application

from service.api.responses import OrderSchema
from service.app import Service
from service.chains.venue import PoolRef, Snapshot, Swap
from service.domain.chain_times import SLOT_MS
from service.domain.quote import Dex
from tests.conftest import service_on
from tests.support.gem_market import (
    ended,
    following,
    forget_listed_tokens,
    limit,
    list_pool,
    poll,
    rows,
    sniper,
    transactions,
    until_status,
)
from tests.support.judge import audit_now
from tests.support.orders import Client, Json, execute, get, place, statuses
from tests.support.paper import quiet_slot_ms
from tests.support.servers import TestServers
from tests.support.times import after, lateness

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]
SLOW_QUOTES = {"QUOTE_DELAY_MS": "60000", "QUOTE_TIMEOUT_MS": "60000", "SHUTDOWN_GRACE_S": "0"}


def age_s(servers: TestServers, order: Json) -> float:
    """Return how old an order was when it ended."""
    [(age,)] = rows(
        servers,
        "SELECT extract(epoch FROM %s::timestamptz - %s::timestamptz)::float8",
        order["updatedAt"],
        order["createdAt"],
    )
    return float(age)


@asynccontextmanager
async def held_before_signing(service: Service) -> AsyncIterator[asyncio.Event]:
    """Hold every order in `building` until the event that is given is set."""
    prepare, go_on = service.market.venue.prepare, asyncio.Event()

    async def wait_and_prepare(swap: Swap) -> Any:
        await go_on.wait()
        return await prepare(swap)

    service.market.venue.prepare = wait_and_prepare  # type: ignore[method-assign]
    yield go_on
    go_on.set()


# --- IOC and FOK


async def test_an_ioc_or_fok_order_does_not_wait_for_the_rate_limit(
    start: Start, servers: TestServers
) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    await list_pool(client)
    await execute(client)
    for placed in [await limit(client, "5", timeInForce=each) for each in ("IOC", "FOK")]:
        order = await ended(client, placed)
        assert statuses(order) == ["pending", "expired"]
        assert order["failureReason"] == order["statusHistory"][-1]["reason"] == "not_filled_immediately"
        assert 1.4 < age_s(servers, order) < 4
        assert transactions(servers, order) == []
        assert OrderSchema().validate(order) == {}
    # It does not count towards the limit after it has expired.
    rows(servers, "UPDATE rate_starts SET started_at = now() - interval '61 seconds'")
    assert (await execute(client))["status"] == "confirmed"
    assert await get(client, order["id"]) == order


async def test_an_ioc_or_fok_order_does_not_wait_for_quotes(start: Start, servers: TestServers) -> None:
    client = await start(**SLOW_QUOTES)
    placed = await place(client, orderType="limit", limitPrice="1", timeInForce="IOC")
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "routing", "expired"]
    assert order["failureReason"] == "not_filled_immediately"
    assert age_s(servers, order) < 4
    assert transactions(servers, order) == []


async def test_an_ioc_or_fok_order_is_filled_by_the_dex_that_responds(
    make_service: Callable[..., Service], aiohttp_client: Any
) -> None:
    service = make_service(QUOTE_TIMEOUT_MS="60000")
    client = await aiohttp_client(service.web)
    snapshot = service.market.venue.snapshot

    def hang(pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        if pools[0].dex is Dex.METEORA:
            return asyncio.get_running_loop().create_future()
        return snapshot(pools)

    service.market.venue.snapshot = hang  # type: ignore[method-assign]
    placed = await place(client, orderType="limit", limitPrice="1", timeInForce="IOC")
    order = await ended(client, placed)
    assert (order["status"], order["venue"]) == ("confirmed", "raydium")


async def test_an_ioc_or_fok_order_is_not_signed_too_late(
    make_service: Callable[..., Service], aiohttp_client: Any, servers: TestServers
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    await list_pool(client)
    async with held_before_signing(service) as go_on:
        order = await ended(client, await limit(client, "5", timeInForce="IOC"))
        assert age_s(servers, order) < 4
        go_on.set()
        await poll(lambda: not service.execution.engine.running)
    assert statuses(await get(client, order["id"])) == ["pending", "routing", "building", "expired"]
    assert transactions(servers, order) == []


async def test_an_ioc_or_fok_order_lands_soon_after_its_submission_deadline(
    start: Start, servers: TestServers
) -> None:
    client = await start(EXECUTION_DELAY_MS="1000-2500")
    await list_pool(client)
    order = await ended(client, await limit(client, "5", timeInForce="IOC"))
    assert order["status"] == "confirmed"
    [(over_ms,)] = rows(
        servers,
        "SELECT (a.last_valid_slot + 1) * %s - floor(extract(epoch FROM o.created_at) * 1000)::bigint"
        " FROM transactions AS a JOIN orders AS o ON o.id = a.order_id WHERE o.id = %s",
        SLOT_MS,
        order["id"],
    )
    # 1.5 s to be submitted, 2.5 s to land, rounded to whole slots.
    assert 4_000 < over_ms <= 4_000 + 2 * SLOT_MS
    assert await audit_now(servers) == []


async def test_an_ioc_or_fok_order_expires_after_a_restart(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    first = await aiohttp_client(service_on(servers, QUEUE_RATE_LIMIT="1").web)
    await list_pool(first)
    await execute(first)
    waiting = await limit(first, "5", timeInForce="IOC")
    await first.close()
    second = await aiohttp_client(service_on(servers, **SLOW_QUOTES).web)
    begun = await limit(second, "5", timeInForce="IOC")
    await until_status(second, begun, "routing")
    await second.close()
    await poll(lambda: rows(servers, "SELECT bool_and(expires_at < now()) FROM open_orders") == [(True,)])
    third = await aiohttp_client(service_on(servers).web)
    for placed in (waiting, begun):
        order = await ended(third, placed, within_s=5)
        assert (order["status"], order["failureReason"]) == ("expired", "not_filled_immediately")
        assert transactions(servers, order) == []
    assert (await execute(third))["status"] == "confirmed"


# --- market and sniper orders with an expiry


async def test_a_market_order_that_waits_expires_on_time(start: Start, servers: TestServers) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    await execute(client)
    at = after(0.8)
    for placed in (await place(client, expiresAt=at), await place(client, expiresAt=at, amountOut="10")):
        assert placed["expiresAt"] == at
        order = await ended(client, placed)
        assert statuses(order) == ["pending", "expired"]
        assert (order["failureReason"], order["expiresAt"]) == (None, at)
        assert 0 <= lateness(servers, order) <= 1
        assert OrderSchema().validate(order) == {}


async def test_a_market_order_expires_across_a_restart_and_between_attempts(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    slow = {"PAPER_FAILURE_RATE": "transient=1", "RETRY_BASE_DELAY_MS": "600000"}
    first = await aiohttp_client(service_on(servers, **slow).web)
    placed = await place(first, expiresAt=after(1.5))
    async with following(first, placed) as follower:
        await follower.until("pending")
        await follower.until("pending")
    await first.close()
    second = await aiohttp_client(service_on(servers).web)
    order = await ended(second, placed, within_s=10)
    assert statuses(order) == ["pending", "routing", "building", "submitted", "pending", "expired"]
    assert lateness(servers, order) >= 0


async def test_a_market_order_executed_in_time_cannot_land_later(start: Start, servers: TestServers) -> None:
    client = await start(SLOT_MS="100")
    order = await execute(client, expiresAt=after(3))
    assert order["status"] == "confirmed"
    [(_minimum, height)] = transactions(servers, order)
    assert rows(
        servers,
        "SELECT (%s + 1) * 100 <= extract(epoch FROM %s::timestamptz) * 1000",
        height,
        order["expiresAt"],
    ) == [(True,)]


async def test_the_same_market_order_with_another_expiry_is_another_order(start: Start) -> None:
    client = await start()
    at = after(3_600)
    placed = await place(client, clientOrderId="mine", expiresAt=at)
    body = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50", "orderType": "market"}
    for changes, status in (({"expiresAt": at}, 200), ({}, 409), ({"expiresAt": after(3_601)}, 409)):
        sent = {**body, "clientOrderId": "mine", **changes}
        async with client.post("/api/orders/execute", json=sent) as answer:
            assert answer.status == status, changes
            if status == 200:
                assert (await answer.json())["id"] == placed["id"]
    async with client.post(
        "/api/orders/execute", json={**body, "expiresAt": "2020-01-01T00:00:00Z"}
    ) as answer:
        assert answer.status == 422
        assert [error["pointer"] for error in (await answer.json())["errors"]] == ["#/expiresAt"]


async def test_a_sniper_expires_at_its_own_expiry(start: Start, servers: TestServers) -> None:
    client = await start()
    placed = await sniper(client, {"poolCreated": {"venue": "any"}}, tokenOut="MOON", expiresAt=after(0.5))
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "expired"]
    assert 0 <= lateness(servers, order) <= 1


# --- too old


async def test_a_market_order_that_is_too_old_expires(start: Start, servers: TestServers) -> None:
    client = await start(QUEUE_RATE_LIMIT="1", MAX_MARKET_ORDER_AGE_S="1")
    await list_pool(client)
    await execute(client)
    resting = await limit(client, "5")
    placed = await place(client, clientOrderId="old")
    [(deadline, allowed_s)] = rows(
        servers,
        "SELECT rfc3339(expires_at), extract(epoch FROM expires_at - created_at)::float8"
        " FROM open_orders WHERE order_id = %s",
        placed["id"],
    )
    # It counts from when the request was read, which is a moment before the order is stored.
    assert 0.5 < allowed_s <= 1
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "expired"]
    assert order["failureReason"] == "not_submitted_in_time"
    assert order["expiresAt"] is None
    assert order["updatedAt"] >= deadline
    assert age_s(servers, order) <= 4
    # An earlier expiry of its own has no reason code.
    timed = await ended(client, await place(client, expiresAt=after(0.5)))
    assert (timed["status"], timed["failureReason"]) == ("expired", None)
    # The setting is not a term of the order.
    assert (await place_again(client, clientOrderId="old"))["id"] == placed["id"]
    # A limit order's price protects it, however old it is.
    assert (await get(client, resting["id"]))["status"] == "open"


async def place_again(client: Client, **changes: Any) -> Json:
    """Place an order again that is already stored."""
    body = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50", "orderType": "market", **changes}
    async with client.post("/api/orders/execute", json=body) as answer:
        assert answer.status == 200, await answer.text()
        again: Json = await answer.json()
        return again


async def test_the_age_of_a_sniper_counts_from_its_firing(start: Start, servers: TestServers) -> None:
    client = await start(QUEUE_RATE_LIMIT="1", MAX_MARKET_ORDER_AGE_S="1")
    await list_pool(client)
    await execute(client)
    waits = await sniper(client, {"price": {"above": "1000000"}})
    placed = await sniper(client, {"price": {"above": "1"}})
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "expired"]
    assert order["failureReason"] == "not_submitted_in_time"
    # The age of an unfired one is not limited.
    assert rows(servers, "SELECT order_id::text, expires_at FROM open_orders WHERE resting") == [
        (waits["id"], None)
    ]


async def test_an_order_that_is_not_too_old_is_executed(start: Start) -> None:
    client = await start(MAX_MARKET_ORDER_AGE_S="60")
    await list_pool(client)
    assert (await execute(client))["status"] == "confirmed"
    assert (await ended(client, await sniper(client, {"price": {"above": "1"}})))["status"] == "confirmed"


# --- never early


async def test_an_order_without_a_slot_to_land_in_expires_at_its_expiry_and_not_before(
    start: Start, servers: TestServers
) -> None:
    client = await start(SLOT_MS=str(quiet_slot_ms(servers)))  # which ends long after the order's expiry
    order = await ended(client, await place(client, expiresAt=after(0.8)))
    assert statuses(order) == ["pending", "routing", "building", "expired"]
    assert 0 <= lateness(servers, order) <= 1
    assert transactions(servers, order) == []
    assert await audit_now(servers) == []
