"""The kill switch: while trading is halted, no order is accepted, fired, started or submitted.

PostgreSQL enforces it: the statements that insert, fire, claim and submit orders check it themselves, so a
halt takes effect on every instance with its commit, for statements that begin after it; ``halt`` waits for
those that began before. What has been submitted continues to its end.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from service.clock import Clock
from service.postgres.database import STATEMENT_TIMEOUT_MS, Database
from service.postgres.queries import query

log = logging.getLogger(__name__)

_CHECK_EVERY_S = 0.5
_POLL_S = 0.02


class Halt(NamedTuple):
    """Why trading is halted, and since when (RFC 3339)."""

    reason: str
    halted_at: str


class HaltedError(Exception):
    """Trading is halted; the message is the reason."""


_HALT = query("halt_trading", Halt)
_GET_CLOCK = query("get_clock")
_COUNT_RUNNING = query("count_trading_statements")
_RESUME = query("resume_trading")
_GET = query("get_halt", Halt)


async def wait_for_trading_statements(database: Database, clock: Clock) -> None:
    """Wait until no statement runs that inserts, fires, claims or submits orders and has already begun.

    It takes no lock, which others would have to wait for. A statement of the service runs no longer than its
    time-out; what runs longer does not trade.

    Raises:
        UnavailableError: PostgreSQL is unavailable.
    """
    give_up = clock.monotonic() + STATEMENT_TIMEOUT_MS / 1000
    [(began,)] = await database.run(_GET_CLOCK)
    while (await database.run(_COUNT_RUNNING, {"began": began}))[0][0]:
        if clock.monotonic() >= give_up:
            return
        await clock.sleep(_POLL_S)


class TradingHalt:
    """The kill switch.

    The methods that access PostgreSQL raise ``UnavailableError`` while it is unavailable.

    Args:
        database: The engine's database.
        clock: Times the wait for the end of a halt.
        on_resume: Called when this process learns that trading is resumed: due orders have no wake-ups.
    """

    def __init__(self, database: Database, clock: Clock, on_resume: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._on_resume = on_resume
        self._as_of = clock.monotonic()
        self.reason: str | None = None
        """Why trading is halted, as of the last heartbeat; None if it is not."""

    def observe(self, reason: str | None, as_of: float) -> None:
        """Record what was read, unless something newer is known.

        Args:
            reason: Why trading is halted; None if it is not.
            as_of: The monotonic time at which the statement was sent.
        """
        if as_of < self._as_of:
            return
        self._as_of = as_of
        if reason is not None and reason != self.reason:
            log.warning("trading is halted: %s", reason)
        was_halted, self.reason = self.reason is not None, reason
        if reason is None and was_halted:
            log.warning("trading is resumed")
            self._on_resume()

    async def halt(self, reason: str) -> Halt:
        """Halt trading, or replace the reason; when this returns, no statement trades any more."""
        [halt] = await self._database.run(_HALT, {"reason": reason})
        await wait_for_trading_statements(self._database, self._clock)
        self.observe(halt.reason, self._clock.monotonic())
        return halt

    async def resume(self) -> None:
        """Resume trading."""
        await self._database.run(_RESUME)
        self.observe(None, self._clock.monotonic())

    async def read(self) -> Halt | None:
        """Return why trading is halted, and since when; None if it is not."""
        rows = await self._database.read(_GET)
        return rows[0] if rows else None

    async def wait_until_resumed(self) -> None:
        """Wait until trading is resumed, as far as the heartbeats tell."""
        while self.reason is not None:
            await self._clock.sleep(_CHECK_EVERY_S)
