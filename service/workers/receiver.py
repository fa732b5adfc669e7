"""Receives wake-ups and runs their jobs, at most ``concurrency`` at the same time.

Wake-ups come from the stream or, while Redis is unavailable, from the order queue's local ones. taskiq's own
receive loop prefetches a hundred messages, spins while Redis is unavailable, dies if Redis loses its data,
and cannot be drained; this one reads only what it can run, waits and drains. taskiq still defines and runs
the jobs: ``Receiver.callback``.
"""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from taskiq import AckableMessage
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver

from service.background import Background, cancel
from service.clock import Clock
from service.execution.order_queue import OrderQueue
from service.redis.link import RedisLink
from service.workers.broker import TASK_NAME, Entries, WakeUpBroker

log = logging.getLogger(__name__)

_BLOCK_MS = 2_000
_ANSWER_TIMEOUT_S = _BLOCK_MS / 1000 + 3
# A live consumer begins everything it reads at once, and reads, or waits to read, every _BLOCK_MS.
_LOST_AFTER_MS = 5_000
_DEAD_AFTER_MS = 60_000
_LOOK_FOR_LOST_EVERY_S = 5.0

Execute = Callable[[str], Awaitable[None]]
"""Executes the order with an id, if there is anything to do."""


class JobReceiver:
    """Runs jobs on this event loop.

    Args:
        broker: Reads the wake-ups.
        link: The connection to Redis.
        clock: Times the reader.
        queue: The wake-ups that are queued in this process.
        execute: Called by each job.
        concurrency: Maximum number of jobs that run at the same time.
    """

    def __init__(
        self,
        broker: WakeUpBroker,
        link: RedisLink,
        clock: Clock,
        queue: OrderQueue,
        *,
        execute: Execute,
        concurrency: int,
    ) -> None:
        self._broker = broker
        self._link = link
        self._clock = clock
        self._queue = queue
        self._execute = execute
        self._concurrency = concurrency

        # A function, because taskiq sets attributes on it, which a method does not allow.
        async def execute_order(order_id: str) -> None:
            await self._execute_order(order_id)

        broker.register_task(execute_order, task_name=TASK_NAME)
        # A wake-up is consumed when its job begins: from then on PostgreSQL holds the order's owner.
        self._runner = Receiver(
            broker,
            max_async_tasks=concurrency,
            run_startup=False,
            ack_type=AcknowledgeType.WHEN_RECEIVED,
        )
        self._open = False
        self._jobs: set[asyncio.Task[None]] = set()
        # Messages that were read from the stream and wait for a free slot.
        self._read: deque[AckableMessage] = deque()
        self._slot_free = asyncio.Event()
        self._reader = Background("job receiver", self._read_forever, clock)
        self._local_reader = Background("local jobs", self._begin_local_forever, clock)

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return len(self._jobs)

    def start(self) -> None:
        """Begin, or resume, to receive wake-ups and to run jobs."""
        self._open = True
        self._reader.start()
        self._local_reader.start()
        self._begin_jobs()

    async def stop_reading(self) -> None:
        """Read no more wake-ups from Redis until ``start``; running jobs and local wake-ups continue."""
        await self._reader.stop()

    async def stop(self, grace_s: float) -> None:
        """Begin no more jobs, and wait up to ``grace_s`` seconds for the running ones.

        Jobs that have not begun are left to other processes. Jobs that outlast the grace are cancelled: their
        orders are at a durable step, from which another process or the next start continues.
        """
        self._queue.close_local()
        await self._local_reader.stop()
        await self.stop_reading()
        self._read.clear()
        await self._broker.leave()
        if self._jobs:
            _done, left = await asyncio.wait(self._jobs, timeout=grace_s)
            if left:
                log.warning("%d orders continue after the next start", len(left))
                await cancel(left)

    async def _read_forever(self) -> None:
        while True:
            await self._link.wait_until_usable()
            await self._link.run_connected(self._read_on, at_least_s=_ANSWER_TIMEOUT_S)

    async def _begin_local_forever(self) -> None:
        while True:
            self._begin_jobs()
            await self._queue.wait_for_local()

    async def _read_on(self, client: Redis) -> None:
        """Read as many wake-ups as there are free slots, and wait for both."""
        # Wake-ups sent on a broken connection may never have arrived.
        await self._read_again(client)
        next_look = self._clock.monotonic()
        while True:
            free = self._concurrency - len(self._jobs) - len(self._read)
            if free <= 0:
                self._slot_free.clear()
                await self._slot_free.wait()
            elif self._clock.monotonic() >= next_look:
                claimed = await self._broker.claim_lost(client, free, idle_ms=_LOST_AFTER_MS)
                if claimed:
                    await self._read_again(client)
                if claimed < free:
                    next_look = self._clock.monotonic() + _LOOK_FOR_LOST_EVERY_S
                    await self._broker.remove_dead_consumers(client, idle_ms=_DEAD_AFTER_MS)
            else:
                self._add_entries(await self._broker.read(client, free, block_ms=_BLOCK_MS))

    async def _read_again(self, client: Redis) -> None:
        async for entries in self._broker.read_again(client):
            self._add_entries(entries)

    def _add_entries(self, entries: Entries) -> None:
        for entry_id, fields in entries:
            acknowledge = functools.partial(self._broker.acknowledge, entry_id)
            self._read.append(AckableMessage(data=fields[b"data"], ack=acknowledge))
        self._begin_jobs()

    def _begin_jobs(self) -> None:
        while self._open and len(self._jobs) < self._concurrency:
            if self._read:
                self._begin(self._runner.callback(self._read.popleft()))
            elif (order_id := self._queue.pop_local()) is not None:
                self._begin(self._execute_order(order_id))
            else:
                return

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.create_task(work, name="job")
        self._jobs.add(job)
        job.add_done_callback(self._done)

    async def _execute_order(self, order_id: str) -> None:
        # Jobs are cancelled when the service stops; taskiq would log that as an error.
        with suppress(asyncio.CancelledError):
            await self._execute(order_id)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("a job failed", exc_info=error)
        self._begin_jobs()
        self._slot_free.set()
