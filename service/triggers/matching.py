"""Matches resting orders with the market, and fires those whose condition holds.

An order fires by one conditional write that makes it due at a given version, so it fires once, however many
instances watch and however often.
"""

import asyncio
import logging
import math
from collections.abc import Sequence

from service import crash_points
from service.clock import Clock
from service.domain.history import price_reached
from service.execution.order_queue import OrderQueue
from service.postgres.database import UnavailableError
from service.store.resting import Fired, Resting
from service.triggers.book import FiredLimit, Pair, RestingLimit
from service.triggers.market import MarketView
from service.triggers.pace import Pace
from service.triggers.resting_orders import RestingOrders

log = logging.getLogger(__name__)

_FIRE_LIMIT = 200


class Matcher:
    """Matches resting orders with the market.

    Args:
        orders: The resting orders.
        market: The market, quoted from memory; time conditions are checked once per slot of it.
        resting: Fires orders in the store.
        queue: Enqueues the fired orders.
        clock: PostgreSQL's time.
        pace: Bounds how long matching blocks the event loop.
    """

    def __init__(
        self,
        orders: RestingOrders,
        market: MarketView,
        resting: Resting,
        queue: OrderQueue,
        clock: Clock,
        pace: Pace,
    ) -> None:
        self._orders = orders
        self._market = market
        self._resting = resting
        self._queue = queue
        self._clock = clock
        self._pace = pace
        self._next_slot = 0.0

    async def match(self) -> None:
        """Match the pairs whose market has changed, and orders whose ``not_before`` has passed."""
        await self.match_orders(self._orders.limits.admit(self._clock.database_time()))
        pairs = {*self._orders.limits.pairs, *self._orders.snipers.pairs}
        changed, pools_changed = self._market.pop_changed(pairs)
        for pair in changed:
            await self._pace.yield_to_loop()
            if pair in pools_changed:
                self._orders.limits.reset(pair)
            await self._match_limits(pair)
        snipers = self._orders.snipers
        due = changed | snipers.pop_opened(self._clock.database_time())
        now = self._clock.monotonic()
        if now >= self._next_slot:
            # The passage of time alone may fulfil conditions.
            self._next_slot = now + self._market.slot_ms / 1000
            due |= snipers.pairs
        for pair in snipers.pairs & due:
            await self._pace.yield_to_loop()
            await self._match_snipers(pair)

    @property
    def idle_s(self) -> float:
        """For how long nothing is to be matched, unless an order or the market changes."""
        idle_s = math.inf
        if self._orders.snipers.pairs:
            idle_s = self._next_slot - self._clock.monotonic()
        for due in (self._orders.limits.next_due, self._orders.snipers.next_opening):
            if due is not None:
                idle_s = min(idle_s, due - self._clock.database_time())
        return max(idle_s, 0)

    async def match_orders(self, limits: Sequence[RestingLimit]) -> None:
        """Match single orders that were added to the book after their market last changed.

        Where the market has just changed, ``match`` matches the whole pair: otherwise these orders would be
        due before older ones that the same change lets fire.
        """
        firing: list[Fired] = []
        by_pair: dict[Pair, list[RestingLimit]] = {}
        for limit in limits:
            by_pair.setdefault((limit.token_in, limit.token_out), []).append(limit)
        for pair, orders in by_pair.items():
            await self._pace.yield_to_loop()
            if self._market.has_changed(pair):
                continue
            prices = self._market.prices(pair)
            for order in orders:
                fired = self._orders.limits.match_order(order.order_id, prices)
                if fired is not None:
                    firing.append(_with_price(fired))
                await self._pace.yield_to_loop()
        await self._fire(firing)

    async def _match_limits(self, pair: Pair) -> None:
        prices = self._market.prices(pair)
        firing: list[Fired] = []
        for fired in self._orders.limits.match_pair(pair, prices):
            if fired is not None:
                firing.append(_with_price(fired))
            if len(firing) == _FIRE_LIMIT:
                await self._fire(firing)
                firing = []
            await self._pace.yield_to_loop()
        await self._fire(firing)

    async def _match_snipers(self, pair: Pair) -> None:
        facts = self._market.facts(pair)
        if facts is None:
            return
        firing = []
        matching = self._orders.snipers.match_pair(
            pair, facts, self._market.slot_ms, self._clock.database_time()
        )
        for fired in matching:
            if fired is not None:
                firing.append(fired)
            await self._pace.yield_to_loop()
        await self._fire(firing)

    async def _fire(self, orders: Sequence[Fired]) -> None:
        """Fire orders and enqueue them; orders that have changed meanwhile are loaded again."""
        if not orders:
            return
        # Whatever the outcome of the write, loading from the store shows which of them still rest.
        self._orders.begin_firing({order.order_id for order in orders})
        crash_points.reach("before fire")
        try:
            fired = await self._resting.fire(orders)
        except asyncio.CancelledError:
            # They may be due by now without a wake-up.
            self._queue.enqueue_all_due()
            raise
        except UnavailableError as error:
            if error.unknown:
                self._queue.enqueue_all_due()
            # Nothing else is lost; rebuilding the books for a conflict would delay all other orders.
            log.warning(
                "triggers: firing %d orders failed, will load them again (%s)",
                len(orders),
                error,
                extra={"fault": "triggers"},
            )
            return
        crash_points.reach("after fire")
        self._orders.end_firing(fired)
        await self._queue.enqueue(fired)
        log.info("triggers: %d orders fired", len(fired))


def _with_price(fired: FiredLimit) -> Fired:
    """Return a limit order to fire, with the price of its quote for the history."""
    order = fired.order
    observed = price_reached(order.token_in, order.amount_in, order.token_out, fired.amount_out)
    return Fired(order.order_id, order.version, observed)
