"""Watches the market for the orders that rest, and has those executed whose condition holds.

One instance at a time does, by lease. It knows every resting order from memory, built from the store when
it takes the lease; steps that are committed anywhere keep it true, and a look into the store every few
seconds finds what was not heard of. An order fires by one conditional write that makes it due as it stood
at a version: whoever watches, and however often, it fires once.
"""

import asyncio
import gc
import logging
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from service import crash_points
from service.background import Background
from service.chains.venue import MarketChange, VenueUnavailableError
from service.clock import Clock
from service.domain.condition_parser import ConditionError
from service.domain.history import Committed
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.execution.order_queue import OrderQueue
from service.postgres.database import UnavailableError
from service.postgres.leadership import Leadership, Lease
from service.store.resting import Fired, Resting, RestingOrder
from service.triggers.book import LimitBook, Pair, RestingLimit
from service.triggers.market import MarketView
from service.triggers.seen import seen_limit
from service.triggers.snipers import Snipers

log = logging.getLogger(__name__)

_CHECK_LEASE_EVERY_S = 1.0
_COMPARE_EVERY_S = 5.0
_COMPARE_WITHIN_MS = 30_000
# Changes of the market that come closer together are looked at together.
_LOOK_EVERY_S = 0.05
_LONGEST_TURN_S = 0.005
_MOST_TOGETHER = 200
_PAUSE_AFTER_FAULT_S = 0.5


