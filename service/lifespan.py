"""The lifespan of the service: its parts start in order and stop in reverse."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the service, and its function for each step of the lifespan.

    Attributes:
        start: Begins. It may be cancelled at any point.
        drain: Accepts no new work and finishes what it can, while all other parts still run.
        stop: Ends. It is also called if ``start`` was cancelled, failed, or was never called.
    """

    start: Callable[[], Awaitable[None] | None] | None = None
    drain: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None


class Lifespan:
    """Starts, drains and stops parts; each of the three may be called twice.

    A running part may use the parts before it::

        start     first part -> last part
        drain     last part -> first part
        stop      last part -> first part, all of them, even if some fail

    Args:
        parts: In the order in which they start.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._started = False
        self._stopped = False

    async def start(self) -> None:
        """Start every part. If this is cancelled or fails, ``stop`` ends the parts that have started."""
        if self._started:
            return
        self._started = True
        for part in self._parts:
            if part.start is not None:
                starting = part.start()
                if starting is not None:
                    await starting

    async def drain(self) -> None:
        """Drain every part, in reverse order."""
        if not self._started or self._stopped:
            return
        for part in reversed(self._parts):
            if part.drain is not None:
                await part.drain()

    async def stop(self) -> None:
        """Stop every part, in reverse order, also if none was started: some hold a socket from the beginning.

        Errors are raised after all have stopped.
        """
        if self._stopped:
            return
        self._stopped = True
        async with AsyncExitStack() as stack:
            for part in self._parts:
                if part.stop is not None:
                    stack.push_async_callback(part.stop)
