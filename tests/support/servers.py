"""PostgreSQL and Redis for tests: the embedded servers, started once, with a database for each test.

Copying a database costs a quarter of a second of CPU, so a test's database is emptied and reused if it has
only a few new rows and an unchanged schema.
"""

import asyncio
import itertools
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

import psycopg2
from psycopg2.extensions import connection, cursor

from service import embedded
from service.clock import Clock
from service.embedded import postgres
from service.postgres.database import Database
from service.postgres.migrations import migrate

_TEMPLATE = "migrated"

_FEW_ROWS = 1_000

_TABLES = """
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'schema_migrations'
"""
_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_INSERT = "INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s)"
_CATALOGS = (
    *("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_index", "pg_namespace", "pg_proc"),
    *("pg_rewrite", "pg_trigger", "pg_type"),
)
# Whatever changes the schema inserts, updates or deletes rows of these, and xmin is the transaction that
# wrote a row. Writing the definitions out would take twice as long as the rest.
_SCHEMA = f"""
    SELECT concat_ws(
        ' ',
        {"".join(f"(SELECT (count(*), max(xmin::text::bigint)) FROM {catalog})," for catalog in _CATALOGS)}
        (
            SELECT array_agg(setconfig ORDER BY setconfig)
            FROM pg_db_role_setting AS s
            JOIN pg_database AS d ON d.oid = s.setdatabase
            WHERE d.datname = current_database()
        ),
        (SELECT jsonb_agg(m ORDER BY m) FROM (SELECT to_jsonb(m) FROM schema_migrations AS m) AS r (m))
    )
"""  # noqa: S608 - names of catalogues


@dataclass(frozen=True, slots=True)
class TestServers:
    """A test's PostgreSQL database, Redis, and prefix of keys."""

    database_url: str
    redis_url: str
    redis_prefix: str

    __test__ = False

    @property
    def database(self) -> str:
        """The database's name."""
        return urlsplit(self.database_url).path.removeprefix("/")

    @property
    def environment(self) -> dict[str, str]:
        """The settings for a service on these servers."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "REDIS_PREFIX": self.redis_prefix,
        }

    @property
    def wake_ups(self) -> str:
        """The key of the stream of wake-ups; a service must have been started before."""
        with self.connect() as link, link.cursor() as cursor:
            cursor.execute("SELECT id::text FROM deployment")
            [(deployment,)] = cursor.fetchall()
        return f"{self.redis_prefix}:{deployment}:wake-ups"

    @contextmanager
    def connect(self) -> Iterator[connection]:
        """Connect directly to the database, in autocommit mode."""
        link = psycopg2.connect(self.database_url)
        link.autocommit = True
        try:
            yield link
        finally:
            link.close()


class TestCluster:
    """Both embedded servers, and databases on demand.

    Args:
        durable: Use fsync, as users' servers do. Without it tests take half the time; a killed server still
            loses nothing, only a crashed machine would.
    """

    __test__ = False

    def __init__(self, *, durable: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="oee-test-")
        self._durable = durable
        forgetful = {} if durable else {"fsync": "off", "full_page_writes": "off", "wal_compression": "off"}
        options = postgres.INITDB_OPTIONS if durable else (*postgres.INITDB_OPTIONS, "--no-sync")
        # On its command line, since ALTER SYSTEM does not override what the service puts there.
        with (
            patch.dict(postgres.SETTINGS, forgetful),
            patch.object(postgres, "INITDB_OPTIONS", options),
        ):
            self._servers = embedded.start(Path(self._folder.name), postgres=True, redis=True)
        # Tests call from several threads.
        self._making_template = threading.Lock()
        self._has_template = False
        # After the migration: what the schema is recognised by, and the rows by table.
        self._schema, self._rows = "", dict[str, str | None]()
        self._emptied: list[str] = []
        self._names = (f"test_{number}" for number in itertools.count(1))

    def new(self, *, empty: bool = False) -> TestServers:
        """Return a database, with or without the schema, and an unused Redis prefix."""
        name = next(self._names)
        if empty:
            database = name
            self._execute(f"CREATE DATABASE {database}")
        elif self._emptied:
            database = self._emptied.pop()
        else:
            database = name
            self._make_template()
            self._execute(f"CREATE DATABASE {database} TEMPLATE {_TEMPLATE}")
        assert self._servers.redis_url is not None
        return TestServers(self._url_of(database), self._servers.redis_url, name)

    def drop(self, servers: TestServers) -> None:
        """Release a database for reuse, since hundreds of tests need one."""
        try:
            emptied = self._empty(servers)
        except psycopg2.Error:
            # It never had the schema, or has lost it.
            emptied = False
        if emptied:
            self._emptied.append(servers.database)
        else:
            self._execute(f"DROP DATABASE {servers.database} WITH (FORCE)")

    def _empty(self, servers: TestServers) -> bool:
        """Restore a database's initial state; return False if that is impossible or slow."""
        with servers.connect() as link, link.cursor() as cursor:
            cursor.execute(_OTHERS)
            if cursor.fetchall() != [(0,)] or _schema_of(cursor) != self._schema:
                return False
            # Without triggers and foreign keys, so in any order.
            cursor.execute("SET session_replication_role = replica")
            for table, rows in self._rows.items():
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - a name from the catalogue
                if cursor.rowcount > _FEW_ROWS:
                    return False
                if rows is not None:
                    cursor.execute(_INSERT.format(table=table), [rows])
        return True

    def _make_template(self) -> None:
        """Create a template database with the schema: copying it is faster than migrating each."""
        with self._making_template:
            if self._has_template:
                return
            self._execute(f"CREATE DATABASE {_TEMPLATE}")
            with ThreadPoolExecutor(1) as beside_any_loop:
                beside_any_loop.submit(asyncio.run, _migrate(self._url_of(_TEMPLATE))).result()
            with closing(psycopg2.connect(self._url_of(_TEMPLATE))) as link, link.cursor() as cursor:
                cursor.execute("SHOW fsync")
                assert cursor.fetchall() == [("on" if self._durable else "off",)]
                self._schema = _schema_of(cursor)
                cursor.execute(_TABLES)
                for (table,) in cursor.fetchall():
                    cursor.execute(f"SELECT jsonb_agg(t)::text FROM {table} AS t")  # noqa: S608 - as above
                    [(self._rows[table],)] = cursor.fetchall()
            self._has_template = True

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
        """Stop the servers and delete their data."""
        self._servers.stop()
        self._folder.cleanup()


def _schema_of(cursor: cursor) -> str:
    """Return what a database's schema and settings are recognised by."""
    cursor.execute(_SCHEMA)
    [(schema,)] = cursor.fetchall()
    return str(schema)


async def _migrate(database_url: str) -> None:
    database = Database(database_url, size=1, clock=Clock())
    await migrate(database)
    await database.close()
