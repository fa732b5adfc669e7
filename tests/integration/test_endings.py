"""Cancellation and expiry with concurrent writes: one of the two always sees the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from service.domain.history import Committed
from service.domain.lifecycle import TERMINAL, Status
from service.domain.order import OrderType, TimeInForce
from service.domain.timestamps import format_timestamp
from service.store.claims import Claimed
from service.store.endings import Filter
from service.store.journal import SupersededError
from service.store.resting import Fired
from tests.support.desk import Desk, race
from tests.support.gem_market import rows
from tests.support.interleaving import schedules
from tests.support.servers import TestServers
from tests.support.store import open_store


@pytest.fixture
async def desks(servers: TestServers) -> AsyncIterator[list[Desk]]:
    """Return one store as two processes use it."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(servers)) for _ in range(2)]
        yield [Desk(servers, store) for store in stores]


@pytest.fixture
def desk(desks: list[Desk]) -> Desk:
    return desks[0]


Work = Callable[[Desk, Claimed], Awaitable[object]]


def step_to(status: Status) -> Work:
    return lambda desk, claim: desk.step(claim, status)


# A worker's next step, and its steps before.
WORKS: dict[str, tuple[tuple[Status, ...], Work]] = {
    "routing to building": ((), step_to(Status.BUILDING)),
    "routing to pending": ((), step_to(Status.PENDING)),
    "routing to open": ((), step_to(Status.OPEN)),
    "routing to failed": ((), step_to(Status.FAILED)),
    "routing to expired": ((), step_to(Status.EXPIRED)),
    "building to submitted": ((Status.BUILDING,), step_to(Status.SUBMITTED)),
    "building to open": ((Status.BUILDING,), step_to(Status.OPEN)),
    "submitted to confirmed": ((Status.BUILDING, Status.SUBMITTED), step_to(Status.CONFIRMED)),
    "submitted to pending": ((Status.BUILDING, Status.SUBMITTED), step_to(Status.PENDING)),
    "submitted to open": ((Status.BUILDING, Status.SUBMITTED), step_to(Status.OPEN)),
    "submitted to failed": ((Status.BUILDING, Status.SUBMITTED), step_to(Status.FAILED)),
}


@pytest.mark.parametrize("name", WORKS)
async def test_a_cancellation_and_a_concurrent_step_see_each_other(
    desks: list[Desk], servers: TestServers, name: str
) -> None:
    worker, canceller = desks
    before, work = WORKS[name]
    deadlocks = []
    for schedule in schedules(2, 4):
        claim = await worker.come_to(*before)
        worker.told.clear()
        outcomes, blocked = await race(
            servers,
            schedule,
            worker,
            partial(work, worker, claim),
            canceller,
            partial(canceller.endings.cancel, claim.order_id),
        )
        deadlocks += [schedule] * blocked
        status, history, noted, made = worker.stands(claim.order_id)
        assert outcomes[1] is None, (schedule, outcomes)
        if status in TERMINAL:
            assert worker.finished(claim.order_id) == [status], schedule
            assert noted is None
        else:
            # The later of the two sees the request.
            assert (status, noted) == ("submitted", True), (schedule, history)
        if "submitted" not in history:
            assert made == 0, schedule
        if isinstance(outcomes[0], SupersededError):
            assert (status, history[-2]) == ("cancelled", claim.status), schedule
        else:
            assert isinstance(outcomes[0], Committed), (schedule, outcomes)
            # The cancellation ends neither submitted nor ended orders.
            target = name.rpartition(" ")[2]
            waits = target in {"building", "pending", "open"}
            # A step that ends the order makes it cancelled if it has seen the request.
            ends = {target, "cancelled"} if target in {"failed", "expired"} else {target}
            assert status in ({"cancelled"} if waits else ends), (schedule, history)
    assert deadlocks == []


async def test_a_cancellation_and_a_concurrent_claim_see_each_other(
    desks: list[Desk], servers: TestServers
) -> None:
    worker, canceller = desks
    for schedule in schedules(2, 4):
        for order in (await worker.fired(), await worker.place(time_in_force=TimeInForce.IOC)):
            outcomes, blocked = await race(
                servers,
                schedule,
                worker,
                partial(worker.store.claims.claim, order.id),
                canceller,
                partial(canceller.endings.cancel, order.id),
            )
            assert outcomes[1] is None, (schedule, outcomes)
            assert isinstance(outcomes[0], Claimed | None), (schedule, outcomes)
            status, history, _noted, made = worker.stands(order.id)
            assert (status, made, blocked) == ("cancelled", 0, 0), schedule
            assert ("routing" in history) == (outcomes[0] is not None)
            if isinstance(outcomes[0], Claimed):
                with pytest.raises(SupersededError):
                    await worker.step(outcomes[0], Status.BUILDING)


