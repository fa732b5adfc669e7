"""The HTTP server: the connections that are open, how many there may be, and a look at their waits.

One look at all of them every half second judges who waits for too long, so that a request costs no timer.
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

_LOOK_EVERY_S = 0.5
_AT_A_TIME = 500
"""Connections that are looked at before others have a turn: less than a millisecond."""

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server(web.Server):
    """aiohttp's server, of connections that do not wait for ever.

    Args:
        stock: aiohttp's own for the same application.
        limits: How long is waited, and for how many.
        clock: The time.
        largest_body: Bytes; a request that announces more is refused before it sends them.
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
        self._looks = Background("connections", self._look, clock)

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, self._loop, self._clock.monotonic)

    def start(self) -> None:
        """Begin to judge waits."""
        self._looks.start()

    async def stop(self) -> None:
        """Judge no more waits."""
        await self._looks.stop()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, or refuse it when there are too many."""
        super().connection_made(handler, transport)
        if len(self._open) < self._limits.connections:
            self._open[handler] = transport
        elif isinstance(handler, Connection):
            most = self._limits.connections
            log.warning("all %d connections are in use", most, extra={"fault": "connections"})
            handler.refuse(ServiceUnavailableError("Too many connections are open; try again."))

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_EVERY_S)
            ended = 0
            for number, (connection, transport) in enumerate(list(self._open.items()), 1):
                if number % _AT_A_TIME == 0:
                    await asyncio.sleep(0)
                if isinstance(connection, Connection) and connection in self._open:
                    ended += connection.look(self._clock.monotonic(), self._limits, transport)
            if ended:
                log.info("%d clients kept the server waiting for too long", ended, extra={"fault": "waits"})

    def _make(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        if isinstance(protocol, Connection):
            protocol.follow(payload)
        return self._stock.request_factory(message, payload, protocol, writer, task)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; what aiohttp refuses before the application sees it is a problem too."""
        if (request.content_length or 0) > self._largest_body:
            detail = f"A body may have {self._largest_body} bytes."
            return problems.respond(ProblemError.of_status(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail))
        try:
            return await self._stock.request_handler(request)
        except web.HTTPException as error:
            return problems.respond_to_http_exception(error)


class Runner(web.AppRunner):
    """Runs a web application behind such a server.

    Args:
        app: The application.
        limits: How long is waited for clients, and for how many.
        clock: The time.
        largest_body: Bytes.
        stop_s: What an answer that is not ready has when the service stops.
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
        """Stop, whatever the clients do."""
        if isinstance(self.server, Server):
            await self.server.stop()
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        stock = await super()._make_server()
        server = Server(stock, self._limits, self._clock, largest_body=self._largest_body)
        server.start()
        return server
