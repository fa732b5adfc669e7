"""Orders that await approval: nothing starts them, and of concurrent decisions, changes and ends one wins."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg2
import pytest

from service.domain.history import Committed
from service.domain.order import Order, OrderType, TimeInForce
from service.domain.timestamps import format_timestamp
from service.store.claims import Claimed
from service.store.halt import HaltedError
from service.store.rate_limit import RateLimit
from service.store.resting import Fired
from tests.support.desk import Desk, race
from tests.support.gem_market import open_state, rows
from tests.support.interleaving import schedules
from tests.support.judge import audit_now
from tests.support.servers import TestServers
from tests.support.store import open_store

KEY = "0123456789abcdef"
NO_LIMIT: dict[str, Any] = {"time_in_force": None, "limit_price": None, "limit_out": None}
MARKET: dict[str, Any] = {**NO_LIMIT, "order_type": OrderType.MARKET}
SNIPER: dict[str, Any] = {
    **NO_LIMIT,
    "order_type": OrderType.SNIPER,
    "sniper_conditions": {"price": {"above": "1"}},
}
IOC: dict[str, Any] = {"time_in_force": TimeInForce.IOC}
KINDS: dict[str, dict[str, Any]] = {"market": MARKET, "limit": {}, "IOC": IOC, "sniper": SNIPER}
RESTS = {"limit", "sniper"}


@pytest.fixture
async def desks(servers: TestServers) -> AsyncIterator[list[Desk]]:
    """Return one store as two processes use it."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(servers)) for _ in range(2)]
        yield [Desk(servers, store) for store in stores]


@pytest.fixture
def desk(desks: list[Desk]) -> Desk:
    return desks[0]


def recorded(servers: TestServers, order: Order) -> list[int]:
    """Return the sequences of the entries for which there is an event, for the streams of all orders."""
    found = rows(servers, "SELECT version FROM order_events WHERE order_id = %s ORDER BY id", order.id)
    return [version for (version,) in found]


def after(seconds: float) -> str:
    return format_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_fires_or_starts_an_order_that_awaits_approval(
    desk: Desk, servers: TestServers, kind: str
) -> None:
    order = await desk.awaiting(**KINDS[kind])
    assert order.awaits_approval
    assert [entry["status"] for entry in order.history] == ["pending", "open"]
    [told] = [step for step in desk.store.told if step.order_id == order.id]
    assert told.entry == order.history[1]
    assert await desk.resting.fire([Fired(order.id, 2, {})]) == []
    assert await desk.resting.get([order.id]) == []
    assert [page async for page in desk.resting.scan()] == []
    assert await desk.resting.rested_within(60_000) == {}
    assert await desk.store.claims.claim(order.id) is None
    assert await desk.store.instances.wake_due(rate_limit=RateLimit(0), wake_after_ms=0, again=True) == []
    # Nor does a statement of another version, or one written by hand.
    for change in ("resting = true", "due_at = now()", "started = true", "fired = '{}'"):
        with pytest.raises(psycopg2.IntegrityError, match="open_orders_approval"):
            rows(servers, f"UPDATE open_orders SET {change}")  # noqa: S608 - from the list above
    assert desk.stands(order.id)[1] == ["pending", "open"]
    assert await audit_now(servers) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_an_approved_order_begins_to_rest_or_is_due(
    desk: Desk, servers: TestServers, kind: str
) -> None:
    order = await desk.awaiting(**KINDS[kind])
    step = await desk.approvals.approve(order, KEY, "looks fine")
    assert step is not None
    assert {**step.entry, "timestamp": None} == {
        "sequence": 3,
        "status": "open",
        "timestamp": None,
        "approvedBy": KEY,
        "detail": "looks fine",
    }
    assert desk.told[-1] == step
    stored = await desk.stored(order.id)
    assert (stored.history[-1], stored.awaits_approval) == (step.entry, False)
    assert recorded(servers, order) == [1, 2, 3]
    state = await open_state(servers, {"id": order.id})
    assert (state["resting"], state["approve_by"], state["started"]) == (kind in RESTS, None, False)
    assert await audit_now(servers) == []
    claim = await desk.store.claims.claim(order.id)
    if kind in RESTS:
        assert claim is None
        assert await desk.resting.fire([Fired(order.id, 2, {})]) == []
        assert list(await desk.resting.rested_within(60_000)) == [order.id]
        assert await desk.resting.fire([Fired(order.id, 3, {})]) == [order.id]
        claim = await desk.store.claims.claim(order.id)
    assert isinstance(claim, Claimed)
    assert desk.stands(order.id)[1] == ["pending", "open", "open", "routing"]
    assert await desk.approvals.approve(stored, KEY) is None


