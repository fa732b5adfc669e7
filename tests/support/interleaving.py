"""Interleaves statements of several actors on one PostgreSQL by a schedule.

Each statement has two steps: execute and commit. A schedule names the actor of each step; while an actor
waits for another's lock, the others continue.
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
    """Runs statements in two steps each. It takes the place of a database with ``replace``.

    ``deadlocks`` counts its statements that PostgreSQL aborted because of a deadlock; as in the service, the
    caller may retry them.
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
        """Run the statements of a database from now on."""
        database.run = self.run  # type: ignore[method-assign, assignment]

    def close(self) -> None:
        self._link.close()

    def take_turn(self) -> None:
        """Allow one more step."""
        self._turns.release()

    def go_on(self) -> None:
        """Allow all further steps."""
        self._unbound = True
        self._turns.release()

    async def run(self, query: Query[Any], parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement in two steps."""
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
    """Return every interleaving of the actors' steps, given the number of each; actor 0 is ``0``, etc."""
    letters = "".join(str(actor) * count for actor, count in enumerate(moments))
    return ("".join(order) for order in sorted(set(itertools.permutations(letters))))


async def interleave(
    servers: TestServers,
    schedule: Iterable[str],
    actors: Sequence[Actor],
    works: Sequence[Callable[[], Awaitable[object]]],
) -> list[object]:
    """Run each actor's work by the schedule, and its remaining steps freely.

    Returns:
        Each work's result or exception.
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
    except Exception as error:  # noqa: BLE001 - the test checks it
        return error
