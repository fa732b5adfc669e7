"""The order queue: which orders are to be worked on, and when.

A wake-up says "look at this order". Wake-ups on Redis are for the workers of any instance; while Redis is
away they wait here, for this process's own workers. What only PostgreSQL knows is noted for the sweep: when
to check for due orders, that all of them are to be enqueued, and which wake-ups were spent in vain.
"""

import asyncio
import heapq
from collections.abc import Iterable
from typing import Protocol

from service.clock import Clock

# More are found in PostgreSQL when there is room again.
_LOCAL_LIMIT = 5_000
# A timer on this machine and a due time on PostgreSQL's clock may disagree by so much.
_CLOCK_MARGIN_S = 0.005


class WakeUpStream(Protocol):
    """The wake-ups on Redis, which any instance's workers take."""

    @property
    def available(self) -> bool:
        """Whether wake-ups can be sent now."""
        ...

    async def send(self, order_ids: Iterable[str]) -> None:
        """Send wake-ups. Never fails: one that is lost is sent again by the sweep."""
        ...

    async def length(self) -> int | None:
        """Return how many wake-ups no worker has taken yet; None while Redis is away."""
        ...


class OrderQueue:
    """Orders that wait for a worker. Whatever finds that an order needs work says so here.

    Everything but ``enqueue`` and ``length`` only takes a note and returns at once.

    Args:
        stream: The wake-ups on Redis.
        clock: When checks are due.
    """

    def __init__(self, stream: WakeUpStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        # Wake-ups for this process's workers, in order and each once.
        self._local: dict[str, None] = {}
        self._closed = False
        self._checks: list[float] = []
        self.local_added = asyncio.Event()
        """For the receiver: set when a wake-up for this process's workers has been added."""
        self.requested = asyncio.Event()
        """For the sweep: set when it has something to do before its next time."""
        self.all_due_requested = False
        """For the sweep: whether every due order is to be enqueued with the next check."""
        self.spent: set[str] = set()
        """For the sweep: orders whose wake-up was spent here, and that were not claimed."""

    async def enqueue(self, order_ids: Iterable[str]) -> None:
        """Have orders worked on as soon as a worker is free. Never fails: the sweep repairs a loss."""
        if self._stream.available:
            await self._stream.send(order_ids)
            return
        for order_id in order_ids:
            if self._closed or len(self._local) >= _LOCAL_LIMIT:
                self.put_back(order_id)
            else:
                self._local[order_id] = None
        self.local_added.set()

    def check_after(self, delay_ms: int) -> None:
        """Look for due orders after a delay."""
        heapq.heappush(self._checks, self._clock.monotonic() + delay_ms / 1000 + _CLOCK_MARGIN_S)
        self.requested.set()

    def enqueue_all_due(self) -> None:
        """Enqueue every due order now: the wake-ups that were on their way may be lost."""
        self.all_due_requested = True
        self.requested.set()

    def put_back(self, order_id: str) -> None:
        """Have an order enqueued again with the next sweep: its wake-up was spent, and it was not claimed."""
        self.spent.add(order_id)

    async def length(self) -> int | None:
        """Return how many wake-ups no worker has taken yet; None when no worker would take more."""
        length = await self._stream.length()
        if length is not None:
            return length
        return None if self._closed else len(self._local)

    def pop_local(self) -> str | None:
        """For the receiver: return the next order of this process's own, if there is one."""
        for order_id in self._local:
            del self._local[order_id]
            return order_id
        return None

    def close_local(self) -> None:
        """For the receiver: this process's workers take no more; what waits for them is put back."""
        self._closed = True
        while (order_id := self.pop_local()) is not None:
            self.put_back(order_id)

    async def wait_until(self, at: float) -> None:
        """For the sweep: wait for a time, the next check or a request, whichever comes first."""
        at = min([at, *self._checks[:1]])
        try:
            async with asyncio.timeout(max(0, at - self._clock.monotonic())):
                await self.requested.wait()
        except TimeoutError:
            pass
        self.requested.clear()

    def pop_checks(self, now: float) -> bool:
        """For the sweep: return whether the time of a check has come."""
        due = False
        while self._checks and self._checks[0] <= now:
            heapq.heappop(self._checks)
            due = True
        return due
