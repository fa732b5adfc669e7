"""The sweep: a process's heartbeat, and the search for due orders without a wake-up.

Start-up is recovery, and recovery is the sweep: it enqueues due orders (and postpones their next wake-up, so
that a backlog is not enqueued twice), and releases the orders of dead processes and its own orders that none
of its tasks is executing.

The heartbeat runs separately: on a busy machine a sweep may take longer than the heartbeat time-out, and a
process that may have been declared dead gives up all its orders.
"""

import asyncio
import logging

from service.background import Background
from service.clock import Clock
from service.execution.engine import Engine
from service.execution.order_queue import EntryId, OrderQueue
from service.postgres.database import UnavailableError
from service.store.instances import MAX_PER_SWEEP, Identity, Instances
from service.store.rate_limit import RateLimit
from service.store.venue_identity import OtherVenueError

log = logging.getLogger(__name__)

WAKE_AFTER_MS = 5_000
"""How long after a wake-up an order that no worker has claimed is enqueued again."""

_EVERY_S = 1.0
# No more are enqueued while more wake-ups than this are waiting.
_QUEUE_LIMIT = 500
# A longer gap between two heartbeats means that PostgreSQL was unavailable or this process paused.
_HEARTBEAT_GAP_S = 2.0


class Sweep:
    """Keeps this process registered, removes dead processes, and enqueues due orders.

    Args:
        instances: The registered processes and their orders, in the store.
        identity: This process's id, renewed after it was declared dead.
        clock: Times the sweep.
        queue: Receives the due orders, and holds the requests for the sweep.
        engine: Executes this process's orders.
        rate_limit: Limits how many orders may start per minute.
        instance_timeout_ms: A process without a heartbeat for this long is dead.
    """

    def __init__(
        self,
        instances: Instances,
        identity: Identity,
        clock: Clock,
        queue: OrderQueue,
        engine: Engine,
        *,
        rate_limit: RateLimit,
        instance_timeout_ms: int,
    ) -> None:
        self._instances = instances
        self._identity = identity
        self._clock = clock
        self._queue = queue
        self._engine = engine
        self._rate_limit = rate_limit
        self._timeout_s = instance_timeout_ms / 1000
        self._every_s = min(_EVERY_S, self._timeout_s / 4)
        # More orders are due than were enqueued at once.
        self._more_due = False
        # The latest wake-up before all due orders began to be enqueued.
        self._last_superseded: EntryId | None = None
        self._registered = False
        # Held while the heartbeat is sent, and while the identity changes.
        self._identifying = asyncio.Lock()
        # Whether another process has removed this one's registration.
        self._declared_dead = False
        self._last_heartbeat: float
        # From this time on, other processes without a heartbeat count as dead.
        self._removes_dead_from: float
        self._begin_period(clock.monotonic())
        self._heartbeat = Background("heartbeat", self._heartbeat_forever, clock)
        self._sweeper = Background("sweep", self._sweep_forever, clock)

    def start(self) -> None:
        """Begin to sweep, by enqueueing every order that is due."""
        self._queue.enqueue_all_due()
        self._sweeper.start()

    async def recover(self, *, alone: bool) -> None:
        """Register this process, begin its heartbeat, and release the orders of dead processes.

        Args:
            alone: Whether no other process can be using the database, so that every other registered
                process is dead.

        Raises:
            OtherVenueError: The orders of the database belong to another venue.
            UnavailableError: PostgreSQL is unavailable.
            VenueUnavailableError: The venue did not answer.
        """
        if alone:
            # First: another venue takes over only if no other process is registered.
            await self._instances.remove_dead(all_others=True)
        await self._instances.register()
        self._registered = True
        await self._instances.heartbeat()
        # However long the start takes, before this or after it, it is no outage.
        self._begin_period(self._clock.monotonic())
        orphans = await self._instances.release_orphans()
        self._heartbeat.start()
        if orphans:
            log.info("recovery: %d orders continue from their last step", len(orphans))

    async def stop(self) -> None:
        """Stop sweeping, deregister, and release this process's orders."""
        await self._sweeper.stop()
        await self._heartbeat.stop()
        if not self._registered:
            return
        self._registered = False
        try:
            queue = self._queue
            left = await self._instances.leave(queue.unclaimed, all_due=queue.all_due)
            # Other processes' sweeps find the rest.
            await queue.enqueue(left[:MAX_PER_SWEEP])
        except UnavailableError as error:
            log.warning("cannot deregister (%s): the heartbeat will time out", error)

    async def _heartbeat_forever(self) -> None:
        while True:
            await self._clock.sleep(self._every_s)
            async with self._identifying:
                # If this process may have been declared dead, the sweep handles it.
                if not (self._identity.lapsed or self._declared_dead):
                    await self._send_heartbeat()

    async def _send_heartbeat(self) -> None:
        try:
            self._declared_dead = not await self._instances.heartbeat()
        except UnavailableError as error:
            log.debug("heartbeat: PostgreSQL is unavailable (%s)", error)
            return
        if self._declared_dead:
            self._queue.request_sweep()
        now = self._clock.monotonic()
        if now - self._last_heartbeat > _HEARTBEAT_GAP_S:
            # PostgreSQL or this process was stalled.
            self._begin_period(now)
        self._last_heartbeat = now

    def _begin_period(self, now: float) -> None:
        """Give the others a full period to send a heartbeat."""
        self._last_heartbeat = now
        self._removes_dead_from = now + self._timeout_s

    async def _sweep_forever(self) -> None:
        next_sweep = self._next_sweep(self._clock.monotonic())
        while True:
            await self._queue.wait_until(next_sweep)
            try:
                now = self._clock.monotonic()
                due = self._queue.pop_checks(now)
                if now >= next_sweep or self._declared_dead:
                    due, next_sweep = True, self._next_sweep(now)
                    await self._look_after_instances()
                    await self._requeue_unclaimed()
                if due or self._queue.all_due:
                    await self._enqueue_due()
            except UnavailableError as error:
                if error.unknown:
                    # The lost response may have contained orders to enqueue.
                    self._queue.check_all_due()
                log.warning("sweep: PostgreSQL is unavailable (%s)", error, extra={"fault": "postgresql"})
                await self._clock.sleep(self._every_s / 2)
            except OtherVenueError as error:
                # It stays unregistered, so that it executes nothing.
                log.error("sweep: stop this process: %s", error, extra={"fault": "venue"})  # noqa: TRY400
                await self._clock.sleep(self._every_s)

    def _next_sweep(self, now: float) -> float:
        """Return the time of the next sweep: soon, and exactly when others may first be declared dead."""
        at = now + self._every_s
        return self._removes_dead_from if now < self._removes_dead_from < at else at

    async def _look_after_instances(self) -> None:
        if self._identity.lapsed or self._declared_dead:
            async with self._identifying:
                await self._change_identity()
        if self._clock.monotonic() >= self._removes_dead_from:
            for dead in await self._instances.remove_dead():
                log.warning("instance %s is dead; its orders are released", dead)
                # It may have consumed wake-ups of further orders.
                self._queue.check_all_due()
        if postponed := await self._instances.wake_postponed():
            log.warning("PostgreSQL's clock has jumped back; %d orders wait no longer", len(postponed))
        await self._instances.release_orphans()
        await self._release_idle()

    async def _change_identity(self) -> None:
        """Give up all owned orders, which others may own already, and register under a new id.

        The id is renewed only after PostgreSQL has removed the old one: otherwise the old one's orders would
        wait until its heartbeat times out.
        """
        await self._instances.leave()
        await self._engine.cancel_running()
        self._identity.renew()
        await self._instances.register()
        self._declared_dead = False
        # Claims were cancelled, or refused because the old id was removed: their wake-ups are consumed.
        self._queue.check_all_due()
        log.warning("this process's heartbeat timed out; it continues under a new id")

    async def _release_idle(self) -> None:
        """Release orders that this process owns and has no task for, so that they are claimed again."""
        idle = await self._instances.find_idle(self._engine.running)
        # Orders that were claimed during the query are running by now.
        forgotten = set(idle).difference(self._engine.running)
        if forgotten:
            log.warning("%d orders had an owner and no task", len(forgotten))
            await self._instances.release(sorted(forgotten))

    async def _requeue_unclaimed(self) -> None:
        """Make orders due for a new wake-up if this process consumed theirs without a claim."""
        unclaimed = self._queue.unclaimed
        if unclaimed:
            await self._instances.requeue(unclaimed)
            self._queue.remove_unclaimed(unclaimed)

    async def _enqueue_due(self) -> None:
        """Enqueue due orders, up to the limit of waiting wake-ups."""
        queue = self._queue
        length = await queue.length()
        if length is None:
            return
        if length > _QUEUE_LIMIT and not queue.all_due:
            # A later sweep finds the due orders.
            return
        if queue.all_due:
            self._last_superseded = await queue.last_sent()
        # Removed first, so that a request that arrives meanwhile counts for the next run.
        again = queue.pop_all_due() or self._more_due
        try:
            order_ids = await self._instances.wake_due(
                rate_limit=self._rate_limit, wake_after_ms=WAKE_AFTER_MS, again=again
            )
        except (UnavailableError, asyncio.CancelledError) as error:
            # If cancelled, it may have postponed the wake-ups of orders that this process has not received.
            if again or isinstance(error, asyncio.CancelledError):
                queue.check_all_due()
            raise
        self._more_due = again and len(order_ids) >= MAX_PER_SWEEP
        await queue.enqueue(order_ids)
        if not self._more_due:
            self._supersede()

    def _supersede(self) -> None:
        """Discard earlier wake-ups, once every due order has a new one: many starts leave thousands.

        An order that a transaction had locked was skipped. It is being claimed, or ended, or gets a new
        wake-up afterwards. With a rate limit, the orders beyond it have no new one and keep theirs.
        """
        last, self._last_superseded = self._last_superseded, None
        if last is not None and not self._rate_limit.starts:
            self._queue.supersede(last)
