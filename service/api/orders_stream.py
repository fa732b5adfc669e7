"""The WebSocket of all orders of an account: their events as they happen, resumable from a position."""

from dataclasses import dataclass
from functools import partial

from aiohttp import WSCloseCode, web

from service.api.access import CALLER, visible_filter
from service.api.client_socket import ClientSocket
from service.api.close_codes import POSITION_GONE, TOO_SLOW
from service.api.list_requests import ORDERS_STREAM_QUERY
from service.api.messages import FetchTokens, load_query
from service.api.problems import InvalidError
from service.api.sockets import Sockets
from service.events.message_queue import SlowReaderError
from service.events.pump import EraChangedError, EventPump
from service.postgres.deployment import Deployment
from service.store.event_position import EventPosition, InvalidPositionError, decode_position
from service.store.orders import ListFilter


@dataclass(frozen=True, slots=True)
class OrdersStreamRoutes:
    """The handler of the route; ``fetch_tokens`` as in ``Placer``."""

    pump: EventPump
    sockets: Sockets
    deployment: Deployment
    fetch_tokens: FetchTokens

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """GET /api/orders/ws?from=: send the events of all orders that match a filter."""
        await self.fetch_tokens(request.query)
        query = load_query(request, ORDERS_STREAM_QUERY)
        wanted = ListFilter(
            visible_filter(request[CALLER], query),
            query["status"] or frozenset(),
            client_order_id_prefix=query["client_order_id_prefix"],
        )
        position = None if query["after"] is None else self._position(query["after"])
        with self.sockets.upgrade(request) as socket:
            horizon = await self.pump.horizon()
            if position is not None and not await self.pump.can_resume(position, horizon):
                # Not a problem without an upgrade: a script in a browser cannot tell it from other failures.
                return await self.sockets.serve(request, socket, _refuse_position)
            send_all = partial(self._send_all, wanted, position or horizon, horizon)
            return await self.sockets.serve(request, socket, send_all)

    def _position(self, token: str) -> EventPosition:
        try:
            return decode_position(token, self.deployment.id)
        except InvalidPositionError:
            raise InvalidError.at(("from",), "Not a position of this service.") from None

    async def _send_all(
        self, wanted: ListFilter, position: EventPosition, horizon: EventPosition, client: ClientSocket
    ) -> None:
        try:
            await self.pump.follow(wanted, position, horizon, client.send)
        except SlowReaderError:
            client.end(TOO_SLOW, b"too slow")
        except EraChangedError:
            client.end(WSCloseCode.SERVICE_RESTART, b"the database has changed")


async def _refuse_position(client: ClientSocket) -> None:
    client.end(POSITION_GONE, b"the position is too old")
