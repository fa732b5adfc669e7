"""Every resting order in memory, synchronised with the store.

The books are built from the store. Committed steps, of this and other instances, keep them up to date; a
comparison with the store every few seconds finds missed steps.
"""

import gc
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing

from service.clock import Clock
from service.domain.condition_parser import ConditionError
from service.domain.history import Committed
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.store.resting import Resting, RestingOrder
from service.triggers.book import LimitBook, RestingLimit
from service.triggers.market import MarketView
from service.triggers.pace import Pace
from service.triggers.snipers import Snipers

log = logging.getLogger(__name__)

_COMPARE_EVERY_S = 5.0
_COMPARE_WITHIN_MS = 30_000
_READ_LIMIT = 200


class RestingOrders:
    """The resting limit and sniper orders.

    Args:
        resting: The resting orders in the store.
        market: Receives the pairs that have a new sniper order.
        clock: PostgreSQL's time.
        pace: Bounds how long loading blocks the event loop.
    """

    def __init__(self, resting: Resting, market: MarketView, clock: Clock, pace: Pace) -> None:
        self._resting = resting
        self._market = market
        self._clock = clock
        self._pace = pace
        self.limits = LimitBook()
        self.snipers = Snipers()
        self._to_load: set[str] = set()
        # The orders to load only because they are being fired.
        self._firing: set[str] = set()
        self._next_comparison = 0.0

    def __len__(self) -> int:
        return len(self.limits) + len(self.snipers)

    @property
    def behind(self) -> bool:
        """Whether orders wait to be loaded."""
        return bool(self._to_load)

    @property
    def next_comparison(self) -> float:
        """When ``load_changed`` next compares with the store, on the monotonic clock."""
        return self._next_comparison

    def clear(self) -> None:
        """Remove every order, before the books are built."""
        self.limits, self.snipers = LimitBook(), Snipers()
        self._to_load.clear()

    async def build(self, go_on: Callable[[], bool]) -> bool:
        """Load every resting order from the store, page by page, while steps are already being applied.

        Returns:
            Whether all were loaded; loading stops early when ``go_on`` returns False.
        """
        async with aclosing(self._resting.scan()) as pages:
            async for page in pages:
                if not go_on():
                    return False
                await self._add_all(page)
        self._next_comparison = self._clock.monotonic() + _COMPARE_EVERY_S
        _exempt_from_garbage_collection()
        return True

    def apply(self, steps: Iterable[Committed]) -> bool:
        """Apply committed steps; return whether there are orders to load."""
        must_load = False
        for step in steps:
            if step.entry["status"] == Status.OPEN:
                self._to_load.add(step.order_id)
                self._firing.discard(step.order_id)
                must_load = True
            else:
                self._forget(step.order_id)
        return must_load

    async def load_changed(self) -> AsyncGenerator[list[RestingLimit], None]:
        """Load the changed orders, oldest first; yields the limit orders that are new and may fire now."""
        if self._clock.monotonic() >= self._next_comparison:
            await self._compare()
        # Orders that change during this loop are loaded in the next turn, so that other work is not delayed.
        order_ids, self._to_load = sorted(self._to_load), set()
        for start in range(0, len(order_ids), _READ_LIMIT):
            batch = order_ids[start : start + _READ_LIMIT]
            found = await self._resting.get(batch)
            for order_id in {*batch}.difference(order.order_id for order in found):
                self._forget(order_id)
            added = await self._add_all(found)
            yield [order for order in added if order.not_before <= self._clock.database_time()]

    def begin_firing(self, order_ids: set[str]) -> None:
        """Mark orders as being fired: they are loaded again, unless ``end_firing`` names them."""
        self._firing = order_ids - self._to_load
        self._to_load |= order_ids

    def end_firing(self, fired: Iterable[str]) -> None:
        """Unmark orders that the store has fired: they are not loaded again, unless changed meanwhile."""
        self._to_load -= self._firing.intersection(fired)

    def _forget(self, order_id: str) -> None:
        self.limits.discard(order_id)
        self.snipers.discard(order_id)

    async def _compare(self) -> None:
        self._next_comparison = self._clock.monotonic() + _COMPARE_EVERY_S
        recent = await self._resting.rested_within(_COMPARE_WITHIN_MS)
        self._to_load.update(
            order_id
            for order_id, version in recent.items()
            if version not in {self.limits.version(order_id), self.snipers.version(order_id)}
        )

    async def _add_all(self, orders: Sequence[RestingOrder]) -> list[RestingLimit]:
        """Add orders to the books; return the limit orders that are new."""
        added = []
        for order in orders:
            if order.order_type == OrderType.SNIPER:
                self._add_sniper(order)
            elif order.limit_out is not None:
                limit = RestingLimit(
                    order.order_id,
                    order.token_in,
                    order.token_out,
                    order.amount_in,
                    order.limit_out,
                    order.version,
                    order.not_before,
                )
                if self.limits.add(limit):
                    added.append(limit)
            await self._pace.yield_to_loop()
        return added

    def _add_sniper(self, order: RestingOrder) -> None:
        try:
            if self.snipers.add(order):
                self._market.mark_changed((order.token_in, order.token_out))
        except ConditionError:
            # Validated when placed; if this version of the service cannot parse them, other orders continue.
            log.exception("triggers: cannot parse the conditions of order %s", order.order_id)


def _exempt_from_garbage_collection() -> None:
    """Exempt all objects that exist now, in the whole process, from garbage collection.

    Orders may rest for long, and a collection that traverses a hundred thousand of them blocks the event loop
    for as long as loading them did. Once at the start is not enough: the books are built whenever this
    instance begins to watch, which may be hours later. It may be repeated, since frozen objects are still
    freed when their last reference goes; only cycles that are garbage by now are never freed.
    """
    gc.freeze()
