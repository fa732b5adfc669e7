"""One client's WebSocket, from the handshake to the end of its connection, for clients fast or slow.

It has a reader, which detects that the client closes or disconnects, and a sender, which the stream provides.
Whichever ends first ends the stream; only then, and only here, is the socket closed, so that the closing
handshake can complete.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine

from aiohttp import WSCloseCode, WSMsgType, web

from service.background import cancel
from service.clock import Clock
from service.domain.api_key import Caller

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 2.0
"""How long the client's close frame is waited for."""

_SEND_TIMEOUT_S = 10.0

_CLOSED = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})

SendAll = Callable[["ClientSocket"], Coroutine[object, object, None]]
"""Sends a stream's messages over a socket; returns after the last one."""


class ClientSocket:
    """A client's socket.

    Args:
        socket: The socket, prepared, with a close time-out and without automatic pongs.
        transport: The socket's transport.
        clock: Measures how long a send takes.
        caller: Whose socket it is.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        clock: Clock,
        caller: Caller,
    ) -> None:
        self.caller = caller
        self.ended = asyncio.Event()
        self.heard = True
        """Whether anything was received since ``Heartbeats`` last reset it."""
        self._socket = socket
        self._transport = transport
        self._clock = clock
        self._sending_since: float | None = None
        self._closing = False
        self._close_request: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        # Pings carry the number of messages before them: a pong means that the client has read these.
        self._sent = 0
        self._read = 0
        self._caught_up = asyncio.Event()

    @property
    def is_stuck(self) -> bool:
        """Whether the current send exceeds its time-out."""
        since = self._sending_since
        return since is not None and since < self._clock.monotonic() - _SEND_TIMEOUT_S

    @property
    def is_backed_up(self) -> bool:
        """Whether the client accepts so little that even a ping might have to wait."""
        transport = self._transport
        if transport is None:
            return False
        low, _high = transport.get_write_buffer_limits()
        return transport.get_write_buffer_size() > low

    def end(self, code: int, reason: bytes) -> None:
        """Close the socket, even if messages are pending."""
        if self._closing:
            self.abort()  # it is already being closed, and the client does not read the close frame
        elif not self._close_request.done():
            self._close_request.set_result((code, reason))

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def run(self, send_all: SendAll) -> None:
        """Run a stream: send all its messages, close the socket, and return when the connection is over."""
        reader = asyncio.create_task(self._receive(), name="stream reader")
        sender = asyncio.create_task(send_all(self), name="stream sender")
        ends: list[asyncio.Future[None] | asyncio.Future[tuple[int, bytes]]] = [
            reader,
            sender,
            self._close_request,
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # aiohttp waits for the client's close frame only when no task is reading.
            await cancel([reader, sender])
        self._closing = True
        error = _error_of(sender) or _error_of(reader)
        if self._close_request.done():
            await self._close_now(*self._close_request.result())
        elif error is not None and not isinstance(error, ConnectionError):
            log.error("a stream failed: %r", error, extra={"fault": "stream"})
            log.debug("a stream failed", exc_info=error)
            await self._close_now(WSCloseCode.INTERNAL_ERROR, b"")
        elif error is None and not sender.cancelled():
            await self._close()
        # Otherwise the client has closed it or disconnected.

    async def send(self, message: bytes) -> None:
        """Send a message; return when the connection accepts the next one."""
        self._sending_since = self._clock.monotonic()
        await self._socket.send_frame(message, WSMsgType.TEXT)
        self._sending_since = None
        self._sent += 1
        # Sending does not yield to the event loop while the client reads fast enough.
        await asyncio.sleep(0)

    async def ping(self) -> None:
        """Send a ping, unless the socket is being closed. Does not wait, unless it ``is_backed_up``."""
        if self._closing:
            return  # the close frame is the last frame
        try:
            await self._socket.ping(str(self._sent).encode())
        except ConnectionError:
            log.debug("a ping was not sent: the connection is closing")

    async def catch_up(self) -> None:
        """Wait until the client has read all messages: it answers the ping that follows them.

        Buffers between the two may hold thousands of messages, so that only the client itself can tell.
        """
        self._caught_up.clear()
        await self.ping()
        while self._read < self._sent:
            await self._caught_up.wait()
            self._caught_up.clear()

    async def _receive(self) -> None:
        """Receive until the client closes or disconnects; its messages are ignored."""
        while (message := await self._socket.receive()).type not in _CLOSED:
            self.heard = True
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._note_pong(bytes(message.data))
            # Many messages may have arrived at once: yield to other tasks.
            await asyncio.sleep(0)

    def _note_pong(self, payload: bytes) -> None:
        # A client may answer only the latest of several pings, and may send pongs of its own.
        if payload == str(self._sent).encode():
            self._read = self._sent
            self._caught_up.set()

    async def _close(self) -> None:
        """Close the socket after the last message, with time for the client to read it."""
        self._sending_since = self._clock.monotonic()
        await self._socket.close(code=WSCloseCode.OK)
        if self._transport is not None and self._transport.get_write_buffer_size() > 0:
            asyncio.get_running_loop().call_later(_SEND_TIMEOUT_S, self._transport.abort)

    async def _close_now(self, code: int, reason: bytes) -> None:
        """Close the socket, and end the connection even if the client does not read the close frame."""
        self._sending_since = None
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                # The close frame is queued behind unread messages, so the client may never receive it.
                await self._socket.close(code=code, message=reason, drain=False)
        except TimeoutError:
            pass
        finally:
            self.abort()


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
