"""Listening to a Redis channel for as long as the service runs, through every outage of Redis."""

import logging
from collections.abc import Awaitable, Callable

from service.background import Background
from service.clock import Clock
from service.events.redis_link import REDIS_AWAY, connect

log = logging.getLogger(__name__)

_PAUSE_WHILE_AWAY_S = 0.5
_POLL_S = 5.0


class Subscription:
    """Hands on every message of one channel.

    Args:
        url: redis, rediss or unix.
        channel: the channel's name.
        clock: paces reconnecting.
        receive: takes a message; must not wait, and must not fail.
        catch_up: awaited after each subscribing: what was published before it was not heard.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        clock: Clock,
        *,
        receive: Callable[[bytes], None],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._url = url
        self._channel = channel
        self._clock = clock
        self._receive = receive
        self._catch_up = catch_up
        self._listener = Background(f"channel {channel}", self._listen_for_ever, clock)

    def start(self) -> None:
        """Begin to listen."""
        self._listener.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._listener.stop()

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except REDIS_AWAY as error:
                log.debug("channel %s: redis is away (%s)", self._channel, error)
            await self._clock.sleep(_PAUSE_WHILE_AWAY_S)

    async def _listen(self) -> None:
        client = connect(self._url)
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(self._channel)
                await self._catch_up()
                asked = False
                while True:
                    message = await channel.get_message(timeout=_POLL_S)
                    if message is not None:
                        asked = False
                        if message["type"] == "message":
                            self._receive(message["data"])
                    elif asked:
                        # A connection that has died without a word looks like one on which nothing is said.
                        raise TimeoutError("no answer to a ping")
                    else:
                        asked = True
                        await channel.ping()
        finally:
            await client.aclose()
