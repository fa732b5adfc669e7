"""Bounds how long the triggers block the event loop."""

import asyncio

from service.clock import Clock

_LONGEST_TURN_S = 0.005


class Pace:
    """Yields to the event loop between pieces of work, once they have blocked it for long enough."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._yielded_at = 0.0

    async def yield_to_loop(self) -> None:
        """Let other tasks run, if they have been waiting for long enough."""
        if self._clock.monotonic() - self._yielded_at > _LONGEST_TURN_S:
            await asyncio.sleep(0)
            self._yielded_at = self._clock.monotonic()
