"""Which resting orders fire together, and which first."""

import math
from collections.abc import AsyncGenerator, Sequence
from typing import cast

import pytest

from service.amm import ChainTime
from service.chains.venue import MarketChange, PoolRef, PoolView, Snapshot, Venue
from service.domain.history import Committed
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.domain.timestamps import format_epoch
from service.execution.order_queue import OrderQueue
from service.routing import RouteLimits
from service.store.resting import Fired, Resting, RestingOrder
from service.triggers.market import MarketView
from service.triggers.matching import Matcher
from service.triggers.pace import Pace
from service.triggers.resting_orders import RestingOrders
from tests.support.clock import ManualClock
from tests.support.market import SLOT, SLOT_MS, founded


class Listed:
    """A venue whose pools are listed by the test, and whose slots change their length at its will."""

    slot_ms = SLOT_MS

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}

    def list_pools(self, token_a: str, token_b: str) -> MarketChange:
        """List the genesis pools of a pair, and return the change."""
        now = ChainTime(SLOT * SLOT_MS // 1000, SLOT)
        refs = []
        for pool in founded():
            if {pool.token_a, pool.token_b} == {token_a, token_b}:
                ref = PoolRef(pool.id, pool.dex, pool.token_a, pool.token_b)
                self.snapshots[pool.id] = Snapshot(ref, pool.state, now)
                refs.append(ref)
        assert refs
        return MarketChange(frozenset(ref.id for ref in refs), (), added_or_removed=tuple(refs))

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        pair = {token_in, token_out}
        return [s.pool for s in self.snapshots.values() if {s.pool.token_a, s.pool.token_b} == pair]

    def views(self, pools: Sequence[PoolRef]) -> Sequence[PoolView]:
        assert not pools
        return ()

    def local_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        return [self.snapshots[pool.id] for pool in pools]


class FiringRecord:
    """The resting orders of the store; everything that is fired is recorded, by statement."""

    def __init__(self) -> None:
        self.rows: dict[str, RestingOrder] = {}
        self.fired: list[list[str]] = []

    async def scan(self) -> AsyncGenerator[list[RestingOrder], None]:
        yield [*self.rows.values()]

    async def get(self, order_ids: Sequence[str]) -> list[RestingOrder]:
        return [self.rows[order_id] for order_id in order_ids if order_id in self.rows]

    async def rested_within(self, _within_ms: int) -> dict[str, int]:
        return {}

    async def fire(self, orders: Sequence[Fired]) -> list[str]:
        self.fired.append([order.order_id for order in orders])
        return self.fired[-1]


class Queue:
    """Drops every wake-up."""

    async def enqueue(self, order_ids: Sequence[str]) -> None:
        """Drop the wake-ups."""


def step(order_id: str, status: Status) -> Committed:
    return Committed(order_id, {"sequence": 2, "status": status, "timestamp": ""})


class MatcherHarness:
    """A matcher of a market and a store that the test changes."""

    def __init__(self) -> None:
        self.venue, self.store, self.clock = Listed(), FiringRecord(), ManualClock()
        pace, resting = Pace(self.clock), cast("Resting", self.store)
        self.view = MarketView(cast("Venue", self.venue), self.clock, RouteLimits())
        self.orders = RestingOrders(resting, self.view, self.clock, pace)
        queue = cast("OrderQueue", Queue())
        self.matcher = Matcher(self.orders, self.view, resting, queue, self.clock, pace)

    async def place(self, *order_ids: str) -> None:
        """Place limit orders that any price satisfies, and match them alone, as the loop does."""
        for order_id in order_ids:
            self._rest(
                RestingOrder(order_id, 2, OrderType.LIMIT, "SOL", "USDC", 10**9, 1, None, 0, not_before=0)
            )
        async for limits in self.orders.load_changed():
            await self.matcher.match_orders(limits)

    async def snipe(self, order_id: str, opens_in_s: float) -> None:
        """Place a sniper order whose only condition is a time window, and match what has changed."""
        opens = format_epoch(self.clock.database_time() + opens_in_s)
        conditions = {"timeWindow": {"notBefore": opens}}
        self._rest(
            RestingOrder(
                order_id, 2, OrderType.SNIPER, "SOL", "USDC", 10**9, None, conditions, 0, not_before=0
            )
        )
        async for limits in self.orders.load_changed():
            await self.matcher.match_orders(limits)
        await self.matcher.match()

    def _rest(self, order: RestingOrder) -> None:
        self.store.rows[order.order_id] = order
        self.orders.apply([step(order.order_id, Status.OPEN)])

    def apply(self, change: MarketChange) -> None:
        self.view.apply(change, watching=True)


@pytest.fixture
def harness() -> MatcherHarness:
    return MatcherHarness()


async def test_a_new_order_does_not_overtake_older_ones_when_the_market_changes(
    harness: MatcherHarness,
) -> None:
    await harness.place("older")
    await harness.matcher.match()
    harness.apply(harness.venue.list_pools("SOL", "USDC"))
    await harness.place("newer")
    assert harness.store.fired == []
    await harness.matcher.match()
    assert [sorted(together) for together in harness.store.fired] == [["newer", "older"]]


async def test_a_new_order_fires_at_once_if_only_another_pair_has_changed(harness: MatcherHarness) -> None:
    harness.apply(harness.venue.list_pools("SOL", "USDC"))
    await harness.matcher.match()
    await harness.place("first")
    harness.apply(harness.venue.list_pools("BONK", "USDC"))
    assert harness.store.fired == [["first"]]
    await harness.place("second")
    assert harness.store.fired == [["first"], ["second"]]


async def test_new_orders_fire_in_the_order_of_their_ids(harness: MatcherHarness) -> None:
    harness.apply(harness.venue.list_pools("SOL", "USDC"))
    await harness.matcher.match()
    order_ids = [f"{number:03}" for number in range(250)]
    await harness.place(*reversed(order_ids))
    assert harness.store.fired == [order_ids[:200], order_ids[200:]]


async def test_a_sniper_fires_when_its_window_opens_and_not_with_the_next_slot(
    harness: MatcherHarness,
) -> None:
    slot_s = SLOT_MS / 1000
    await harness.snipe("sniper", opens_in_s=1.5 * slot_s)
    assert harness.matcher.idle_s == pytest.approx(slot_s)
    await harness.clock.advance(slot_s)
    await harness.matcher.match()
    assert harness.store.fired == []
    assert harness.matcher.idle_s == pytest.approx(slot_s / 2)
    await harness.clock.advance(slot_s / 2)
    await harness.matcher.match()
    assert harness.store.fired == [["sniper"]]
    assert harness.matcher.idle_s > slot_s


async def test_time_conditions_are_checked_once_per_slot_as_long_as_slots_are_now(
    harness: MatcherHarness,
) -> None:
    await harness.snipe("sniper", opens_in_s=3_600)
    assert harness.matcher.idle_s == pytest.approx(SLOT_MS / 1000)
    harness.venue.slot_ms = SLOT_MS // 4
    await harness.clock.advance(SLOT_MS / 1000)
    await harness.matcher.match()
    assert harness.matcher.idle_s == pytest.approx(SLOT_MS / 4_000)


async def test_a_change_of_the_market_does_not_delay_the_check_of_the_slot(harness: MatcherHarness) -> None:
    slot_s = SLOT_MS / 1000
    await harness.snipe("sniper", opens_in_s=3_600)
    await harness.clock.advance(0.75 * slot_s)
    harness.apply(MarketChange(frozenset({"elsewhere"}), ()))
    await harness.matcher.match()
    assert harness.matcher.idle_s == pytest.approx(slot_s / 4)


async def test_the_window_of_an_order_that_was_removed_opens_for_nothing(harness: MatcherHarness) -> None:
    await harness.snipe("sniper", opens_in_s=1)
    harness.orders.apply([step("sniper", Status.CANCELLED)])
    await harness.clock.advance(1)
    await harness.matcher.match()
    assert harness.store.fired == []
    assert harness.matcher.idle_s == math.inf


async def test_windows_of_removed_orders_are_forgotten(harness: MatcherHarness) -> None:
    for number in range(500):
        await harness.snipe(f"sniper {number}", opens_in_s=10**9)
        harness.orders.apply([step(f"sniper {number}", Status.CANCELLED)])
    await harness.snipe("sniper", opens_in_s=10)
    assert len(harness.orders.snipers._openings) <= 103
    await harness.clock.advance(10)
    await harness.matcher.match()
    assert harness.store.fired == [["sniper"]]
