"""PostgreSQL and Redis for tests: the embedded ones, started once; a database of its own for each test."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection
from service import embedded


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
        if not durable:
            self._execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        self._names = (f"test_{number}" for number in itertools.count(1))

    def new(self) -> TestServers:
        """Return an empty database, and a Redis prefix that nobody has used."""
        name = next(self._names)
        self._execute(f"CREATE DATABASE {name}")
        url, redis_url = self._servers.database_url, self._servers.redis_url
        assert url is not None
        assert redis_url is not None
        return TestServers(url.replace("/engine?", f"/{name}?"), redis_url, name)

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
