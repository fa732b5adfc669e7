"""The only source of time, ids and randomness, so that tests own all three.

Leases, due times and slots go by PostgreSQL's clock, which every instance shares: SQL reads it
directly, and Python reads it here, as an offset to its own monotonic clock that each statement
which returns the time refreshes.
"""

import asyncio
import random
import time
from uuid import UUID


class Clock:
    """The process's clock, and the source of its ids and random numbers."""

    def __init__(self, seed: int | None = None) -> None:
        # Ids of orders and processes cannot be guessed; the rest only has to differ.
        self._secret: random.Random = random.SystemRandom() if seed is None else self.seeded(str(seed))
        self._random = self.seeded(str(self._secret.getrandbits(128)))
        self._database_offset_s: float | None = None

    def monotonic(self) -> float:
        """Return seconds that only ever go forward; the zero has no meaning."""
        return time.monotonic()

    def time_ms(self) -> int:
        """Return this machine's time in milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less is no wait at all, not a turn of the event loop."""
        if seconds > 0:
            await asyncio.sleep(seconds)

    def observe_database_time(self, epoch_s: float) -> None:
        """Take note of PostgreSQL's time, in seconds since the Unix epoch, as just read from it."""
        self._database_offset_s = epoch_s - self.monotonic()

    def database_time(self) -> float:
        """Return PostgreSQL's time now, in seconds since the Unix epoch.

        Before PostgreSQL's time was first read it is this machine's.
        """
        if self._database_offset_s is None:
            return time.time()
        return self.monotonic() + self._database_offset_s

    def new_order_id(self) -> str:
        """Return a new UUID, version 7: ids sort by the millisecond they were made in (RFC 9562, 5.7).

        Neighbours in time are neighbours in the primary key's index, so a burst of inserts
        touches few of its pages.
        """
        bits = (self.time_ms() & (1 << 48) - 1) << 80 | self._secret.getrandbits(80)
        bits = bits & ~(0xF << 76) | 0x7 << 76
        bits = bits & ~(0x3 << 62) | 0x2 << 62
        return str(UUID(int=bits))

    def new_instance_id(self) -> str:
        """Return a new random UUID, version 4."""
        return str(UUID(int=self._secret.getrandbits(128), version=4))

    def new_command_id(self) -> str:
        """Return a new random UUID, version 4."""
        return str(UUID(int=self._random.getrandbits(128), version=4))

    def new_write_id(self) -> str:
        """Return a short random id: 64 bits, written as 16 hexadecimal digits."""
        return f"{self._random.getrandbits(64):016x}"

    def seeded(self, key: str) -> random.Random:
        """Return a generator of numbers that are the same whenever the key is: for markets only."""
        return random.Random(key)  # noqa: S311 - repeatable on purpose

    def between(self, low: int, high: int) -> int:
        """Return a random integer from ``low`` to ``high``, both included."""
        return low if low == high else self._random.randint(low, high)
