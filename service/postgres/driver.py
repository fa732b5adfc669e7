"""aiopg's connection, with its own way to wait for the socket.

aiopg's way has four faults. They make a statement wait for an answer that has arrived, and the second also
ends the process: libuv, below uvloop, aborts when it is to watch a socket that was closed.

- uvloop's poll handle answers an error of the socket (POLLERR) by calling the reader once and closing itself.
  libpq needs two looks at a session that was ended: one for the message, one for the end.
- While it connects, libpq closes a socket that was reset, and may open another, often with the same number:
  for the next address of a host, or for a try without TLS. The event loop still watches the old one.
- It asks ``select`` whether a socket is closed, which knows no descriptor above 1023.
- It waits by ``wait_for``, which in Python 3.11 may swallow a cancellation.
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
    """A session with PostgreSQL. Await it to have it opened.

    Its statements raise what psycopg2 raises, and ``TimeoutError`` after their time; that, and a
    cancellation, close the connection.
    """

    _open = False
    _inode = 0

    @staticmethod
    def _ready(weak_self: "ref[aiopg.Connection]") -> None:
        connection = weak_self()
        if isinstance(connection, Connection):
            connection._advance()  # noqa: SLF001 - it is our own

    def _advance(self) -> None:
        """Let libpq do what it can now, and wait for what it needs next."""
        try:
            state = self._conn.poll()
            if state not in _STATES:
                raise psycopg2.OperationalError("the connection is broken")
        except psycopg2.Error as error:
            self._tell_error(error)
            return
        if not self._open:
            self._follow_socket()
        if state == POLL_OK:
            self._open = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
        self._watch_for_writing(wanted=state == POLL_WRITE)
        self._look_again_if_broken()

    def _tell_error(self, error: psycopg2.Error) -> None:
        """Tell the waiter. A statement's own error leaves the connection open."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if self._open and not self._conn.closed and self._conn.fileno() == self._fileno:
            self._watch_for_writing(wanted=False)
        else:
            # At once: the next connection may get a descriptor of the same number.
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
        """Watch the socket that libpq uses now; its number may be that of the one before."""
        fileno = self._conn.fileno()
        inode = os.fstat(fileno).st_ino
        if inode != self._inode:
            self._unwatch()
            self._fileno, self._inode = fileno, inode
            self._loop.add_reader(fileno, self._ready, self._weakref)

    def _look_again_if_broken(self) -> None:
        """Have libpq look at a broken socket until it has seen the end: the loop may not tell of it again."""
        if self._fileno is None:
            return
        poll = select.poll()
        poll.register(self._fileno, 0)
        if any(events & _BROKEN for _, events in poll.poll(0)):
            self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        if self._fileno is not None:
            self._advance()

    def _unwatch(self) -> None:
        if self._fileno is None:
            return
        fileno, self._fileno = self._fileno, None
        if self._writing:
            self._writing = False
            # asyncio fails to go on reading from a socket that is closed already.
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
