"""Watches the market for the resting orders, and fires those whose condition holds.

One instance at a time watches: the leader. When it takes the lease it builds the books from the store; then
it matches them with the market whenever either has changed.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import aclosing

from service.background import Background
from service.chains.venue import MarketChange, VenueUnavailableError
from service.clock import Clock
from service.domain.history import Committed
from service.execution.order_queue import OrderQueue
from service.postgres.database import UnavailableError
from service.postgres.leadership import Leadership, Lease
from service.store.resting import Resting
from service.triggers.market import MarketView
from service.triggers.matching import Matcher
from service.triggers.pace import Pace
from service.triggers.resting_orders import RestingOrders

log = logging.getLogger(__name__)

_CHECK_LEASE_EVERY_S = 1.0
# Changes of the market within this time are matched together.
_MATCH_EVERY_S = 0.05
_PAUSE_AFTER_FAULT_S = 0.5


class Triggers:
    """Fires limit and sniper orders.

    Args:
        lease: The lease whose leader watches.
        resting: The resting orders in the store.
        market: The market, quoted from memory.
        queue: Enqueues the fired orders.
        clock: PostgreSQL's time; times the loop.
        is_halted: Whether trading is halted: nothing is watched then; the books are built again afterwards.
    """

    def __init__(
        self,
        lease: Lease,
        resting: Resting,
        market: MarketView,
        queue: OrderQueue,
        clock: Clock,
        *,
        is_halted: Callable[[], bool],
    ) -> None:
        self._market = market
        self._is_halted = is_halted
        self._clock = clock
        pace = Pace(clock)
        self._orders = RestingOrders(resting, market, clock, pace)
        self._matcher = Matcher(self._orders, market, resting, queue, clock, pace)
        self._watching = False
        self._built_epoch: int | None = None
        self._changed = asyncio.Event()
        self._matched_at = 0.0
        self._leadership = Leadership(
            lease, clock, name="triggers", retry_s=_CHECK_LEASE_EVERY_S, on_change=self._changed.set
        )
        self._loop = Background("triggers", self._run_forever, clock)

    @property
    def watching(self) -> bool:
        """Whether this instance watches and fires orders."""
        return self._watching

    @property
    def resting(self) -> int:
        """How many resting orders this instance holds."""
        return len(self._orders)

    def start(self) -> None:
        """Begin to watch, unless another instance leads."""
        self._leadership.start()
        self._loop.start()

    async def stop(self) -> None:
        """Stop watching, and give up the lease."""
        await self._loop.stop()
        await self._leadership.stop()

    def apply_steps(self, steps: Iterable[Committed]) -> None:
        """Apply committed steps, of this or another instance."""
        if self._watching and self._orders.apply(steps):
            self._changed.set()

    def apply_change(self, change: MarketChange) -> None:
        """Apply a change of the market."""
        self._market.apply(change, watching=self._watching)
        self._changed.set()

    async def _run_forever(self) -> None:
        while True:
            try:
                await self._turn()
            except (UnavailableError, VenueUnavailableError) as error:
                log.warning("triggers: will rebuild the books (%s)", error, extra={"fault": "triggers"})
                self._discard_books()
                await self._clock.sleep(_PAUSE_AFTER_FAULT_S)
            except BaseException:
                self._discard_books()
                raise

    def _discard_books(self) -> None:
        """Have the books built again: before a fault, orders may have been removed or missed."""
        self._watching = False

    async def _turn(self) -> None:
        """Process what has changed, and wait for the next change."""
        epoch = self._leadership.epoch
        if epoch is None:
            if self._watching:
                log.warning("triggers: lost the lease, not watching")
            self._watching = False
        elif self._is_halted():
            # The store would refuse to fire the orders, again and again.
            self._discard_books()
        elif epoch != self._built_epoch or not self._watching:
            await self._build_books(epoch)
        if self._watching:
            await self._match()
        self._changed.clear()
        await self._wait(self._idle_s() if self._watching else _CHECK_LEASE_EVERY_S)

    async def _build_books(self, epoch: int) -> None:
        """Build the books, while steps and changes are already being recorded.

        It stops if the epoch ends: then another instance watches, or the books must be rebuilt.
        """
        self._orders.clear()
        self._watching, self._built_epoch = True, epoch
        await self._market.begin()
        began = self._clock.monotonic()
        self._watching = await self._orders.build(lambda: self._leadership.epoch == epoch)
        if self._watching:
            took_s = self._clock.monotonic() - began
            log.info("triggers: watching for %d orders, read in %.1f s", self.resting, took_s)

    async def _match(self) -> None:
        """Bring the books and the market up to date, and match the changes."""
        async with aclosing(self._orders.load_changed()) as loaded:
            async for limits in loaded:
                await self._matcher.match_orders(limits)
        if self._market.must_load_trades:
            await self._market.load_trades()
        self._matched_at = self._clock.monotonic()
        await self._matcher.match()

    def _idle_s(self) -> float:
        """Return how long there is nothing to do, unless something changes."""
        if self._orders.behind or self._market.changed or self._leadership.epoch != self._built_epoch:
            return 0
        until_comparison_s = self._orders.next_comparison - self._clock.monotonic()
        return max(0, min(until_comparison_s, self._matcher.idle_s))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        await self._clock.sleep(self._matched_at + _MATCH_EVERY_S - self._clock.monotonic())
