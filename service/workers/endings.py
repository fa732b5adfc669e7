"""Ends orders on time: those whose time is over, and those that were cancelled by one who then died."""

import logging

from service.background import Background
from service.clock import Clock
from service.postgres.database import UnavailableError
from service.store.endings import MOST_AT_ONCE, Endings

log = logging.getLogger(__name__)

_EVERY_S = 0.4


class EndingLoop:
    """Looks every 0.4 s for orders that should have ended. Every instance may: no order ends twice.

    Args:
        endings: Ends them.
        clock: Paces.
    """

    def __init__(self, endings: Endings, clock: Clock) -> None:
        self._endings = endings
        self._clock = clock
        self._loop = Background("endings", self._run_for_ever, clock)

    def start(self) -> None:
        """Begin, with what came due while no process ran."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop looking."""
        await self._loop.stop()

    async def _run_for_ever(self) -> None:
        while True:
            try:
                while await self._endings.end_expired() >= MOST_AT_ONCE:
                    pass
                await self._endings.end_cancelled()
            except UnavailableError as error:
                log.debug("endings: PostgreSQL is away (%s)", error)
            await self._clock.sleep(_EVERY_S)
