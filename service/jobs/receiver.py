"""Takes wake-ups from the stream and runs their jobs, never more at once than the concurrency.

taskiq's own receive loop reads a hundred messages ahead, spins when Redis is away, dies when Redis comes
back empty, and cannot be drained; this one reads what it can run, waits, creates the group again and
drains. What a job is and how it is run stays taskiq's: ``Receiver.callback``.
"""

import asyncio
import functools
import logging

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq import AckableMessage
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver

from service.background import Background, cancel
from service.clock import Clock
from service.events.redis_link import REDIS_AWAY, RedisLink, connect
from service.jobs.broker import GROUP, WakeUpBroker

log = logging.getLogger(__name__)

_BLOCK_MS = 2_000
_ANSWER_TIMEOUT_S = _BLOCK_MS / 1000 + 3
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
# A consumer that lives reads, or waits to read, every _BLOCK_MS.
_DEAD_AFTER_MS = 60_000

_Entries = list[tuple[bytes, dict[bytes, bytes]]]
_Streams = list[tuple[bytes, _Entries]] | None


class JobReceiver:
    """Runs jobs on this event loop.

    Args:
        broker: whose jobs.
        link: where Redis is.
        clock: paces reading while Redis is away.
        consumer: this process's name in the stream's group.
        concurrency: how many jobs run at once.
    """

    def __init__(
        self, broker: WakeUpBroker, link: RedisLink, clock: Clock, *, consumer: str, concurrency: int
    ) -> None:
        self._broker = broker
        self._link = link
        self._clock = clock
        self._consumer = consumer
        self._concurrency = concurrency
        # A wake-up is spent when it is received: from here on the order's owner is in PostgreSQL.
        self._runner = Receiver(
            broker,
            max_async_tasks=concurrency,
            run_startup=False,
            ack_type=AcknowledgeType.WHEN_RECEIVED,
        )
        self._jobs: set[asyncio.Task[None]] = set()
        self._slot_free = asyncio.Event()
        self._reader = Background("job receiver", self._read_for_ever, clock)

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return len(self._jobs)

    def start(self) -> None:
        """Begin to take jobs."""
        self._reader.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more jobs, and wait for those that run, but no longer than the grace.

        A job that is left behind is cancelled: its order stands at a durable step, and another process
        or the next start goes on from there.
        """
        await self._reader.stop()
        await self._broker.remove_consumers(name=self._consumer)
        if self._jobs:
            _done, left = await asyncio.wait(self._jobs, timeout=grace_s)
            if left:
                log.warning("%d orders go on after the next start", len(left))
                await cancel(left)

    async def _read_for_ever(self) -> None:
        pause_s = _FIRST_PAUSE_S
        client = connect(self._link.url, at_least_s=_ANSWER_TIMEOUT_S)
        try:
            await self._broker.remove_consumers(idle_ms=_DEAD_AFTER_MS)
            while True:
                try:
                    await self._read(client)
                    pause_s = _FIRST_PAUSE_S
                except ResponseError as error:
                    await self._restore_group(error)
                    await self._clock.sleep(pause_s)
                except REDIS_AWAY as error:
                    log.debug("job receiver: redis is away (%s)", error)
                    await self._clock.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            await client.aclose()

    async def _restore_group(self, error: ResponseError) -> None:
        if "NOGROUP" not in str(error):
            log.warning("job receiver: %s", error)
            return
        try:
            await self._broker.create_group()
        except REDIS_AWAY as again:
            log.debug("job receiver: the group could not be created (%s)", again)

    async def _read(self, client: Redis) -> None:
        """Read as many wake-ups as there are free slots, waiting for both."""
        free = self._concurrency - len(self._jobs)
        if free <= 0:
            self._slot_free.clear()
            await self._slot_free.wait()
            return
        streams: _Streams = await client.execute_command(  # type: ignore[no-untyped-call]
            *("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", free, "BLOCK", _BLOCK_MS),
            *("STREAMS", self._broker.queue_name, ">"),
        )
        for _stream, entries in streams or ():
            self._run(entries)

    def _run(self, entries: _Entries) -> None:
        for entry_id, fields in entries:
            message = AckableMessage(
                data=fields.get(b"data", b""), ack=functools.partial(self._broker.acknowledge, entry_id)
            )
            job = asyncio.create_task(self._runner.callback(message), name="job")
            self._jobs.add(job)
            job.add_done_callback(self._done)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        self._slot_free.set()
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("a job broke", exc_info=error)
