"""The way to Redis: commands that nobody waits for, sent together.

Everything here is a wake-up call. What cannot be sent is dropped, because PostgreSQL knows it all and the
sweep sends it again; so a slow or absent Redis holds up nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from service.background import Background
from service.clock import Clock
from service.urls import parse_redis_url

log = logging.getLogger(__name__)

_PAUSE_WHILE_AWAY_S = 0.25
_ANSWER_TIMEOUT_S = 5.0
_ASK_TIMEOUT_S = 0.5
_LARGEST_PIPELINE = 1_000
_LONGEST_QUEUE = 50_000


# RuntimeError is uvloop's, of a connection that was reset while it was being written to.
REDIS_AWAY = (RedisError, OSError, TimeoutError, RuntimeError)
"""What redis-py raises when Redis is away, or sends what is no answer."""


def connect(url: str, *, at_least_s: float = 0) -> Redis:
    """Return a client that fails at once instead of trying again: every user here has its own pace.

    Args:
        url: see ``parse_redis_url``; its options win over the defaults here.
        at_least_s: how long an answer may take at least, for one who asks Redis to wait.
    """
    parameters: dict[str, Any] = {
        "socket_timeout": _ANSWER_TIMEOUT_S,
        "socket_connect_timeout": _ANSWER_TIMEOUT_S,
        **parse_redis_url(url),
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    parameters["socket_timeout"] = max(parameters["socket_timeout"], at_least_s)
    return Redis.from_pool(ConnectionPool(**parameters))


class RedisLink:
    """Sends commands in pipelines: those of one turn of the event loop together.

    Args:
        url: redis, rediss or unix.
        clock: paces the attempts while Redis is away.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self._client = connect(url)
        self._clock = clock
        self._queue: list[tuple[str | bytes, ...]] = []
        self._sender: asyncio.Task[None] | None = None
        self._probe = Background("redis probe", self._probe_for_ever, clock)
        self._away = asyncio.Event()
        self._on_return: list[Callable[[], None]] = []
        self.available = True
        """Whether the last command got through."""

    def on_return(self, callback: Callable[[], None]) -> None:
        """Call back each time Redis answers again after it was away: it may have forgotten everything."""
        self._on_return.append(callback)

    def send(self, *command: str | bytes) -> None:
        """Send a command at the end of this turn of the loop; forget it if Redis is away."""
        if not self.available or len(self._queue) >= _LONGEST_QUEUE:
            return
        self._queue.append(command)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="redis link")

    def start(self) -> None:
        """Begin to notice when Redis is away and when it is back."""
        self._probe.start()

    async def ask(self, *command: str | bytes) -> int | None:
        """Return Redis' answer to a command that counts; None when it is away, or too slow to wait for."""
        try:
            # Whoever asks has more to do: the sweep, above all, has to say that this process lives.
            async with asyncio.timeout(_ASK_TIMEOUT_S):
                answer = await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except REDIS_AWAY as error:
            self._lost(error)
            return None
        return int(answer)

    async def ping(self) -> bool:
        """Return whether Redis answers."""
        return await self.ask("DBSIZE") is not None

    async def close(self) -> None:
        """Send what waits, if Redis takes it, and disconnect."""
        await self._probe.stop()
        while self._sender is not None and not self._sender.done():
            await asyncio.wait([self._sender])
        await self._client.aclose()

    async def _send_all(self) -> None:
        try:
            while self._queue:
                commands, self._queue = self._queue[:_LARGEST_PIPELINE], self._queue[_LARGEST_PIPELINE:]
                async with self._client.pipeline(transaction=False) as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    for answer in await pipeline.execute(raise_on_error=False):
                        if isinstance(answer, BusyLoadingError):
                            raise answer
                        if isinstance(answer, RedisError):
                            log.debug("redis: %s", answer)
        except REDIS_AWAY as error:
            self._queue.clear()
            self._lost(error)
        finally:
            self._sender = None

    def _lost(self, error: object) -> None:
        if self.available:
            log.warning("redis is away (%s); going on without", error)
            self.available = False
        self._away.set()

    async def _probe_for_ever(self) -> None:
        """Notice when Redis is back."""
        while True:
            await self._away.wait()
            await self._clock.sleep(_PAUSE_WHILE_AWAY_S)
            try:
                await self._client.ping()
            except REDIS_AWAY:
                continue
            self._away.clear()
            log.warning("redis is back")
            self.available = True
            for callback in self._on_return:
                callback()
