"""The sweep: a process's heartbeat, and the search for orders that no wake-up has reached.

Start-up is recovery, and recovery is the sweep: it takes orders whose time has come (putting the time of
their next wake-up forward, so that a backlog is not enqueued twice), orders of processes that are dead, and
its own orders that none of its tasks is on.

The heartbeat waits for none of that: on a busy machine a sweep may take longer than a process may be silent,
and one that may be taken for dead gives up all it works on.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable

from service.background import Background
from service.clock import Clock
from service.execution.engine import Engine
from service.postgres.database import UnavailableError
from service.store.instances import MOST_A_SWEEP, Identity, Instances
from service.store.rate_limit import RateLimit

log = logging.getLogger(__name__)

WAKE_AFTER_MS = 5_000
"""How long after a wake-up an order that nobody has taken is woken again."""

_EVERY_S = 1.0
_ENOUGH = 500
_AWAY_S = 2.0
# A timer on this machine and a due time on PostgreSQL's clock may disagree by so much.
_MARGIN_S = 0.005


class Sweep:
    """Looks after this process's place among the others, and after due orders.

    Args:
        instances: The store's side of it.
        identity: This process's id, renewed when it was judged dead.
        clock: Paces the sweep.
        wake: Enqueues orders.
        queued: Tells how many wake-ups nobody has taken yet; None when Redis is away.
        engine: Works on this process's orders.
        rate_limit: How many orders may start in a while.
        instance_timeout_ms: A process not heard of for so long is dead.
    """

    def __init__(
        self,
        instances: Instances,
        identity: Identity,
        clock: Clock,
        *,
        wake: Callable[[list[str]], Awaitable[None]],
        queued: Callable[[], Awaitable[int | None]],
        engine: Engine,
        rate_limit: RateLimit,
        instance_timeout_ms: int,
    ) -> None:
        self._instances = instances
        self._identity = identity
        self._clock = clock
        self._wake = wake
        self._queued = queued
        self._engine = engine
        self._rate_limit = rate_limit
        self._timeout_s = instance_timeout_ms / 1000
        self._every_s = min(_EVERY_S, self._timeout_s / 4)
        self._looks: list[float] = []
        self._look_now = asyncio.Event()
        self._wake_all = False
        # More is due than was woken at once.
        self._more_due = False
        # Orders whose wake-up was spent here, and that were not claimed.
        self._spent: set[str] = set()
        self._registered = False
        # Held while the heartbeat is sent, and while the identity changes.
        self._identifying = asyncio.Lock()
        self._judged_dead = False
        self._last_heartbeat = clock.monotonic()
        self._judges_from = self._last_heartbeat + self._timeout_s
        self._heartbeat = Background("heartbeat", self._heartbeat_for_ever, clock)
        self._sweeper = Background("sweep", self._sweep_for_ever, clock)

    def start(self) -> None:
        """Begin to sweep, by waking every order that is due."""
        self.wake_all()
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
            left = await self._instances.leave(sorted(self._spent), all_due=self._wake_all)
            # Others' sweeps find the rest.
            await self._wake(left[:MOST_A_SWEEP])
        except UnavailableError as error:
            log.warning("could not sign off (%s): the others will notice", error)

    def check_after(self, delay_ms: int) -> None:
        """Look for due orders after a delay."""
        heapq.heappush(self._looks, self._clock.monotonic() + delay_ms / 1000 + _MARGIN_S)
        self._look_now.set()

    def wake_all(self) -> None:
        """Wake every due order now: the wake-ups that were on their way may be lost."""
        self._wake_all = True
        self._look_now.set()

    def put_back(self, order_id: str) -> None:
        """Have an order woken again with the next sweep: a wake-up was spent, and it was not claimed."""
        self._spent.add(order_id)

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
            self._look_now.set()
        now = self._clock.monotonic()
        if now - self._last_heartbeat > _AWAY_S:
            # PostgreSQL or this process was away: the others get a full period to be heard of.
            self._judges_from = now + self._timeout_s
        self._last_heartbeat = now

    async def _sweep_for_ever(self) -> None:
        next_sweep = self._next_sweep(self._clock.monotonic())
        while True:
            await self._wait_until(min([next_sweep, *self._looks[:1]]))
            try:
                now = self._clock.monotonic()
                due = self._take_looks(now)
                if now >= next_sweep or self._judged_dead:
                    due, next_sweep = True, self._next_sweep(now)
                    await self._look_after_instances()
                    await self._put_back_spent()
                if due or self._wake_all:
                    await self._wake_due()
            except UnavailableError as error:
                # Orders may have been handed out in an answer that was lost.
                self._wake_all |= error.unknown
                log.warning("sweep: PostgreSQL is away (%s)", error, extra={"fault": "postgresql"})
                await self._clock.sleep(self._every_s / 2)

    def _next_sweep(self, now: float) -> float:
        """Return when to sweep next: soon, and at the very moment from which others may be judged dead."""
        at = now + self._every_s
        return self._judges_from if now < self._judges_from < at else at

    def _take_looks(self, now: float) -> bool:
        """Return whether the time of a look has come."""
        due = False
        while self._looks and self._looks[0] <= now:
            heapq.heappop(self._looks)
            due = True
        return due

    async def _wait_until(self, at: float) -> None:
        """Wait for a time, or until there is another to wait for."""
        try:
            async with asyncio.timeout(max(0, at - self._clock.monotonic())):
                await self._look_now.wait()
        except TimeoutError:
            pass
        self._look_now.clear()

    async def _look_after_instances(self) -> None:
        if self._identity.lapsed or self._judged_dead:
            async with self._identifying:
                await self._begin_anew()
        if self._clock.monotonic() >= self._judges_from:
            for dead in await self._instances.remove_dead():
                log.warning("instance %s is dead; its orders go on here or elsewhere", dead)
                # So do those that it was only woken for.
                self._wake_all = True
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
        self._wake_all = True
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
        """Have orders found that this process was woken for and did not claim."""
        if self._spent:
            order_ids = sorted(self._spent)
            await self._instances.put_back(order_ids)
            self._spent.difference_update(order_ids)

    async def _wake_due(self) -> None:
        """Wake orders that are due, as many as may be on their way at once."""
        queued = await self._queued()
        if queued is None:
            return
        if queued > _ENOUGH and not self._wake_all:
            # The workers have enough to do: what is due will be found later.
            return
        again = self._wake_all or self._more_due
        # Noted before it is done: a wish that comes meanwhile is for the next time.
        self._wake_all = False
        try:
            order_ids = await self._instances.wake_due(
                rate_limit=self._rate_limit, wake_after_ms=WAKE_AFTER_MS, again=again
            )
        except (UnavailableError, asyncio.CancelledError) as error:
            # A stop may come when orders have been handed out and this process has not been told which.
            self._wake_all |= again or isinstance(error, asyncio.CancelledError)
            raise
        self._more_due = again and len(order_ids) >= MOST_A_SWEEP
        await self._wake(order_ids)
