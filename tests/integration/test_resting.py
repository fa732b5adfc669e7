"""Resting orders in the store: inserted, read in pages, fired once at their version, amended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import psycopg2
import pytest

from service.domain.history import Committed, Details
from service.domain.lifecycle import Status
from service.domain.order import OrderType, TimeInForce, terms_at
from service.store import resting as resting_module
from service.store.claims import Claimed, Deferred
from service.store.endings import Filter
from service.store.orders import ListFilter
from service.store.rate_limit import RateLimit
from service.store.resting import Fired, RestingOrder
from tests.support.desk import Desk, race
from tests.support.gem_market import open_state, rows
from tests.support.interleaving import schedules
from tests.support.servers import TestServers
from tests.support.store import open_store

SNIPER: dict[str, Any] = {
    "order_type": OrderType.SNIPER,
    "time_in_force": None,
    "limit_price": None,
    "limit_out": None,
    "sniper_conditions": {"price": {"above": "1"}},
}
SEEN: Details = {"triggeredBy": {"price": "123"}}


@pytest.fixture
async def desks(servers: TestServers) -> AsyncIterator[list[Desk]]:
    """Return one store as two processes use it."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(servers)) for _ in range(2)]
        yield [Desk(servers, store) for store in stores]


@pytest.fixture
def desk(desks: list[Desk]) -> Desk:
    return desks[0]


async def test_an_order_rests_from_the_moment_it_is_stored(desk: Desk, servers: TestServers) -> None:
    order = await desk.place()
    there = await desk.store.orders.get(order.id)
    assert there is not None
    assert [entry["status"] for entry in there.history] == ["pending", "open"]
    assert there.history[0]["timestamp"] == there.history[1]["timestamp"] == there.created_at
    [told] = [step for step in desk.store.told if step.order_id == order.id]
    assert (told.sequence, told.entry["status"]) == (2, "open")
    assert await desk.store.claims.claim(order.id) is None
    state = await open_state(servers, {"id": order.id})
    assert (state["resting"], state["due_at"], state["wake_at"]) == (True, "infinity", "infinity")


@pytest.mark.parametrize("time_in_force", [TimeInForce.IOC, TimeInForce.FOK])
async def test_an_order_that_never_rests_is_due_at_once(
    desk: Desk, servers: TestServers, time_in_force: TimeInForce
) -> None:
    order = await desk.place(time_in_force=time_in_force)
    assert desk.stands(order.id)[1] == ["pending"]
    claim = await desk.store.claims.claim(order.id)
    assert isinstance(claim, Claimed)
    # PostgreSQL rejects the status.
    with pytest.raises(psycopg2.IntegrityError):
        await desk.step(claim, Status.OPEN)


@pytest.mark.parametrize(
    "changes",
    [
        {"limit_out": None},
        {"limit_price": None},
        {"time_in_force": None},
        {"limit_out": 0},
        {"limit_out": 2**64},
        {"time_in_force": TimeInForce.GTD},
        {"expires_at": "2100-01-01T00:00:00Z"},
        {**SNIPER, "sniper_conditions": None},
        {**SNIPER, "time_in_force": TimeInForce.GTC},
        {"order_type": OrderType.MARKET},
    ],
)
async def test_the_schema_rejects_an_invalid_order(desk: Desk, changes: dict[str, Any]) -> None:
    with pytest.raises((psycopg2.IntegrityError, psycopg2.DataError, TypeError)):
        await desk.place(**changes)


async def test_the_schema_rejects_a_fill_below_the_limit(desk: Desk, servers: TestServers) -> None:
    claim = await desk.come_to(Status.BUILDING, Status.SUBMITTED)
    rows(servers, "UPDATE orders SET limit_out = 100000001 WHERE id = %s", claim.order_id)
    with pytest.raises(psycopg2.IntegrityError):
        await desk.step(claim, Status.CONFIRMED)


async def test_firing_makes_an_order_due_and_its_start_records_the_observation(
    desk: Desk, servers: TestServers
) -> None:
    order = await desk.place()
    before = desk.stands(order.id)
    assert await desk.resting.fire([Fired(order.id, 2, SEEN)]) == [order.id]
    assert desk.stands(order.id) == before
    assert await desk.resting.fire([Fired(order.id, 2, SEEN)]) == []
    claim = await desk.store.claims.claim(order.id)
    assert isinstance(claim, Claimed)
    assert (claim.limit_out, claim.time_in_force, claim.attempts, claim.attempts_since_rest) == (
        order.terms.limit_out,
        TimeInForce.GTC,
        1,
        1,
    )
    there = await desk.store.orders.get(order.id)
    assert there is not None
    entry = there.history[-1]
    assert (entry["status"], entry["attempt"], entry["triggeredBy"]) == ("routing", 1, SEEN["triggeredBy"])
    assert await desk.resting.fire([Fired(order.id, 2, SEEN), Fired(order.id, 3, SEEN)]) == []


