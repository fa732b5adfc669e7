"""aiopg's connection, with two of its ways mended.

- Asked whether a session that ended has closed its socket, it calls ``select``, which knows no descriptor
  above 1023: in a process with a thousand sockets the one who waits would wait for ever.
- What it raises it also reports to the event loop, as an error that nobody dealt with.
"""

import asyncio
import logging
from typing import Any
from weakref import ref

import aiopg
import psycopg2

log = logging.getLogger(__name__)


class Connection(aiopg.Connection):
    """A session with PostgreSQL. Await it to have it opened."""

    @staticmethod
    def _ready(weak_self: "ref[Connection]") -> None:
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
