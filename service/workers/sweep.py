"""The sweep: a process's heartbeat, and the search for orders that no wake-up has reached.

Start-up is recovery, and recovery is the sweep: it takes orders whose time has come (putting the time of
their next wake-up forward, so that a backlog is not enqueued twice), orders of processes that are dead, and
its own orders that none of its tasks is on.

The heartbeat waits for none of that: on a busy machine a sweep may take longer than a process may be silent,
and one that may be taken for dead gives up all it works on.
"""

import asyncio
import logging

from service.background import Background
from service.clock import Clock
from service.execution.engine import Engine
from service.execution.order_queue import OrderQueue
from service.postgres.database import UnavailableError
from service.store.instances import MOST_A_SWEEP, Identity, Instances
from service.store.rate_limit import RateLimit

log = logging.getLogger(__name__)

WAKE_AFTER_MS = 5_000
"""How long after a wake-up an order that no worker has claimed is enqueued again."""

_EVERY_S = 1.0
# While more wake-ups wait than this, the workers have enough to do.
_QUEUE_LIMIT = 500
# Between two heartbeats; after longer, PostgreSQL or this process was away.
_HEARTBEAT_GAP_S = 2.0


class Sweep:
    """Looks after this process's place among the others, and after due orders.

    Args:
        instances: The store's side of it.
        identity: This process's id, renewed when it was judged dead.
        clock: Paces the sweep.
        queue: Where due orders go, and what it was asked for.
        engine: Works on this process's orders.
        rate_limit: How many orders may start in a while.
        instance_timeout_ms: A process not heard of for so long is dead.
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
        # More is due than was enqueued at once.
        self._more_due = False
        self._registered = False
        # Held while the heartbeat is sent, and while the identity changes.
        self._identifying = asyncio.Lock()
        self._judged_dead = False
        self._last_heartbeat = clock.monotonic()
        self._judges_from = self._last_heartbeat + self._timeout_s
        self._heartbeat = Background("heartbeat", self._heartbeat_for_ever, clock)
        self._sweeper = Background("sweep", self._sweep_for_ever, clock)

    def start(self) -> None:
        """Begin to sweep, by enqueueing every order that is due."""
        self._queue.enqueue_all_due()
        self._heartbeat.start()
        self._sweeper.start()

    async def recover(self, *, alone: bool) -> None:
        """Register this process, and take from the dead what they left.

        Args:
            alone: Whether no other process can be using the database, so that whoever has not signed off
                is dead.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        await self._instances.register()
        self._registered = True
        await self._instances.heartbeat()
        if alone:
            await self._instances.remove_dead(all_others=True)
        orphans = await self._instances.release_orphans()
        if orphans:
            log.info("recovery: %d orders go on where they stood", len(orphans))

    async def stop(self) -> None:
        """Stop sweeping, sign off, and leave this process's orders to the others."""
        await self._sweeper.stop()
        await self._heartbeat.stop()
        if not self._registered:
            return
        self._registered = False
        try:
            queue = self._queue
            left = await self._instances.leave(sorted(queue.spent), all_due=queue.all_due_requested)
            # Others' sweeps find the rest.
            await queue.enqueue(left[:MOST_A_SWEEP])
        except UnavailableError as error:
            log.warning("could not sign off (%s): the others will notice", error)

    async def _heartbeat_for_ever(self) -> None:
        while True:
            await self._clock.sleep(self._every_s)
            async with self._identifying:
                # One that may be taken for dead is for the sweep to see to.
                if not (self._identity.lapsed or self._judged_dead):
                    await self._send_heartbeat()

    async def _send_heartbeat(self) -> None:
        try:
            self._judged_dead = not await self._instances.heartbeat()
        except UnavailableError as error:
            log.debug("heartbeat: PostgreSQL is away (%s)", error)
            return
        if self._judged_dead:
            self._queue.requested.set()
        now = self._clock.monotonic()
        if now - self._last_heartbeat > _HEARTBEAT_GAP_S:
            # PostgreSQL or this process was away: the others get a full period to be heard of.
            self._judges_from = now + self._timeout_s
        self._last_heartbeat = now

    async def _sweep_for_ever(self) -> None:
        next_sweep = self._next_sweep(self._clock.monotonic())
        while True:
            await self._queue.wait_until(next_sweep)
            try:
                now = self._clock.monotonic()
                due = self._queue.pop_checks(now)
                if now >= next_sweep or self._judged_dead:
                    due, next_sweep = True, self._next_sweep(now)
                    await self._look_after_instances()
                    await self._put_back_spent()
                if due or self._queue.all_due_requested:
                    await self._enqueue_due()
            except UnavailableError as error:
                # Orders may have been handed out in an answer that was lost.
                self._queue.all_due_requested |= error.unknown
                log.warning("sweep: PostgreSQL is away (%s)", error, extra={"fault": "postgresql"})
                await self._clock.sleep(self._every_s / 2)

    def _next_sweep(self, now: float) -> float:
        """Return when to sweep next: soon, and at the very moment from which others may be judged dead."""
        at = now + self._every_s
        return self._judges_from if now < self._judges_from < at else at

    async def _look_after_instances(self) -> None:
        if self._identity.lapsed or self._judged_dead:
            async with self._identifying:
                await self._begin_anew()
        if self._clock.monotonic() >= self._judges_from:
            for dead in await self._instances.remove_dead():
                log.warning("instance %s is dead; its orders go on here or elsewhere", dead)
                # So do those of which it only had the wake-up.
                self._queue.all_due_requested = True
        await self._instances.release_orphans()
        await self._release_idle()

    async def _begin_anew(self) -> None:
        """Give up what is owned, perhaps by others already, and own what comes under a new id.

        A new id only when PostgreSQL has taken note of the old one's end: else the old one's orders would
        wait until it is missed.
        """
        await self._instances.leave()
        await self._engine.cancel_running()
        self._identity.renew()
        await self._instances.register()
        self._judged_dead = False
        # Claims were cancelled, or refused because the old id was gone: their wake-ups are spent.
        self._queue.all_due_requested = True
        log.warning("this process was away for too long and goes on under a new id")

    async def _release_idle(self) -> None:
        """Give up orders that this process owns and has no task for: they are claimed anew."""
        idle = await self._instances.find_idle(self._engine.running)
        # Those that have been claimed since are running by now.
        forgotten = set(idle).difference(self._engine.running)
        if forgotten:
            log.warning("%d orders had an owner and no task", len(forgotten))
            await self._instances.release(sorted(forgotten))

    async def _put_back_spent(self) -> None:
        """Have orders found whose wake-up this process had and did not use."""
        spent = self._queue.spent
        if spent:
            order_ids = sorted(spent)
            await self._instances.put_back(order_ids)
            spent.difference_update(order_ids)

    async def _enqueue_due(self) -> None:
        """Enqueue orders that are due, as many as may be on their way at once."""
        queue = self._queue
        length = await queue.length()
        if length is None:
            return
        if length > _QUEUE_LIMIT and not queue.all_due_requested:
            # What is due will be found later.
            return
        again = queue.all_due_requested or self._more_due
        # Noted before it is done: a request that comes meanwhile is for the next time.
        queue.all_due_requested = False
        try:
            order_ids = await self._instances.wake_due(
                rate_limit=self._rate_limit, wake_after_ms=WAKE_AFTER_MS, again=again
            )
        except (UnavailableError, asyncio.CancelledError) as error:
            # A stop may come when orders have been handed out and this process has not been told which.
            queue.all_due_requested |= again or isinstance(error, asyncio.CancelledError)
            raise
        self._more_due = again and len(order_ids) >= MOST_A_SWEEP
        await queue.enqueue(order_ids)