async def test_an_order_is_fired_only_at_the_version_that_was_read(desk: Desk, servers: TestServers) -> None:
    stale, ended, flagged, good = [await desk.place() for _ in range(4)]
    assert isinstance(await desk.resting.amend(desk.amendment(stale.id)), Committed)
    await desk.endings.cancel(ended.id)
    rows(servers, "UPDATE open_orders SET cancel_requested = true WHERE order_id = %s", flagged.id)
    ioc = await desk.place(time_in_force=TimeInForce.IOC)
    orders = [stale, ended, flagged, ioc, good]
    assert await desk.resting.fire([Fired(order.id, 2, SEEN) for order in orders]) == [good.id]


async def test_concurrent_firings_fire_an_order_once(desks: list[Desk]) -> None:
    order = await desks[0].place()
    fired = await asyncio.gather(
        *(desk.resting.fire([Fired(order.id, 2, SEEN)]) for desk in desks for _ in range(10))
    )
    assert [each for each in fired if each] == [[order.id]]
    claims = await asyncio.gather(*(desk.store.claims.claim(order.id) for desk in desks))
    assert sum(isinstance(claim, Claimed) for claim in claims) == 1


async def test_a_retry_does_not_record_the_observation_again(desk: Desk, servers: TestServers) -> None:
    claim = await desk.come_to()
    await desk.step(claim, Status.PENDING)
    rows(servers, "UPDATE open_orders SET due_at = now()")
    again = await desk.store.claims.claim(claim.order_id)
    assert isinstance(again, Claimed)
    assert (again.attempts, again.attempts_since_rest) == (2, 2)
    there = await desk.store.orders.get(claim.order_id)
    assert there is not None
    assert "triggeredBy" not in there.history[-1]


async def test_an_order_that_rests_again_waits_longer_each_time(desk: Desk, servers: TestServers) -> None:
    order = await desk.place()
    pauses, version = [], 2
    for _ in range(12):
        assert await desk.resting.fire([Fired(order.id, version, SEEN)]) == [order.id]
        claim = await desk.store.claims.claim(order.id)
        assert isinstance(claim, Claimed)
        assert claim.attempts_since_rest == 1
        await desk.step(claim, Status.OPEN)
        version = claim.version + 1
        state = await open_state(servers, {"id": order.id})
        assert (state["resting"], state["owner"], state["fired"], state["started"]) == (
            True,
            None,
            None,
            False,
        )
        pauses.append(state["pause_s"])
        [seen] = await desk.resting.get([order.id])
        assert seen.version == version
        [(not_before,)] = rows(servers, "SELECT extract(epoch FROM not_before)::float8 FROM open_orders")
        assert seen.not_before == not_before
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


async def test_resting_orders_are_read_page_by_page(
    desk: Desk, servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resting_module, "_PAGE", 4)
    limits = [
        await desk.place(expires_at="2100-01-01T00:00:00Z", time_in_force=TimeInForce.GTD) for _ in range(9)
    ]
    sniper = await desk.place(**SNIPER)
    # None of these rests now.
    await desk.fired()
    await desk.come_to(Status.BUILDING)
    await desk.place(time_in_force=TimeInForce.IOC)
    await desk.endings.cancel((await desk.place()).id)
    pages = [page async for page in desk.resting.scan()]
    assert [len(page) for page in pages] == [4, 4, 2]
    seen = {order.order_id: order for page in pages for order in page}
    assert set(seen) == {order.id for order in (*limits, sniper)}
    created = dict(rows(servers, "SELECT id::text, extract(epoch FROM created_at)::float8 FROM orders"))
    assert seen[sniper.id] == RestingOrder(
        sniper.id, 2, OrderType.SNIPER, "SOL", "USDC", 10**9, None, SNIPER["sniper_conditions"],
        created[sniper.id], 0,
    )  # fmt: skip
    first = limits[0]
    assert seen[first.id] == RestingOrder(
        first.id, 2, OrderType.LIMIT, "SOL", "USDC", 10**9, first.terms.limit_out, None, created[first.id], 0
    )
    assert {
        order.order_id for order in await desk.resting.get([*seen, desk.store.clock.new_order_id()])
    } == set(seen)


