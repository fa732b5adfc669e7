"""The driver on both event loops: after any failure of a socket, its waiters get the error at once."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest
import uvloop

from service.clock import Clock
from service.postgres.database import STATEMENT_TIMEOUT_MS, Database, UnavailableError
from service.postgres.driver import Connection
from service.postgres.queries import Query, Row
from tests.support.process import PROJECT
from tests.support.proxy import Proxy, Weather
from tests.support.servers import TestCluster, TestServers

TIMEOUT_S = 20.0
AT_ONCE_S = 3.0
SESSIONS = 20
GIVEN_UP_S = STATEMENT_TIMEOUT_MS / 1000 + 1

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Return a runner on an event loop that reports no unfinished work."""
    reports: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=request.param) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: reports.append(context))
        yield runner.run
    assert reports == []


@pytest.fixture(scope="module")
def servers(cluster: TestCluster) -> Iterator[TestServers]:
    """Return one database for all these tests: they leave nothing in it."""
    servers = cluster.new(empty=True)
    yield servers
    cluster.drop(servers)


@pytest.fixture
def proxy(servers: TestServers) -> Iterator[tuple[Proxy, str]]:
    """Return PostgreSQL's TCP port and the name of the database."""
    database = urlsplit(servers.database_url)
    with Proxy(f"{parse_qs(database.query)['host'][0]}/.s.PGSQL.5432") as proxy:
        yield proxy, database.path


async def connect(url: str) -> Connection:
    connection = Connection(url, TIMEOUT_S, enable_hstore=False, enable_uuid=False)
    await connection
    return connection


async def ask(connection: Connection, statement: str = "SELECT pg_backend_pid()") -> Any:
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        return (await cursor.fetchone())[0]


def lives(pids: list[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True
    return False


async def ends(what: Awaitable[Any]) -> tuple[type[BaseException] | None, float]:
    """Return the error that an awaitable ended with, and how many seconds it took."""
    began = time.monotonic()
    try:
        await what
    except (psycopg2.Error, TimeoutError, RuntimeError, OSError) as error:
        return type(error), time.monotonic() - began
    return None, time.monotonic() - began


def test_a_session_that_ends_with_an_unread_query_raises(servers: TestServers, run: Run) -> None:
    """Its socket shows the backend's last message, its end and an error at the same time."""

    async def end_sessions() -> None:
        connections = [await connect(servers.database_url) for _ in range(SESSIONS)]
        pids = [await ask(connection) for connection in connections]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        waiting = [asyncio.create_task(ends(ask(connection))) for connection in connections]
        await asyncio.sleep(0)  # the queries have been sent
        # From here on, the event loop does not run until all sessions have ended.
        with servers.connect() as admin, admin.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (pids,))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        deadline = time.monotonic() + TIMEOUT_S
        while lives(pids):
            assert time.monotonic() < deadline
            time.sleep(0.01)  # noqa: ASYNC251 - the loop must not run
        ended = time.monotonic()
        errors = [error for error, _ in await asyncio.gather(*waiting)]
        assert time.monotonic() - ended < AT_ONCE_S
        assert all(error and issubclass(error, psycopg2.OperationalError) for error in errors), errors
        assert all(connection.closed for connection in connections)

    run(end_sessions())


def test_an_idle_session_that_ends_is_closed(servers: TestServers, run: Run) -> None:
    async def end_session() -> None:
        connection = await connect(servers.database_url)
        pid = await ask(connection)
        with servers.connect() as admin, admin.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))
        async with asyncio.timeout(AT_ONCE_S):
            while not connection.closed:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.01)

    run(end_session())


def test_a_dead_address_before_the_live_one_causes_no_delay(proxy: tuple[Proxy, str], run: Run) -> None:
    """libpq closes its socket and opens the next, which mostly has the same number."""
    server, path = proxy
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        dead = f"127.0.0.1:{taken.getsockname()[1]}"
        url = f"postgresql://postgres@{dead},{dead},127.0.0.1:{server.port}{path}"

        async def connect_many() -> None:
            for _ in range(5):
                connections = await asyncio.gather(*(asyncio.wait_for(connect(url), 5) for _ in range(4)))
                for connection in connections:
                    assert await ask(connection, "SELECT 1") == 1
                    connection.close()

        run(connect_many())


