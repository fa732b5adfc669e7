"""Every resting order in memory, in step with the store.

The books are built from the store. Committed steps, here and elsewhere, keep them true; a comparison with the
store every few seconds finds what was not heard of.
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
    """The limit orders and the sniper orders that rest.

    Args:
        resting: The store's side.
        market: Told of pairs in which there is a new sniper order.
        clock: PostgreSQL's time.
        pace: How long reading holds the event loop.
    """

    def __init__(self, resting: Resting, market: MarketView, clock: Clock, pace: Pace) -> None:
        self._resting = resting
        self._market = market
        self._clock = clock
        self._pace = pace
        self.limits = LimitBook()
        self.snipers = Snipers()
        self._to_load: set[str] = set()
        # Those of them that are only there because they are being fired.
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
        """When ``load_changed`` compares with the store, on the monotonic clock."""
        return self._next_comparison

    def clear(self) -> None:
        """Forget every order, before the books are built."""
        self.limits, self.snipers = LimitBook(), Snipers()
        self._to_load.clear()

    async def build(self, go_on: Callable[[], bool]) -> bool:
        """Read every resting order from the store, page by page, while steps are applied already.

        Returns:
            Whether all was read; reading ends early when ``go_on`` says so.
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
        """Take note of committed steps; return whether there is something new to load."""
        news = False
        for step in steps:
            if step.entry["status"] == Status.OPEN:
                self._to_load.add(step.order_id)
                self._firing.discard(step.order_id)
                news = True
            else:
                self._forget(step.order_id)
        return news

    async def load_changed(self) -> AsyncGenerator[list[RestingLimit], None]:
        """Load the orders that have changed; yields limit orders that are new and may fire now."""
        if self._clock.monotonic() >= self._next_comparison:
            await self._compare()
        # What comes back while these are loaded is for the next turn: others want theirs.
        left, self._to_load = [*self._to_load], set()
        for start in range(0, len(left), _READ_LIMIT):
            some = left[start : start + _READ_LIMIT]
            there = await self._resting.get(some)
            for order_id in {*some}.difference(order.order_id for order in there):
                self._forget(order_id)
            added = await self._add_all(there)
            yield [order for order in added if order.not_before <= self._clock.database_time()]

    def begin_firing(self, order_ids: set[str]) -> None:
        """Take note that orders are being fired: they are loaded again, unless ``end_firing`` names them."""
        self._firing = order_ids - self._to_load
        self._to_load |= order_ids

    def end_firing(self, fired: Iterable[str]) -> None:
        """Take note of what the store has fired: it need not be loaded, unless it has changed meanwhile."""
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
        """Add orders to the books; return the limit orders that are new there."""
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
                self._market.look_again((order.token_in, order.token_out))
        except ConditionError:
            # It was read when it was placed; should it be none to this version, the others go on.
            log.exception("triggers: the conditions of order %s cannot be read", order.order_id)


def _exempt_from_garbage_collection() -> None:
    """Have the garbage collector pass over all objects that there are now, in the whole process.

    What rests may rest for long, and a collection that looks through a hundred thousand orders holds up the
    event loop for as long as reading them did. This is not done once at the start: the books are built
    whenever this instance begins to watch, which may be hours later. It may be repeated, since frozen objects
    are freed all the same when nothing refers to them; only cycles that are garbage by now stay.
    """
    gc.freeze()
