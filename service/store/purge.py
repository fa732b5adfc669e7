"""Deletes rows that are no longer needed, for as long as the service runs."""

import logging

from service.background import Background
from service.clock import Clock
from service.postgres.database import Database, UnavailableError
from service.postgres.queries import Query, Row

log = logging.getLogger(__name__)

_MOST_PER_STEP = 1_000
_PAUSE_S = 0.05


async def delete_in_steps(database: Database, clock: Clock, statement: Query[Row]) -> int:
    """Run a statement until it deletes fewer rows than it may; return how many it has deleted.

    Args:
        database: The engine's database.
        clock: Times the pauses.
        statement: Deletes at most ``most`` rows, and returns one row for each.

    Raises:
        UnavailableError: PostgreSQL is unavailable.
    """
    deleted = 0
    while True:
        count = len(await database.run(statement, {"most": _MOST_PER_STEP}))
        deleted += count
        if count < _MOST_PER_STEP:
            # What becomes old meanwhile is deleted the next time: otherwise this would never end.
            return deleted
        # In small steps: there may be millions, and the disk is needed for orders.
        await clock.sleep(_PAUSE_S)


class Purge:
    """Deletes old rows at once, and then at intervals.

    Args:
        database: The engine's database.
        clock: Times the deletion.
        statement: As of ``delete_in_steps``.
        every_s: The interval.
    """

    def __init__(self, database: Database, clock: Clock, statement: Query[Row], *, every_s: float) -> None:
        self._database = database
        self._clock = clock
        self._statement = statement
        self._every_s = every_s
        self._loop = Background(statement.name, self._run_forever, clock)

    def start(self) -> None:
        """Begin to delete."""
        self._loop.start()

    async def stop(self) -> None:
        """Stop deleting."""
        await self._loop.stop()

    async def run(self) -> int:
        """Delete all old rows; return how many.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        return await delete_in_steps(self._database, self._clock, self._statement)

    async def _run_forever(self) -> None:
        while True:
            try:
                await self.run()
            except UnavailableError as error:
                log.debug("%s: PostgreSQL is unavailable (%s)", self._statement.name, error)
            await self._clock.sleep(self._every_s)
