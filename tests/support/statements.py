"""What a test has happen to the statements of one process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from service.postgres.database import Database
from service.postgres.queries import Query, Row

Before = Callable[[Query[Any]], Awaitable[None]]


def meddle(database: Database, before: Before) -> None:
    """Have something awaited before each statement; it may hold it or fail it."""
    run = database.run

    async def meddled(query: Query[Any], parameters: Mapping[str, Any] | None = None) -> list[Row]:
        await before(query)
        return await run(query, parameters)

    database.run = meddled  # type: ignore[method-assign, assignment]


class Gate:
    """Holds a process's statements of some names, as if it had been stopped just before."""

    def __init__(self, database: Database, *names: str) -> None:
        self._names = names
        self._open = asyncio.Event()
        self.reached = asyncio.Event()
        """Set when a statement is held."""
        meddle(database, self._before)

    async def _before(self, query: Query[Any]) -> None:
        if query.name in self._names:
            self.reached.set()
            await self._open.wait()

    def open(self) -> None:
        """Let the statements go on, those that are held and those to come."""
        self._open.set()
