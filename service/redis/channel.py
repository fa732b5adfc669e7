"""A Redis channel shared by all instances of a deployment, which reconnects after every outage of Redis.

A message begins with the ids of its deployment and instance. Messages of other deployments and of this
instance are dropped.
"""

import asyncio
import logging
from collections.abc import Callable

from redis.asyncio import Redis

from service.background import Background
from service.clock import Clock
from service.postgres.deployment import Deployment
from service.redis.link import REDIS_ERRORS, RedisLink

log = logging.getLogger(__name__)

_PAUSE_S = 0.25
_POLL_S = 5.0
_ID = 36
# The engine's messages are JSON, so none begins like this.
_PROBE = b"probe "


def _do_nothing() -> None:
    pass


def _fail(future: "asyncio.Future[None]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as retrieved: there may be no waiter


class Channel:
    """Publishes this instance's messages, and receives those of the others.

    Args:
        link: The connection to Redis; it counts as usable only while messages published here come back.
        deployment: The channel's deployment.
        what: The channel's name within it.
        clock: Times reconnecting.
        sender: This instance's id on the channel, a UUID.
        receive: Called with each message; must not block or raise.
        on_subscribed: Called after each subscription: earlier messages were missed.
    """

    def __init__(
        self,
        link: RedisLink,
        deployment: Deployment,
        what: str,
        clock: Clock,
        *,
        sender: str,
        receive: Callable[[bytes], None],
        on_subscribed: Callable[[], None] = _do_nothing,
    ) -> None:
        self._link = link
        self._deployment = deployment
        self._what = what
        self._clock = clock
        self._sender = sender.encode()
        self._receive = receive
        self._on_subscribed = on_subscribed
        # Done once subscribed; failed if the subscription failed.
        self._subscribed: asyncio.Future[None] | None = None
        self._probes: dict[bytes, asyncio.Future[None]] = {}
        self._listener = Background(f"channel {what}", self._listen_forever, clock)

    def start(self) -> None:
        """Begin to listen, once; the deployment's id must have been read."""
        # Not before: the probe of a channel that never starts would never succeed.
        self._link.require(self._probe)
        self._listener.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._listener.stop()

    def publish(self, message: bytes) -> None:
        """Send a message to the other instances. Never blocks; the message may be lost."""
        self._link.send("PUBLISH", self._name, self._head + message)

    def handle(self, data: bytes) -> None:
        """Handle a message from the channel."""
        deployment, sender, message = data[:_ID], data[_ID : 2 * _ID], data[2 * _ID :]
        if deployment != self._deployment.id.encode():
            log.warning(
                "channel %s: dropped a message of another deployment", self._what, extra={"fault": "stranger"}
            )
        elif sender == self._sender:
            returned = self._probes.get(message)
            if returned is not None and not returned.done():
                returned.set_result(None)
        elif not message.startswith(_PROBE):
            self._receive(message)

    @property
    def _name(self) -> str:
        return self._deployment.name(self._what)

    @property
    def _head(self) -> bytes:
        return self._deployment.id.encode() + self._sender

    async def _probe(self, client: Redis) -> None:
        """Check that a published message comes back."""
        await asyncio.shield(self._subscription())
        message = _PROBE + self._clock.new_write_id().encode()
        returned = self._probes[message] = asyncio.get_running_loop().create_future()
        try:
            await client.publish(self._name, self._head + message)
            await returned
        finally:
            del self._probes[message]

    def _subscription(self) -> "asyncio.Future[None]":
        if self._subscribed is None:
            self._subscribed = asyncio.get_running_loop().create_future()
        return self._subscribed

    async def _listen_forever(self) -> None:
        while True:
            await self._link.run_connected(self._listen)
            await self._clock.sleep(_PAUSE_S)

    async def _listen(self, client: Redis) -> None:
        if self._subscription().done():
            self._subscribed = None
        try:
            await self._listen_on(client)
        except REDIS_ERRORS as error:
            _fail(self._subscription(), error)
            raise
        finally:
            if self._subscription().done() and not self._subscription().exception():
                self._subscribed = None
            for returned in self._probes.values():
                _fail(returned, ConnectionError("the subscription has ended"))

    async def _listen_on(self, client: Redis) -> None:
        async with client.pubsub() as channel:
            await channel.subscribe(self._name)
            pinged = False
            while True:
                message = await channel.get_message(timeout=_POLL_S)
                if message is not None:
                    pinged = False
                    if message["type"] == "message":
                        self.handle(message["data"])
                    elif message["type"] == "subscribe":
                        if not self._subscription().done():
                            self._subscription().set_result(None)
                        self._on_subscribed()
                elif pinged:
                    # A silently dead connection looks like one without messages.
                    raise TimeoutError("no answer to a ping")
                else:
                    pinged = True
                    await channel.ping()
