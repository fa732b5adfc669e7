"""One order's statuses over a WebSocket: every entry once, in order, then the socket closes."""

import asyncio
import logging
import weakref
from dataclasses import dataclass, field

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from service.api.orders import load_query
from service.api.problems import NotFoundError, UpgradeError
from service.api.schemas import STATUS_UPDATE, STREAM_QUERY, is_uuid
from service.api.views import OrderAt
from service.events.feed import Feeds, Watch

log = logging.getLogger(__name__)

_HEARTBEAT_S = 30.0
_SEND_TIMEOUT_S = 10.0
_LARGEST_MESSAGE_IN = 4 * 1024

TOO_SLOW = 4008
"""Close code for a client that does not take its messages."""


@dataclass(frozen=True, slots=True)
class StreamRoutes:
    """What the WebSocket route needs."""

    feeds: Feeds
    sockets: "weakref.WeakSet[web.WebSocketResponse]" = field(default_factory=weakref.WeakSet)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/orders/{orderId}/ws?from=: replay the history, follow it live, close with 1000."""
        after = load_query(request, STREAM_QUERY)["after"]
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, compress=False, max_msg_size=_LARGEST_MESSAGE_IN
        )
        if not socket.can_prepare(request).ok:
            raise UpgradeError("This route speaks WebSocket.")
        order_id = request.match_info["order_id"].lower()
        watch = await self.feeds.watch(order_id, after) if is_uuid(order_id) else None
        if watch is None:
            raise NotFoundError("There is no such order.")
        with watch:
            await socket.prepare(request)
            self.sockets.add(socket)
            sender = asyncio.create_task(_send(socket, watch), name=f"stream {order_id}")
            try:
                # What a client says is not for us; reading notices that it goes, and answers its pings.
                async for _message in socket:
                    pass
            finally:
                sender.cancel()
                await asyncio.wait([sender])
        return socket

    async def close(self) -> None:
        """Close every socket, at the service's stop: clients connect again and resume."""
        await asyncio.gather(
            *(
                socket.close(code=WSCloseCode.SERVICE_RESTART, message=b"restarting")
                for socket in list(self.sockets)
            ),
            return_exceptions=True,
        )


async def _send(socket: web.WebSocketResponse, watch: Watch) -> None:
    try:
        async for order, sequence in watch:
            message = orjson.dumps(STATUS_UPDATE.dump(OrderAt(order, sequence)))
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await socket.send_frame(message, WSMsgType.TEXT)
        await socket.close(code=WSCloseCode.OK)
    except ConnectionError:
        pass
    except TimeoutError:
        await socket.close(code=TOO_SLOW, message=b"too slow", drain=False)
