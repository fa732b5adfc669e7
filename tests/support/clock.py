"""A clock that only the test moves, so that no test sleeps."""

import asyncio

from service.clock import Clock

START_S = 1_800_000_000.0
"""The initial time of every manual clock, in seconds since the Unix epoch."""

# More event loop iterations than any task here needs until it waits.
_TURNS = 30


async def settle() -> None:
    """Let every task run until it waits for something that only the test can trigger."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class ManualClock(Clock):
    """A seeded clock whose time a test moves.

    ``sleeps_s`` holds the length of every requested sleep.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.sleeps_s: list[float] = []
        self.observe_database_time(START_S)

    def monotonic(self) -> float:
        """Return the seconds by which the test has moved the clock."""
        return self._elapsed_s

    def time_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return round((START_S + self._elapsed_s) * 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has moved the clock this far; zero or less returns at once."""
        if seconds <= 0:
            return
        self.sleeps_s.append(seconds)
        sleeper = self._elapsed_s + seconds, asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        try:
            await sleeper[1]
        finally:
            self._sleepers.remove(sleeper)

    async def advance(self, seconds: float) -> None:
        """Move the clock; each sleeper wakes at its time and runs until it waits again."""
        end = self._elapsed_s + seconds
        await settle()
        while due := [(at, future) for at, future in self._sleepers if at <= end]:
            self._elapsed_s, future = min(due, key=lambda sleeper: sleeper[0])
            future.set_result(None)
            await settle()
        self._elapsed_s = end
        await settle()

    async def jump(self, seconds: float) -> None:
        """Move the clock while nothing runs, as for a process that is stopped and continued."""
        self._elapsed_s += seconds
        for at, future in list(self._sleepers):
            if at <= self._elapsed_s:
                future.set_result(None)
        await settle()
