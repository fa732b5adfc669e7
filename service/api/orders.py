"""Orders over REST: place, read and list."""

from dataclasses import dataclass

from aiohttp import web

from service.api.access import CALLER, visible_filter
from service.api.dry_run_schemas import EXECUTE_QUERY
from service.api.idempotency import read_key, replayed
from service.api.list_requests import LIST_QUERY
from service.api.messages import FetchTokens, json_response, load_query, read_body
from service.api.pages import Pages
from service.api.placing import Placer
from service.api.problems import InvalidError, NotFoundError
from service.api.queues import Handler
from service.api.responses import ORDER
from service.api.views import OrderAt
from service.domain.api_key import Caller
from service.domain.order import Order
from service.store.orders import ListFilter, Orders


@dataclass(frozen=True, slots=True)
class OrderRoutes:
    """The handlers of the routes that place and read orders.

    ``fetch_tokens`` as in ``Placer``; ``dry_run`` handles the orders that are not to be placed.
    """

    placer: Placer
    dry_run: Handler
    orders: Orders
    pages: Pages
    fetch_tokens: FetchTokens

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """POST /api/orders/execute: place an order; it is durable once the response is 201."""
        # Hardly any order has a query, and loading one costs more than looking.
        if request.query_string and load_query(request, EXECUTE_QUERY)["dry_run"]:
            return await self.dry_run(request)
        key = await read_key(request)
        placed = await self.placer.place(request[CALLER], await read_body(request), key)
        response = json_response(placed.order, placed.status)
        return replayed(response) if placed.replayed else response

    async def get(self, request: web.Request) -> web.Response:
        """GET /api/orders/{orderId}."""
        order_id = request.match_info["order_id"].lower()
        return _found(await self.orders.get(order_id), request[CALLER])

    async def get_by_client_id(self, request: web.Request) -> web.Response:
        """GET /api/orders/by-client-id/{clientOrderId}: of the caller's own account."""
        client_order_id, caller = request.match_info["client_order_id"], request[CALLER]
        order = None
        # PostgreSQL's text cannot contain this character, so no order has it in its id.
        if "\0" not in client_order_id:
            order = await self.orders.find_by_client_id(caller.account, client_order_id)
        return _found(order, caller)

    async def list(self, request: web.Request) -> web.Response:
        """GET /api/orders: a page of the orders that match a filter, newest first."""
        await self.fetch_tokens(request.query)
        query = load_query(request, LIST_QUERY)
        wanted = ListFilter(
            visible_filter(request[CALLER], query),
            query["status"] or frozenset(),
            query["created_from"],
            query["created_to"],
            query["client_order_id_prefix"],
            awaiting_approval=query["awaiting_approval"] is not None,
            venue=query["venue"],
        )
        cursor = query["cursor"]
        if cursor is not None and cursor.tag != wanted.tag:
            raise InvalidError.at(("cursor",), "The cursor is of a list with another filter.")
        page = await self.orders.page(wanted, query["limit"], cursor and cursor.position)
        return await self.pages.write(page, wanted)


def _found(order: Order | None, caller: Caller) -> web.Response:
    if order is None or not caller.may_see(order.account):
        raise NotFoundError("There is no such order.")
    return json_response(ORDER.dump(OrderAt(order)))
