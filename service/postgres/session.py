"""Sessions with PostgreSQL whose settings are in effect, directly and behind a pooler.

Without a pooler the settings are startup parameters. A pooler such as PgBouncer rejects or drops those, and
may run each transaction in another session. Then each statement sets them, in the same message and so in the
same transaction. The session detects a pooler with a startup parameter of its own: if it does not arrive,
there is one.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg2
import psycopg2.extensions
import psycopg2.extras
from psycopg2.extensions import quote_ident

from service.clock import Clock
from service.postgres.addresses import Addresses
from service.postgres.driver import Connection
from service.postgres.queries import Query, R, Row
from service.turns import Steps, Turns
from service.urls import PostgresUrl

log = logging.getLogger(__name__)

_OLDEST_VERSION = 15
_ANSWER_MARGIN_S = 1.0
_A_DAY_S = 86_400.0

_DEFAULTS = {
    "application_name": "order-execution-engine",
    "client_encoding": "UTF8",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
}
_MARK = "order_execution_engine.startup"
_IN_FORCE = """
SELECT current_setting(%s, true) IS NOT NULL, current_setting('search_path'),
    (extract(epoch FROM current_setting('statement_timeout')::interval) * 1000)::integer,
    current_setting('timezone')
"""
_REFUSES_OPTIONS = re.compile(r"startup parameter|command-line option", re.IGNORECASE)

_NUMERIC_AS_INT = psycopg2.extensions.new_type(
    (1700,), "NUMERIC_AS_INT", lambda value, _cursor: None if value is None else int(value)
)


Parameters = Mapping[str, object]
"""A statement's parameters, by name."""


class UnusableError(Exception):
    """PostgreSQL, or its pooler, is reachable but not usable; the message says why."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings for every statement of a session. A time-out of 0 is none."""

    schema: str
    statement_timeout_ms: int

    @property
    def search_paths(self) -> tuple[str, str]:
        """The forms in which PostgreSQL may show the search path."""
        escaped = self.schema.replace('"', '""')
        return self.schema, f'"{escaped}"'

    @property
    def startup_options(self) -> str:
        """The settings as libpq's startup parameter ``options``."""
        path = self.search_paths[1].replace("\\", "\\\\").replace(" ", "\\ ")
        return (
            f"-c search_path={path} -c statement_timeout={self.statement_timeout_ms}"
            " -c idle_in_transaction_session_timeout=5000 -c timezone=UTC -c jit=off"
            # The default, which a role or a database may have changed.
            f" -c default_transaction_isolation=read\\ committed -c {_MARK}=on"
        )


class Session:
    """One session, for one statement at a time.

    Args:
        connection: An open connection, which the session closes.
        turns: Yields to the event loop while large results are read.
        prefix: SQL that precedes each statement.
    """

    def __init__(self, connection: Connection, turns: Turns, prefix: str = "") -> None:
        self._connection = connection
        self._turns = turns
        self._prefix = prefix
        # The names of the statements whose columns have been checked.
        self._checked: set[str] = set()
        self.answered_at = 0.0
        """When the server last answered, in the clock's monotonic time; set by the session's user."""

    @property
    def closed(self) -> bool:
        """Whether it was closed, from either side."""
        return bool(self._connection.closed)

    async def run(self, sql: str, parameters: Parameters | tuple[object, ...] | None = None) -> list[Row]:
        """Run a statement, or several, as one transaction; return the rows of the last.

        Raises:
            psycopg2.Error: PostgreSQL's error, or the connection's.
            TimeoutError: No answer in time; the session is closed.
        """
        return await self.fetch(Query("", sql), parameters)

    async def fetch(
        self, query: Query[R], parameters: Parameters | tuple[object, ...] | None = None
    ) -> list[R]:
        """Run a statement of ``sql/``; return its rows in the statement's row type.

        Raises:
            QueryError: The columns are not those of the row type.
            psycopg2.Error: PostgreSQL's error, or the connection's.
            TimeoutError: No answer in time; the session is closed.
        """
        prefix = self._prefix if parameters is None else self._prefix.replace("%", "%%")
        async with self._connection.cursor() as cursor:
            await cursor.execute(prefix + query.sql, parameters)
            if not cursor.description:
                return []
            if query.columns is not None and query.name not in self._checked:
                query.check([column.name for column in cursor.description])
                self._checked.add(query.name)
            # The result has arrived, but decoding large rows takes time.
            return await self._turns.run(_rows(cursor.raw, query.make))

    def quote_name(self, name: str) -> str:
        """Return a name quoted for SQL."""
        return quote_ident(name, self._connection.raw)

    def mogrify(self, sql: str, parameters: tuple[object, ...]) -> str:
        """Return SQL with its parameters bound."""
        with self._connection.raw.cursor() as cursor:
            text: bytes = cursor.mogrify(sql, parameters)
        return text.decode()

    def close(self) -> None:
        """Close it; an uncommitted transaction is rolled back."""
        self._connection.close()


