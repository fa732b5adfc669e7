"""Long computations that yield to the event loop.

A long computation is a generator that yields between steps of its work and returns its result; it knows
neither time nor event loops. ``finished`` runs it at once; ``Turns`` yields to the event loop whenever the
steps have blocked it for long enough.
"""

import asyncio
from collections import deque
from collections.abc import Generator
from typing import Generic, TypeVar

from service.clock import Clock

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Steps = Generator[None, None, T]
"""A computation in steps: it yields between them, and returns its result."""

LONGEST_S = 0.002
"""Work before yielding to the event loop; it may exceed this by one step."""

TOGETHER_S = 0.02
"""Work on the queue after which finished computations get their results, even if others are unfinished."""


def finished(steps: Steps[T]) -> T:
    """Run a computation to its end, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


class Turns:
    """Runs computations; long ones are queued, run one after the other and yield to the event loop.

    A short computation runs at once. A longer one is queued, and so are all that arrive while the queue is
    not empty: each event loop iteration works on the queue for a limited time, so that many long computations
    do not add up to one long block. Results are delivered together, when the queue is empty or has been
    worked on for a while, so that the callers' next writes share few groups.

    Args:
        clock: Measures how long a computation has run.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: deque[_Job[object]] = deque()
        self._ended: list[_Job[object]] = []
        self._used_s = 0.0

    async def run(self, steps: Steps[T]) -> T:
        """Run a computation to its end, and return its result. A cancellation stops it between two steps."""
        loop = asyncio.get_running_loop()
        job = _Job(steps, loop.create_future())
        if self._queue or not self._has_ended_in_time(job):
            if not self._queue:
                loop.call_soon(self._work)
            self._queue.append(job)
            await job.done
        return job.result()

    def _has_ended_in_time(self, job: "_Job[object]") -> bool:
        began = self._clock.monotonic()
        while not job.has_ended():
            if self._clock.monotonic() - began >= LONGEST_S:
                return False
        return True

    def _work(self) -> None:
        """Work on the queue for as long as one event loop iteration allows."""
        began = self._clock.monotonic()
        while self._queue and self._clock.monotonic() - began < LONGEST_S:
            if self._queue[0].has_ended():
                self._ended.append(self._queue.popleft())
        self._used_s += self._clock.monotonic() - began
        if not self._queue or self._used_s >= TOGETHER_S:
            self._used_s = 0.0
            for job in self._ended:
                if not job.done.done():
                    job.done.set_result(None)
            self._ended.clear()
        if self._queue:
            asyncio.get_running_loop().call_soon(self._work)


class _Job(Generic[T_co]):
    """A queued computation, and the future of its caller."""

    __slots__ = ("_error", "_result", "_steps", "done")

    def __init__(self, steps: Steps[T_co], done: asyncio.Future[None]) -> None:
        self._steps = steps
        self._result: T_co
        self._error: Exception | None = None
        self.done = done

    def has_ended(self) -> bool:
        """Run one step; return whether the computation has ended or its caller was cancelled."""
        if self.done.cancelled():
            self._steps.close()
            return True
        try:
            next(self._steps)
        except StopIteration as end:
            self._result = end.value
        except Exception as error:  # noqa: BLE001 - raised to the caller
            self._error = error
        else:
            return False
        return True

    def result(self) -> T_co:
        """Return the computation's result, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result
