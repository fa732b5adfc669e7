"""The WebSocket: replays one order's history and follows it live, for any number of clients, fast or slow.

Each client has a reader, which detects that it closes or disconnects, and a sender. Whichever ends first ends
the stream; only then, and only here, is the socket closed, so that the closing handshake can complete.
"""

import asyncio
import logging
from weakref import WeakValueDictionary

from aiohttp import WSCloseCode, WSMsgType, web

from service.api.access import CALLER, STREAM_PROTOCOL, Access
from service.api.fields import is_uuid
from service.api.messages import load_query
from service.api.problems import NotFoundError, ServiceUnavailableError, UpgradeError
from service.api.requests import STREAM_QUERY
from service.api.socket_limits import SocketLimits
from service.api.timeline import Timeline
from service.background import Background, cancel
from service.clock import Clock
from service.domain.api_key import Caller
from service.events.feed import Feeds, Watch
from service.postgres.database import UnavailableError
from service.turns import Turns

log = logging.getLogger(__name__)

_HEARTBEAT_S = 30.0
_SEND_TIMEOUT_S = 10.0
_CHECK_EVERY_S = 1.0
_CLOSE_TIMEOUT_S = 2.0
_LARGEST_MESSAGE_IN = 4 * 1024

TOO_SLOW = 4008
"""Close code for a client that reads its messages too slowly."""

UNAUTHORIZED = 4001
"""Close code if the client's API key has expired or was revoked."""

_CLOSED = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


class _Stream:
    """A client's socket, from the handshake to the end of its connection.

    Args:
        socket: The socket, prepared, with a close time-out and without automatic pongs.
        transport: The socket's transport.
        clock: Measures how long a send takes.
        turns: Yields to the event loop.
        caller: Whose socket it is.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        clock: Clock,
        turns: Turns,
        caller: Caller,
    ) -> None:
        self.caller = caller
        self.ended = asyncio.Event()
        self._socket = socket
        self._transport = transport
        self._clock = clock
        self._turns = turns
        self._sending_since: float | None = None
        self._closing = False
        self._close_request: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def is_stuck(self) -> bool:
        """Return whether the current send exceeds its time-out."""
        since = self._sending_since
        return since is not None and since < self._clock.monotonic() - _SEND_TIMEOUT_S

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

    async def run(self, watch: Watch, timeline: Timeline) -> None:
        """Send all messages, close the socket, and return when the stream is over."""
        reader = asyncio.create_task(self._read(), name="stream reader")
        sender = asyncio.create_task(self._send(watch, timeline), name="stream sender")
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

    async def _read(self) -> None:
        """Read until the client closes or disconnects; its messages are ignored."""
        while (message := await self._socket.receive()).type not in _CLOSED:
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            # Many messages may have arrived at once: yield to other tasks.
            await asyncio.sleep(0)

    async def _send(self, watch: Watch, timeline: Timeline) -> None:
        async for order, sequence in watch:
            await self._turns.run(timeline.grow(order, sequence))
            message = timeline.message(order, sequence)
            self._sending_since = self._clock.monotonic()
            await self._socket.send_frame(message, WSMsgType.TEXT)
            self._sending_since = None
            # Sending does not yield to the event loop while the client reads fast enough.
            await asyncio.sleep(0)

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
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                # The close frame is queued behind unread messages, so the client may never receive it.
                await self._socket.close(code=code, message=reason, drain=False)
        except TimeoutError:
            pass
        finally:
            self.abort()


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


class StreamRoutes:
    """The WebSocket route.

    Args:
        feeds: The feeds of orders.
        clock: Measures how slow clients are.
        access: Says whose keys are still in force.
    """

    def __init__(self, feeds: Feeds, clock: Clock, access: Access) -> None:
        self._feeds = feeds
        self._access = access
        self._clock = clock
        self._turns = Turns(clock)
        self._limits = SocketLimits()
        self._streams: set[_Stream] = set()
        self._timelines: WeakValueDictionary[str, Timeline] = WeakValueDictionary()
        self._stopping = False
        self._watchdog = Background("slow sockets", self._close_slow_forever, clock)
        self._key_watchdog = Background("sockets' keys", self._close_refused_forever, clock)

    def start(self) -> None:
        """Start to close the sockets of slow clients, and of revoked keys."""
        self._watchdog.start()
        self._key_watchdog.start()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/orders/{orderId}/ws?from=: replay the history, follow it live, close with 1000."""
        after = load_query(request, STREAM_QUERY)["after"]
        socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT_S,
            autoping=False,
            heartbeat=_HEARTBEAT_S,
            compress=False,
            max_msg_size=_LARGEST_MESSAGE_IN,
            protocols=(STREAM_PROTOCOL,),
        )
        if not socket.can_prepare(request).ok:
            raise UpgradeError("This route requires a WebSocket upgrade.")
        order_id = request.match_info["order_id"].lower()
        watch = await self._feeds.watch(order_id, after) if is_uuid(order_id) else None
        if watch is None:
            raise NotFoundError("There is no such order.")
        with watch:
            caller = request[CALLER]
            if not caller.may_see(watch.account):
                raise NotFoundError("There is no such order.")
            if self._stopping:
                raise ServiceUnavailableError("The service is stopping; connect again.")
            with self._limits.count(caller):
                await socket.prepare(request)
                stream = _Stream(socket, request.transport, self._clock, self._turns, caller)
                timeline = self._timelines.setdefault(order_id, Timeline())
                self._streams.add(stream)
                try:
                    await stream.run(watch, timeline)
                finally:
                    self._streams.discard(stream)
                    stream.ended.set()
        return socket

    async def stop(self) -> None:
        """Close every socket when the service stops: clients reconnect and resume."""
        self._stopping = True
        await self._watchdog.stop()
        await self._key_watchdog.stop()
        streams = list(self._streams)
        for stream in streams:
            stream.end(WSCloseCode.SERVICE_RESTART, b"restarting")
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                for stream in streams:
                    await stream.ended.wait()
        except TimeoutError:
            for stream in streams:
                stream.abort()

    async def _close_slow_forever(self) -> None:
        """Close sockets whose client has not read a message in time. One timer checks all of them."""
        while True:
            await self._clock.sleep(_CHECK_EVERY_S)
            slow = [stream for stream in self._streams if stream.is_stuck()]
            if slow:
                log.info("disconnecting %d slow clients", len(slow))
            for stream in slow:
                stream.end(TOO_SLOW, b"too slow")

    async def _close_refused_forever(self) -> None:
        """Close the sockets whose API key has expired or was revoked."""
        while True:
            await self._clock.sleep(_CHECK_EVERY_S)
            callers = {stream.caller for stream in self._streams}
            if not callers:
                continue
            try:
                refused = {caller for caller in callers if not await self._access.is_active(caller)}
            except UnavailableError as error:
                log.debug("API keys could not be read (%s)", error)
                continue
            for stream in list(self._streams):
                if stream.caller in refused:
                    stream.end(UNAUTHORIZED, b"the API key is not valid any more")