@pytest.mark.parametrize("status", [Status.PENDING, Status.OPEN])
async def test_a_submitted_order_is_cancelled_instead_of_waiting_again(desk: Desk, status: Status) -> None:
    claim = await desk.come_to(Status.BUILDING, Status.SUBMITTED)
    await desk.endings.cancel(claim.order_id)
    assert desk.stands(claim.order_id)[::2] == ("submitted", True)
    step = await desk.step(claim, status)
    assert step.entry["status"] == "cancelled"
    assert step.entry["reason"] == "slippage_exceeded"
    assert desk.stands(claim.order_id)[1][-2:] == ["submitted", "cancelled"]
    assert desk.finished(claim.order_id) == ["cancelled"]


async def test_a_submitted_order_that_lands_is_confirmed_despite_the_request(desk: Desk) -> None:
    claim = await desk.come_to(Status.BUILDING, Status.SUBMITTED)
    await desk.endings.cancel(claim.order_id)
    await desk.step(claim, Status.CONFIRMED)
    assert desk.stands(claim.order_id)[0] == "confirmed"


async def test_cancelling_again_or_cancelling_an_unknown_order_changes_nothing(desk: Desk) -> None:
    order = await desk.place()
    for _ in range(3):
        await desk.endings.cancel(order.id)
    await desk.endings.cancel(desk.store.clock.new_order_id())
    assert desk.stands(order.id)[1] == ["pending", "open", "cancelled"]
    assert [step.entry["status"] for step in desk.told if step.order_id == order.id][-1] == "cancelled"
    assert len([step for step in desk.told if step.order_id == order.id]) == 1


async def test_concurrent_cancellations_end_an_order_once(desks: list[Desk]) -> None:
    order = await desks[0].place()
    await asyncio.gather(*(desk.endings.cancel(order.id) for desk in desks for _ in range(10)))
    assert desks[0].stands(order.id)[1] == ["pending", "open", "cancelled"]
    assert sum(len(desk.told) for desk in desks) == 1


async def test_another_process_finishes_an_unfinished_cancellation(
    desks: list[Desk], servers: TestServers
) -> None:
    order = await desks[0].place()
    # The process that wrote the flag died before it could end the order.
    rows(servers, "UPDATE open_orders SET cancel_requested = true WHERE order_id = %s", order.id)
    assert await desks[1].endings.end_cancelled() == 1
    assert desks[1].stands(order.id)[0] == "cancelled"


async def test_a_filter_cancels_the_matching_orders(desk: Desk) -> None:
    sniper = {
        "order_type": OrderType.SNIPER,
        "time_in_force": None,
        "limit_price": None,
        "limit_out": None,
        "sniper_conditions": {"price": {"above": "1"}},
    }
    kinds: dict[str, dict[str, Any]] = {"limit": {}, "other": {"token_out": "USDT"}, "sniper": sniper}
    for wanted, expected in (
        (Filter(), {"limit", "other", "sniper"}),
        (Filter(order_type="limit"), {"limit", "other"}),
        (Filter(order_type="sniper"), {"sniper"}),
        (Filter(token_in="SOL", token_out="USDC"), {"limit", "sniper"}),
        (Filter(token_out="USDT"), {"other"}),
        (Filter(order_type="limit", token_out="USDC"), {"limit"}),
        (Filter(token_in="USDC"), set()),
    ):
        placed = {kind: (await desk.place(**changes)).id for kind, changes in kinds.items()}
        assert await desk.endings.cancel_matching(wanted) == (len(expected), 0)
        ended = {kind for kind, order_id in placed.items() if desk.stands(order_id)[0] == "cancelled"}
        assert ended == expected, wanted
        await desk.endings.cancel_matching(Filter())


async def test_a_filter_counts_submitted_orders_separately(desk: Desk) -> None:
    submitted = await desk.come_to(Status.BUILDING, Status.SUBMITTED)
    building = await desk.come_to(Status.BUILDING)
    await desk.place()
    assert await desk.endings.cancel_matching(Filter()) == (2, 1)
    assert desk.stands(submitted.order_id)[::2] == ("submitted", True)
    assert desk.stands(building.order_id)[0] == "cancelled"


