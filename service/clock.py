"""The only source of time, ids and randomness, so that tests control all three.

Leases, due times and slots use PostgreSQL's clock, which all instances share. SQL reads it directly. Python
keeps its offset to the monotonic clock here, which each statement that returns the time refreshes.
"""

import asyncio
import random
import time
from uuid import UUID

# More than a slow answer, which is read late, makes PostgreSQL's clock seem to be behind.
_JUMP_S = 10.0


class Clock:
    """The process's clock, and the source of its ids and random numbers."""

    def __init__(self, seed: int | None = None) -> None:
        # Ids of orders and processes must be unpredictable; other ids only unique.
        self._secret: random.Random = random.SystemRandom() if seed is None else self.seeded(str(seed))
        self._random = self.seeded(str(self._secret.getrandbits(128)))
        self._database_offset_s: float | None = None
        self.jumps_back = 0
        """How often PostgreSQL's clock was seen to jump back by more than ten seconds."""

    def monotonic(self) -> float:
        """Return monotonic seconds since an arbitrary origin."""
        return time.monotonic()

    def time_ms(self) -> int:
        """Return this machine's time in milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less returns at once, without yielding to the event loop."""
        if seconds > 0:
            await asyncio.sleep(seconds)

    def observe_database_time(self, epoch_s: float) -> None:
        """Record PostgreSQL's time, in seconds since the Unix epoch, that was just read."""
        offset_s = epoch_s - self.monotonic()
        if self._database_offset_s is not None and offset_s < self._database_offset_s - _JUMP_S:
            self.jumps_back += 1
        self._database_offset_s = offset_s

    def database_time(self) -> float:
        """Return PostgreSQL's time now, in seconds since the Unix epoch.

        Until PostgreSQL's time is first read, it is this machine's.
        """
        if self._database_offset_s is None:
            return time.time()
        return self.monotonic() + self._database_offset_s

    def new_order_id(self) -> str:
        """Return a new UUID, version 7: ids sort by the millisecond of their creation (RFC 9562, 5.7).

        So a burst of inserts touches few pages of the primary key's index.
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
        """Return a short random id: 64 bits as 16 hexadecimal digits."""
        return f"{self._random.getrandbits(64):016x}"

    def new_key_id(self) -> str:
        """Return the public id of a new API key: 64 bits as 16 hexadecimal digits."""
        return f"{self._secret.getrandbits(64):016x}"

    def new_secret(self) -> str:
        """Return a new secret: 256 unpredictable bits as 64 hexadecimal digits."""
        return f"{self._secret.getrandbits(256):064x}"

    def seeded(self, key: str) -> random.Random:
        """Return a deterministic random generator for a key; only for markets."""
        return random.Random(key)  # noqa: S311 - deterministic on purpose

    def between(self, low: int, high: int) -> int:
        """Return a random integer from ``low`` to ``high``, inclusive."""
        return low if low == high else self._random.randint(low, high)