@pytest.mark.parametrize(
    ("kind", "own_s", "within_s"),
    [
        ("IOC", None, 1.5),
        ("market", None, 30),
        ("market", 10, 10),
        ("limit", None, None),
        ("limit", 10, 10),
        ("sniper", None, None),
        ("sniper", 10, 10),
    ],
)
async def test_the_time_limits_of_an_order_count_from_its_approval(
    desk: Desk, servers: TestServers, kind: str, own_s: float | None, within_s: float | None
) -> None:
    changes = dict(KINDS[kind])
    if own_s is not None:
        changes |= {"expires_at": after(own_s)} | (
            {"time_in_force": TimeInForce.GTD} if kind == "limit" else {}
        )
    order = await desk.awaiting(**changes)
    left = (
        "SELECT extract(epoch FROM expires_at - {})::float8, expires_at = approve_by FROM open_orders"
        " WHERE order_id = %s"
    )
    # Until then it is the earlier of its own expiry and the time for its approval.
    [(until_s, by_approval)] = rows(servers, left.format("created_at"), order.id)
    assert until_s == pytest.approx(3_600 if own_s is None else own_s, abs=1)
    assert by_approval is (own_s is None)
    assert await desk.approvals.approve(order, KEY) is not None
    [(left_s, _by_approval)] = rows(servers, left.format("rested_at"), order.id)
    assert left_s == (None if within_s is None else pytest.approx(within_s, abs=1 if own_s else 0.001))


async def test_an_order_that_is_not_approved_in_time_expires_with_the_reason(
    desk: Desk, servers: TestServers
) -> None:
    own = await desk.awaiting(time_in_force=TimeInForce.GTD, expires_at=after(3_000))
    others = [await desk.awaiting(**KINDS[kind]) for kind in KINDS]
    assert await desk.endings.end_expired() == 0
    # As if the time had passed.
    rows(servers, "UPDATE open_orders SET expires_at = now(), approve_by = least(approve_by, now())")
    rows(servers, "UPDATE orders SET expires_at = now() WHERE id = %s", own.id)
    for order in (own, *others):
        assert await desk.approvals.approve(order, KEY) is None
        assert await desk.approvals.refuse(order, KEY) is None
    assert await desk.endings.end_expired() == 5
    for order in others:
        end = (await desk.stored(order.id)).history[-1]
        assert (end["status"], end["reason"]) == ("expired", "not_approved_in_time")
        assert end["detail"] == "The order was not approved within APPROVAL_TIMEOUT_S."
        assert desk.finished(order.id) == ["expired"]
    assert "reason" not in (await desk.stored(own.id)).history[-1]


async def test_a_refused_order_is_cancelled(desk: Desk, servers: TestServers) -> None:
    order, other = await desk.awaiting(**MARKET), await desk.awaiting()
    step = await desk.approvals.refuse(order, KEY, "too large")
    assert step is not None
    assert {**step.entry, "timestamp": None} == {
        "sequence": 3,
        "status": "cancelled",
        "timestamp": None,
        "refusedBy": KEY,
        "reason": "approval_refused",
        "detail": "too large",
    }
    assert desk.finished(order.id) == ["cancelled"]
    assert recorded(servers, order) == [1, 2, 3]
    for decide in (desk.approvals.approve, desk.approvals.refuse):
        assert await decide(order, KEY) is None
        assert await decide(await desk.stored(order.id), KEY) is None
    assert rows(servers, "SELECT order_id::text FROM open_orders") == [(other.id,)]


