"""The order queue: which orders to execute, and when.

A wake-up tells a worker to check one order. Wake-ups on Redis are for the workers of any instance; while
Redis is unavailable they are queued here, for this process's own workers. The queue also holds requests for
the sweep: when to check for due orders, whether to enqueue all of them, and which wake-ups were consumed
without a claim.
"""

import asyncio
import heapq
from collections.abc import Iterable
from typing import Protocol

from service.clock import Clock

# The sweep finds further orders in PostgreSQL when there is room again.
_LOCAL_LIMIT = 5_000
# Maximum difference between a timer on this machine and a due time on PostgreSQL's clock.
_CLOCK_MARGIN_S = 0.005


EntryId = tuple[int, int]
"""The id of a wake-up on Redis: milliseconds and a number, in the sequence in which they were sent."""


class WakeUpStream(Protocol):
    """The wake-ups on Redis, for the workers of any instance."""

    @property
    def available(self) -> bool:
        """Whether wake-ups can be sent now."""
        ...

    async def send(self, order_ids: Iterable[str]) -> None:
        """Send wake-ups. Never fails: the sweep sends lost ones again."""
        ...

    async def length(self) -> int | None:
        """Return how many wake-ups no worker has received yet; None while Redis is unavailable."""
        ...

    async def last_sent(self) -> EntryId | None:
        """Return the id of the latest wake-up; None if that is unknown, or while Redis is unavailable."""
        ...

    def supersede(self, until: EntryId) -> None:
        """Discard the wake-ups up to an id when they are read."""
        ...


class OrderQueue:
    """The orders that wait for a worker.

    The coroutines wait; all other methods only change memory. The queue alone changes its state.

    Args:
        stream: The wake-ups on Redis.
        clock: Times the checks.
    """

    def __init__(self, stream: WakeUpStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        # Wake-ups for this process's workers, in order and without duplicates.
        self._local: dict[str, None] = {}
        self._closed = False
        self._local_added = asyncio.Event()
        # The sweep's work: at which times to check for due orders, whether the next check enqueues all of
        # them, and the orders whose wake-up was consumed here without a claim.
        self._checks: list[float] = []
        self._all_due = False
        self._unclaimed: set[str] = set()
        self._sweep_requested = asyncio.Event()

    async def enqueue(self, order_ids: Iterable[str]) -> None:
        """Have orders executed as soon as a worker is free. Never fails: the sweep sends lost wake-ups."""
        if self._stream.available:
            await self._stream.send(order_ids)
            return
        for order_id in order_ids:
            if self._closed or len(self._local) >= _LOCAL_LIMIT:
                self.requeue(order_id)
            else:
                self._local[order_id] = None
        self._local_added.set()

    def check_after(self, delay_ms: int) -> None:
        """Request a check for due orders after a delay."""
        heapq.heappush(self._checks, self._clock.monotonic() + delay_ms / 1000 + _CLOCK_MARGIN_S)
        self._sweep_requested.set()

    def enqueue_all_due(self) -> None:
        """Request that every due order is enqueued now, because earlier wake-ups may be lost."""
        self._all_due = True
        self._sweep_requested.set()

    def requeue(self, order_id: str) -> None:
        """Have the next sweep enqueue an order again: its wake-up was consumed without a claim."""
        self._unclaimed.add(order_id)

    async def length(self) -> int | None:
        """Return how many wake-ups no worker has received yet; None if no worker will receive more."""
        length = await self._stream.length()
        if length is not None:
            return length
        return None if self._closed else len(self._local)

    async def last_sent(self) -> EntryId | None:
        """For the sweep: return the id of the latest wake-up on Redis, or None."""
        return await self._stream.last_sent()

    def supersede(self, until: EntryId) -> None:
        """For the sweep: discard the wake-ups up to an id, because each of their orders has a new one."""
        self._stream.supersede(until)

    def pop_local(self) -> str | None:
        """For the receiver: return the next order that is queued in this process, or None."""
        for order_id in self._local:
            del self._local[order_id]
            return order_id
        return None

    async def wait_for_local(self) -> None:
        """For the receiver: wait until an order has been queued in this process."""
        await self._local_added.wait()
        self._local_added.clear()

    def close_local(self) -> None:
        """For the receiver: accept no more local wake-ups, and requeue the queued orders."""
        self._closed = True
        while (order_id := self.pop_local()) is not None:
            self.requeue(order_id)

    @property
    def all_due(self) -> bool:
        """For the sweep: whether its next check must enqueue every due order."""
        return self._all_due

    def pop_all_due(self) -> bool:
        """For the sweep: return whether this check must enqueue every due order; the next one need not."""
        all_due, self._all_due = self._all_due, False
        return all_due

    def check_all_due(self) -> None:
        """For the sweep: have its next check enqueue every due order, without requesting it now."""
        self._all_due = True

    @property
    def unclaimed(self) -> list[str]:
        """For the sweep: the orders whose wake-up was consumed here without a claim."""
        return sorted(self._unclaimed)

    def remove_unclaimed(self, order_ids: Iterable[str]) -> None:
        """For the sweep: remove orders that have been requeued in PostgreSQL."""
        self._unclaimed.difference_update(order_ids)

    def request_sweep(self) -> None:
        """Request that the sweep runs now."""
        self._sweep_requested.set()

    async def wait_until(self, at: float) -> None:
        """For the sweep: wait until a time, the next check or a request, whichever comes first."""
        at = min([at, *self._checks[:1]])
        try:
            async with asyncio.timeout(max(0, at - self._clock.monotonic())):
                await self._sweep_requested.wait()
        except TimeoutError:
            pass
        self._sweep_requested.clear()

    def pop_checks(self, now: float) -> bool:
        """For the sweep: remove the checks that are due; return whether there were any."""
        due = False
        while self._checks and self._checks[0] <= now:
            heapq.heappop(self._checks)
            due = True
        return due
