"""The web application, made from the table of all routes, and what guards them."""

from dataclasses import dataclass

from aiohttp import web

from service.api import problems
from service.api.access import Access
from service.api.fields import UUID
from service.api.idempotency import Idempotency
from service.api.origins import Origins
from service.api.proxies import TrustedProxies
from service.api.queues import at_most
from service.api.route import Idempotent, RouteGroups
from service.api.routes import ROUTES
from service.api.stopping import Stopping

LARGEST_BODY = 64 * 1024
"""Bytes; an order has a few hundred."""


# Otherwise GET /api/orders/execute would ask for an order with this id: 404 instead of 405. And handlers get
# only ids in the form that PostgreSQL accepts.
_PATTERNS = {"{order_id}": f"{{order_id:{UUID}}}"}


@dataclass(frozen=True, slots=True)
class Guards:
    """What a request passes before it reaches its handler, from the outside in."""

    proxies: TrustedProxies
    origins: Origins
    access: Access
    idempotency: Idempotency
    stopping: Stopping


def application(groups: RouteGroups, guards: Guards) -> web.Application:
    """Return the web application of the served routes; all but the public ones are guarded by their scope."""
    app = web.Application(
        middlewares=[
            guards.stopping.middleware,
            problems.middleware,
            guards.proxies.middleware,
            guards.origins.middleware,
        ],
        client_max_size=LARGEST_BODY,
    )
    for route in ROUTES:
        handler = route.handler(groups)
        if handler is None:
            continue
        if route.idempotency is Idempotent.BY_RESPONSE:
            handler = guards.idempotency.wrap(handler)
        if route.method != "GET" and not route.while_stopping:
            # Behind the queue: what waits there has not begun.
            handler = guards.stopping.guard(handler)
        if route.at_most is not None:
            # Around the former: a reservation is a statement too.
            handler = at_most(route.at_most, handler)
        if route.scope is not None:
            # Before the queue: only an authenticated caller takes a place in it.
            handler = guards.access.guard(route.scope, handler, tickets=route.websocket)
        path = route.path
        for parameter, pattern in _PATTERNS.items():
            path = path.replace(parameter, pattern)
        if route.method == "GET":
            app.router.add_get(path, handler, allow_head=route.allow_head)
        else:
            app.router.add_route(route.method, path, handler)
    guards.origins.protect(app)
    return app
