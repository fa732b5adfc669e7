"""aiopg's connection with its own socket handling, which replaces that of aiopg.

aiopg's has four bugs. They make a statement wait for an answer that has already arrived, and the second also
kills the process: libuv, which uvloop uses, aborts when it is told to watch a closed socket.

- On a socket error (POLLERR) uvloop's poll handle calls the reader once and closes itself. When a session was
  terminated, libpq must poll twice: once for the message, once for the end of the connection.
- While connecting, libpq closes a socket that was reset, and may open another, often with the same
  descriptor: for the next address of a host, or without TLS. The event loop still watches the old one.
- It uses ``select`` to check whether a socket is closed, which fails for descriptors above 1023.
- It uses ``wait_for``, which in Python 3.11 may swallow a cancellation.
"""

import asyncio
import contextlib
import os
import select
from weakref import ref

import aiopg
import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE

_STATES = frozenset({POLL_OK, POLL_READ, POLL_WRITE})
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Connection(aiopg.Connection):
    """A session with PostgreSQL. Await it to open it.

    Its statements raise psycopg2's errors, and ``TimeoutError``; a time-out or a cancellation closes the
    connection.
    """

    _open = False
    _inode = 0

    @staticmethod
    def _ready(weak_self: "ref[aiopg.Connection]") -> None:
        connection = weak_self()
        if isinstance(connection, Connection):
            connection._advance()  # noqa: SLF001 - this class's own

    def _advance(self) -> None:
        """Let libpq make progress, and watch the socket for what it needs next."""
        try:
            state = self._conn.poll()
            if state not in _STATES:
                raise psycopg2.OperationalError("the connection is broken")
        except psycopg2.Error as error:
            self._fail_waiter(error)
            return
        if not self._open:
            self._follow_socket()
        if state == POLL_OK:
            self._open = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
        self._watch_for_writing(wanted=state == POLL_WRITE)
        self._poll_again_if_broken()

    def _fail_waiter(self, error: psycopg2.Error) -> None:
        """Pass the error to the waiter. A statement's own error leaves the connection open."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if self._open and not self._conn.closed and self._conn.fileno() == self._fileno:
            self._watch_for_writing(wanted=False)
        else:
            # Close at once: the next connection may get the same descriptor.
            self.close()

    def _watch_for_writing(self, *, wanted: bool) -> None:
        if self._fileno is None:
            return
        if wanted and not self._writing:
            self._loop.add_writer(self._fileno, self._ready, self._weakref)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._fileno)
        self._writing = wanted

    def _follow_socket(self) -> None:
        """Watch libpq's current socket; its descriptor may be the same as the previous one's."""
        fileno = self._conn.fileno()
        inode = os.fstat(fileno).st_ino
        if inode != self._inode:
            self._unwatch()
            self._fileno, self._inode = fileno, inode
            self._loop.add_reader(fileno, self._ready, self._weakref)

    def _poll_again_if_broken(self) -> None:
        """Keep polling a broken socket until libpq sees the end: the event loop may not report it again."""
        if self._fileno is None:
            return
        poll = select.poll()
        poll.register(self._fileno, 0)
        if any(events & _BROKEN for _, events in poll.poll(0)):
            self._loop.call_soon(self._poll_again)

    def _poll_again(self) -> None:
        if self._fileno is not None:
            self._advance()

    def _unwatch(self) -> None:
        if self._fileno is None:
            return
        fileno, self._fileno = self._fileno, None
        if self._writing:
            self._writing = False
            # asyncio raises if the socket is already closed.
            with contextlib.suppress(OSError):
                self._loop.remove_writer(fileno)
        self._loop.remove_reader(fileno)

    def _close(self) -> None:
        if not self._loop.is_closed():
            self._unwatch()
        super()._close()

    async def _poll(self, waiter: "asyncio.Future[None]", timeout: float) -> None:  # noqa: ASYNC109 - aiopg's
        self._advance()
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except (asyncio.CancelledError, TimeoutError):
            self.close()
            raise
        finally:
            self._waiter = None
