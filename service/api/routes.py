"""The table of all routes, from which the application and its documents are built.

A new route is a row here and a handler in one of the route groups.
"""

from dataclasses import dataclass

from aiohttp import web

from service.api import problems
from service.api.access import Access
from service.api.admin_schemas import HaltSchema, HaltStateSchema, KeySchema, TicketSchema
from service.api.idempotency import Idempotency
from service.api.list_requests import ListQuerySchema
from service.api.market_requests import NewPoolSchema, PoolQuerySchema, QuoteQuerySchema
from service.api.origins import Origins
from service.api.proxies import TrustedProxies
from service.api.queues import at_most
from service.api.requests import (
    AmendmentSchema,
    BatchSchema,
    CancelAfterSchema,
    CancelSchema,
    NewOrderSchema,
    StreamQuerySchema,
)
from service.api.responses import (
    BatchResultSchema,
    CancelledOrderSchema,
    CancelledSchema,
    CancelTimerSchema,
    OrderListSchema,
    OrderSchema,
    PoolListSchema,
    PoolSchema,
    QuoteSchema,
    StatusUpdateSchema,
    TokenListSchema,
)
from service.api.route import ApiResponse, ApiRoute, Idempotent, RouteGroups
from service.domain.api_key import Scope

LARGEST_BODY = 64 * 1024
"""Bytes; an order has a few hundred."""


ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute(
        "POST",
        "/api/orders/execute",
        Scope.TRADE,
        lambda groups: groups.orders.execute,
        "executeOrder",
        "Place an order; it is durable once the response is 201",
        body=NewOrderSchema,
        idempotency=Idempotent.BY_HANDLER,
        responses=(
            ApiResponse(201, "Accepted.", OrderSchema),
            ApiResponse(200, "The clientOrderId names this order; the request is the same.", OrderSchema),
        ),
        problems=(409, 503),
    ),
    ApiRoute(
        "POST",
        "/api/orders/batch",
        Scope.TRADE,
        lambda groups: groups.batch.execute,
        "executeOrders",
        "Place up to 100 orders, each with its own result",
        at_most=2,
        body=BatchSchema,
        idempotency=Idempotent.BY_HANDLER,
        responses=(ApiResponse(200, "A result for each order, in their order.", BatchResultSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/orders",
        Scope.READ,
        lambda groups: groups.orders.list,
        "listOrders",
        "List orders, newest first",
        at_most=2,
        query=ListQuerySchema,
        responses=(ApiResponse(200, "A page.", OrderListSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/orders/{order_id}",
        Scope.READ,
        lambda groups: groups.orders.get,
        "getOrder",
        "Read an order",
        responses=(ApiResponse(200, "The order.", OrderSchema),),
        problems=(404, 503),
    ),
    ApiRoute(
        "PATCH",
        "/api/orders/{order_id}",
        Scope.TRADE,
        lambda groups: groups.changes.amend,
        "amendOrder",
        "Amend an open order",
        at_most=4,
        body=AmendmentSchema,
        responses=(ApiResponse(200, "The amended order.", OrderSchema),),
        problems=(404, 409, 503),
    ),
    ApiRoute(
        "DELETE",
        "/api/orders/{order_id}",
        Scope.TRADE,
        lambda groups: groups.changes.cancel,
        "cancelOrder",
        "Cancel an order",
        at_most=4,
        responses=(
            ApiResponse(200, "Cancelled.", CancelledOrderSchema),
            ApiResponse(202, "Already submitted: cancelled unless it lands.", CancelledOrderSchema),
        ),
        problems=(404, 409, 503),
    ),
    ApiRoute(
        "POST",
        "/api/orders/cancel",
        Scope.TRADE,
        lambda groups: groups.changes.cancel_many,
        "cancelOrders",
        "Cancel all open orders, or those of a pair, a type or a label",
        at_most=2,
        body=CancelSchema,
        idempotency=Idempotent.BY_RESPONSE,
        responses=(ApiResponse(200, "The number of orders.", CancelledSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "POST",
        "/api/orders/cancel-after",
        Scope.TRADE,
        lambda groups: groups.changes.cancel_after,
        "cancelOrdersAfter",
        "Cancel all open orders of the account after a time, unless it is set again",
        body=CancelAfterSchema,
        responses=(ApiResponse(200, "When they are cancelled.", CancelTimerSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/orders/by-client-id/{client_order_id}",
        Scope.READ,
        lambda groups: groups.orders.get_by_client_id,
        "getOrderByClientId",
        "Read an order by its clientOrderId",
        at_most=4,
        responses=(ApiResponse(200, "The order.", OrderSchema),),
        problems=(404, 503),
    ),
    ApiRoute(
        "GET",
        "/api/orders/{order_id}/ws",
        Scope.READ,
        lambda groups: groups.stream.stream,
        "streamOrder",
        "WebSocket: every entry of the history exactly once, in order, replayed and live",
        description="Messages are StatusUpdate objects. The socket closes with 1000 after the terminal one, "
        "with 1012 when the service restarts, with 4008 when the client reads too slowly, with 1011 after an "
        "internal error (after these three reconnect with `from`), and with 4001 when its API key has "
        "expired or was revoked. A browser offers the subprotocols `order-engine.v1` and `ticket.<ticket>`.",
        allow_head=False,
        websocket=True,
        messages=(StatusUpdateSchema,),
        query=StreamQuerySchema,
        responses=(ApiResponse(101, "Switching to WebSocket."),),
        problems=(404, 426, 503),
    ),
    ApiRoute(
        "GET",
        "/api/quotes",
        Scope.READ,
        lambda groups: groups.market.quote,
        "getQuote",
        "Quote an amount at current prices; reserves nothing",
        at_most=16,
        query=QuoteQuerySchema,
        responses=(ApiResponse(200, "The quote.", QuoteSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/tokens",
        Scope.READ,
        lambda groups: groups.market.tokens,
        "listTokens",
        "The tokens that can be traded",
        responses=(ApiResponse(200, "Every token.", TokenListSchema),),
    ),
    ApiRoute(
        "GET",
        "/api/pools",
        Scope.READ,
        lambda groups: groups.market.pools,
        "listPools",
        "The pools and their current state",
        at_most=1,
        query=PoolQuerySchema,
        responses=(ApiResponse(200, "Pools.", PoolListSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "POST",
        "/api/paper/pools",
        Scope.ADMIN,
        lambda groups: groups.paper.list_pool,
        "listPool",
        "List a pool in the paper market, and a token if it is new",
        at_most=1,
        body=NewPoolSchema,
        idempotency=Idempotent.BY_RESPONSE,
        responses=(ApiResponse(201, "The pool.", PoolSchema),),
        problems=(409, 503),
    ),
    ApiRoute(
        "DELETE",
        "/api/paper/pools/{pool_id}",
        Scope.ADMIN,
        lambda groups: groups.paper.delist_pool,
        "delistPool",
        "Delist a pool from the paper market",
        at_most=1,
        responses=(ApiResponse(204, "Delisted."),),
        problems=(404, 409, 503),
    ),
    ApiRoute(
        "GET",
        "/api/keys/me",
        Scope.READ,
        lambda groups: groups.keys.me,
        "getOwnKey",
        "What the caller's API key may do",
        responses=(ApiResponse(200, "The key, without its secret.", KeySchema),),
        problems=(503,),
    ),
    ApiRoute(
        "POST",
        "/api/stream-tickets",
        Scope.READ,
        lambda groups: groups.keys.create_ticket,
        "createStreamTicket",
        "Create a ticket, with which a browser opens one WebSocket",
        responses=(ApiResponse(201, "The ticket; it is valid once.", TicketSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "POST",
        "/api/admin/halt",
        Scope.ADMIN,
        lambda groups: groups.admin.halt,
        "haltTrading",
        "Halt trading: no order is accepted, fired, started or submitted, on any instance",
        body=HaltSchema,
        responses=(ApiResponse(200, "Trading is halted.", HaltStateSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "POST",
        "/api/admin/resume",
        Scope.ADMIN,
        lambda groups: groups.admin.resume,
        "resumeTrading",
        "Resume trading",
        responses=(ApiResponse(200, "Trading is resumed.", HaltStateSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/health",
        None,
        lambda groups: groups.health.health,
        "health",
        "Health check",
        responses=(
            ApiResponse(200, "ok, or degraded: Redis is unavailable or unusable, see redisError."),
            ApiResponse(503, "unavailable: PostgreSQL is unavailable."),
        ),
    ),
    ApiRoute(
        "GET",
        "/openapi.json",
        None,
        lambda groups: groups.document.openapi,
        "openapi",
        "This document",
        responses=(ApiResponse(200, "An OpenAPI 3.1 document."),),
    ),
    ApiRoute(
        "GET",
        "/asyncapi.json",
        None,
        lambda groups: groups.document.asyncapi,
        "asyncapi",
        "The AsyncAPI document of the WebSockets",
        responses=(ApiResponse(200, "An AsyncAPI 3.0 document."),),
    ),
)


@dataclass(frozen=True, slots=True)
class Guards:
    """What a request passes before it reaches its handler, from the outside in."""

    proxies: TrustedProxies
    origins: Origins
    access: Access
    idempotency: Idempotency


def application(groups: RouteGroups, guards: Guards) -> web.Application:
    """Return the web application; every route but the public ones is guarded by its scope."""
    app = web.Application(
        middlewares=[problems.middleware, guards.proxies.middleware, guards.origins.middleware],
        client_max_size=LARGEST_BODY,
    )
    for route in ROUTES:
        handler = route.handler(groups)
        if route.at_most is not None:
            handler = at_most(route.at_most, handler)
        if route.idempotency is Idempotent.BY_RESPONSE:
            handler = guards.idempotency.wrap(handler)
        if route.scope is not None:
            # Before the queue: only an authenticated caller takes a place in it.
            handler = guards.access.guard(route.scope, handler, tickets=route.websocket)
        if route.method == "GET":
            app.router.add_get(route.path, handler, allow_head=route.allow_head)
        else:
            app.router.add_route(route.method, route.path, handler)
    guards.origins.protect(app)
    return app