async def test_recently_rested_orders_are_found(desk: Desk, servers: TestServers) -> None:
    old, new, amended = [await desk.place() for _ in range(3)]
    rows(
        servers,
        "UPDATE open_orders SET rested_at = now() - interval '1 minute' WHERE order_id = ANY(%s::uuid[])",
        [old.id, amended.id],
    )
    await desk.resting.amend(desk.amendment(amended.id))
    assert set(await desk.resting.rested_within(30_000)) == {new.id, amended.id}


async def test_an_amendment_is_stored_with_the_previous_terms(desk: Desk) -> None:
    order = await desk.place()
    changes = {
        "limitPrice": {"from": "100", "to": "200"},
        "expiresAt": {"from": None, "to": "2100-01-01T00:00:00.000000Z"},
        "timeInForce": {"from": "GTC", "to": "GTD"},
        "slippageBps": {"from": 100, "to": 7},
    }
    step = await desk.resting.amend(
        desk.amendment(
            order.id,
            time_in_force="GTD",
            expires_at="2100-01-01T00:00:00.000000Z",
            slippage_bps=7,
            detail={"amended": changes},
        )
    )
    assert step is not None
    assert (step.sequence, step.entry["status"], step.entry["amended"]) == (3, "open", changes)
    assert "writeId" not in step.entry
    assert desk.told == [step]
    there = await desk.store.orders.get(order.id)
    assert there is not None
    assert there.terms == terms_at(there, 3)
    before = terms_at(there, 2)
    assert before == terms_at(there, 1)
    assert (before.limit_price, before.expires_at, before.time_in_force, before.slippage_bps) == (
        "100",
        None,
        "GTC",
        100,
    )
    now = there.terms
    assert (now.limit_price, now.limit_out, now.expires_at, now.time_in_force, now.slippage_bps) == (
        "200",
        200_000_000,
        "2100-01-01T00:00:00.000000Z",
        "GTD",
        7,
    )


async def test_an_amendment_undoes_a_firing_and_ends_the_pause(desk: Desk, servers: TestServers) -> None:
    order = await desk.place()
    await desk.resting.fire([Fired(order.id, 2, SEEN)])
    rows(servers, "UPDATE open_orders SET not_before = now() + interval '1 hour', returns = 9")
    assert isinstance(await desk.resting.amend(desk.amendment(order.id)), Committed)
    assert await desk.store.claims.claim(order.id) is None
    state = await open_state(servers, {"id": order.id})
    assert (state["fired"], state["not_before"], state["returns"]) == (None, None, 0)
    [seen] = await desk.resting.get([order.id])
    assert (seen.version, seen.limit_out) == (3, 200_000_000)


async def test_an_open_order_is_amended_only_at_the_version_that_was_read(
    desk: Desk, servers: TestServers
) -> None:
    order = await desk.place()
    assert await desk.resting.amend(desk.amendment(order.id, version=1)) is None
    claim = await desk.come_to()
    assert await desk.resting.amend(desk.amendment(claim.order_id, version=claim.version)) is None
    rows(servers, "UPDATE open_orders SET cancel_requested = true WHERE order_id = %s", order.id)
    assert await desk.resting.amend(desk.amendment(order.id)) is None
    await desk.endings.cancel(order.id)
    assert await desk.resting.amend(desk.amendment(order.id, version=3)) is None
    assert desk.stands(order.id)[1] == ["pending", "open", "cancelled"]


async def test_a_concurrent_amendment_and_firing_never_fire_the_old_terms(
    desks: list[Desk], servers: TestServers
) -> None:
    watcher, client = desks
    for schedule in schedules(2, 2):
        order = await watcher.place()
        outcomes, blocked = await race(
            servers,
            schedule,
            watcher,
            partial(watcher.resting.fire, [Fired(order.id, 2, SEEN)]),
            client,
            partial(client.resting.amend, client.amendment(order.id)),
        )
        assert blocked == 0
        assert isinstance(outcomes[1], Committed), (schedule, outcomes)
        state = await open_state(servers, {"id": order.id})
        # The amendment undid an earlier firing; a later firing must use the new version.
        assert (state["fired"], state["due_at"]) == (None, "infinity"), (schedule, outcomes)


async def test_of_a_concurrent_amendment_and_start_one_succeeds(
    desks: list[Desk], servers: TestServers
) -> None:
    worker, client = desks
    for schedule in schedules(2, 2):
        order = await worker.fired()
        outcomes, blocked = await race(
            servers,
            schedule,
            worker,
            partial(worker.store.claims.claim, order.id),
            client,
            partial(client.resting.amend, client.amendment(order.id)),
        )
        assert blocked == 0
        started, amended = outcomes
        assert (started is None) != (amended is None), (schedule, outcomes)
        history = worker.stands(order.id)[1]
        assert history == ["pending", "open", "open" if started is None else "routing"]
        if isinstance(started, Claimed):
            assert started.limit_out == order.terms.limit_out


