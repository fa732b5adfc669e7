"""Statements of several actors on one PostgreSQL, interleaved just as a test says.

Each statement of an actor has two moments: it is executed, and it is committed. A schedule names, moment by
moment, whose turn it is; an actor that waits for another's lock lets the others go on.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import connection

from service.postgres.database import Database, UnavailableError
from service.postgres.queries import Query, Row
from service.postgres.session import register_types
from tests.support.servers import TestServers

_DEADLOCK_AFTER_MS = 30
_LOOK_EVERY_S = 0.002


class Actor:
    """One who runs statements, each in two moments. Put it in the place of a database with ``replace``.

    ``deadlocks`` is how many of its statements PostgreSQL gave up for another's sake; as in the service, they
    are run again if whoever asked for them does so.
    """

    def __init__(self, servers: TestServers) -> None:
        self._link: connection = psycopg2.connect(
            servers.database_url, options=f"-c deadlock_timeout={_DEADLOCK_AFTER_MS} -c timezone=UTC"
        )
        register_types(self._link)
        self.pid: int = self._link.info.backend_pid
        self._turns = asyncio.Semaphore(0)
        self._unbound = False
        self.waits_for_its_turn = False
        self.deadlocks = 0

    def replace(self, database: Database) -> None:
        """Run what is asked of a database from now on."""
        database.run = self.run  # type: ignore[method-assign, assignment]

    def close(self) -> None:
        self._link.close()

    def take_turn(self) -> None:
        """Let it come by one more moment."""
        self._turns.release()

    def go_on(self) -> None:
        """Let it come by all moments from now on."""
        self._unbound = True
        self._turns.release()

    async def run(self, query: Query[Any], parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement, in two moments."""
        await self._moment()
        try:
            rows = await asyncio.to_thread(self._execute, query, parameters)
            await self._moment()
            await asyncio.to_thread(self._link.commit)
        except psycopg2.extensions.TransactionRollbackError as error:
            self._link.rollback()
            self.deadlocks += 1
            raise UnavailableError(str(error), unknown=False) from error
        except BaseException:
            self._link.rollback()
            raise
        return rows

    async def _moment(self) -> None:
        if not self._unbound:
            self.waits_for_its_turn = True
            await self._turns.acquire()
            self.waits_for_its_turn = False

    def _execute(self, query: Query[Any], parameters: Mapping[str, Any] | None) -> list[Row]:
        with self._link.cursor() as cursor:
            cursor.execute(query.sql, parameters)
            if not cursor.description:
                return []
            query.check([column.name for column in cursor.description])
            rows = cursor.fetchall()
        return rows if query.make is None else [query.make(row) for row in rows]


def schedules(*moments: int) -> Iterator[str]:
    """Return every order of so many moments of each actor: actor 0 is ``0``, and so on."""
    letters = "".join(str(actor) * count for actor, count in enumerate(moments))
    return ("".join(order) for order in sorted(set(itertools.permutations(letters))))


async def interleave(
    servers: TestServers,
    schedule: Iterable[str],
    actors: Sequence[Actor],
    works: Sequence[Callable[[], Awaitable[object]]],
) -> list[object]:
    """Have each actor do its work as the schedule says, and the rest of it freely.

    Returns:
        What each work returned or raised.
    """
    tasks = [asyncio.ensure_future(_outcome(work)) for work in works]
    with servers.connect() as link:

        def blocked(actor: Actor) -> bool:
            with link.cursor() as cursor:
                cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (actor.pid,))
                return cursor.fetchone() == (True,)

        async def come_to_rest(index: int) -> None:
            await asyncio.sleep(0)
            task, actor = tasks[index], actors[index]
            while not (task.done() or actor.waits_for_its_turn or blocked(actor)):
                await asyncio.wait([task], timeout=_LOOK_EVERY_S)

        for index in range(len(actors)):
            await come_to_rest(index)
        for letter in schedule:
            index = int(letter)
            if not tasks[index].done():
                actors[index].take_turn()
                for each in range(len(actors)):
                    await come_to_rest(each)
        for actor in actors:
            actor.go_on()
        return [await asyncio.wait_for(task, 10) for task in tasks]


async def _outcome(work: Callable[[], Awaitable[object]]) -> object:
    try:
        return await work()
    except Exception as error:  # noqa: BLE001 - what it raises is what the test asks about
        return error
