"""The taskiq broker: a Redis stream of wake-ups.

A message says "look at this order" and nothing else. It may be lost, doubled or late: whether there is
anything to do is decided in PostgreSQL.
"""

from redis.exceptions import ResponseError
from taskiq.message import BrokerMessage
from taskiq_redis import RedisStreamBroker

from service.events.redis_link import RedisLink, connect

# Wake-ups that nobody reads need not pile up: the sweep sends them again.
_LONGEST_STREAM = 100_000

GROUP = "workers"


class WakeUpBroker(RedisStreamBroker):
    """taskiq's stream broker, with its messages sent in the link's pipelines.

    taskiq-redis sends each message and each acknowledgement in a round trip of its own; see also
    ``receiver`` for why its ``listen`` is not used.
    """

    def __init__(self, link: RedisLink, *, stream: str) -> None:
        super().__init__(link.url, queue_name=stream, consumer_group_name=GROUP)
        self._link = link

    async def startup(self) -> None:
        """Do nothing: the receiver creates the stream's group, and again whenever it is gone."""

    async def kick(self, message: BrokerMessage) -> None:
        """Send a wake-up, without waiting for Redis."""
        self._link.send(
            "XADD", self.queue_name, "MAXLEN", "~", str(_LONGEST_STREAM), "*", "data", message.message
        )

    def acknowledge(self, entry_id: bytes) -> None:
        """Take an entry off the stream: the group's note of it, and the entry."""
        self._link.send("XACK", self.queue_name, GROUP, entry_id)
        self._link.send("XDEL", self.queue_name, entry_id)

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
