"""Orders are cancelled, expire and are amended, in every status, over the wire."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import pytest
from aiohttp.web import Application

from service.api.responses import CancelledOrderSchema, CancelledSchema, OrderSchema
from service.app import Service
from service.domain.transaction import SignedTransaction, TransactionStatus
from tests.conftest import service_on
from tests.support.gem_market import (
    FIRED_LIFE,
    LIMIT_ORDER,
    best_price,
    ended,
    fire_by_hand,
    following,
    forget_listed_tokens,
    limit,
    list_pool,
    open_state,
    poll,
    rows,
    sniper,
    transactions,
    until_status,
)
from tests.support.judge import audit_now
from tests.support.orders import Client, Json, execute, get, place, statuses, watch
from tests.support.servers import TestServers
from tests.support.times import after, lateness

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]
SLOW_QUOTES = {"QUOTE_DELAY_MS": "60000", "QUOTE_TIMEOUT_MS": "60000", "SHUTDOWN_GRACE_S": "0"}
SLOW_RETRIES = {"PAPER_FAILURE_RATE": "transient=1", "RETRY_BASE_DELAY_MS": "600000"}
NEVER = "1000"
"""A limit that is never reached."""
UNKNOWN = "01a204dd-947b-7bfe-8481-b8efbaf97832"


async def cancel(client: Client, order: Json, status: int = 200) -> Json:
    """Cancel an order; the response must have the given status."""
    async with client.delete(f"/api/orders/{order['id']}") as answer:
        body: Json = await answer.json()
        assert answer.status == status, body
        if status < 300:
            assert CancelledOrderSchema().validate(body) == {}
            assert body["cancelRequested"] == (status == 202)
        return body


async def cancel_many(client: Client, **filters: Any) -> tuple[int, int]:
    """Cancel by a filter; return how many are cancelled, and how many may still land."""
    async with client.post("/api/orders/cancel", json=filters) as answer:
        body = await answer.json()
        assert answer.status == 200, body
        assert CancelledSchema().validate(body) == {}
        return body["cancelled"], body["cancelRequested"]


async def amend(client: Client, order: Json, status: int = 200, **terms: Any) -> Json:
    """Amend an order; the response must have the given status."""
    async with client.patch(f"/api/orders/{order['id']}", json=terms) as answer:
        body: Json = await answer.json()
        assert answer.status == status, body
        if status == 200:
            assert OrderSchema().validate(body) == {}
        return body


@asynccontextmanager
async def held_before_signing(service: Service) -> AsyncIterator[asyncio.Event]:
    """Hold every order in `building` until the event that is given is set."""
    prepare, go_on = service.market.venue.prepare, asyncio.Event()

    async def wait_and_prepare(swap: Any) -> Any:
        await go_on.wait()
        return await prepare(swap)

    service.market.venue.prepare = wait_and_prepare  # type: ignore[method-assign]
    yield go_on
    go_on.set()


# --- cancel


async def test_an_open_order_is_cancelled_and_cancelling_it_again_is_200(start: Start) -> None:
    client = await start()
    await list_pool(client)
    placed = await limit(client, NEVER)
    async with following(client, placed) as follower:
        await follower.until("open")
        body = await cancel(client, placed)
        order = await follower.end()
    assert body["status"] == "cancelled"
    assert statuses(order) == statuses(body) == ["pending", "open", "cancelled"]
    assert (order["failureReason"], order["attempts"]) == (None, 0)
    for _ in range(2):
        assert statuses(await cancel(client, placed)) == ["pending", "open", "cancelled"]
    assert await get(client, placed["id"]) == order
    async with client.get("/api/orders?status=cancelled") as answer:
        assert [each["id"] for each in (await answer.json())["orders"]] == [placed["id"]]
    async with client.get("/api/orders?status=open") as answer:
        assert (await answer.json())["orders"] == []


async def test_a_cancelled_order_never_fires(start: Start) -> None:
    client = await start()
    await list_pool(client)
    price = await best_price(client)
    placed = await limit(client, price * 2)
    await until_status(client, placed, "open")
    await cancel(client, placed)
    await list_pool(client, program="raydium_amm_v4", amountA="9000000")
    sentinel = await limit(client, price * 2)
    assert statuses(await ended(client, sentinel)) == FIRED_LIFE
    assert statuses(await get(client, placed["id"])) == ["pending", "open", "cancelled"]


async def test_a_pending_order_is_cancelled(start: Start, servers: TestServers) -> None:
    client = await start(**SLOW_RETRIES)
    placed = await place(client)
    async with following(client, placed) as follower:
        await follower.until("pending")
        await follower.until("pending")
        body = await cancel(client, placed)
        order = await follower.end()
    assert statuses(order) == ["pending", "routing", "building", "submitted", "pending", "cancelled"]
    assert body["status"] == "cancelled"
    assert len(transactions(servers, order)) == 1


async def test_an_order_that_has_never_started_is_cancelled(start: Start) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    await execute(client)
    placed = await place(client)
    assert statuses(await cancel(client, placed)) == ["pending", "cancelled"]


async def test_an_order_in_routing_is_cancelled_and_nothing_is_sent(
    start: Start, servers: TestServers
) -> None:
    client = await start(QUOTE_DELAY_MS="300", SHUTDOWN_GRACE_S="0")
    placed = await place(client)
    await until_status(client, placed, "routing")
    assert statuses(await cancel(client, placed)) == ["pending", "routing", "cancelled"]
    # Later orders through the same worker show that the worker has finished with it.
    await execute(client)
    await execute(client)
    assert statuses(await get(client, placed["id"])) == ["pending", "routing", "cancelled"]
    assert transactions(servers, placed) == []
    assert rows(servers, "SELECT 1 FROM paper_transactions WHERE order_id = %s", placed["id"]) == []


async def test_an_order_in_building_is_cancelled_and_nothing_is_sent(
    make_service: Callable[..., Service], aiohttp_client: Any, servers: TestServers
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    async with held_before_signing(service) as go_on:
        placed = await place(client)
        await until_status(client, placed, "building")
        assert statuses(await cancel(client, placed)) == ["pending", "routing", "building", "cancelled"]
        go_on.set()
        await poll(lambda: not service.execution.engine.running)
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "routing", "building", "cancelled"]
    assert order["quotes"]
    assert transactions(servers, placed) == []
    assert rows(servers, "SELECT 1 FROM paper_transactions WHERE order_id = %s", placed["id"]) == []


async def test_a_submitted_order_that_lands_is_confirmed_despite_the_request(start: Start) -> None:
    client = await start(EXECUTION_DELAY_MS="600")
    placed = await place(client)
    await until_status(client, placed, "submitted")
    for _ in range(2):
        body = await cancel(client, placed, 202)
        assert body["status"] == "submitted"
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "routing", "building", "submitted", "confirmed"]
    await cancel(client, placed, 409)


@pytest.mark.parametrize("kind", ["transient", "slippage"])
async def test_a_submitted_order_that_fails_is_cancelled_instead_of_waiting(start: Start, kind: str) -> None:
    client = await start(EXECUTION_DELAY_MS="500", PAPER_FAILURE_RATE=f"{kind}=1")
    await list_pool(client)
    for placing, before in ((place(client), ["pending"]), (limit(client, "5"), ["pending", "open"])):
        placed = await placing
        await until_status(client, placed, "submitted")
        await cancel(client, placed, 202)
        order = await ended(client, placed)
        assert statuses(order) == [*before, "routing", "building", "submitted", "cancelled"]
        assert order["statusHistory"][-1]["reason"] in {"transaction_failed", "slippage_exceeded"}
        assert statuses(await cancel(client, placed))[-1] == "cancelled"


async def test_a_submitted_order_whose_attempt_expires_is_cancelled(start: Start) -> None:
    client = await start(EXECUTION_DELAY_MS="5000", SLOT_MS="100", PAPER_TX_VALID_SLOTS="5")
    placed = await place(client)
    await until_status(client, placed, "submitted")
    await cancel(client, placed, 202)
    order = await ended(client, placed)
    assert statuses(order)[-2:] == ["submitted", "cancelled"]
    assert order["failureReason"] == "attempt_expired"


@pytest.mark.parametrize("changes", [{}, {"timeInForce": "IOC"}])
async def test_a_submitted_order_with_a_request_to_cancel_ends_confirmed_or_cancelled(
    start: Start, changes: Json
) -> None:
    client = await start(EXECUTION_DELAY_MS="500", PAPER_FAILURE_RATE="permanent=1")
    await list_pool(client)
    placed = await limit(client, "5", **changes)
    await until_status(client, placed, "submitted")
    await cancel(client, placed, 202)
    order = await ended(client, placed)
    assert statuses(order)[-2:] == ["submitted", "cancelled"]
    assert order["statusHistory"][-1]["reason"] == (
        "not_filled_immediately" if changes else "transaction_rejected"
    )


async def test_an_ended_order_cannot_be_cancelled(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    confirmed = await execute(client)
    failed = await execute(client, tokenIn="BONK", amountIn="0.00001", tokenOut="SOL")
    expired = await ended(client, await limit(client, NEVER, timeInForce="IOC"))
    for order in (confirmed, failed, expired):
        problem = await cancel(client, order, 409)
        assert order["status"] in problem["detail"]
        assert await get(client, order["id"]) == order


async def test_an_unknown_order_cannot_be_changed(start: Start) -> None:
    client = await start()
    for order_id in (UNKNOWN, "x", "%00"):
        await cancel(client, {"id": order_id}, 404)
        await amend(client, {"id": order_id}, 404, slippageBps=1)


async def test_a_request_to_cancel_adds_no_history_entry(start: Start) -> None:
    client = await start(EXECUTION_DELAY_MS="300")
    placed = await place(client)
    before = await until_status(client, placed, "submitted")
    body = await cancel(client, placed, 202)
    assert body["statusHistory"] == before["statusHistory"]


async def test_many_orders_are_cancelled_by_a_filter(start: Start) -> None:
    client = await start()
    await list_pool(client)

    async def place_all() -> dict[str, str]:
        return {
            "gem": (await limit(client, NEVER))["id"],
            "sol": (await limit(client, "1000000", tokenIn="SOL", tokenOut="USDC", amountIn="1"))["id"],
            "sniper": (await sniper(client, {"price": {"above": "1000000"}}))["id"],
        }

    confirmed = await execute(client)
    filters: list[tuple[Json, set[str]]] = [
        ({"orderType": "sniper"}, {"sniper"}),
        ({"orderType": "limit"}, {"gem", "sol"}),
        ({"tokenIn": "USDC", "tokenOut": "GEM"}, {"gem", "sniper"}),
        ({"tokenIn": "USDC", "tokenOut": "GEM", "orderType": "limit"}, {"gem"}),
        ({"tokenOut": "USDC"}, {"sol"}),
        ({"tokenIn": "JUP"}, set()),
        ({"all": True}, {"gem", "sol", "sniper"}),
    ]
    for wanted, expected in filters:
        ids = await place_all()
        assert await cancel_many(client, **wanted) == (len(expected), 0), wanted
        after_it = {
            kind for kind, order_id in ids.items() if (await get(client, order_id))["status"] == "cancelled"
        }
        assert after_it == expected, wanted
        await cancel_many(client, all=True)
    assert await cancel_many(client, all=True) == (0, 0)
    assert await get(client, confirmed["id"]) == confirmed


async def test_submitted_orders_are_counted_separately(start: Start) -> None:
    client = await start(EXECUTION_DELAY_MS="500")
    await list_pool(client)
    submitted = await place(client)
    await limit(client, NEVER)
    await until_status(client, submitted, "submitted")
    assert await cancel_many(client, all=True) == (1, 1)
    assert (await ended(client, submitted))["status"] == "confirmed"


async def test_an_invalid_filter_is_rejected(start: Start) -> None:
    client = await start()
    await list_pool(client)
    placed = await limit(client, NEVER)
    bodies: list[Any] = [
        {},
        {"all": False},
        {"all": "true"},
        {"all": 1},
        {"all": None},
        {"all": True, "orderType": "limit"},
        {"orderType": "stop"},
        {"orderType": None},
        {"tokenIn": 5},
        {"status": "open"},
        {"ids": [placed["id"]]},
        [],
    ]
    for body in bodies:
        async with client.post("/api/orders/cancel", json=body) as answer:
            assert answer.status == 422, body
    assert (await get(client, placed["id"]))["status"] == "open"


# --- expire


async def test_an_open_order_expires_on_time(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    placed = await limit(client, NEVER, expiresAt=after(0.6))
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "expired"]
    assert 0 <= lateness(servers, order) <= 1
    assert order["failureReason"] is None
    assert OrderSchema().validate(order) == {}
    await cancel(client, placed, 409)
    await amend(client, placed, 409, limitPrice="1")


async def test_a_fired_order_that_waits_for_the_rate_limit_expires_on_time(
    start: Start, servers: TestServers
) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    await list_pool(client)
    await execute(client)
    placed = await limit(client, "5", expiresAt=after(0.8))
    await poll(lambda: rows(servers, "SELECT 1 FROM open_orders WHERE fired IS NOT NULL") == [(1,)])
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "expired"]
    assert 0 <= lateness(servers, order) <= 1
    assert transactions(servers, order) == []


async def test_an_order_that_waits_for_its_retry_expires_on_time(start: Start, servers: TestServers) -> None:
    client = await start(**SLOW_RETRIES, SLOT_MS="50")
    await list_pool(client)
    placed = await limit(client, "5", expiresAt=after(0.8))
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "routing", "building", "submitted", "pending", "expired"]
    assert 0 <= lateness(servers, order) <= 1


async def test_orders_expire_whose_expiry_passed_during_a_downtime(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    first = await aiohttp_client(service_on(servers, QUEUE_RATE_LIMIT="1").web)
    await list_pool(first)
    await execute(first)
    resting = await limit(first, NEVER, expiresAt=after(0.5))
    fired = await limit(first, "5", expiresAt=after(0.5))
    kept = await limit(first, NEVER)
    await poll(lambda: rows(servers, "SELECT 1 FROM open_orders WHERE fired IS NOT NULL") == [(1,)])
    await first.close()
    await poll(lambda: rows(servers, "SELECT bool_and(expires_at < now()) FROM open_orders") == [(True,)])
    second = await aiohttp_client(service_on(servers).web)
    for placed in (resting, fired):
        order = await ended(second, placed, within_s=2)
        assert statuses(order) == ["pending", "open", "expired"]
    assert statuses(await get(second, kept["id"])) == ["pending", "open"]


async def test_no_transaction_is_signed_that_could_land_after_the_expiry(
    make_service: Callable[..., Service], aiohttp_client: Any, servers: TestServers
) -> None:
    service = make_service(SLOT_MS="100")
    client = await aiohttp_client(service.web)
    await list_pool(client)
    async with held_before_signing(service) as go_on:
        placed = await limit(client, "5", expiresAt=after(0.5))
        await until_status(client, placed, "building")
        await poll(lambda: rows(servers, "SELECT expires_at < now() FROM orders") == [(True,)])
        go_on.set()
        order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "routing", "building", "expired"]
    assert transactions(servers, order) == []


@pytest.mark.parametrize("left_s", [0.35, 0.75, 1.3, 3600])
async def test_no_attempt_is_valid_longer_than_its_order(
    start: Start, servers: TestServers, left_s: float
) -> None:
    client = await start(SLOT_MS="100", PAPER_TX_VALID_SLOTS="20", EXECUTION_DELAY_MS="0")
    await list_pool(client)
    orders = [await ended(client, await limit(client, "1", expiresAt=after(left_s))) for _ in range(3)]
    for order in orders:
        [(expires_ms,)] = rows(
            servers, "SELECT floor(extract(epoch FROM %s::timestamptz) * 1000)::bigint", order["expiresAt"]
        )
        for _minimum, height in transactions(servers, order):
            assert (height + 1) * 100 <= expires_ms
        # With hardly any time left, an attempt may be too late to land.
        possible = {"confirmed"} if left_s == 3600 else {"confirmed", "expired"}
        assert order["status"] in (possible if transactions(servers, order) else {"expired"})


@pytest.mark.parametrize("retries", ["0", "3"])
async def test_a_submitted_order_waits_for_its_outcome_and_then_expires(
    start: Start, servers: TestServers, retries: str
) -> None:
    client = await start(SLOT_MS="100", EXECUTION_DELAY_MS="5000", MAX_RETRIES=retries)
    await list_pool(client)
    placed = await limit(client, "5", expiresAt=after(1))
    async with following(client, placed) as follower:
        await follower.until("submitted")
        order = await follower.end()
    assert statuses(order) == ["pending", "open", "routing", "building", "submitted", "expired"]
    assert order["statusHistory"][-1]["reason"] == "attempt_expired"
    assert lateness(servers, order) >= 0
    [(landed,)] = rows(
        servers,
        "SELECT count(*) FROM paper_transactions WHERE status = 'landed' AND order_id = %s",
        placed["id"],
    )
    assert landed == 0


async def test_a_submitted_order_that_lands_in_time_is_confirmed(start: Start) -> None:
    client = await start(SLOT_MS="50", EXECUTION_DELAY_MS="300")
    await list_pool(client)
    order = await ended(client, await limit(client, "5", expiresAt=after(1.5)))
    assert statuses(order) == FIRED_LIFE


async def test_an_order_confirmed_after_its_expiry_shows_that_it_landed_before(
    make_service: Callable[..., Service], aiohttp_client: Any, servers: TestServers
) -> None:
    service = make_service(SLOT_MS="50", EXECUTION_DELAY_MS="100")
    client = await aiohttp_client(service.web)
    await list_pool(client)
    outcome = service.market.venue.outcome

    async def answer_late(transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        await poll(lambda: rows(servers, "SELECT bool_and(expires_at < now()) FROM orders") == [(True,)])
        return await outcome(transaction, timeout_s)

    service.market.venue.outcome = answer_late  # type: ignore[method-assign]
    order = await ended(client, await limit(client, "5", expiresAt=after(1.5)))
    confirmed = order["statusHistory"][-1]
    assert statuses(order) == FIRED_LIFE
    assert confirmed["landedAt"] <= order["expiresAt"] < confirmed["timestamp"]
    [(last_slot,)] = rows(
        servers,
        "SELECT floor(extract(epoch FROM %s::timestamptz) * 20)::bigint - 1",
        order["expiresAt"],
    )
    assert confirmed["landedSlot"] <= last_slot
    assert OrderSchema().validate(order) == {}
    assert await audit_now(servers) == []


# --- amend


async def test_every_term_of_an_open_order_is_amended_and_recorded(start: Start) -> None:
    client = await start()
    await list_pool(client)
    placed = await limit(client, NEVER)
    at = "2100-01-31T12:00:00.000000Z"
    steps: list[tuple[Json, Json, Json]] = [
        (
            {"limitPrice": "999.50"},
            {"limitPrice": {"from": "1000", "to": "999.50"}},
            {"limitPrice": "999.50"},
        ),
        ({"slippageBps": 7}, {"slippageBps": {"from": 100, "to": 7}}, {"slippageBps": 7}),
        (
            {"expiresAt": "2100-01-31T12:00:00Z"},
            {"expiresAt": {"from": None, "to": at}, "timeInForce": {"from": "GTC", "to": "GTD"}},
            {"expiresAt": at, "timeInForce": "GTD"},
        ),
        (
            {"expiresAt": None, "limitPrice": "998"},
            {
                "expiresAt": {"from": at, "to": None},
                "timeInForce": {"from": "GTD", "to": "GTC"},
                "limitPrice": {"from": "999.50", "to": "998"},
            },
            {"expiresAt": None, "timeInForce": "GTC", "limitPrice": "998"},
        ),
    ]
    async with following(client, placed) as follower:
        seen = [await follower.until("open")]
        for sent, told, terms in steps:
            body = await amend(client, placed, **sent)
            assert body["statusHistory"][-1]["amended"] == told
            assert {name: body[name] for name in terms} == terms
            assert body["status"] == "open"
            live = await follower.until("open")
            assert live == body == await get(client, placed["id"])
            seen.append(live)
        # An equal value is no amendment.
        assert await amend(client, placed, limitPrice="998", expiresAt=None, slippageBps=7) == seen[-1]
        await cancel(client, placed)
        order = await follower.end()
        live_messages = follower.messages
    assert statuses(order) == ["pending", *["open"] * 5, "cancelled"]
    # In a replay, each message shows the terms as of its entry.
    assert await watch(client, placed["id"]) == live_messages
    assert [message["order"]["limitPrice"] for message in live_messages] == [
        "1000", "1000", "999.50", "999.50", "999.50", "998", "998",
    ]  # fmt: skip
    assert [message["order"]["timeInForce"] for message in live_messages] == [
        "GTC", "GTC", "GTC", "GTC", "GTD", "GTC", "GTC",
    ]  # fmt: skip


async def test_an_amended_order_fires_on_its_new_terms(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    price = await best_price(client)
    placed = await limit(client, NEVER, slippageBps=10_000)
    await until_status(client, placed, "open")
    await amend(client, placed, limitPrice=str(float(price) * 2))
    await amend(client, placed, limitPrice="9")
    order = await ended(client, placed)
    assert statuses(order) == ["pending", "open", "open", *FIRED_LIFE[1:]]
    assert [minimum for minimum, _height in transactions(servers, order)] == [900_000_000]


async def test_an_amended_order_does_not_fire_on_its_old_terms(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    price = await best_price(client)
    placed = await limit(client, price * 2)
    await until_status(client, placed, "open")
    await amend(client, placed, limitPrice=NEVER)
    await list_pool(client, program="raydium_amm_v4", amountA="9000000")
    assert statuses(await ended(client, await limit(client, price * 2))) == FIRED_LIFE
    assert statuses(await get(client, placed["id"])) == ["pending", "open", "open"]
    assert (await open_state(servers, placed))["fired"] is None


async def test_amending_a_fired_order_that_has_not_started_undoes_the_firing(
    start: Start, servers: TestServers
) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    await list_pool(client)
    await execute(client)
    placed = await limit(client, "5")
    await poll(lambda: rows(servers, "SELECT 1 FROM open_orders WHERE fired IS NOT NULL") == [(1,)])
    await amend(client, placed, limitPrice=NEVER)
    assert (await open_state(servers, placed))["fired"] is None
    # By now it would have started.
    rows(servers, "UPDATE rate_starts SET started_at = now() - interval '61 seconds'")
    assert (await execute(client))["status"] == "confirmed"
    assert statuses(await get(client, placed["id"])) == ["pending", "open", "open"]


async def test_only_open_orders_can_be_amended(
    make_service: Callable[..., Service], aiohttp_client: Any, start: Start
) -> None:
    service = make_service(QUOTE_DELAY_MS="300", EXECUTION_DELAY_MS="300")
    client = await aiohttp_client(service.web)
    await list_pool(client)
    placed = await limit(client, "5")
    async with held_before_signing(service) as go_on:
        for status in ("routing", "building"):
            await until_status(client, placed, status)
            assert status in (await amend(client, placed, 409, limitPrice="6"))["detail"]
        go_on.set()
        await until_status(client, placed, "submitted")
        await amend(client, placed, 409, limitPrice="6")
    order = await ended(client, placed)
    assert statuses(order) == FIRED_LIFE
    await amend(client, placed, 409, limitPrice="6")
    cancelled = await limit(client, NEVER)
    await cancel(client, cancelled)
    await amend(client, cancelled, 409, limitPrice="6")


async def test_a_pending_order_cannot_be_amended(start: Start) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    await execute(client)
    await amend(client, await place(client), 409, slippageBps=5)


async def test_an_invalid_amendment_is_rejected_with_a_pointer(start: Start) -> None:
    client = await start()
    await list_pool(client)
    resting = await limit(client, NEVER)
    snipe = await sniper(client, {"price": {"above": "1000000"}})
    refused: list[tuple[Json, Json, str]] = [
        (resting, {}, "#"),
        (resting, {"limitPrice": "x"}, "#/limitPrice"),
        (resting, {"limitPrice": 1}, "#/limitPrice"),
        (resting, {"limitPrice": None}, "#"),  # as if omitted
        (resting, {"expiresAt": "2020-01-01T00:00:00Z"}, "#/expiresAt"),
        (resting, {"expiresAt": "soon"}, "#/expiresAt"),
        (resting, {"slippageBps": 10_001}, "#/slippageBps"),
        (resting, {"slippageBps": "5"}, "#/slippageBps"),
        (resting, {"sniperConditions": {"price": {"above": "1"}}}, "#/sniperConditions"),
        (resting, {"amountIn": "5"}, "#/amountIn"),
        (resting, {"timeInForce": "IOC"}, "#/timeInForce"),
        (snipe, {"limitPrice": "1"}, "#/limitPrice"),
        (snipe, {"expiresAt": "2020-01-01T00:00:00Z"}, "#/expiresAt"),
        (snipe, {"sniperConditions": {"price": {"above": 1}}}, "#/sniperConditions/price/above"),
        (snipe, {"sniperConditions": {}}, "#/sniperConditions"),
        (snipe, {"sniperConditions": None}, "#"),
    ]
    for order, terms, pointer in refused:
        problem = await amend(client, order, 422, **terms)
        assert [error["pointer"] for error in problem["errors"]] == [pointer], terms
    for order in (resting, snipe):
        assert statuses(await get(client, order["id"])) == ["pending", "open"]


async def test_a_client_order_id_identifies_an_amended_order_by_its_first_request(start: Start) -> None:
    client = await start()
    await list_pool(client)
    at = after(3_600)
    placed = await limit(client, NEVER, clientOrderId="limit", expiresAt=at)
    snipe = await sniper(client, {"price": {"above": "1000000"}}, clientOrderId="sniper")
    await amend(client, placed, limitPrice="999", expiresAt=None)
    await amend(client, snipe, sniperConditions={"price": {"above": "1000001"}}, slippageBps=1)
    first: list[tuple[Json, Json]] = [
        (placed, {**LIMIT_ORDER, "limitPrice": NEVER, "clientOrderId": "limit", "expiresAt": at}),
        (
            snipe,
            {
                **LIMIT_ORDER,
                "orderType": "sniper",
                "sniperConditions": {"price": {"above": "1000000"}},
                "clientOrderId": "sniper",
            },
        ),
    ]
    for order, body in first:
        async with client.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 200
            again = await answer.json()
        assert (again["id"], again) == (order["id"], await get(client, order["id"]))
    async with client.post("/api/orders/execute", json={**first[0][1], "limitPrice": "999"}) as answer:
        assert answer.status == 409


async def test_a_client_order_id_identifies_an_expired_order(start: Start) -> None:
    client = await start()
    await list_pool(client)
    at = after(0.3)
    placed = await limit(client, NEVER, clientOrderId="limit", expiresAt=at)
    await ended(client, placed)
    body = {**LIMIT_ORDER, "limitPrice": NEVER, "clientOrderId": "limit", "expiresAt": at}
    async with client.post("/api/orders/execute", json=body) as answer:
        assert answer.status == 200, await answer.json()
        assert (await answer.json())["id"] == placed["id"]


async def test_concurrent_amendments_are_each_recorded_once(start: Start) -> None:
    client = await start()
    await list_pool(client)
    placed = await limit(client, NEVER)

    async def try_to(price: int) -> int:
        async with client.patch(f"/api/orders/{placed['id']}", json={"limitPrice": str(price)}) as answer:
            return answer.status

    answers = await asyncio.gather(*(try_to(1_001 + number) for number in range(12)))
    assert set(answers) <= {200, 409}
    order = await get(client, placed["id"])
    amended = [entry["amended"]["limitPrice"] for entry in order["statusHistory"][2:]]
    assert len(amended) == answers.count(200)
    assert [change["from"] for change in amended] == ["1000", *(change["to"] for change in amended[:-1])]
    assert order["limitPrice"] == amended[-1]["to"]


async def test_watchers_see_an_order_that_rests_again(start: Start, servers: TestServers) -> None:
    client = await start()
    await list_pool(client)
    placed = await limit(client, NEVER)
    async with following(client, placed) as follower:
        await follower.until("open")
        fire_by_hand(servers, placed)
        assert (await follower.until("routing"))["statusHistory"][-1]["triggeredBy"] == {"price": "1"}
        await follower.until("open")
        await amend(client, placed, limitPrice=str(Fraction(9)))
        order = await follower.end()
    assert [message["sequence"] for message in follower.messages] == list(
        range(1, len(follower.messages) + 1)
    )
    assert statuses(order) == ["pending", "open", "routing", "open", "open", *FIRED_LIFE[2:]]
    # The amendment ended the pause.
    assert [message["status"] for message in await watch(client, placed["id"])] == statuses(order)
