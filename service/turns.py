"""Long computations that take turns with the event loop.

A computation that may be long is a generator that yields between pieces of its work, and returns its
result: it knows nothing of time or of event loops. ``finished`` runs it at once; ``Turns`` gives the event
loop up whenever the pieces together have held it for long enough.
"""

import asyncio
from collections.abc import Generator
from typing import TypeVar

from service.clock import Clock

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A computation in pieces: it yields between them, and returns its result."""

LONGEST_S = 0.001
"""After so much work others get their turn; a turn may last longer by one piece."""


def finished(steps: Steps[T]) -> T:
    """Run a computation to its end, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


class Turns:
    """Runs computations one after the other, with turns of the event loop in between.

    One at a time: many that came together would otherwise add up to one long turn.

    Args:
        clock: Tells how long a turn has lasted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._alone = asyncio.Lock()
        self._used_s = 0.0
        self._has_begun = False

    async def take(self, steps: Steps[T]) -> T:
        """Run a computation to its end, and return its result. A cancellation ends it between two pieces."""
        async with self._alone:
            while True:
                if self._used_s >= LONGEST_S:
                    await asyncio.sleep(0)
                if not self._has_begun:
                    self._has_begun = True
                    asyncio.get_running_loop().call_soon(self._end_turn)
                began = self._clock.monotonic()
                try:
                    next(steps)
                except StopIteration as end:
                    result: T = end.value
                    return result
                finally:
                    self._used_s += self._clock.monotonic() - began

    def _end_turn(self) -> None:
        """The event loop has come round."""
        self._used_s = 0.0
        self._has_begun = False
