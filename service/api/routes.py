"""Every route on one screen."""

from aiohttp import web

from service.api import problems, specs
from service.api.changes import ChangeRoutes
from service.api.health import HealthRoute
from service.api.market import MarketRoutes
from service.api.orders import OrderRoutes
from service.api.paper import PaperRoutes
from service.api.stream import StreamRoutes

LARGEST_BODY = 64 * 1024
"""Bytes; an order takes a few hundred."""


def application(
    orders: OrderRoutes,
    changes: ChangeRoutes,
    stream: StreamRoutes,
    market: MarketRoutes,
    paper: PaperRoutes,
    health: HealthRoute,
) -> web.Application:
    """Return the web application."""
    app = web.Application(middlewares=[problems.middleware], client_max_size=LARGEST_BODY)
    app.add_routes(
        [
            web.post("/api/orders/execute", orders.execute),
            web.get("/api/orders", orders.list),
            web.get("/api/orders/by-client-id/{client_order_id}", orders.get_by_client_id),
            web.get("/api/orders/{order_id}", orders.get),
            web.patch("/api/orders/{order_id}", changes.amend),
            web.delete("/api/orders/{order_id}", changes.cancel),
            web.post("/api/orders/cancel", changes.cancel_many),
            web.get("/api/orders/{order_id}/ws", stream.stream, allow_head=False),
            web.get("/api/quotes", market.quote),
            web.get("/api/tokens", market.tokens),
            web.get("/api/pools", market.pools),
            web.post("/api/paper/pools", paper.list_pool),
            web.delete("/api/paper/pools/{pool_id}", paper.delist_pool),
            web.get("/health", health.health),
            web.get("/openapi.json", specs.openapi),
        ]
    )
    return app
