"""PostgreSQL and Redis for tests: the embedded ones, started once; a database of its own for each test."""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection
from service import embedded
from service.clock import Clock
from service.store.database import Database
from service.store.migrations import migrate

_TEMPLATE = "migrated"


@dataclass(frozen=True, slots=True)
class TestServers:
    """Where a test's PostgreSQL database and Redis are, and under which prefix its keys stand."""

    database_url: str
    redis_url: str
    redis_prefix: str

    __test__ = False

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which a service uses them."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "REDIS_PREFIX": self.redis_prefix,
        }

    @property
    def wake_ups(self) -> str:
        """The key of the stream of wake-ups; a service has been started by now."""
        with self.connect() as link, link.cursor() as cursor:
            cursor.execute("SELECT id::text FROM deployment")
            [(deployment,)] = cursor.fetchall()
        return f"{self.redis_prefix}:{deployment}:wake-ups"

    @contextmanager
    def connect(self) -> Iterator[connection]:
        """Connect to the database, past the engine: each statement is a transaction."""
        link = psycopg2.connect(self.database_url)
        link.autocommit = True
        try:
            yield link
        finally:
            link.close()


class TestCluster:
    """Both embedded servers, and databases on demand.

    Args:
        durable: wait for the disk with every commit, as users' servers do. Without, tests take half the time;
            a server that is killed loses nothing all the same, only a machine would.
    """

    __test__ = False

    def __init__(self, *, durable: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="oee-test-")
        self._servers = embedded.start(Path(self._folder.name), postgres=True, redis=True)
        self._has_template = False
        if not durable:
            self._execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        self._names = (f"test_{number}" for number in itertools.count(1))

    def new(self, *, empty: bool = False) -> TestServers:
        """Return a database with the schema, or without, and a Redis prefix that nobody has used."""
        name = next(self._names)
        if empty:
            self._execute(f"CREATE DATABASE {name}")
        else:
            self._make_template()
            self._execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        assert self._servers.redis_url is not None
        return TestServers(self._url_of(name), self._servers.redis_url, name)

    def drop(self, servers: TestServers) -> None:
        """Forget a database: hundreds of tests have one each."""
        self._execute(f"DROP DATABASE {servers.redis_prefix} WITH (FORCE)")

    def _make_template(self) -> None:
        """Make a database with the schema in it, once: to copy it is faster than to migrate each."""
        if self._has_template:
            return
        self._has_template = True
        self._execute(f"CREATE DATABASE {_TEMPLATE}")
        with ThreadPoolExecutor(1) as beside_any_loop:
            beside_any_loop.submit(asyncio.run, _migrate(self._url_of(_TEMPLATE))).result()

    def _url_of(self, name: str) -> str:
        assert self._servers.database_url is not None
        return self._servers.database_url.replace("/engine?", f"/{name}?")

    def _execute(self, *statements: str) -> None:
        assert self._servers.database_url is not None
        admin = psycopg2.connect(self._servers.database_url)
        admin.autocommit = True
        with admin.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        admin.close()

    def stop(self) -> None:
        """Stop the servers and forget their data."""
        self._servers.stop()
        self._folder.cleanup()


async def _migrate(database_url: str) -> None:
    database = Database(database_url, size=1, clock=Clock())
    await migrate(database)
    await database.close()
