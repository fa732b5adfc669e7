"""One order's statuses over a WebSocket: every entry once, in order, then the socket closes."""

import asyncio
import logging

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from service.api.orders import load_query
from service.api.problems import NotFoundError, ServiceUnavailableError, UpgradeError
from service.api.schemas import STATUS_UPDATE, STREAM_QUERY, is_uuid
from service.api.views import OrderAt
from service.background import Background
from service.clock import Clock
from service.events.feed import Feeds, Watch

log = logging.getLogger(__name__)

_HEARTBEAT_S = 30.0
_SEND_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 1.0
_LARGEST_MESSAGE_IN = 4 * 1024

TOO_SLOW = 4008
"""Close code for a client that does not take its messages."""


class _Stream:
    """A socket, and since when it has been taking a message, if it is taking one."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.sending_since: float | None = None


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
            stream = _Stream(socket)
            self._streams.add(stream)
            sender = asyncio.create_task(self._send(stream, watch), name=f"stream {order_id}")
            try:
                # What a client says is not for us; reading notices that it goes, and answers its pings.
                async for _message in socket:
                    pass
            finally:
                self._streams.discard(stream)
                sender.cancel()
                await asyncio.wait([sender])
        return socket

    async def stop(self) -> None:
        """Close every socket, at the service's stop: clients connect again and resume."""
        self._stopping = True
        await self._watchdog.stop()
        closing = [
            stream.socket.close(code=WSCloseCode.SERVICE_RESTART, message=b"restarting")
            for stream in self._streams
        ]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _send(self, stream: _Stream, watch: Watch) -> None:
        try:
            async for order, sequence in watch:
                message = orjson.dumps(STATUS_UPDATE.dump(OrderAt(order, sequence)))
                stream.sending_since = self._clock.monotonic()
                await stream.socket.send_frame(message, WSMsgType.TEXT)
                stream.sending_since = None
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
            for stream in list(self._streams):
                if stream.sending_since is not None and stream.sending_since < latest:
                    log.info("a client that does not take its messages is cut off")
                    # The close frame waits behind what the client does not take, so it may never see it.
                    await stream.socket.close(code=TOO_SLOW, message=b"too slow", drain=False)
