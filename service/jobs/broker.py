"""The taskiq broker: a Redis stream of wake-ups.

A message says "look at this order" and nothing else. It may be lost, doubled or late: whether there is
anything to do is decided in PostgreSQL.
"""

import logging
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq.message import BrokerMessage
from taskiq_redis import RedisStreamBroker

from service import crash_points
from service.events.redis_link import REDIS_AWAY, RedisLink, connect

# Wake-ups that nobody reads need not pile up: the sweep sends them again.
_LONGEST_STREAM = 100_000

GROUP = "workers"

log = logging.getLogger(__name__)


class WakeUpBroker(RedisStreamBroker):
    """taskiq's stream broker, with its messages sent in the link's pipelines.

    taskiq-redis sends each message and each acknowledgement in a round trip of its own; see also
    ``receiver`` for why its ``listen`` is not used.
    """

    def __init__(self, link: RedisLink, *, stream: str) -> None:
        super().__init__(link.url, queue_name=stream, consumer_group_name=GROUP)
        self._link = link
        self._on_group_lost: list[Callable[[], None]] = []

    def on_group_lost(self, callback: Callable[[], None]) -> None:
        """Call back when the stream is found gone: with it went the wake-ups that were on their way."""
        self._on_group_lost.append(callback)

    async def length(self) -> int | None:
        """Return how many wake-ups nobody has taken yet; None when Redis is away."""
        if not self._link.available:
            return None
        return await self._link.ask("XLEN", self.queue_name)

    async def startup(self) -> None:
        """Do nothing: the receiver creates the stream's group, and again whenever it is gone."""

    async def kick(self, message: BrokerMessage) -> None:
        """Send a wake-up, without waiting for Redis."""
        self._link.send(
            "XADD", self.queue_name, "MAXLEN", "~", str(_LONGEST_STREAM), "*", "data", message.message
        )

    def acknowledge(self, entry_id: bytes) -> None:
        """Take an entry off the stream: the group's note of it, and the entry."""
        crash_points.reach("before acknowledge")
        self._link.send("XACK", self.queue_name, GROUP, entry_id)
        self._link.send("XDEL", self.queue_name, entry_id)
        crash_points.reach("after acknowledge")

    async def create_group(self) -> None:
        """Create the stream and its group, if they do not exist."""
        client = connect(self._link.url)
        try:
            # From 0: a wake-up that was sent before the group existed counts too.
            await client.xgroup_create(self.queue_name, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        finally:
            await client.aclose()
        for callback in self._on_group_lost:
            callback()

    async def remove_consumers(self, *, idle_ms: int = 0, name: str | None = None) -> None:
        """Remove the group's consumers that have not read for a while, or one of a name.

        What they had read and not acknowledged goes with them: it was a wake-up, and nobody will read
        it again.
        """
        client = connect(self._link.url)
        try:
            for consumer in await client.xinfo_consumers(self.queue_name, GROUP):
                if consumer["name"].decode() == name or (name is None and consumer["idle"] > idle_ms):
                    await self._remove_consumer(client, consumer["name"], consumer["pending"])
        except REDIS_AWAY as error:
            log.debug("consumers are removed another time (%s)", error)
        finally:
            await client.aclose()

    async def _remove_consumer(self, client: Redis, name: bytes, pending: int) -> None:
        if pending:
            entries = await client.xpending_range(self.queue_name, GROUP, "-", "+", pending, name)
            await client.xdel(self.queue_name, *(entry["message_id"] for entry in entries))
        await client.xgroup_delconsumer(self.queue_name, GROUP, name)