async def test_more_orders_than_one_statement_takes_are_cancelled(desk: Desk, servers: TestServers) -> None:
    await asyncio.gather(*(desk.place() for _ in range(1_000)))
    await asyncio.gather(*(desk.place() for _ in range(500)))
    assert await desk.endings.cancel_matching(Filter()) == (1_500, 0)
    assert rows(servers, "SELECT count(*) FROM open_orders") == [(0,)]


def after(seconds: float) -> str:
    return format_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


PAST = "2020-01-01T00:00:00Z"


async def test_waiting_orders_expire_and_others_do_not(desk: Desk, servers: TestServers) -> None:
    gtd = {"time_in_force": TimeInForce.GTD, "expires_at": after(3_600)}
    waiting = [await desk.place(**gtd), await desk.fired(**gtd)]
    retrying = await desk.come_to(**gtd)
    await desk.step(retrying, Status.PENDING)
    working = [
        await desk.come_to(**gtd),
        await desk.come_to(Status.BUILDING, **gtd),
        await desk.come_to(Status.BUILDING, Status.SUBMITTED, **gtd),
    ]
    later = await desk.place(**gtd)
    assert await desk.endings.end_expired() == 0
    ids = [order.id for order in waiting] + [claim.order_id for claim in (retrying, *working)]
    rows(servers, "UPDATE open_orders SET expires_at = now() WHERE order_id = ANY(%s::uuid[])", ids)
    rows(servers, "UPDATE orders SET expires_at = now() WHERE id = ANY(%s::uuid[])", ids)
    # Before they are ended: none waits again, and none is sent.
    with pytest.raises(SupersededError):
        await desk.step(working[0], Status.BUILDING)
    with pytest.raises(SupersededError):
        await desk.step(working[1], Status.SUBMITTED)
    step = await desk.step(working.pop(0), Status.OPEN)
    assert step.entry["status"] == "expired"
    assert await desk.endings.end_expired() == 4
    assert [desk.stands(order_id)[0] for order_id in ids[:5]] == ["expired"] * 5
    assert desk.stands(later.id)[0] == "open"
    # A submitted order ends when its outcome is known.
    building, submitted = working
    with pytest.raises(SupersededError):
        await desk.step(building, Status.SUBMITTED)
    assert desk.stands(building.order_id)[3] == 0
    assert desk.stands(submitted.order_id)[0] == "submitted"
    assert (await desk.step(submitted, Status.OPEN)).entry["status"] == "expired"
    assert desk.stands(submitted.order_id)[1][-2:] == ["submitted", "expired"]


async def test_an_order_past_its_expiry_is_neither_fired_nor_claimed_nor_amended(
    desk: Desk, servers: TestServers
) -> None:
    fired, resting = await desk.fired(), await desk.place()
    rows(servers, "UPDATE open_orders SET expires_at = now()")
    assert await desk.store.claims.claim(fired.id) is None
    assert await desk.resting.fire([Fired(resting.id, 2, {})]) == []
    assert await desk.resting.amend(desk.amendment(resting.id)) is None
    assert desk.stands(fired.id)[1] == desk.stands(resting.id)[1] == ["pending", "open"]


def expire_soon(servers: TestServers, order_id: str) -> None:
    """Make an order expire in a few milliseconds, during a race."""
    rows(
        servers,
        "WITH soon AS (UPDATE orders SET expires_at = now() + interval '8 ms' WHERE id = %s RETURNING *)"
        " UPDATE open_orders AS p SET expires_at = s.expires_at FROM soon AS s WHERE p.order_id = s.id",
        order_id,
    )


async def test_expiry_and_a_concurrent_claim_see_each_other(desks: list[Desk], servers: TestServers) -> None:
    worker, other = desks
    for schedule in schedules(2, 2):
        order = await worker.fired(time_in_force=TimeInForce.GTD, expires_at=after(3_600))
        expire_soon(servers, order.id)
        outcomes, blocked = await race(
            servers,
            schedule,
            worker,
            partial(worker.store.claims.claim, order.id),
            other,
            other.endings.end_expired,
        )
        assert blocked == 0
        status, history, *_rest = worker.stands(order.id)
        if isinstance(outcomes[0], Claimed):
            assert (outcomes[1], history) == (0, ["pending", "open", "routing"])
        else:
            assert "routing" not in history
            assert status == ("expired" if outcomes[1] else "open")
        await other.endings.cancel(order.id)


