"""aiopg's connection, with three of its ways mended.

- Asked whether a session that ended has closed its socket, it calls ``select``, which knows no descriptor
  above 1023: in a process with a thousand sockets the one who waits would wait for ever.
- It trusts the event loop to tell of every answer. Now and then, after PostgreSQL was restarted, uvloop does
  not, and the one who waits would wait until the statement's time is over.
- What it raises it also reports to the event loop, as an error that nobody dealt with.
"""

import asyncio
import logging
from typing import Any
from weakref import ref

import aiopg
import psycopg2

log = logging.getLogger(__name__)

_NUDGES_S = (0.5, 2.0)


class Connection(aiopg.Connection):
    """A session with PostgreSQL. Await it to have it opened."""

    async def _poll(self, waiter: "asyncio.Future[None]", timeout: float) -> None:  # noqa: ASYNC109 - aiopg's
        nudges = [self._loop.call_later(delay_s, self._nudge) for delay_s in _NUDGES_S]
        try:
            await super()._poll(waiter, timeout)
        finally:
            for nudge in nudges:
                nudge.cancel()

    def _nudge(self) -> None:
        """Look whether an answer is there that the event loop has not told of."""
        self._ready(self._weakref)

    @staticmethod
    def _ready(weak_self: "ref[aiopg.Connection]") -> None:
        try:
            aiopg.Connection._ready(weak_self)  # noqa: SLF001 - the base class's half of the same
        except ValueError:
            connection = weak_self()
            if connection is not None:
                # Tells the one who waits that the session has ended, which is what it was about.
                connection.close()


def loop_errors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what an event loop reports, except what the driver has raised as well."""
    if isinstance(context.get("exception"), psycopg2.Error) or "aiopg" in context.get("message", ""):
        log.debug("%s", context.get("message"))
        return
    loop.default_exception_handler(context)
