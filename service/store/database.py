"""Connections to PostgreSQL, lent to one statement at a time, first come first served.

Every statement is its own transaction: no lock outlives a round trip, so a process that is stopped
in the middle holds nothing. The driver's ways that matter are dealt with here and nowhere else:

- A statement that PostgreSQL cancelled (a time-out) is no refusal; it becomes ``UnavailableError``.
- A connection found dead says that its neighbours probably are: all idle ones are dropped with it.
- While PostgreSQL is away, connecting is tried once every ``_RECONNECT_PAUSE_S``; others fail at
  once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import orjson
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

from service.clock import Clock
from service.store.driver import Connection
from service.store.queries import Query

log = logging.getLogger(__name__)

Row = tuple[Any, ...]

STATEMENT_TIMEOUT_MS = 3_000
"""PostgreSQL ends a statement that runs longer."""

_ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_MS / 1000 + 1
_CONNECT_TIMEOUT_S = 3
_A_DAY_S = 86_400.0
_CONFLICTS = 4
_RECONNECT_PAUSE_S = 0.2

_CANNOT_CONNECT = (psycopg2.OperationalError, psycopg2.InterfaceError, TimeoutError, OSError)

# Of a Prisma-style URL; libpq refuses parameters it does not know.
_NOT_FOR_LIBPQ = frozenset(
    {
        "schema",
        "connection_limit",
        "pool_timeout",
        "pgbouncer",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
        "single_use_connections",
    }
)

_NUMERIC_AS_INT = psycopg2.extensions.new_type(
    (1700,), "NUMERIC_AS_INT", lambda value, _cursor: None if value is None else int(value)
)


class UnavailableError(Exception):
    """PostgreSQL did not answer.

    ``unknown`` says whether the statement may have been executed: False when it was never sent.
    """

    def __init__(self, reason: str, *, unknown: bool) -> None:
        super().__init__(reason)
        self.unknown = unknown


def dsn_from_url(url: str) -> tuple[str, str]:
    """Split a database URL into what libpq understands and the schema.

    Args:
        url: ``postgresql://...``; ``?schema=name`` is understood and defaults to ``public``.

    Returns:
        The URL without the parameters that are not libpq's, and the schema's name.
    """
    address, _, options = url.partition("?")
    # libpq takes a plus sign for a plus sign.
    parameters = parse_qsl(options.replace("+", "%2B"), keep_blank_values=True)
    schema = dict(parameters).get("schema") or "public"
    for_libpq = [pair for pair in parameters if pair[0] not in _NOT_FOR_LIBPQ]
    return f"{address}?{urlencode(for_libpq, quote_via=quote)}", schema


def _is_refusal(error: psycopg2.Error) -> bool:
    """Return whether PostgreSQL refused a statement, rather than went away or became a standby."""
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return False
    if isinstance(error, psycopg2.errors.ReadOnlySqlTransaction):
        return False  # a standby, after a fail-over: the primary is elsewhere
    # An error that did not come from the server is an answer that could not be read; what the driver
    # refuses to send is the exception.
    return error.pgcode is not None or isinstance(error, psycopg2.ProgrammingError | psycopg2.DataError)


class Database:
    """A fixed number of connections to one database.

    Args:
        url: see ``dsn_from_url``.
        size: how many statements run at once.
        clock: told PostgreSQL's time by those who read it; paces reconnecting.
    """

    def __init__(self, url: str, *, size: int, clock: Clock) -> None:
        self.dsn, self.schema = dsn_from_url(url)
        self._size = size
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._lent = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._no_connect_before = 0.0
        self._closed = False
        self.available = False
        """Whether the last statement or connection succeeded."""

    async def run(self, query: Query, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement in a transaction of its own, and return its rows.

        Raises:
            UnavailableError: no answer, or a conflict that passes (a deadlock, a time-out).
            psycopg2.Error: PostgreSQL refused the statement: a constraint, a value, a mistake.
        """
        await self._wait_for_turn()
        try:
            return await self._run_on_connection(query.sql, parameters)
        finally:
            self._pass_turn()

    async def read(self, query: Query, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement that changes nothing; a connection found dead costs one more try."""
        try:
            return await self.run(query, parameters)
        except UnavailableError as error:
            if not error.unknown:
                raise
            return await self.run(query, parameters)

    async def run_through_conflicts(
        self, query: Query, parameters: Mapping[str, Any] | None = None
    ) -> list[Row]:
        """Run a statement, and again if it conflicts with those who work on the same rows."""
        for _ in range(_CONFLICTS):
            try:
                return await self.run(query, parameters)
            except UnavailableError as error:
                if error.unknown:
                    raise
        return await self.run(query, parameters)

    async def close(self) -> None:
        """Close the idle connections; those lent are closed when they come back."""
        self._closed = True
        self._drop_idle()

    async def _wait_for_turn(self) -> None:
        if self._lent < self._size:
            self._lent += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_turn()
            raise

    def _pass_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._lent -= 1

    async def _run_on_connection(self, sql: str, parameters: Mapping[str, Any] | None) -> list[Row]:
        connection = self._take_idle() or await self.connect()
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(sql, parameters)
                rows: list[Row] = await cursor.fetchall() if cursor.description else []
        except BaseException as error:
            raise self._judge(error, connection) from error
        self.available = True
        self._take_back(connection)
        return rows

    def _judge(self, error: BaseException, connection: Connection) -> BaseException:
        """Say what a failed statement means, and what becomes of its connection."""
        if isinstance(error, psycopg2.extensions.QueryCanceledError):
            self._take_back(connection)
            return UnavailableError("PostgreSQL cancelled the statement", unknown=True)
        if isinstance(error, psycopg2.extensions.TransactionRollbackError):
            self._take_back(connection)
            return UnavailableError(f"conflict: {error}".strip(), unknown=False)
        if isinstance(error, psycopg2.Error) and _is_refusal(error):
            self._take_back(connection)
            return error
        connection.close()
        if isinstance(error, psycopg2.Error | TimeoutError):
            self._drop_idle()
            self.available = False
            read_only = isinstance(error, psycopg2.errors.ReadOnlySqlTransaction)
            return UnavailableError(str(error).strip() or "no answer in time", unknown=not read_only)
        return error

    async def connect(self, *, unhurried: bool = False) -> Connection:
        """Open one connection, for a caller that keeps it (and closes it).

        Args:
            unhurried: whether its statements may take as long as they like.

        Raises:
            UnavailableError: PostgreSQL cannot be reached; never ``unknown``.
        """
        if self._clock.monotonic() < self._no_connect_before:
            raise UnavailableError("PostgreSQL is away", unknown=False)
        try:
            # libpq's own connect_timeout does not apply to asynchronous connections.
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                connection = Connection(
                    self.dsn,
                    _A_DAY_S if unhurried else _ANSWER_TIMEOUT_S,
                    enable_hstore=False,
                    enable_uuid=False,
                    application_name="order-execution-engine",
                    options=self._session_options(0 if unhurried else STATEMENT_TIMEOUT_MS),
                    keepalives_idle=10,
                    keepalives_interval=5,
                    keepalives_count=2,
                )
                await connection
        except _CANNOT_CONNECT as error:
            self._no_connect_before = self._clock.monotonic() + _RECONNECT_PAUSE_S
            self.available = False
            raise UnavailableError(str(error).strip() or "no answer", unknown=False) from error
        psycopg2.extensions.register_type(_NUMERIC_AS_INT, connection.raw)
        psycopg2.extras.register_default_jsonb(connection.raw, loads=orjson.loads)
        return connection

    def _session_options(self, statement_timeout_ms: int) -> str:
        path = self.schema.replace("\\", "\\\\").replace(" ", "\\ ")
        return (
            f'-c search_path="{path}" -c statement_timeout={statement_timeout_ms}'
            " -c idle_in_transaction_session_timeout=5000 -c timezone=UTC -c jit=off"
        )

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.popleft()
            if not connection.closed:
                return connection
        return None

    def _take_back(self, connection: Connection) -> None:
        if self._closed or connection.closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.popleft().close()
