"""The connection to Redis: detects whether it is usable, and sends commands in batches without waiting.

Redis only carries wake-ups. Commands that cannot be sent are dropped, because PostgreSQL has all data; so a
slow, absent or unusable Redis delays nothing. Any error response counts as *Redis is unavailable*, whatever
the cause: a replica after a fail-over, no memory, no permission. Its connections are then dropped and opened
again, because its host name may resolve to another server by now, until everything that the engine needs has
been tried and works.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from service.background import Background, cancel
from service.clock import Clock
from service.urls import parse_redis_url

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 1.0
# If Redis is lost again within this time, the pause before the next attempt grows.
_STEADY_AFTER_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 0.5
_CHECK_TIMEOUT_S = 1.0
_LARGEST_PIPELINE = 1_000
_LONGEST_QUEUE = 50_000


# uvloop raises RuntimeError if a connection is reset while it is being written to.
REDIS_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)
"""The errors of redis-py if Redis is unavailable, or its response is malformed."""

Need = Callable[[Redis], Awaitable[None]]
"""Tries an operation that the engine needs, and raises one of ``REDIS_ERRORS`` if it does not work."""


def connect(url: str, *, at_least_s: float = 0) -> Redis:
    """Return a client without automatic retries: the callers retry at their own pace.

    Args:
        url: See ``parse_redis_url``; its options take precedence over the defaults here.
        at_least_s: A lower bound on the response time-out, for blocking commands.
    """
    there = parse_redis_url(url)
    timeout_s = there.parameters.get("socket_timeout")
    parameters: dict[str, object] = {
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        **there.parameters,
        "socket_timeout": max(timeout_s if isinstance(timeout_s, float) else _CONNECT_TIMEOUT_S, at_least_s),
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    pool = ConnectionPool(
        there.connection_class, max_connections=None, maint_notifications_config=None, **parameters
    )
    return Redis.from_pool(pool)


class RedisLink:
    """Tracks whether Redis is usable, and sends the commands of one event loop iteration as one pipeline.

    Args:
        url: With the scheme redis, rediss or unix.
        clock: Times the attempts while Redis is unavailable.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self._clock = clock
        self._client = connect(url)
        self._queue: list[tuple[str | bytes, ...]] = []
        self._sender: asyncio.Task[None] | None = None
        self._needs: list[Need] = []
        self._on_change: list[Callable[[], None]] = []
        self._usable = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()
        self._checked = asyncio.Event()
        self._pause_s = 0.0
        self._back_at = 0.0
        # Tasks with their own connection, clients that are being closed, and the running check.
        self._connected_tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._keeper = Background("redis link", self._reconnect_forever, clock)
        self.error: str | None = "no connection yet"
        """Why Redis cannot be used, as a text; None if it can."""

    @property
    def available(self) -> bool:
        """Whether Redis is usable, as far as is known."""
        return self._usable.is_set()

    def require(self, need: Need) -> None:
        """Add an operation that must work for Redis to count as usable; it has little time."""
        self._needs.append(need)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Register a callback for each time Redis is lost or is back (possibly with no data)."""
        self._on_change.append(callback)

    def start(self) -> None:
        """Begin to use Redis as soon as it is usable."""
        self._keeper.start()

    async def wait_until_checked(self) -> None:
        """Wait, for a limited time, until it is known whether Redis is usable."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await self._checked.wait()
        except TimeoutError:
            pass

    async def wait_until_usable(self) -> None:
        """Wait until Redis is usable."""
        await self._usable.wait()

    def send(self, *command: str | bytes) -> None:
        """Send a command in this event loop iteration's pipeline; drop it if Redis is unavailable."""
        if not self.available:
            return
        if len(self._queue) >= _LONGEST_QUEUE:
            self._mark_lost("the queue of commands is full")
            return
        self._queue.append(command)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="redis commands")

    async def ask(self, *commands: Sequence[str | bytes]) -> list[Any] | None:
        """Return the responses of commands; None if Redis is unavailable or too slow."""
        if not self.available:
            return None
        try:
            # The callers must not wait long: above all the sweep.
            async with (
                asyncio.timeout(_ANSWER_TIMEOUT_S),
                self._client.pipeline(transaction=False) as pipeline,
            ):
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute()
        except REDIS_ERRORS as error:
            self._mark_lost(error)
            return None

    async def check(self) -> str | None:
        """Try everything that the engine needs; return why Redis cannot be used, or None."""
        if self.available:
            if self._checking is None or self._checking.done():
                self._checking = asyncio.create_task(self._check(), name="redis check")
            await asyncio.wait([self._checking])
        return self.error

    async def run_connected(self, work: Callable[[Redis], Awaitable[None]], *, at_least_s: float = 0) -> None:
        """Run a task on its own connection until it ends or connections are dropped.

        Args:
            work: Called with the client; if it raises one of ``REDIS_ERRORS``, Redis is lost.
            at_least_s: A lower bound on the response time-out.
        """
        client = connect(self.url, at_least_s=at_least_s)
        task: asyncio.Task[None] = asyncio.ensure_future(_guarded(work, client))
        self._connected_tasks.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._connected_tasks.discard(task)
            try:
                await cancel([task])
            finally:
                await client.aclose()
        if task.cancelled():
            return
        try:
            task.result()
        except REDIS_ERRORS as error:
            self._mark_lost(error)

    async def close(self) -> None:
        """Send the queued commands, if Redis is usable, and disconnect."""
        await self._keeper.stop()
        while self._sender is not None and not self._sender.done():
            await asyncio.wait([self._sender])
        tasks = [*self._closing, *([self._checking] if self._checking is not None else [])]
        if tasks:
            await asyncio.wait(tasks)
        await self._client.aclose()

    def _mark_lost(self, error: Exception | str) -> None:
        """Stop using Redis until it is usable again."""
        if not self.available:
            # The cause is already known; users of dropped connections report follow-up errors.
            return
        self._note(error)
        self._usable.clear()
        self._queue.clear()
        steady = self._clock.monotonic() - self._back_at > _STEADY_AFTER_S
        self._pause_s = _FIRST_PAUSE_S if steady else min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._drop_connections()
        self._lost.set()
        for callback in self._on_change:
            callback()

    def _note(self, error: Exception | str) -> None:
        cause = _describe(error)
        if cause != self.error:
            log.warning("Redis is unavailable (%s); continuing without it", cause, extra={"fault": "redis"})
        self.error = cause

    async def _send_all(self) -> None:
        try:
            while self._queue:
                commands, self._queue = self._queue[:_LARGEST_PIPELINE], self._queue[_LARGEST_PIPELINE:]
                pipeline = self._client.pipeline(transaction=False)
                async with asyncio.timeout(_ANSWER_TIMEOUT_S), pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    # Raises the first error response.
                    await pipeline.execute()
        except REDIS_ERRORS as error:
            self._mark_lost(error)
        finally:
            self._sender = None

    async def _check(self) -> None:
        try:
            await self._try_needs(_CHECK_TIMEOUT_S)
        except REDIS_ERRORS as error:
            self._mark_lost(error)

    async def _try_needs(self, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            await self._client.ping()
            for need in self._needs:
                await need(self._client)

    def _drop_connections(self) -> None:
        """Replace all connections: the host name may resolve to another server now."""
        closing = asyncio.create_task(close(self._client), name="redis close")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._client = connect(self.url)
        for task in self._connected_tasks:
            task.cancel()

    async def _reconnect_forever(self) -> None:
        while True:
            await self._lost.wait()
            await self._clock.sleep(self._pause_s)
            try:
                await self._try_needs(_CONNECT_TIMEOUT_S)
            except REDIS_ERRORS as error:
                self._note(error)
                self._drop_connections()
                self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            else:
                self._mark_usable()
            self._checked.set()

    def _mark_usable(self) -> None:
        if self._checked.is_set():
            log.warning("Redis is available again", extra={"fault": "redis back"})
        self.error = None
        self._back_at = self._clock.monotonic()
        self._lost.clear()
        self._usable.set()
        for callback in self._on_change:
            callback()


def _describe(error: Exception | str) -> str:
    """Return the error as one line without secrets: Redis' errors contain none."""
    words = " ".join(str(error).split()) or "no answer in time"
    return f"{type(error).__name__}: {words}" if isinstance(error, ResponseError) else words


async def _guarded(work: Callable[[Redis], Awaitable[None]], client: Redis) -> None:
    await work(client)


async def close(client: Redis) -> None:
    """Close a client's connections; errors of a lost server are expected."""
    try:
        await client.aclose()
    except REDIS_ERRORS as error:
        log.debug("Redis: error while closing a connection (%s)", error)