class Triggers:
    """Fires limit and sniper orders.

    Args:
        lease: Its leader watches.
        resting: The store's side of it.
        market: What can be quoted without asking.
        queue: Has the orders worked on that are fired.
        clock: PostgreSQL's time; paces.
        slot_ms: The market's slot; conditions of time are looked at once in each.
    """

    def __init__(
        self,
        lease: Lease,
        resting: Resting,
        market: MarketView,
        queue: OrderQueue,
        clock: Clock,
        *,
        slot_ms: int,
    ) -> None:
        self._resting = resting
        self._market = market
        self._clock = clock
        self._slot_ms = slot_ms
        self._slot_s = slot_ms / 1000
        self._queue = queue
        self._watching = False
        self._built_for: int | None = None
        self._limits = LimitBook()
        self._snipers = Snipers()
        self._to_load: set[str] = set()
        # Those of them that are only there because they are being fired.
        self._doubtful: set[str] = set()
        self._news = asyncio.Event()
        self._leadership = Leadership(
            lease, clock, name="triggers", retry_s=_CHECK_LEASE_EVERY_S, on_change=self._news.set
        )
        self._next_comparison = self._next_slot = 0.0
        self._looked_at = self._yielded_at = 0.0
        self._loop = Background("triggers", self._run_for_ever, clock)

    @property
    def watching(self) -> bool:
        """Whether this instance is the one that fires."""
        return self._watching

    @property
    def resting(self) -> int:
        """How many orders this instance watches for."""
        return len(self._limits) + len(self._snipers)

    def start(self) -> None:
        """Begin to watch, if nobody else does."""
        self._leadership.start()
        self._loop.start()

    async def stop(self) -> None:
        """Stop watching, and leave it to others."""
        await self._loop.stop()
        await self._leadership.stop()

    def take(self, steps: Iterable[Committed]) -> None:
        """Take note of steps that have been committed, here or elsewhere."""
        if not self._watching:
            return
        for step in steps:
            if step.entry["status"] == Status.OPEN:
                self._to_load.add(step.order_id)
                self._doubtful.discard(step.order_id)
                self._news.set()
            else:
                self._forget(step.order_id)

    def take_change(self, change: MarketChange) -> None:
        """Take note of a change of the market."""
        self._market.take(change, watching=self._watching)
        self._news.set()

    def _forget(self, order_id: str) -> None:
        self._limits.discard(order_id)
        self._snipers.discard(order_id)

    async def _run_for_ever(self) -> None:
        while True:
            try:
                await self._turn()
            except (UnavailableError, VenueUnavailableError) as error:
                log.warning("triggers: beginning anew (%s)", error, extra={"fault": "triggers"})
                self._forget_everything()
                await self._clock.sleep(_PAUSE_AFTER_FAULT_S)
            except BaseException:
                self._forget_everything()
                raise

    def _forget_everything(self) -> None:
        """Have the books built anew: orders may have left them, or been missed, on the way to a fault."""
        self._watching = False

    async def _turn(self) -> None:
        """Look at what is new, and wait for more."""
        epoch = self._leadership.epoch
        if epoch is None:
            if self._watching:
                log.warning("triggers: not watching any more, until the lease is held again")
            self._watching = False
        elif epoch != self._built_for or not self._watching:
            await self._begin(epoch)
        if self._watching:
            await self._load_what_changed()
            if self._market.missed:
                await self._market.read_past()
            self._looked_at = self._clock.monotonic()
            await self._look()
        self._news.clear()
        await self._wait(self._idle_s() if self._watching else _CHECK_LEASE_EVERY_S)

    def _idle_s(self) -> float:
        """Return for how long there is nothing to do, unless there is news."""
        if self._to_load or self._market.changed or self._leadership.epoch != self._built_for:
            return 0
        idle_s = self._next_comparison - self._clock.monotonic()
        if self._snipers.pairs:
            idle_s = min(idle_s, self._slot_s)
        if self._limits.next_due is not None:
            idle_s = min(idle_s, self._limits.next_due - self._clock.database_time())
        return max(idle_s, 0)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass
        await self._clock.sleep(self._looked_at + _LOOK_EVERY_S - self._clock.monotonic())

    async def _begin(self, epoch: int) -> None:
        """Build the books from the store, page by page, while steps are noted already.

        Only while the lease is held in this epoch: else what is read is for another, or to be read anew.
        """
        self._limits, self._snipers = LimitBook(), Snipers()
        self._to_load.clear()
        self._watching, self._built_for = True, epoch
        await self._market.begin()
        began = self._clock.monotonic()
        async with aclosing(self._resting.scan()) as pages:
            async for page in pages:
                if self._leadership.epoch != epoch:
                    self._watching = False
                    return
                await self._add_all(page)
        self._next_comparison = self._clock.monotonic() + _COMPARE_EVERY_S
        # What rests may rest for long: to look through it again and again for garbage would hold up the
        # event loop for as long as reading it did.
        gc.freeze()
        log.info(
            "triggers: watching for %d orders, read in %.1f s", self.resting, self._clock.monotonic() - began
        )

    async def _yield_to_loop(self) -> None:
        """Let others run, if they have been waiting for long enough."""
        if self._clock.monotonic() - self._yielded_at > _LONGEST_TURN_S:
            await asyncio.sleep(0)
            self._yielded_at = self._clock.monotonic()

    async def _load_what_changed(self) -> None:
        if self._clock.monotonic() >= self._next_comparison:
            self._next_comparison = self._clock.monotonic() + _COMPARE_EVERY_S
            recent = await self._resting.rested_within(_COMPARE_WITHIN_MS)
            self._to_load.update(
                order_id
                for order_id, version in recent.items()
                if version not in {self._limits.version(order_id), self._snipers.version(order_id)}
            )
        # What comes back while these are loaded is for the next turn: others want theirs.
        left, self._to_load = [*self._to_load], set()
        for start in range(0, len(left), _MOST_TOGETHER):
            some = left[start : start + _MOST_TOGETHER]
            there = await self._resting.get(some)
            for order_id in {*some}.difference(order.order_id for order in there):
                self._forget(order_id)
            added = await self._add_all(there)
            await self._match_orders(
                [order for order in added if order.not_before <= self._clock.database_time()]
            )

    async def _add_all(self, orders: Sequence[RestingOrder]) -> list[RestingLimit]:
        """Let orders into the books, breathing now and then; return the limits that are new there."""
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
                if self._limits.add(limit):
                    added.append(limit)
            await self._yield_to_loop()
        return added

    def _add_sniper(self, order: RestingOrder) -> None:
        try:
            if self._snipers.add(order):
                self._market.look_again((order.token_in, order.token_out))
        except ConditionError:
            # It was read when it was placed; should it be none to this version, the others go on.
            log.exception("triggers: the conditions of order %s cannot be read", order.order_id)

    async def _look(self) -> None:
        """Look at the pairs whose market has changed, and at orders whose time has come."""
        await self._match_orders(self._limits.admit(self._clock.database_time()))
        pairs = {*self._limits.pairs, *self._snipers.pairs}
        changed, other_pools = self._market.take_changed(pairs)
        for pair in changed:
            await self._yield_to_loop()
            if pair in other_pools:
                self._limits.reset(pair)
            await self._look_at_limits(pair)
        now = self._clock.monotonic()
        every_pair = now >= self._next_slot
        if every_pair:
            # Time alone may make conditions hold.
            self._next_slot = now + self._slot_s
        sniped = self._snipers.pairs if every_pair else self._snipers.pairs & changed
        for pair in sniped:
            await self._yield_to_loop()
            await self._look_at_snipers(pair)

    async def _look_at_limits(self, pair: Pair) -> None:
        prices = self._market.prices(pair)
        firing: list[Fired] = []
        for fired in self._limits.match_pair(pair, prices):
            if fired is not None:
                firing.append(seen_limit(fired.order, fired.amount_out))
            if len(firing) == _MOST_TOGETHER:
                await self._fire(firing)
                firing = []
            await self._yield_to_loop()
        await self._fire(firing)

    async def _match_orders(self, limits: Sequence[RestingLimit]) -> None:
        """Look at single orders that came into the book while their market stands still."""
        firing: list[Fired] = []
        by_pair: dict[Pair, list[RestingLimit]] = {}
        for limit in limits:
            by_pair.setdefault((limit.token_in, limit.token_out), []).append(limit)
        for pair, orders in by_pair.items():
            await self._yield_to_loop()
            prices = self._market.prices(pair)
            for order in orders:
                fired = self._limits.match_order(order.order_id, prices)
                if fired is not None:
                    firing.append(seen_limit(fired.order, fired.amount_out))
                await self._yield_to_loop()
        await self._fire(firing)

    async def _look_at_snipers(self, pair: Pair) -> None:
        facts = self._market.facts(pair)
        if facts is None:
            return
        firing = []
        for fired in self._snipers.match_pair(pair, facts, self._slot_ms, self._clock.database_time()):
            if fired is not None:
                firing.append(fired)
            await self._yield_to_loop()
        await self._fire(firing)

    async def _fire(self, orders: Sequence[Fired]) -> None:
        """Have orders executed; those that are not as they were seen are read again."""
        if not orders:
            return
        wanted = {order.order_id for order in orders}
        # Whatever becomes of the write, the store knows which of them still rest. Those that it has fired
        # need not be read, unless something else was heard of them meanwhile.
        self._doubtful = wanted - self._to_load
        self._to_load |= wanted
        crash_points.reach("before fire")
        try:
            fired = await self._resting.fire(orders)
        except asyncio.CancelledError:
            # They may be due by now, and no wake-up was sent.
            self._queue.enqueue_all_due()
            raise
        except UnavailableError as error:
            if error.unknown:
                self._queue.enqueue_all_due()
            # Nothing else is lost: to build the books anew for a conflict would hold up all the others.
            log.warning(
                "triggers: %d orders are looked at again (%s)",
                len(wanted),
                error,
                extra={"fault": "triggers"},
            )
            return
        crash_points.reach("after fire")
        self._to_load -= self._doubtful.intersection(fired)
        await self._queue.enqueue(fired)
        log.info("triggers: %d orders fired", len(fired))
