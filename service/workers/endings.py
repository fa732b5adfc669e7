"""Ends expired orders, orders that a dead process cancelled, and those of expired cancel timers."""

import logging

from service.background import Background
from service.clock import Clock
from service.postgres.database import UnavailableError
from service.store.endings import MAX_PER_STATEMENT, Endings

log = logging.getLogger(__name__)

_EVERY_S = 0.4


class EndingLoop:
    """Ends overdue orders every 0.4 s. It may run in every instance: no order ends twice.

    Args:
        endings: Ends the orders.
        clock: Times the loop.
    """

    def __init__(self, endings: Endings, clock: Clock) -> None:
        self._endings = endings
        self._clock = clock
        self._loop = Background("endings", self._run_forever, clock)
        # Apart, because the cancellation of many orders must not delay the expiry of others.
        self._timers = Background("cancel timers", self._run_timers_forever, clock)

    def start(self) -> None:
        """Begin, with the orders that expired while no process ran."""
        self._loop.start()
        self._timers.start()

    async def stop(self) -> None:
        """Stop the loops."""
        await self._loop.stop()
        await self._timers.stop()

    async def _run_forever(self) -> None:
        while True:
            try:
                while await self._endings.end_expired() >= MAX_PER_STATEMENT:
                    pass
                await self._endings.end_cancelled()
            except UnavailableError as error:
                log.debug("endings: PostgreSQL is unavailable (%s)", error)
            await self._clock.sleep(_EVERY_S)

    async def _run_timers_forever(self) -> None:
        while True:
            try:
                await self._endings.cancel_by_timer()
            except UnavailableError as error:
                log.debug("cancel timers: PostgreSQL is unavailable (%s)", error)
            await self._clock.sleep(_EVERY_S)
