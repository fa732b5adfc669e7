"""A pool of connections to PostgreSQL. Each runs one statement at a time, first come, first served.

Every statement is its own transaction: no lock outlives a round trip, so a process that stops in between
holds no lock. Errors of the driver are handled here and nowhere else:

- A statement that PostgreSQL cancelled (a time-out) is not rejected; it becomes ``UnavailableError``.
- If one connection is dead, the others probably are too, so all idle ones are dropped. If a statement gets no
  answer in time, all connections without an answer since it began are dropped, in use or not; otherwise a
  network that drops packets would cost another time-out for each of them.
- PostgreSQL that is read-only, or has no disk space or memory left, is unavailable too; ``write_error`` tells
  why.
- While PostgreSQL is unavailable, a connection is attempted once every ``_RECONNECT_PAUSE_S``; other
  statements fail at once.
"""

import asyncio
import re
from collections import deque

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from service.clock import Clock
from service.postgres.queries import Query, R
from service.postgres.session import Parameters, Session, SessionOpener, SessionSettings, UnusableError
from service.urls import parse_postgres_url

STATEMENT_TIMEOUT_MS = 3_000
"""PostgreSQL cancels a statement that runs longer."""

_CONFLICTS = 4
_RECONNECT_PAUSE_S = 0.2
# While writes are rejected, some are repeated each second.
_WRITE_ERROR_KEPT_S = 3.0

_NO_ROOM: dict[type[psycopg2.Error], str] = {
    psycopg2.errors.DiskFull: "PostgreSQL's disk is full",
    psycopg2.errors.OutOfMemory: "PostgreSQL has no memory left",
}
_READ_ONLY = "PostgreSQL is read-only"

_CANNOT_CONNECT = (psycopg2.Error, TimeoutError, OSError, UnusableError)

# Messages of libpq, PostgreSQL and PgBouncer for errors that a retry cannot fix. They have no error code; in
# another language than English they count as transient.
_HOPELESS = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|(role|user|database) \S+ does not exist"
    r"|is not permitted to log in|permission denied for database|no such (database|user)"
    r"|bouncer config error|startup parameter|command-line|unrecognized configuration parameter"
    r"|invalid value for parameter"
    r"|does not support SSL|certificate|invalid \S+ value|invalid integer value|invalid port",
    re.IGNORECASE,
)


class UnavailableError(Exception):
    """PostgreSQL did not answer.

    ``unknown`` is whether the statement may have been executed; False if it was never sent.
    """

    def __init__(self, reason: str, *, unknown: bool) -> None:
        super().__init__(reason)
        self.unknown = unknown


class RefusedError(UnavailableError):
    """PostgreSQL rejects the connection (wrong password, no such database, ...), or is too old."""


def _is_refusal(error: psycopg2.Error) -> bool:
    """Return whether PostgreSQL rejected a statement, rather than being unavailable or a standby."""
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return False
    if isinstance(error, psycopg2.errors.ReadOnlySqlTransaction):
        return False  # a standby, after a fail-over: the primary is elsewhere
    # An error without a code did not come from the server: its answer could not be read. The exceptions are
    # statements that the driver refuses to send.
    return error.pgcode is not None or isinstance(error, psycopg2.ProgrammingError | psycopg2.DataError)


def _lack_of_room(error: BaseException) -> str | None:
    """Return what PostgreSQL lacked to execute a statement, if that is why it did not, and goes on."""
    if not isinstance(error, psycopg2.Error) or error.diag.severity_nonlocalized != "ERROR":
        return None  # after FATAL or PANIC the statement may have been executed, and the session has ended
    return next((text for kind, text in _NO_ROOM.items() if isinstance(error, kind)), None)


