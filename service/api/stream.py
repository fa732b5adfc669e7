"""The WebSocket of an order: replays its history and follows it live, for any number of clients."""

from functools import partial
from weakref import WeakValueDictionary

from aiohttp import web

from service.api.access import CALLER
from service.api.client_socket import ClientSocket
from service.api.messages import load_query
from service.api.problems import NotFoundError
from service.api.requests import STREAM_QUERY
from service.api.sockets import Sockets
from service.api.timeline import Timeline, execution_message
from service.events.feed import Feeds, Watch
from service.turns import Turns


class StreamRoutes:
    """The WebSocket route of an order.

    Args:
        feeds: The feeds of orders.
        sockets: Opens and closes the sockets.
        turns: Yields to the event loop.
    """

    def __init__(self, feeds: Feeds, sockets: Sockets, turns: Turns) -> None:
        self._feeds = feeds
        self._sockets = sockets
        self._turns = turns
        self._timelines: WeakValueDictionary[str, Timeline] = WeakValueDictionary()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/orders/{orderId}/ws?from=: replay the history, follow it live, close with 1000."""
        after = load_query(request, STREAM_QUERY)["after"]
        with self._sockets.upgrade(request) as socket:
            order_id = request.match_info["order_id"].lower()
            watch = await self._feeds.watch(order_id, after)
            if watch is None:
                raise NotFoundError("There is no such order.")
            with watch:
                if not request[CALLER].may_see(watch.account):
                    raise NotFoundError("There is no such order.")
                timeline = self._timelines.setdefault(order_id, Timeline())
                return await self._sockets.serve(request, socket, partial(self._send_all, watch, timeline))

    async def _send_all(self, watch: Watch, timeline: Timeline, client: ClientSocket) -> None:
        async for order, sequence in watch:
            if sequence is None:
                await client.send(execution_message(order))
                continue
            await self._turns.run(timeline.grow(order, sequence))
            await client.send(timeline.message(order, sequence))
