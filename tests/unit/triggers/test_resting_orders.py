"""Resting orders in memory: which are loaded, which are removed, and the effect of firing."""

from collections.abc import AsyncGenerator, Sequence
from typing import cast

import pytest

from service.chains.venue import Venue
from service.domain.history import Committed
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.routing import RouteLimits
from service.store.resting import Resting, RestingOrder
from service.triggers.market import MarketView
from service.triggers.pace import Pace
from service.triggers.resting_orders import RestingOrders
from tests.support.clock import ManualClock


def limit(order_id: str, version: int = 2, not_before: float = 0) -> RestingOrder:
    return RestingOrder(
        order_id, version, OrderType.LIMIT, "SOL", "USDC", 10**9, 10**8, None, 0, not_before=not_before
    )


class Rows:
    """The resting orders of the store, and which of them were read."""

    def __init__(self) -> None:
        self.rows: dict[str, RestingOrder] = {}
        self.read: list[str] = []

    def put(self, *orders: RestingOrder) -> None:
        self.rows |= {order.order_id: order for order in orders}

    async def scan(self) -> AsyncGenerator[list[RestingOrder], None]:
        for row in [*self.rows.values()]:
            yield [row]

    async def get(self, order_ids: Sequence[str]) -> list[RestingOrder]:
        self.read += sorted(order_ids)
        return [self.rows[order_id] for order_id in order_ids if order_id in self.rows]

    async def rested_within(self, _within_ms: int) -> dict[str, int]:
        return {order_id: row.version for order_id, row in self.rows.items()}


class RestingOrdersHarness:
    """Resting orders in memory, and the store that they are read from."""

    def __init__(self) -> None:
        self.clock, self.store = ManualClock(), Rows()
        view = MarketView(cast("Venue", object()), self.clock, RouteLimits())
        self.orders = RestingOrders(cast("Resting", self.store), view, self.clock, Pace(self.clock))

    async def build(self, *rows: RestingOrder) -> None:
        self.store.put(*rows)
        assert await self.orders.build(lambda: True)

    async def load(self) -> list[str]:
        """Load what has changed, and return which orders are new and may fire."""
        return [limit.order_id async for limits in self.orders.load_changed() for limit in limits]


@pytest.fixture
def harness() -> RestingOrdersHarness:
    return RestingOrdersHarness()


def step(order_id: str, status: Status) -> Committed:
    return Committed(order_id, {"sequence": 3, "status": status, "timestamp": ""})


async def test_all_are_read_unless_the_lease_is_lost_meanwhile(harness: RestingOrdersHarness) -> None:
    harness.store.put(limit("a"), limit("b"), limit("c"))
    go_on = iter([True, True, False])
    assert not await harness.orders.build(lambda: next(go_on))
    assert len(harness.orders) == 2
    harness.orders.clear()
    assert len(harness.orders) == 0
    await harness.build()
    assert len(harness.orders) == 3


async def test_a_step_loads_an_open_order_and_removes_any_other(
    harness: RestingOrdersHarness,
) -> None:
    await harness.build(limit("a"))
    harness.store.put(limit("b"), limit("paused", not_before=harness.clock.database_time() + 1))
    assert harness.orders.apply([step("b", Status.OPEN), step("paused", Status.OPEN)])
    assert harness.orders.behind
    assert await harness.load() == ["b"]
    assert (len(harness.orders), harness.orders.behind) == (3, False)
    assert not harness.orders.apply([step("a", Status.ROUTING), step("b", Status.CANCELLED)])
    assert (len(harness.orders), harness.orders.behind) == (1, False)


async def test_the_comparison_finds_orders_whose_step_was_lost(harness: RestingOrdersHarness) -> None:
    await harness.build(limit("a"), limit("b"))
    harness.store.put(limit("b", version=3), limit("c"))
    assert await harness.load() == []
    await harness.clock.advance(harness.orders.next_comparison - harness.clock.monotonic())
    assert sorted(await harness.load()) == ["b", "c"]
    assert harness.store.read == ["b", "c"]


async def test_a_fired_order_is_not_loaded_and_an_unfired_one_is(harness: RestingOrdersHarness) -> None:
    await harness.build(limit("a"), limit("b"), limit("changed"))
    harness.orders.begin_firing({"a", "b", "changed"})
    harness.orders.apply([step("changed", Status.OPEN)])
    harness.orders.end_firing(["a", "changed"])
    del harness.store.rows["b"]
    await harness.load()
    assert harness.store.read == ["b", "changed"]
    assert len(harness.orders) == 2
