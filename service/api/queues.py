"""Limits the concurrency of expensive requests by kind, so that they do not delay anything else.

A client may repeat any request as fast as it is answered, over any number of connections. Cheap requests run
concurrently without a limit. Of each expensive kind only a few run at once, first come, first served, so that
connections to PostgreSQL and event loop time remain for the execution of orders.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from service.api.problems import ServiceUnavailableError

LONGEST_QUEUE = 1_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def at_most(count: int, handler: Handler) -> Handler:
    """Return a handler that runs at most ``count`` requests at once; the others wait, in order.

    If a thousand requests are waiting, the response is 503. Requests of disconnected clients are dropped.
    """
    turns = asyncio.Semaphore(count)
    waiting = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal waiting
        if waiting >= LONGEST_QUEUE:
            raise ServiceUnavailableError("Too many requests of this kind are waiting; try again.")
        # Read the body first, so that a slow client does not occupy a place. The handler reads it again, from
        # memory, and handles an unreadable body.
        with contextlib.suppress(web.RequestPayloadError, ConnectionError):
            await request.read()
        waiting += 1
        try:
            await turns.acquire()
        finally:
            waiting -= 1
        try:
            if request.transport is None:
                raise ConnectionResetError("the client has disconnected")
            return await handler(request)
        finally:
            turns.release()

    return answer
