"""Every route on one screen."""

from aiohttp import web

from service.api import problems, specs
from service.api.health import HealthRoute
from service.api.market import MarketRoutes
from service.api.order_changes import ChangeRoutes
from service.api.orders import OrderRoutes
from service.api.paper import PaperRoutes
from service.api.queues import at_most
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
            web.get("/api/orders", at_most(2, orders.list)),
            web.get("/api/orders/by-client-id/{client_order_id}", at_most(4, orders.get_by_client_id)),
            web.get("/api/orders/{order_id}", orders.get),
            web.patch("/api/orders/{order_id}", at_most(4, changes.amend)),
            web.delete("/api/orders/{order_id}", at_most(4, changes.cancel)),
            web.post("/api/orders/cancel", at_most(2, changes.cancel_many)),
            web.get("/api/orders/{order_id}/ws", stream.stream, allow_head=False),
            web.get("/api/quotes", at_most(16, market.quote)),
            web.get("/api/tokens", market.tokens),
            web.get("/api/pools", at_most(1, market.pools)),
            web.post("/api/paper/pools", at_most(1, paper.list_pool)),
            web.delete("/api/paper/pools/{pool_id}", at_most(1, paper.delist_pool)),
            web.get("/health", health.health),
            web.get("/openapi.json", specs.openapi),
        ]
    )
    return app
