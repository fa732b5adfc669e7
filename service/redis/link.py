"""The way to Redis: whether it can be used, and commands that nobody waits for, sent together.

Everything here is a wake-up call. What cannot be sent is dropped, because PostgreSQL knows it all; so a
slow, absent or useless Redis holds up nothing. Any answer that is an error counts as *Redis is away*,
whatever keeps it from being used: a replica after a fail-over, no memory, no permission. Its connections
are then dropped and made anew, because its name may lead elsewhere by now, until all that the engine needs
of it has been tried and works.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

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
# Lost again so soon, it is left alone for longer.
_STEADY_AFTER_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 0.5
_CHECK_TIMEOUT_S = 1.0
_LARGEST_PIPELINE = 1_000
_LONGEST_QUEUE = 50_000


# RuntimeError is uvloop's, of a connection that was reset while it was being written to.
REDIS_AWAY = (RedisError, OSError, TimeoutError, RuntimeError)
"""What redis-py raises when Redis is away, or sends what is no answer."""

Need = Callable[[Redis], Awaitable[None]]
"""Tries something that the engine needs of Redis, and raises one of ``REDIS_AWAY`` when it cannot be had."""


def connect(url: str, *, at_least_s: float = 0) -> Redis:
    """Return a client that fails at once instead of trying again: every user here has its own pace.

    Args:
        url: See ``parse_redis_url``; its options win over the defaults here.
        at_least_s: How long an answer may take at least, for one who asks Redis to wait.
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
    """Knows whether Redis can be used, and sends commands, those of one turn of the event loop together.

    Args:
        url: Of the scheme redis, rediss or unix.
        clock: Paces the attempts while Redis is away.
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
        self._away = asyncio.Event()
        self._away.set()
        self._tried = asyncio.Event()
        self._pause_s = 0.0
        self._back_at = 0.0
        # Tasks that use a connection of their own, clients to be closed, and the check that is going on.
        self._held: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._keeper = Background("redis link", self._win_back_for_ever, clock)
        self.trouble: str | None = "no connection yet"
        """Why Redis cannot be used, for people; None: it can."""

    @property
    def available(self) -> bool:
        """Whether Redis can be used, as far as is known."""
        return self._usable.is_set()

    def needs(self, need: Need) -> None:
        """Use Redis only while something works; it is given a client, and little time."""
        self._needs.append(need)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back each time Redis is lost, and when it is back, which may have forgotten everything."""
        self._on_change.append(callback)

    def start(self) -> None:
        """Begin to use Redis, as soon as it can be."""
        self._keeper.start()

    async def settled(self) -> None:
        """Wait until it is known whether Redis can be used, but not for long."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                await self._tried.wait()
        except TimeoutError:
            pass

    async def usable(self) -> None:
        """Wait until Redis can be used."""
        await self._usable.wait()

    def send(self, *command: str | bytes) -> None:
        """Send a command at the end of this turn of the loop; forget it if Redis is away."""
        if not self.available:
            return
        if len(self._queue) >= _LONGEST_QUEUE:
            self.lost("it takes nothing any more")
            return
        self._queue.append(command)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="redis commands")

    async def ask(self, *command: str | bytes) -> int | None:
        """Return Redis' answer to a command that counts; None when it is away, or too slow to wait for."""
        if not self.available:
            return None
        try:
            # Whoever asks has more to do: the sweep, above all, has to say that this process lives.
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                answer = await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except REDIS_AWAY as error:
            self.lost(error)
            return None
        return int(answer)

    async def check(self) -> str | None:
        """Try all that is needed of Redis; return why it cannot be used, or None."""
        if self.available:
            if self._checking is None or self._checking.done():
                self._checking = asyncio.create_task(self._check(), name="redis check")
            await asyncio.wait([self._checking])
        return self.trouble

    async def hold(self, work: Callable[[Redis], Awaitable[None]], *, at_least_s: float = 0) -> None:
        """Do something on a connection of its own until connections are made anew.

        Args:
            work: Given the client; what it raises of ``REDIS_AWAY`` means that Redis is lost.
            at_least_s: How long an answer may take at least.
        """
        client = connect(self.url, at_least_s=at_least_s)
        task: asyncio.Task[None] = asyncio.ensure_future(_guarded(work, client))
        self._held.add(task)
        try:
            await asyncio.wait([task])
        finally:
            self._held.discard(task)
            await cancel([task])
            await client.aclose()
        if task.cancelled():
            return
        try:
            task.result()
        except REDIS_AWAY as error:
            self.lost(error)

    def lost(self, error: Exception | str) -> None:
        """Do without Redis, from now until it can be used again."""
        if not self.available:
            # It is known why; what uses a connection that has been dropped meets errors of its own.
            return
        self._note(error)
        self._usable.clear()
        self._queue.clear()
        steady = self._clock.monotonic() - self._back_at > _STEADY_AFTER_S
        self._pause_s = _FIRST_PAUSE_S if steady else min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._drop_connections()
        self._away.set()
        for callback in self._on_change:
            callback()

    async def close(self) -> None:
        """Send what waits, if Redis takes it, and disconnect."""
        await self._keeper.stop()
        while self._sender is not None and not self._sender.done():
            await asyncio.wait([self._sender])
        tasks = [*self._closing, *([self._checking] if self._checking is not None else [])]
        if tasks:
            await asyncio.wait(tasks)
        await self._client.aclose()

    def _note(self, error: Exception | str) -> None:
        trouble = _in_words(error)
        if trouble != self.trouble:
            log.warning("redis is away (%s); going on without", trouble, extra={"fault": "redis"})
        self.trouble = trouble

    async def _send_all(self) -> None:
        try:
            while self._queue:
                commands, self._queue = self._queue[:_LARGEST_PIPELINE], self._queue[_LARGEST_PIPELINE:]
                pipeline = self._client.pipeline(transaction=False)
                async with asyncio.timeout(_ANSWER_TIMEOUT_S), pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    # Raises the first answer that is an error.
                    await pipeline.execute()
        except REDIS_AWAY as error:
            self.lost(error)
        finally:
            self._sender = None

    async def _check(self) -> None:
        try:
            await self._try_needs(_CHECK_TIMEOUT_S)
        except REDIS_AWAY as error:
            self.lost(error)

    async def _try_needs(self, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            await self._client.ping()
            for need in self._needs:
                await need(self._client)

    def _drop_connections(self) -> None:
        """Have every connection made anew: the name may lead elsewhere now."""
        closing = asyncio.create_task(_close(self._client), name="redis close")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._client = connect(self.url)
        for task in self._held:
            task.cancel()

    async def _win_back_for_ever(self) -> None:
        while True:
            await self._away.wait()
            await self._clock.sleep(self._pause_s)
            try:
                await self._try_needs(_CONNECT_TIMEOUT_S)
            except REDIS_AWAY as error:
                self._note(error)
                self._drop_connections()
                self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            else:
                self._take_back()
            self._tried.set()

    def _take_back(self) -> None:
        if self._tried.is_set():
            log.warning("redis is back", extra={"fault": "redis back"})
        self.trouble = None
        self._back_at = self._clock.monotonic()
        self._away.clear()
        self._usable.set()
        for callback in self._on_change:
            callback()


def _in_words(error: Exception | str) -> str:
    """Return what is wrong, in one line and without a secret: Redis' errors hold none."""
    words = " ".join(str(error).split()) or "no answer in time"
    return f"{type(error).__name__}: {words}" if isinstance(error, ResponseError) else words


async def _guarded(work: Callable[[Redis], Awaitable[None]], client: Redis) -> None:
    await work(client)


async def _close(client: Redis) -> None:
    try:
        await client.aclose()
    except REDIS_AWAY as error:
        log.debug("redis: a connection ended badly (%s)", error)
