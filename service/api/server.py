"""The HTTP server: the open connections, their maximum number, and their time-outs.

Time-outs are checked for all connections every half second, so that a request needs no timer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from service.api import problems
from service.api.connection import Connection, ConnectionLimits
from service.api.problems import ProblemError, ServiceUnavailableError
from service.background import Background
from service.clock import Clock

log = logging.getLogger(__name__)

_CHECK_EVERY_S = 0.5
_CHECKS_PER_YIELD = 500
"""Connections checked between two yields to the event loop: less than a millisecond."""

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server(web.Server):
    """aiohttp's server with time-outs for connections.

    Args:
        stock: aiohttp's own server for the same application.
        limits: The time-outs, and the maximum number of connections.
        clock: The clock.
        largest_body: Bytes; a request with a larger Content-Length is rejected before its body is sent.
    """

    def __init__(
        self, stock: web.Server, limits: ConnectionLimits, clock: Clock, *, largest_body: int
    ) -> None:
        super().__init__(self._handle, request_factory=self._make)
        self._stock = stock
        self._limits = limits
        self._clock = clock
        self._largest_body = largest_body
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._checks = Background("connections", self._check_forever, clock)

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, self._loop, self._clock.monotonic)

    def start(self) -> None:
        """Begin to check time-outs."""
        self._checks.start()

    async def stop(self) -> None:
        """Stop checking time-outs."""
        await self._checks.stop()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Accept a connection, or reject it if there are too many."""
        super().connection_made(handler, transport)
        if len(self._open) < self._limits.connections:
            self._open[handler] = transport
        elif isinstance(handler, Connection):
            most = self._limits.connections
            log.warning("the limit of %d connections is reached", most, extra={"fault": "connections"})
            handler.refuse(ServiceUnavailableError("Too many connections are open; try again."))

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Remove a connection."""
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)

    async def _check_forever(self) -> None:
        while True:
            await self._clock.sleep(_CHECK_EVERY_S)
            ended = 0
            for number, (connection, transport) in enumerate(list(self._open.items()), 1):
                if number % _CHECKS_PER_YIELD == 0:
                    await asyncio.sleep(0)
                if isinstance(connection, Connection) and connection in self._open:
                    ended += connection.check_timeouts(self._clock.monotonic(), self._limits, transport)
            if ended:
                log.info("%d connections timed out", ended, extra={"fault": "waits"})

    def _make(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if isinstance(protocol, Connection):
            protocol.set_body(payload)
        return self._stock.request_factory(message, payload, protocol, writer, task)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; requests that aiohttp rejects before the application get a problem too."""
        if (request.content_length or 0) > self._largest_body:
            detail = f"The body must not exceed {self._largest_body} bytes."
            return problems.respond(ProblemError.of_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail))
        try:
            return await self._stock.request_handler(request)
        except web.HTTPException as error:
            return problems.respond_to_http_exception(error)


class Runner(web.AppRunner):
    """Runs a web application with this server.

    Args:
        app: The application.
        limits: The time-outs, and the maximum number of connections.
        clock: The clock.
        largest_body: Bytes.
        stop_s: How long a stop waits for unfinished responses.
    """

    __slots__ = ("_clock", "_largest_body", "_limits")

    def __init__(
        self,
        app: web.Application,
        limits: ConnectionLimits,
        clock: Clock,
        *,
        largest_body: int,
        stop_s: float,
    ) -> None:
        super().__init__(app, shutdown_timeout=stop_s)
        self._limits = limits
        self._clock = clock
        self._largest_body = largest_body

    async def cleanup(self) -> None:
        """Stop the server, regardless of its clients."""
        if isinstance(self.server, Server):
            await self.server.stop()
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        stock = await super()._make_server()
        server = Server(stock, self._limits, self._clock, largest_body=self._largest_body)
        server.start()
        return server
