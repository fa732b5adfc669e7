"""Requests that cost much wait for one another, kind by kind, so that nobody else waits for them.

A client may repeat any request as fast as it is answered, over as many connections as it likes. What is
cheap is answered side by side; of each dear kind only so many are answered at once, first come first served,
so that connections to PostgreSQL and turns of the event loop are left for the execution of orders.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from service.api.problems import ServiceUnavailableError

LONGEST_QUEUE = 1_000

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def at_most(count: int, handler: _Handler) -> _Handler:
    """Return a handler that answers so many requests at once; the others wait, in order.

    A request that finds a thousand waiting is answered with 503. One whose client has gone is not worked on.
    """
    turns = asyncio.Semaphore(count)
    waiting = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal waiting
        if waiting >= LONGEST_QUEUE:
            raise ServiceUnavailableError("Too many requests like this one are waiting; try again.")
        # Read first: a client that is slow to send takes up its own time only. The handler reads it again,
        # from memory, and deals with a body that cannot be read.
        with contextlib.suppress(web.RequestPayloadError, ConnectionError):
            await request.read()
        waiting += 1
        try:
            await turns.acquire()
        finally:
            waiting -= 1
        try:
            if request.transport is None:
                raise ConnectionResetError("the client has gone")
            return await handler(request)
        finally:
            turns.release()

    return answer
