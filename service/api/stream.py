"""One order's statuses over a WebSocket: every entry once, in order, then the socket closes."""

import asyncio
import logging

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from service.api.answers import STATUS_UPDATE
from service.api.fields import is_uuid
from service.api.messages import load_query
from service.api.problems import NotFoundError, ServiceUnavailableError, UpgradeError
from service.api.requests import STREAM_QUERY
from service.api.views import OrderAt
from service.background import Background
from service.clock import Clock
from service.events.feed import Feeds, Watch

log = logging.getLogger(__name__)

_HEARTBEAT_S = 30.0
_SEND_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 1.0
_CLOSE_TIMEOUT_S = 2.0
_LARGEST_MESSAGE_IN = 4 * 1024

TOO_SLOW = 4008
"""Close code for a client that does not take its messages."""


class _Stream:
    """A socket, and since when it has been taking a message, if it is; whether all has been said."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self.sending_since: float | None = None
        self.ending = False
        self._transport = transport

    def linger(self) -> None:
        """Let a client that has not taken everything yet have its time for that, but not for ever."""
        if self._transport is not None and self._transport.get_write_buffer_size() > 0:
            asyncio.get_running_loop().call_later(_SEND_TIMEOUT_S, self._transport.abort)

    async def cut_off(self, code: int, message: bytes) -> None:
        """Close the socket; a client that does not take even that loses its connection."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                # The close frame waits behind what the client does not take, so it may never see it.
                await self.socket.close(code=code, message=message, drain=False)
        except TimeoutError:
            pass
        finally:
            if self._transport is not None:
                self._transport.abort()


class StreamRoutes:
    """The WebSocket route.

    Args:
        feeds: what there is to watch.
        clock: judges who is too slow.
    """

    def __init__(self, feeds: Feeds, clock: Clock) -> None:
        self._feeds = feeds
        self._clock = clock
        self._streams: set[_Stream] = set()
        self._stopping = False
        self._watchdog = Background("slow sockets", self._watch_the_slow, clock)

    def start(self) -> None:
        """Begin to close the sockets of clients that do not take their messages."""
        self._watchdog.start()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/orders/{orderId}/ws?from=: replay the history, follow it live, close with 1000."""
        after = load_query(request, STREAM_QUERY)["after"]
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, compress=False, max_msg_size=_LARGEST_MESSAGE_IN
        )
        if not socket.can_prepare(request).ok:
            raise UpgradeError("This route speaks WebSocket.")
        order_id = request.match_info["order_id"].lower()
        watch = await self._feeds.watch(order_id, after) if is_uuid(order_id) else None
        if watch is None:
            raise NotFoundError("There is no such order.")
        with watch:
            if self._stopping:
                raise ServiceUnavailableError("The service is stopping; connect again.")
            await socket.prepare(request)
            stream = _Stream(socket, request.transport)
            self._streams.add(stream)
            sender = asyncio.create_task(self._send(stream, watch), name=f"stream {order_id}")
            try:
                # What a client says is not for us; reading notices that it goes, and answers its pings.
                async for _message in socket:
                    pass
            finally:
                self._streams.discard(stream)
                stream.linger()
                if stream.ending:
                    # Reading ends when closing begins; cut short, that would look like a fault to the client.
                    await asyncio.wait([sender], timeout=_CLOSE_TIMEOUT_S)
                sender.cancel()
                await asyncio.wait([sender])
        return socket

    async def stop(self) -> None:
        """Close every socket, at the service's stop: clients connect again and resume."""
        self._stopping = True
        await self._watchdog.stop()
        closing = [stream.cut_off(WSCloseCode.SERVICE_RESTART, b"restarting") for stream in self._streams]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _send(self, stream: _Stream, watch: Watch) -> None:
        try:
            async for order, sequence in watch:
                message = orjson.dumps(STATUS_UPDATE.dump(OrderAt(order, sequence)))
                stream.sending_since = self._clock.monotonic()
                await stream.socket.send_frame(message, WSMsgType.TEXT)
                stream.sending_since = None
            stream.sending_since = self._clock.monotonic()
            stream.ending = True
            await stream.socket.close(code=WSCloseCode.OK)
        except ConnectionError:
            pass  # the client has gone
        except Exception:
            log.exception("a stream broke")
            await stream.socket.close(code=WSCloseCode.INTERNAL_ERROR)

    async def _watch_the_slow(self) -> None:
        """Close sockets whose client has not taken a message in time. One timer serves them all."""
        while True:
            await self._clock.sleep(_LOOK_EVERY_S)
            latest = self._clock.monotonic() - _SEND_TIMEOUT_S
            slow = [
                stream
                for stream in self._streams
                if stream.sending_since is not None and stream.sending_since < latest
            ]
            if slow:
                log.info("%d clients that do not take their messages are cut off", len(slow))
                closing = [stream.cut_off(TOO_SLOW, b"too slow") for stream in slow]
                await asyncio.gather(*closing, return_exceptions=True)
