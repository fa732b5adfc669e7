"""The taskiq broker: a Redis stream of wake-ups.

A message only names an order to check. It may be lost, duplicated or late: PostgreSQL decides whether there
is anything to do.
"""

import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq.kicker import AsyncKicker
from taskiq.message import BrokerMessage
from taskiq_redis import RedisStreamBroker

from service import crash_points
from service.execution.order_queue import EntryId
from service.postgres.deployment import Deployment
from service.redis.link import REDIS_ERRORS, RedisLink, connect

TASK_NAME = "execute_order"
"""The task that every wake-up runs; its only argument is the order's id."""

# Unread wake-ups need not accumulate: the sweep sends them again.
_STREAM_LIMIT = "100000"
_PENDING_LIMIT = 1_000
# So many entries are read, and their jobs begun, without giving up the event loop.
_PAGE = 100

_GROUP = "workers"
_NEW = ">"
_NOT_ACKNOWLEDGED = "0"

Entries = list[tuple[bytes, dict[bytes, bytes]]]
_Page = list[tuple[bytes, dict[bytes, bytes] | None]]
"""Entries of the stream; one that was deleted has no fields."""

log = logging.getLogger(__name__)


class WakeUpBroker(RedisStreamBroker):
    """taskiq's stream broker, which sends its messages in the link's pipelines.

    taskiq-redis sends each message and each acknowledgement in a separate round trip; ``receiver`` explains
    why its ``listen`` is not used.

    Args:
        link: The connection to Redis; usable only while a wake-up can be sent, read and acknowledged.
        deployment: The wake-ups' deployment; its id must be read before the first is sent.
        consumer: This process's name in the consumer group.
    """

    def __init__(self, link: RedisLink, deployment: Deployment, *, consumer: str) -> None:
        super().__init__(link.url, queue_name="wake-ups", consumer_group_name=_GROUP)
        self._kicker = AsyncKicker[[str], None](TASK_NAME, self, {})
        self._link = link
        self._deployment = deployment
        self._consumer = consumer
        self._superseded: EntryId | None = None
        link.require(self._probe)
        link.on_change(self._keep_all)

    @property
    def stream(self) -> str:
        """The stream's key."""
        return self._deployment.name(self.queue_name)

    @property
    def available(self) -> bool:
        """Whether wake-ups can be sent now."""
        return self._link.available

    async def send(self, order_ids: Iterable[str]) -> None:
        """Send a wake-up for each order, without waiting for Redis."""
        for order_id in order_ids:
            await self._kicker.kiq(order_id)

    async def length(self) -> int | None:
        """Return how many wake-ups no process has read yet; None while Redis is unavailable.

        Those that a process has read do not count: it has begun their jobs, or it has died, or their
        acknowledgements were lost.
        """
        answers = await self._link.ask(("XLEN", self.stream), ("XPENDING", self.stream, _GROUP))
        if answers is None:
            return None
        length, read = answers
        return max(0, int(length) - int(read["pending"]))

    async def last_sent(self) -> EntryId | None:
        """Return the id of the latest wake-up that was ever sent; None while Redis is unavailable."""
        answers = await self._link.ask(("XINFO STREAM", self.stream))
        return None if answers is None else _entry_id(answers[0]["last-generated-id"])

    def supersede(self, until: EntryId) -> None:
        """Discard the wake-ups up to an id when they are read: each of their orders has a new one."""
        self._superseded = until

    async def startup(self) -> None:
        """Do nothing: the stream and its group are created whenever Redis becomes usable."""

    async def kick(self, message: BrokerMessage) -> None:
        """Send a wake-up, without waiting for Redis."""
        self._link.send(*self._adding("data", message.message))

    def acknowledge(self, entry_id: bytes) -> None:
        """Acknowledge an entry to the group, and delete it from the stream."""
        crash_points.reach("before acknowledge")
        self._link.send("XACK", self.stream, _GROUP, entry_id)
        self._link.send("XDEL", self.stream, entry_id)
        crash_points.reach("after acknowledge")

    async def read(self, client: Redis, count: int, *, block_ms: int) -> Entries:
        """Wait for wake-ups that no process has read, and return up to ``count``, or a page."""
        return self._wake_ups(await self._page(client, _NEW, min(count, _PAGE), "BLOCK", block_ms))

    async def read_again(self, client: Redis) -> AsyncIterator[Entries]:
        """Iterate over the wake-ups that were sent to this process and not acknowledged, page by page.

        They may not have arrived. With them come those whose acknowledgements were lost, so there can be any
        number.
        """
        after: str | bytes = _NOT_ACKNOWLEDGED
        while page := await self._page(client, after, _PAGE):
            yield self._wake_ups(page)
            after = page[-1][0]

    async def leave(self) -> None:
        """Leave the consumer group, and resend the wake-ups that this process has not acknowledged."""
        if not self._link.available:
            return
        client = connect(self._link.url)
        try:
            async with client.pipeline(transaction=False) as pipeline:
                async for page in self.read_again(client):
                    for entry_id, fields in page:
                        pipeline.execute_command(*self._adding("data", fields[b"data"]))
                        pipeline.execute_command("XACK", self.stream, _GROUP, entry_id)
                        pipeline.execute_command("XDEL", self.stream, entry_id)
                pipeline.execute_command("XGROUP", "DELCONSUMER", self.stream, _GROUP, self._consumer)
                await pipeline.execute()
        except REDIS_ERRORS as error:
            log.debug("cannot resend unacknowledged wake-ups (%s)", error)
        finally:
            await client.aclose()

    async def claim_lost(self, client: Redis, count: int, *, idle_ms: int) -> int:
        """Claim wake-ups that were sent to a process which did not begin their jobs, for ``read_again``.

        It has died, or they did not arrive.

        Args:
            client: The client to use.
            count: The maximum to claim. More would be claimed again, also by others, before they begin.
            idle_ms: The minimum time since they were sent.

        Returns:
            How many were claimed.
        """
        sent: list[Any] = await client.xpending_range(self.stream, _GROUP, "-", "+", _PENDING_LIMIT)
        lost = [entry["message_id"] for entry in sent if entry["time_since_delivered"] >= idle_ms]
        if lost:
            await client.xclaim(self.stream, _GROUP, self._consumer, idle_ms, lost[:count], justid=True)
        return len(lost[:count])

    async def remove_dead_consumers(self, client: Redis, *, idle_ms: int) -> None:
        """Remove consumers that were idle for longer than ``idle_ms`` and have no unacknowledged wake-ups."""
        for consumer in await client.xinfo_consumers(self.stream, _GROUP):
            if consumer["idle"] > idle_ms and not consumer["pending"]:
                await client.xgroup_delconsumer(self.stream, _GROUP, consumer["name"])

    def _keep_all(self) -> None:
        # Ids come from the server's clock: on another server those of new wake-ups may be smaller.
        self._superseded = None

    async def _probe(self, client: Redis) -> None:
        """Check that a wake-up can be sent, read and acknowledged; create the stream and its group."""
        try:
            # From 0, to include wake-ups that were sent before the group existed.
            await client.xgroup_create(self.stream, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        else:
            if self._link.available:
                # Unread wake-ups were lost with the stream: handle this like any other loss of Redis.
                raise ConnectionError("the stream of wake-ups was lost")
        # A consumer that reads the probe discards it: it has no "data".
        entry_id = await client.execute_command(*self._adding("probe", ""))  # type: ignore[no-untyped-call]
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("XLEN", self.stream)
            pipeline.execute_command(*self._reading(_NOT_ACKNOWLEDGED, 1))
            pipeline.execute_command("XACK", self.stream, _GROUP, entry_id)
            pipeline.execute_command("XDEL", self.stream, entry_id)
            await pipeline.execute()

    async def _page(self, client: Redis, after: str | bytes, count: int, *options: str | int) -> _Page:
        streams: list[tuple[bytes, _Page]] | None = await client.execute_command(  # type: ignore[no-untyped-call]
            *self._reading(after, count, *options)
        )
        return streams[0][1] if streams else []

    def _wake_ups(self, page: _Page) -> Entries:
        """Return the wake-ups of a page, and acknowledge its other entries."""
        wake_ups: Entries = []
        for entry_id, fields in page:
            superseded = self._superseded is not None and _entry_id(entry_id) <= self._superseded
            if fields and b"data" in fields and not superseded and self._is_ours(fields):
                wake_ups.append((entry_id, fields))
            else:
                self.acknowledge(entry_id)
        return wake_ups

    def _is_ours(self, fields: dict[bytes, bytes]) -> bool:
        if fields.get(b"deployment") == self._deployment.id.encode():
            return True
        log.warning("ignored a wake-up of another deployment", extra={"fault": "stranger"})
        return False

    def _adding(self, field: str, value: str | bytes) -> tuple[str | bytes, ...]:
        of = ("deployment", self._deployment.id)
        return ("XADD", self.stream, "MAXLEN", "~", _STREAM_LIMIT, "*", *of, field, value)

    def _reading(self, which: str | bytes, count: int, *options: str | int) -> tuple[str | bytes | int, ...]:
        command = ("XREADGROUP", "GROUP", _GROUP, self._consumer)
        return (*command, "COUNT", count, *options, "STREAMS", self.stream, which)


def _entry_id(text: bytes) -> EntryId:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)
