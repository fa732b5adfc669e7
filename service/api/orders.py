"""Orders over REST: place one, read one, list them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError

from service.api.problems import (
    ConflictError,
    InvalidError,
    MalformedError,
    MediaTypeError,
    NotFoundError,
    ServiceUnavailableError,
)
from service.api.schemas import LIST_QUERY, NEW_ORDER, ORDER, ORDER_LIST, is_uuid
from service.api.views import OrderAt
from service.clock import Clock
from service.domain.lifecycle import Status
from service.domain.order import NewOrder
from service.store.batch import QueueFullError
from service.store.database import UnavailableError
from service.store.journal import ClientOrderIdTakenError, Journal
from service.store.orders import Order, Orders


@dataclass(frozen=True, slots=True)
class OrderRoutes:
    """What the routes about orders need.

    ``wake`` has somebody work on orders; ``insert_timeout_s`` is how long a client waits for PostgreSQL.
    """

    journal: Journal
    orders: Orders
    clock: Clock
    wake: Callable[[list[str]], Awaitable[None]]
    insert_timeout_s: float

    async def execute(self, request: web.Request) -> web.Response:
        """POST /api/orders/execute: accept an order; it is durable when this answers 201."""
        order = NewOrder(id=self.clock.new_order_id(), **await _load_body(request, NEW_ORDER))
        try:
            created_at = await self.journal.insert(order, self.insert_timeout_s)
        except ClientOrderIdTakenError:
            return await self._answer_again(order)
        except QueueFullError:
            raise ServiceUnavailableError("Too many orders are waiting to be stored; try again.") from None
        except UnavailableError as error:
            if not error.unknown:
                raise
            raise ServiceUnavailableError(
                "Whether the order was stored is unknown: look for it under its id.", orderId=order.id
            ) from error
        await self.wake([order.id])
        return _json(ORDER.dump(OrderAt(_accepted(order, created_at))), HTTPStatus.CREATED)

    async def get(self, request: web.Request) -> web.Response:
        """GET /api/orders/{orderId}."""
        order_id = request.match_info["order_id"].lower()
        order = await self.orders.get(order_id) if is_uuid(order_id) else None
        return _found(order)

    async def get_by_client_id(self, request: web.Request) -> web.Response:
        """GET /api/orders/by-client-id/{clientOrderId}."""
        client_order_id = request.match_info["client_order_id"]
        # PostgreSQL's text cannot hold this character, so no order has it in its id.
        order = None if "\0" in client_order_id else await self.orders.find_by_client_id(client_order_id)
        return _found(order)

    async def list(self, request: web.Request) -> web.Response:
        """GET /api/orders?status=&limit=&cursor=, newest first."""
        query = load_query(request, LIST_QUERY)
        page = await self.orders.page(query["status"], query["limit"], query["cursor"])
        return _json(
            ORDER_LIST.dump({"orders": [OrderAt(order) for order in page.orders], "next_cursor": page.next})
        )

    async def _answer_again(self, order: NewOrder) -> web.Response:
        """Answer a client that uses its order id again: with the order it names, if that is the same one."""
        there = await self.orders.find_by_client_id(order.client_order_id or "")
        if there is None or (
            (there.order_type, there.token_in, there.token_out, there.amount_in, there.slippage_bps)
            != (order.order_type, order.token_in, order.token_out, order.amount_in, order.slippage_bps)
        ):
            raise ConflictError("This clientOrderId names another order.")
        return _json(ORDER.dump(OrderAt(there)))


def load_query(request: web.Request, schema: Schema) -> dict[str, Any]:
    """Read a query string by its schema.

    Raises:
        InvalidError: a value, or a name, is not the schema's.
    """
    for name in request.query:
        if len(request.query.getall(name)) > 1:
            raise InvalidError.of(ValidationError("Given more than once.", name))
    try:
        query: dict[str, Any] = schema.load(dict(request.query))
    except ValidationError as error:
        raise InvalidError.of(error) from None
    return query


async def _load_body(request: web.Request, schema: Schema) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise MediaTypeError("The body must be JSON, with Content-Type: application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() not in {"identity", "gzip", "deflate"}:
        raise MediaTypeError("The body's Content-Encoding may be gzip or deflate.")
    try:
        # Also refuses bad UTF-8, NaN, lone surrogates, and nesting deeper than its stack.
        body = orjson.loads(await request.read())
    except (web.RequestPayloadError, ConnectionError) as error:
        raise MalformedError("The body could not be read.") from error
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"The body is not JSON: {error}.") from None
    try:
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        raise InvalidError.of(error) from None
    return loaded


def _accepted(order: NewOrder, created_at: str) -> Order:
    """Return a new order as it was stored."""
    return Order(
        id=order.id,
        client_order_id=order.client_order_id,
        order_type=order.order_type,
        token_in=order.token_in,
        token_out=order.token_out,
        amount_in=order.amount_in,
        amount_in_text=order.amount_in_text,
        slippage_bps=order.slippage_bps,
        history=({"sequence": 1, "status": Status.PENDING, "timestamp": created_at},),
        created_at=created_at,
        fill=None,
        offers={},
    )


def _found(order: Order | None) -> web.Response:
    if order is None:
        raise NotFoundError("There is no such order.")
    return _json(ORDER.dump(OrderAt(order)))


def _json(body: Any, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status.value, content_type="application/json")