async def test_an_order_whose_cancellation_was_requested_is_not_decided(
    desk: Desk, servers: TestServers
) -> None:
    order = await desk.awaiting(**MARKET)
    # The process that wrote the flag died before it could end the order.
    rows(servers, "UPDATE open_orders SET cancel_requested = true")
    assert await desk.approvals.approve(order, KEY) is None
    assert await desk.approvals.refuse(order, KEY) is None
    assert await desk.endings.end_cancelled() == 1
    assert desk.stands(order.id)[1] == ["pending", "open", "cancelled"]


async def test_nothing_is_approved_while_trading_is_halted(desk: Desk, servers: TestServers) -> None:
    order, other = await desk.awaiting(**MARKET), await desk.awaiting()
    await desk.store.halt.halt("a drill")
    with pytest.raises(HaltedError, match="a drill"):
        await desk.approvals.approve(order, KEY)
    assert desk.stands(order.id)[1] == ["pending", "open"]
    assert await desk.approvals.refuse(other, KEY) is not None
    await desk.store.halt.resume()
    assert await desk.approvals.approve(order, KEY) is not None


async def test_an_amendment_stays_awaiting_until_the_same_time_or_awaits_again(
    desk: Desk, servers: TestServers
) -> None:
    order = await desk.awaiting()
    [(first,)] = rows(servers, "SELECT approve_by FROM open_orders")
    for version, within_s in ((2, None), (3, 7_200)):
        amendment = desk.amendment(order.id, version, approve_within_s=within_s)
        assert await desk.resting.amend(amendment) is not None
        state = await open_state(servers, {"id": order.id})
        assert (state["resting"], state["due_at"]) == (False, "infinity")
        assert rows(servers, "SELECT approve_by, expires_at FROM open_orders") == [(first, first)]
    # What was approved is not what it is now.
    assert await desk.approvals.approve(order, KEY) is None
    assert await desk.approvals.approve(await desk.stored(order.id), KEY) is not None
    assert await desk.resting.amend(desk.amendment(order.id, 5)) is not None
    assert await desk.resting.fire([Fired(order.id, 6, {})]) == [order.id]
    again = desk.amendment(
        order.id,
        6,
        approve_within_s=60,
        detail={"awaitingApproval": True, "amended": {"limitPrice": {"from": "200", "to": "300"}}},
    )
    assert await desk.resting.amend(again) is not None
    assert (await desk.stored(order.id)).awaits_approval
    state = await open_state(servers, {"id": order.id})
    assert (state["resting"], state["fired"], state["due_at"]) == (False, None, "infinity")
    assert await desk.store.claims.claim(order.id) is None
    assert await audit_now(servers) == []


async def test_an_order_that_is_due_by_its_approval_is_not_amended(desk: Desk) -> None:
    order = await desk.awaiting(**MARKET)
    assert await desk.approvals.approve(order, KEY) is not None
    terms = {"time_in_force": None, "limit_price": None, "limit_out": None}
    for within_s in (None, 60):
        amendment = desk.amendment(order.id, 3, approve_within_s=within_s, **terms)
        assert await desk.resting.amend(amendment) is None
    assert isinstance(await desk.store.claims.claim(order.id), Claimed)


async def test_the_audit_finds_an_order_that_was_not_approved(desk: Desk, servers: TestServers) -> None:
    order, open_order = await desk.awaiting(**MARKET), await desk.awaiting()
    assert await desk.approvals.approve(order, KEY) is not None
    assert isinstance(await desk.store.claims.claim(order.id), Claimed)
    assert await audit_now(servers) == []
    forget = "UPDATE orders SET status_history = status_history #- '{2,approvedBy}' WHERE id = %s"
    rows(servers, forget, order.id)
    assert await audit_now(servers) == ["routing, and was not approved"]
    rows(servers, "UPDATE open_orders SET approve_by = NULL WHERE order_id = %s", open_order.id)
    assert sorted(await audit_now(servers)) == [
        "awaits approval, and may be executed without",
        "routing, and was not approved",
    ]


Deed = Callable[[Desk, Order], Awaitable[object]]


