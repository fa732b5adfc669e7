"""Takes wake-ups and runs their jobs, never more at once than the concurrency.

They come from the stream, or, while Redis is away, straight from those who would have sent them. taskiq's own
receive loop reads a hundred messages ahead, spins when Redis is away, dies when Redis comes back empty, and
cannot be drained; this one reads what it can run, waits and drains. What a job is and how it is run stays
taskiq's: ``Receiver.callback``.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from taskiq import AckableMessage
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver

from service.background import Background, cancel
from service.clock import Clock
from service.redis.link import RedisLink
from service.workers.broker import Entries, WakeUpBroker

log = logging.getLogger(__name__)

_BLOCK_MS = 2_000
_ANSWER_TIMEOUT_S = _BLOCK_MS / 1000 + 3
# A consumer that lives begins whatever it reads at once, and reads, or waits to read, every _BLOCK_MS.
_LOST_AFTER_MS = 5_000
_DEAD_AFTER_MS = 60_000
_LOOK_FOR_LOST_EVERY_S = 5.0
# More are found in PostgreSQL when there is room again.
_MOST_TOLD = 5_000

Execute = Callable[[str], Awaitable[None]]
"""Works on the order of an id, if there is anything to do."""


class JobReceiver:
    """Runs jobs on this event loop.

    Args:
        broker: Whose jobs.
        link: Where Redis is.
        clock: Paces the reader.
        execute: What a job is, for orders that Redis did not tell of.
        put_back: Has an order woken again that was not taken up here.
        concurrency: How many jobs run at once.
    """

    def __init__(
        self,
        broker: WakeUpBroker,
        link: RedisLink,
        clock: Clock,
        *,
        execute: Execute,
        put_back: Callable[[str], None],
        concurrency: int,
    ) -> None:
        self._broker = broker
        self._link = link
        self._clock = clock
        self._execute = execute
        self._put_back = put_back
        self._concurrency = concurrency
        # A wake-up is spent when its job begins: from here on the order's owner is in PostgreSQL.
        self._runner = Receiver(
            broker,
            max_async_tasks=concurrency,
            run_startup=False,
            ack_type=AcknowledgeType.WHEN_RECEIVED,
        )
        self._open = self._stopping = False
        self._jobs: set[asyncio.Task[None]] = set()
        # What waits for a free slot: read from the stream, and told of without Redis.
        self._read: deque[AckableMessage] = deque()
        self._told: dict[str, None] = {}
        self._slot_free = asyncio.Event()
        self._reader = Background("job receiver", self._read_for_ever, clock)

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return len(self._jobs)

    async def waiting(self) -> int | None:
        """Return how many wake-ups nobody works on yet; None when there is nobody to be told of more."""
        length = await self._broker.length()
        if length is not None:
            return length
        return None if self._stopping else len(self._told)

    def start(self) -> None:
        """Begin to take jobs."""
        self._open = True
        self._reader.start()
        self._begin_jobs()

    async def stop(self, grace_s: float) -> None:
        """Take no more jobs, and wait for those that run, but no longer than the grace.

        What was not begun is for other processes. A job that is left behind is cancelled: its order stands
        at a durable step, and another process or the next start goes on from there.
        """
        self._stopping = True
        await self._reader.stop()
        self._read.clear()
        told, self._told = self._told, {}
        for order_id in told:
            self._put_back(order_id)
        await self._broker.leave()
        if self._jobs:
            _done, left = await asyncio.wait(self._jobs, timeout=grace_s)
            if left:
                log.warning("%d orders go on after the next start", len(left))
                await cancel(left)

    def take(self, order_ids: Iterable[str]) -> None:
        """Work on orders here, as soon as there is a free slot: Redis is away."""
        for order_id in order_ids:
            if self._stopping or len(self._told) >= _MOST_TOLD:
                self._put_back(order_id)
            else:
                self._told[order_id] = None
        self._begin_jobs()

    async def _read_for_ever(self) -> None:
        while True:
            await self._link.usable()
            await self._link.hold(self._read_on, at_least_s=_ANSWER_TIMEOUT_S)

    async def _read_on(self, client: Redis) -> None:
        """Read as many wake-ups as there are free slots, waiting for both."""
        # What was sent on a connection that then broke may never have arrived.
        self._take_entries(await self._broker.read_again(client))
        next_look = self._clock.monotonic()
        while True:
            free = self._concurrency - len(self._jobs) - len(self._read)
            if free <= 0:
                self._slot_free.clear()
                await self._slot_free.wait()
            elif self._clock.monotonic() >= next_look:
                next_look = self._clock.monotonic() + _LOOK_FOR_LOST_EVERY_S
                self._take_entries(await self._broker.claim_lost(client, free, idle_ms=_LOST_AFTER_MS))
                await self._broker.remove_dead_consumers(client, idle_ms=_DEAD_AFTER_MS)
            else:
                self._take_entries(await self._broker.read(client, free, block_ms=_BLOCK_MS))

    def _take_entries(self, entries: Entries) -> None:
        for entry_id, fields in entries:
            acknowledge = functools.partial(self._broker.acknowledge, entry_id)
            self._read.append(AckableMessage(data=fields[b"data"], ack=acknowledge))
        self._begin_jobs()

    def _begin_jobs(self) -> None:
        while self._open and len(self._jobs) < self._concurrency:
            if self._read:
                self._begin(self._runner.callback(self._read.popleft()))
            elif self._told:
                self._begin(self._work_on(self._next_told()))
            else:
                return

    def _next_told(self) -> str:
        order_id = next(iter(self._told))
        del self._told[order_id]
        return order_id

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.create_task(work, name="job")
        self._jobs.add(job)
        job.add_done_callback(self._done)

    async def _work_on(self, order_id: str) -> None:
        with suppress(asyncio.CancelledError):
            await self._execute(order_id)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("a job broke", exc_info=error)
        self._begin_jobs()
        self._slot_free.set()
