"""The table of all routes, from which the application and its documents are built.

A new route is a row here or in one of the modules with its rows, and a handler in one of the route groups.
"""

from service.api.admin_schemas import HaltSchema, HaltStateSchema, KeySchema, TicketSchema
from service.api.health_schema import HealthSchema
from service.api.market_routes import MARKET_ROUTES
from service.api.order_routes import ORDER_ROUTES
from service.api.route import ApiResponse, ApiRoute, Idempotent, RouteGroups
from service.api.venue_routes import VENUE_ROUTES
from service.api.webhook_routes import WEBHOOK_ROUTES
from service.domain.api_key import Scope

ROUTES: tuple[ApiRoute, ...] = (
    *ORDER_ROUTES,
    *MARKET_ROUTES,
    *VENUE_ROUTES,
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
        at_most=4,
        responses=(ApiResponse(201, "The ticket; it is valid once.", TicketSchema),),
        problems=(503,),
    ),
    *WEBHOOK_ROUTES,
    ApiRoute(
        "POST",
        "/api/admin/halt",
        Scope.ADMIN,
        lambda groups: groups.admin.halt,
        "haltTrading",
        "Halt trading: no order is accepted, fired, started or submitted, on any instance",
        body=HaltSchema,
        idempotency=Idempotent.BY_RESPONSE,
        while_stopping=True,
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
        idempotency=Idempotent.BY_RESPONSE,
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
            ApiResponse(
                200,
                "ok, or degraded: Redis is unavailable or unusable, see redisError, or PostgreSQL rejects"
                " writes, see databaseError.",
                HealthSchema,
            ),
            ApiResponse(503, "unavailable: PostgreSQL is unavailable.", HealthSchema),
        ),
    ),
    ApiRoute(
        "GET",
        "/openapi.json",
        None,
        lambda groups: groups.document.openapi,
        "openapi",
        "This document",
        responses=(ApiResponse(200, "An OpenAPI 3.1 document.", content_type="application/json"),),
    ),
    ApiRoute(
        "GET",
        "/asyncapi.json",
        None,
        lambda groups: groups.document.asyncapi,
        "asyncapi",
        "The AsyncAPI document of the WebSockets",
        responses=(ApiResponse(200, "An AsyncAPI 3.0 document.", content_type="application/json"),),
    ),
    ApiRoute(
        "GET",
        "/docs",
        None,
        lambda groups: groups.docs.page,
        "docs",
        "The OpenAPI document as a page for browsers",
        responses=(ApiResponse(200, "An HTML page.", content_type="text/html"),),
    ),
    ApiRoute(
        "GET",
        "/docs/{asset}",
        None,
        lambda groups: groups.docs.asset,
        "docsAsset",
        "A script or style sheet of the page",
        responses=(
            ApiResponse(200, "The file.", content_type="text/*"),
            ApiResponse(304, "The client has it."),
        ),
        problems=(404,),
    ),
)


def served(groups: RouteGroups) -> tuple[ApiRoute, ...]:
    """Return the routes that have a handler: some exist only on one venue."""
    return tuple(route for route in ROUTES if route.handler(groups) is not None)