@pytest.mark.parametrize("name", ["building", "submitted", "pending"])
async def test_expiry_and_a_concurrent_step_see_each_other(
    desks: list[Desk], servers: TestServers, name: str
) -> None:
    worker, other = desks
    before, work = WORKS[next(key for key in WORKS if key.endswith(f" {name}"))]
    for schedule in schedules(2, 2):
        claim = await worker.come_to(*before, time_in_force=TimeInForce.GTD, expires_at=after(3_600))
        expire_soon(servers, claim.order_id)
        outcomes, blocked = await race(
            servers, schedule, worker, partial(work, worker, claim), other, other.endings.end_expired
        )
        assert blocked == 0
        status, history, _noted, made = worker.stands(claim.order_id)
        assert history.count("expired") <= 1
        assert made == history.count("submitted")
        if outcomes[1]:
            assert (status, worker.finished(claim.order_id)) == ("expired", ["expired"])
        elif isinstance(outcomes[0], Committed):
            assert status in {name, "expired"}
        await other.endings.cancel(claim.order_id)


def in_time(seconds: float, kind: str) -> dict[str, Any]:
    """Return the terms of a kind of order that must be submitted within the given seconds."""
    of_a_limit = {"time_in_force": TimeInForce.IOC}
    of_none = {"order_type": OrderType.MARKET, "time_in_force": None, "limit_price": None, "limit_out": None}
    return {**(of_a_limit if kind == "limit" else of_none), "submit_by": after(seconds)}


@pytest.mark.parametrize(
    ("kind", "reason"), [("limit", "not_filled_immediately"), ("market", "not_submitted_in_time")]
)
async def test_an_order_with_a_submission_deadline_is_not_submitted_later(
    desk: Desk, servers: TestServers, kind: str, reason: str
) -> None:
    terms = in_time(3_600, kind)
    waiting, begun, quoted = [await desk.place(**terms) for _ in range(3)]
    claim = await desk.store.claims.claim(begun.id)
    assert isinstance(claim, Claimed)
    assert claim.expires_at is None
    assert claim.submit_by is not None
    slow = await desk.store.claims.claim(quoted.id)
    assert isinstance(slow, Claimed)
    await desk.step(claim, Status.BUILDING)
    building = replace(claim, status=Status.BUILDING, version=claim.version + 1)
    assert await desk.endings.end_expired() == 0
    rows(servers, "UPDATE open_orders SET expires_at = now()")
    assert await desk.store.claims.claim(waiting.id) is None
    with pytest.raises(SupersededError):
        await desk.step(slow, Status.BUILDING)
    with pytest.raises(SupersededError):
        await desk.step(building, Status.SUBMITTED)
    # An order stored late, because PostgreSQL was unavailable, is too late from the start.
    late = await desk.place(**in_time(-1, kind))
    assert await desk.store.claims.claim(late.id) is None
    assert await desk.endings.end_expired() == 4
    for order_id in (waiting.id, begun.id, quoted.id, late.id):
        assert desk.stands(order_id)[0] == "expired"
        [(told,)] = rows(
            servers, "SELECT status_history -> -1 ->> 'reason' FROM orders WHERE id = %s", order_id
        )
        assert told == reason


async def test_submitted_orders_past_their_expiry_do_not_delay_the_expiry_of_others(
    desk: Desk, servers: TestServers
) -> None:
    """More orders than one statement ends wait for their outcome, and others still expire."""
    gtd = {"time_in_force": TimeInForce.GTD, "expires_at": after(3_600)}
    placed = await asyncio.gather(*(desk.place(**gtd) for _ in range(250)))
    last = await desk.place(**gtd)
    rows(
        servers,
        "UPDATE orders SET status = 'submitted', status_history = jsonb_set(status_history, '{1,status}',"
        " '\"submitted\"') WHERE id = ANY(%s::uuid[])",
        [order.id for order in placed],
    )
    rows(servers, "UPDATE open_orders SET expires_at = now() - interval '1 s'")
    rows(servers, "UPDATE open_orders SET expires_at = now() WHERE order_id = %s", last.id)
    rows(servers, "UPDATE orders SET expires_at = now()")
    assert await desk.endings.end_expired() == 1
    assert desk.stands(last.id)[0] == "expired"