async def cancel(desk: Desk, order: Order) -> object:
    await desk.endings.cancel(order.id)
    return None


async def expire(desk: Desk, _order: Order) -> object:
    return await desk.endings.end_expired() or None


async def amend(desk: Desk, order: Order) -> object:
    return await desk.resting.amend(desk.amendment(order.id))


async def approve(desk: Desk, order: Order) -> object:
    return await desk.approvals.approve(order, KEY)


async def refuse(desk: Desk, order: Order) -> object:
    return await desk.approvals.refuse(order, KEY)


@pytest.mark.parametrize("other", [approve, refuse, amend], ids=lambda deed: deed.__name__)
@pytest.mark.parametrize("one", [approve, refuse], ids=lambda deed: deed.__name__)
async def test_of_a_decision_and_a_concurrent_write_exactly_one_is_made(
    desks: list[Desk], servers: TestServers, one: Deed, other: Deed
) -> None:
    for schedule in schedules(2, 2):
        order = await desks[0].awaiting()
        outcomes, blocked = await race(
            servers,
            schedule,
            desks[0],
            partial(one, desks[0], order),
            desks[1],
            partial(other, desks[1], order),
        )
        assert blocked == 0
        won = [step for step in outcomes if isinstance(step, Committed)]
        assert len(won) == 1, (schedule, outcomes)
        assert outcomes.count(None) == 1, (schedule, outcomes)
        assert (await desks[0].stored(order.id)).history[2:] == (won[0].entry,)
        assert await desks[0].store.claims.claim(order.id) is None
        await desks[0].endings.cancel(order.id)


@pytest.mark.parametrize("kind", ["market", "limit"])
async def test_an_approval_and_a_concurrent_cancellation_end_cancelled(
    desks: list[Desk], servers: TestServers, kind: str
) -> None:
    for schedule in schedules(2, 4):
        order = await desks[0].awaiting(**KINDS[kind])
        outcomes, blocked = await race(
            servers,
            schedule,
            desks[0],
            partial(approve, desks[0], order),
            desks[1],
            partial(cancel, desks[1], order),
        )
        assert (outcomes[1], blocked) == (None, 0), (schedule, outcomes)
        approved = [] if outcomes[0] is None else ["open"]
        assert desks[0].stands(order.id)[1] == ["pending", "open", *approved, "cancelled"], schedule
        assert await desks[0].store.claims.claim(order.id) is None


async def test_a_refusal_and_a_concurrent_cancellation_cancel_once(
    desks: list[Desk], servers: TestServers
) -> None:
    for schedule in schedules(2, 4):
        order = await desks[0].awaiting()
        outcomes, blocked = await race(
            servers,
            schedule,
            desks[0],
            partial(refuse, desks[0], order),
            desks[1],
            partial(cancel, desks[1], order),
        )
        assert (outcomes[1], blocked) == (None, 0), (schedule, outcomes)
        end = (await desks[0].stored(order.id)).history[-1]
        assert (end["sequence"], end["status"]) == (3, "cancelled"), schedule
        assert ("refusedBy" in end) == (outcomes[0] is not None), schedule


@pytest.mark.parametrize("decide", [approve, refuse], ids=lambda deed: deed.__name__)
async def test_a_decision_and_the_expiry_see_each_other(
    desks: list[Desk], servers: TestServers, decide: Deed
) -> None:
    for schedule in schedules(2, 2):
        order = await desks[0].awaiting()
        rows(
            servers,
            "UPDATE open_orders SET expires_at = now() + interval '8 ms' WHERE order_id = %s",
            order.id,
        )
        outcomes, blocked = await race(
            servers,
            schedule,
            desks[0],
            partial(decide, desks[0], order),
            desks[1],
            partial(expire, desks[1], order),
        )
        assert blocked == 0
        walk = desks[0].stands(order.id)[1]
        made = ["open"] if decide is approve else ["cancelled"]
        assert walk[2:] == (["expired"] if outcomes[1] else made if outcomes[0] else []), (schedule, outcomes)
        assert None in outcomes, (schedule, outcomes)
        await desks[0].endings.cancel(order.id)
