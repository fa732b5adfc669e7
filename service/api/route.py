"""One route: what is served under a method and a path, and what the OpenAPI document says of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from marshmallow import Schema

from service.api.health import HealthRoute
from service.api.market import MarketRoutes
from service.api.order_changes import ChangeRoutes
from service.api.orders import OrderRoutes
from service.api.paper import PaperRoutes
from service.api.stream import StreamRoutes

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class RouteGroups:
    """The objects whose methods are the handlers."""

    orders: OrderRoutes
    changes: ChangeRoutes
    stream: StreamRoutes
    market: MarketRoutes
    paper: PaperRoutes
    health: HealthRoute


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response that is no problem; without a schema the document says nothing of its body."""

    status: int
    description: str
    schema: type[Schema] | None = None


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One row of the route table.

    Attributes:
        method: The HTTP method.
        path: As aiohttp has it, with parameters such as ``{order_id}``.
        handler: Finds the handler in the route groups.
        operation_id: The operation's name in the document; clients are generated from it.
        summary: What it does, in one line.
        responses: The responses that are no problems, the usual one first.
        problems: The statuses of its problems, apart from those of reading the body or the query.
        description: More than the summary says.
        query: What the query may hold; None: the query is not read.
        body: What the body holds; None: the body is not read.
        at_most: So many requests are answered at once, the others wait; None: any number.
        allow_head: Whether HEAD is answered too, where the method is GET.
    """

    method: str
    path: str
    handler: Callable[[RouteGroups], Handler]
    operation_id: str
    summary: str
    responses: tuple[ApiResponse, ...]
    problems: tuple[int, ...] = ()
    description: str | None = None
    query: type[Schema] | None = None
    body: type[Schema] | None = None
    at_most: int | None = None
    allow_head: bool = True