async def test_a_concurrent_amendment_and_cancellation_end_cancelled(
    desks: list[Desk], servers: TestServers
) -> None:
    canceller, client = desks
    for schedule in schedules(4, 2):
        order = await canceller.place()
        outcomes, blocked = await race(
            servers,
            schedule,
            canceller,
            partial(canceller.endings.cancel, order.id),
            client,
            partial(client.resting.amend, client.amendment(order.id)),
        )
        assert (outcomes[0], blocked) == (None, 0), (schedule, outcomes)
        history = canceller.stands(order.id)[1]
        assert history == ["pending", "open", *["open"] * (outcomes[1] is not None), "cancelled"], schedule


async def test_a_concurrent_firing_and_cancellation_start_nothing(
    desks: list[Desk], servers: TestServers
) -> None:
    canceller, watcher = desks
    for schedule in schedules(4, 2):
        order = await canceller.place()
        outcomes, blocked = await race(
            servers,
            schedule,
            canceller,
            partial(canceller.endings.cancel, order.id),
            watcher,
            partial(watcher.resting.fire, [Fired(order.id, 2, SEEN)]),
        )
        assert (outcomes[0], blocked) == (None, 0), (schedule, outcomes)
        assert canceller.stands(order.id)[1] == ["pending", "open", "cancelled"]
        assert await watcher.store.claims.claim(order.id) is None


async def test_a_fired_order_keeps_to_the_rate_limit_and_may_be_amended_meanwhile(
    servers: TestServers,
) -> None:
    async with open_store(servers, RateLimit(1)) as store:
        desk = Desk(servers, store)
        first, second = await desk.fired(), await desk.fired()
        assert isinstance(await store.claims.claim(first.id), Claimed)
        assert isinstance(await store.claims.claim(second.id), Deferred)
        assert await desk.resting.amend(desk.amendment(second.id)) is not None
        assert await store.claims.claim(second.id) is None
        assert await desk.resting.fire([Fired(second.id, 3, SEEN)]) == [second.id]
        assert isinstance(await store.claims.claim(second.id), Deferred)
        assert await desk.endings.cancel_matching(Filter(order_type="limit")) == (2, 0)


async def test_lists_are_filtered(desk: Desk) -> None:
    limit, other = await desk.place(), await desk.place(token_out="USDT")
    sniper = await desk.place(**SNIPER)
    market = await desk.store.insert()
    await desk.endings.cancel(other.id)
    everything = [market, sniper.id, other.id, limit.id]
    none: frozenset[Status] = frozenset()
    for statuses, orders, expected in (
        (none, Filter(), everything),
        (none, Filter(order_type="limit"), [other.id, limit.id]),
        (none, Filter(token_out="USDC"), [market, sniper.id, limit.id]),
        ({Status.OPEN}, Filter(), [sniper.id, limit.id]),
        ({Status.OPEN}, Filter(order_type="sniper", token_in="SOL"), [sniper.id]),
        ({Status.CANCELLED}, Filter(token_out="USDT"), [other.id]),
        ({Status.CANCELLED}, Filter(token_out="USDC"), []),
        ({Status.CANCELLED, Status.OPEN, Status.FAILED}, Filter(), [sniper.id, other.id, limit.id]),
        ({Status.PENDING, Status.OPEN}, Filter(), [market, sniper.id, limit.id]),
    ):
        wanted = ListFilter(orders, frozenset(statuses))
        page = await desk.store.orders.page(wanted, 10, None)
        assert [place.order_id for place in page.positions] == expected, wanted
        first = await desk.store.orders.page(wanted, 1, None)
        if len(expected) > 1:
            assert first.more
            rest = await desk.store.orders.page(wanted, 10, first.positions[-1])
            assert [place.order_id for place in (*first.positions, *rest.positions)] == expected


async def test_the_expiry_of_an_amended_order_is_the_new_one(desk: Desk, servers: TestServers) -> None:
    order = await desk.place(time_in_force=TimeInForce.GTD, expires_at="2100-01-01T00:00:00Z")
    past = desk.amendment(order.id, time_in_force="GTD", expires_at="2020-01-01T00:00:00.000000Z")
    assert await desk.resting.amend(past) is not None
    assert await desk.endings.end_expired() == 1
    assert desk.stands(order.id)[1] == ["pending", "open", "open", "expired"]
