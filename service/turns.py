"""Long computations that take turns with the event loop.

A computation that may be long is a generator that yields between pieces of its work, and returns its
result: it knows nothing of time or of event loops. ``finished`` runs it at once; ``Turns`` gives the event
loop up whenever the pieces together have held it for long enough.
"""

import asyncio
from collections import deque
from collections.abc import Generator
from typing import Generic, TypeVar

from service.clock import Clock

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Steps = Generator[None, None, T]
"""A computation in pieces: it yields between them, and returns its result."""

LONGEST_S = 0.002
"""After so much work others get their turn; a turn may last longer by one piece."""

TOGETHER_S = 0.02
"""After so much work on a row those that have ended go on, though others have not."""


def finished(steps: Steps[T]) -> T:
    """Run a computation to its end, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


class Turns:
    """Runs computations, those that are long in turns with the event loop and one after the other.

    A short one is done at once. One that is not waits in a row, and so do all that come while there is one:
    each turn of the event loop does as much of the row as there is time for, so that many long ones do not
    add up to one long turn. Short ones stay together, so that what they write next is written in few groups:
    from the row, too, results are given when it is empty, or has been worked on for a while.

    Args:
        clock: Tells how long a computation, or a turn, has lasted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._row: deque[_Job[object]] = deque()
        self._ended: list[_Job[object]] = []
        self._used_s = 0.0

    async def take(self, steps: Steps[T]) -> T:
        """Run a computation to its end, and return its result. A cancellation ends it between two pieces."""
        loop = asyncio.get_running_loop()
        job = _Job(steps, loop.create_future())
        if self._row or not self._has_ended_in_time(job):
            if not self._row:
                loop.call_soon(self._work)
            self._row.append(job)
            await job.done
        return job.result()

    def _has_ended_in_time(self, job: "_Job[object]") -> bool:
        began = self._clock.monotonic()
        while not job.has_ended():
            if self._clock.monotonic() - began >= LONGEST_S:
                return False
        return True

    def _work(self) -> None:
        """Do what there is time for in this turn of the event loop."""
        began = self._clock.monotonic()
        while self._row and self._clock.monotonic() - began < LONGEST_S:
            if self._row[0].has_ended():
                self._ended.append(self._row.popleft())
        self._used_s += self._clock.monotonic() - began
        if not self._row or self._used_s >= TOGETHER_S:
            self._used_s = 0.0
            for job in self._ended:
                if not job.done.done():
                    job.done.set_result(None)
            self._ended.clear()
        if self._row:
            asyncio.get_running_loop().call_soon(self._work)


class _Job(Generic[T_co]):
    """A computation in the row, and whoever waits for it."""

    __slots__ = ("_error", "_result", "_steps", "done")

    def __init__(self, steps: Steps[T_co], done: asyncio.Future[None]) -> None:
        self._steps = steps
        self._result: T_co
        self._error: Exception | None = None
        self.done = done

    def has_ended(self) -> bool:
        """Do a piece; say whether there are no more, or nobody waits any more."""
        if self.done.cancelled():
            self._steps.close()
            return True
        try:
            next(self._steps)
        except StopIteration as end:
            self._result = end.value
        except Exception as error:  # noqa: BLE001 - it is for who waits
            self._error = error
        else:
            return False
        return True

    def result(self) -> T_co:
        """Return what the computation came to, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result