def test_reset_sessions_raise_and_leave_nothing_behind(proxy: tuple[Proxy, str], run: Run) -> None:
    server, path = proxy
    url = f"postgresql://postgres@127.0.0.1:{server.port}{path}"

    async def reset() -> None:
        for _ in range(5):
            connections = [await connect(url) for _ in range(8)]
            waiting = [asyncio.create_task(ends(ask(c, "SELECT 1 FROM pg_sleep(60)"))) for c in connections]
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.turn, Weather.RESET)
            refused = await asyncio.gather(*(ends(connect(url)) for _ in range(20)), *waiting)
            for error, took_s in refused:
                assert error
                assert issubclass(error, psycopg2.OperationalError)
                assert took_s < AT_ONCE_S
            await asyncio.to_thread(server.turn, Weather.FINE)

    run(reset())


def test_the_first_statement_without_a_response_ends_the_wait_of_all(
    proxy: tuple[Proxy, str], run: Run
) -> None:
    network, path = proxy
    url = f"postgresql://postgres@127.0.0.1:{network.port}{path}"
    select: Query[Row] = Query("select", "SELECT 1")

    async def main() -> None:
        first = Database(url, size=2, clock=Clock())
        other = Database(url, size=2, clock=Clock(), beside=first)
        for database in (first, other):
            await asyncio.gather(database.run(select), database.run(select))
        began = time.monotonic()
        network.turn(Weather.HALF_OPEN)
        lost = asyncio.create_task(first.run(select))
        await asyncio.sleep(1.5)
        network.turn(Weather.FINE)
        # On sessions that are dead too, but not yet detected.
        later = [asyncio.create_task(database.run(select)) for database in (first, other)]
        answers = await asyncio.gather(lost, *later, return_exceptions=True)
        assert [isinstance(answer, UnavailableError) and answer.unknown for answer in answers] == [True] * 3
        assert time.monotonic() - began < GIVEN_UP_S + 1
        for database in (first, other):
            assert await database.run(select) == [(1,)]
            await database.close()

    run(main())


def test_a_cancelled_statement_closes_its_connection(servers: TestServers, run: Run) -> None:
    async def give_up() -> None:
        connection = await connect(servers.database_url)
        task = asyncio.create_task(ask(connection, "SELECT 1 FROM pg_sleep(60)"))
        await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert connection.closed

    run(give_up())


def test_a_failed_statement_leaves_its_connection_open(servers: TestServers, run: Run) -> None:
    async def fail() -> None:
        connection = await connect(servers.database_url)
        with pytest.raises(psycopg2.errors.DivisionByZero):
            await ask(connection, "SELECT 1 / 0")
        with pytest.raises(psycopg2.errors.QueryCanceled):
            await ask(connection, "SET statement_timeout = 10; SELECT 1 FROM pg_sleep(60)")
        assert await ask(connection, "SELECT 1") == 1
        connection.close()

    run(fail())


RESETS = """
import asyncio, contextlib, socket, struct, sys, threading
import psycopg2, uvloop
from service.clock import Clock
from service.postgres.database import STATEMENT_TIMEOUT_MS, Database, UnavailableError
from service.postgres.driver import Connection
from service.postgres.queries import Query, Row

server = socket.create_server(("127.0.0.1", 0), backlog=128)
url = f"postgresql://postgres@127.0.0.1:{server.getsockname()[1]}/engine"

def reset_forever():
    while True:
        link, _ = server.accept()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()

async def connect():
    with contextlib.suppress(psycopg2.OperationalError):
        await Connection(url, 5, enable_hstore=False, enable_uuid=False)

async def connect_many():
    for _ in range(60):
        await asyncio.gather(*(connect() for _ in range(50)))

threading.Thread(target=reset_forever, daemon=True).start()
asyncio.Runner(loop_factory=uvloop.new_event_loop).run(connect_many())
"""


def test_resets_while_connecting_do_not_abort_the_process() -> None:
    """libuv aborts when it is told to watch a closed socket, and libpq closes a socket that is reset."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", RESETS],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