class SessionOpener:
    """Opens sessions with one database.

    Args:
        url: The database's URL.
        clock: Measures how long a large result blocks the event loop.
    """

    def __init__(self, url: PostgresUrl, clock: Clock) -> None:
        self._url = url
        self._turns = Turns(clock)
        self._addresses = Addresses()
        self._pooled = False
        """Whether a pooler was detected."""

    async def open(self, settings: SessionSettings) -> Session:
        """Open a session in which the settings are in effect.

        Raises:
            UnusableError: The settings cannot be applied, PostgreSQL is too old, or the database is not
                in UTF-8.
            psycopg2.Error: It cannot be opened.
            OSError: A host name cannot be resolved.
        """
        parameters = _DEFAULTS | await self._addresses.resolve(self._url.parameters)
        connection = await self._connect(parameters, settings)
        try:
            return await self._with_settings(connection, settings)
        except BaseException:
            connection.close()
            raise

    async def _connect(self, parameters: dict[str, str], settings: SessionSettings) -> Connection:
        if self._pooled:
            return await _connect(parameters, settings)
        options = f"{parameters.get('options', '')} {settings.startup_options}".strip()
        try:
            return await _connect({**parameters, "options": options}, settings)
        except psycopg2.OperationalError as error:
            if not _REFUSES_OPTIONS.search(str(error)):
                raise
        connection = await _connect(parameters, settings)
        self._note_pooler()
        return connection

    async def _with_settings(self, connection: Connection, settings: SessionSettings) -> Session:
        version = connection.raw.server_version // 10_000
        if 0 < version < _OLDEST_VERSION:
            raise UnusableError(f"PostgreSQL {version} is too old: {_OLDEST_VERSION} or newer is needed")
        encoding = connection.raw.get_parameter_status("server_encoding")
        if encoding != "UTF8":
            raise UnusableError(f"the database's encoding is {encoding}: UTF8 is needed")
        session = Session(connection, self._turns)
        [(arrived, *in_force)] = await session.run(_IN_FORCE, (_MARK,))
        if not arrived:
            self._note_pooler()
            session = Session(connection, self._turns, _prefix(settings, connection))
            [(_, *in_force)] = await session.run(_IN_FORCE, (_MARK,))
        path, *others = in_force
        if path not in settings.search_paths or others != [settings.statement_timeout_ms, "UTC"]:
            raise UnusableError(
                "search_path, statement_timeout and TimeZone cannot be set through the pooler:"
                " use the address of PostgreSQL itself"
            )
        return session

    def _note_pooler(self) -> None:
        if not self._pooled:
            self._pooled = True
            log.info("PostgreSQL is behind a pooler: each statement sets its settings")


def _rows(cursor: psycopg2.extensions.cursor, make: Callable[[Row], R] | None) -> Steps[list[R]]:
    rows: list[Any] = []
    for row in cursor:
        rows.append(row if make is None else make(row))
        yield
    return rows


def _prefix(settings: SessionSettings, connection: Connection) -> str:
    return (
        "SET LOCAL transaction_isolation = 'read committed';"
        f" SET LOCAL search_path = {quote_ident(settings.schema, connection.raw)};"
        f" SET LOCAL statement_timeout = {settings.statement_timeout_ms};"
        " SET LOCAL timezone = 'UTC'; SET LOCAL jit = off;\n"
    )


async def _connect(parameters: Mapping[str, Any], settings: SessionSettings) -> Connection:
    timeout_ms = settings.statement_timeout_ms
    connection = Connection(
        None,
        timeout_ms / 1000 + _ANSWER_MARGIN_S if timeout_ms else _A_DAY_S,
        enable_hstore=False,
        enable_uuid=False,
        **parameters,
    )
    await connection
    register_types(connection.raw)
    return connection


def register_types(connection: psycopg2.extensions.connection) -> None:
    """Decode a connection's numerics as integers, and its JSON with orjson."""
    psycopg2.extensions.register_type(_NUMERIC_AS_INT, connection)
    psycopg2.extras.register_default_jsonb(connection, loads=orjson.loads)