class Database:
    """A fixed number of connections to one database.

    Args:
        url: See ``parse_postgres_url``.
        size: Maximum number of concurrent statements.
        clock: Times connections and reconnecting.
        beside: Another pool on the same server: when one detects a network failure, both drop connections.
    """

    def __init__(self, url: str, *, size: int, clock: Clock, beside: "Database | None" = None) -> None:
        target = parse_postgres_url(url)
        self.schema = target.schema
        self._connect_timeout_s = target.connect_timeout_s
        self._opener = SessionOpener(target, clock)
        self._size = size
        self._clock = clock
        self._idle: deque[Session] = deque()
        self._busy: set[Session] = set()
        self.group: list[Database] = [] if beside is None else beside.group
        self.group.append(self)
        self._slots_in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._no_connect_before = 0.0
        self._closed = False
        self._write_error = ""
        self._write_failed_at: float | None = None
        self.available = False
        """Whether the last statement or connection succeeded."""

    @property
    def write_error(self) -> str | None:
        """Why PostgreSQL has just rejected a write that it must accept; None if it has not."""
        failed_at = self._write_failed_at
        if failed_at is None or self._clock.monotonic() - failed_at > _WRITE_ERROR_KEPT_S:
            return None
        return self._write_error

    async def run(self, query: Query[R], parameters: Parameters | None = None) -> list[R]:
        """Run one statement in a transaction of its own, and return its rows.

        Raises:
            UnavailableError: No answer, or a transient conflict (a deadlock, a time-out).
            psycopg2.Error: PostgreSQL rejected the statement: a constraint, an invalid value, a bug.
        """
        await self._acquire_slot()
        try:
            return await self._run_on_connection(query, parameters)
        finally:
            self._release_slot()

    async def read(self, query: Query[R], parameters: Parameters | None = None) -> list[R]:
        """Run one read-only statement; if the connection turns out to be dead, retry once."""
        try:
            return await self.run(query, parameters)
        except UnavailableError as error:
            if not error.unknown:
                raise
            return await self.run(query, parameters)

    async def run_through_conflicts(self, query: Query[R], parameters: Parameters | None = None) -> list[R]:
        """Run a statement, with retries if it conflicts with other transactions on the same rows."""
        for _ in range(_CONFLICTS):
            try:
                return await self.run(query, parameters)
            except UnavailableError as error:
                if error.unknown:
                    raise
        return await self.run(query, parameters)

    async def close(self) -> None:
        """Close the idle connections; those in use are closed when their statement ends."""
        self._closed = True
        self._drop_idle()

    async def _acquire_slot(self) -> None:
        if self._slots_in_use < self._size:
            self._slots_in_use += 1
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self._release_slot()
            raise

    def _release_slot(self) -> None:
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self._slots_in_use -= 1

    async def _run_on_connection(self, query: Query[R], parameters: Parameters | None) -> list[R]:
        session = self._pop_idle() or await self.connect()
        began = self._clock.monotonic()
        self._busy.add(session)
        try:
            rows = await session.fetch(query, parameters)
        except BaseException as error:
            raise self._classify_error(error, session, began) from error
        finally:
            self._busy.discard(session)
        self.available = True
        self._return_session(session)
        return rows

    def _classify_error(self, error: BaseException, session: Session, began: float) -> BaseException:
        """Translate a statement's error, and keep or close its session."""
        if isinstance(error, psycopg2.extensions.QueryCanceledError):
            self._return_session(session)
            return UnavailableError("PostgreSQL cancelled the statement", unknown=True)
        if isinstance(error, psycopg2.extensions.TransactionRollbackError):
            self._return_session(session)
            return UnavailableError(f"conflict: {error}".strip(), unknown=False)
        if isinstance(error, psycopg2.Error) and _is_refusal(error):
            self._return_session(session)
            return error
        if lack := _lack_of_room(error):
            self._return_session(session)
            self._note_write_error(lack)
            return UnavailableError(str(error).strip(), unknown=False)
        session.close()
        if isinstance(error, TimeoutError):
            for database in self.group:
                database.drop_silent(since=began)
        if isinstance(error, psycopg2.Error | TimeoutError):
            self._drop_idle()
            self.available = False
            read_only = isinstance(error, psycopg2.errors.ReadOnlySqlTransaction)
            if read_only:
                self._note_write_error(_READ_ONLY)
            return UnavailableError(str(error).strip() or "no answer in time", unknown=not read_only)
        return error

    def _note_write_error(self, reason: str) -> None:
        self._write_error, self._write_failed_at = reason, self._clock.monotonic()

    async def connect(self, *, unhurried: bool = False) -> Session:
        """Open one session, for a caller that keeps it (and closes it).

        Args:
            unhurried: Whether its statements run without a time-out.

        Raises:
            RefusedError: PostgreSQL is reachable but rejects the connection.
            UnavailableError: PostgreSQL cannot be reached; never ``unknown``.
        """
        if self._clock.monotonic() < self._no_connect_before:
            raise UnavailableError("PostgreSQL is unavailable", unknown=False)
        settings = SessionSettings(self.schema, 0 if unhurried else STATEMENT_TIMEOUT_MS)
        try:
            # libpq's own connect_timeout does not apply to asynchronous connections.
            async with asyncio.timeout(self._connect_timeout_s):
                session = await self._opener.open(settings)
        except _CANNOT_CONNECT as error:
            self._no_connect_before = self._clock.monotonic() + _RECONNECT_PAUSE_S
            self.available = False
            reason = " ".join(str(error).split()) or "no answer in time"
            hopeless = isinstance(error, UnusableError) or _HOPELESS.search(reason)
            raise (RefusedError if hopeless else UnavailableError)(reason, unknown=False) from error
        session.answered_at = self._clock.monotonic()
        return session

    def _pop_idle(self) -> Session | None:
        while self._idle:
            session = self._idle.popleft()
            if not session.closed:
                return session
        return None

    def _return_session(self, session: Session) -> None:
        if self._closed or session.closed:
            session.close()
        else:
            session.answered_at = self._clock.monotonic()
            self._idle.append(session)

    def drop_silent(self, *, since: float) -> None:
        """Close every session whose last answer is older than a time; statements running on it fail."""
        for session in [*self._idle, *self._busy]:
            if session.answered_at < since:
                session.close()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.popleft().close()
