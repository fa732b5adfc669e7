"""One row of the route table: a method, a path, their handler, and their description in the documents."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from marshmallow import Schema

from service.api.admin import AdminRoutes
from service.api.approvals import ApprovalRoutes
from service.api.batch import BatchRoutes
from service.api.docs import DocsRoutes
from service.api.document import DocumentRoutes
from service.api.health import HealthRoute
from service.api.keys import KeyRoutes
from service.api.market import MarketRoutes
from service.api.market_stream import MarketStreamRoutes
from service.api.order_changes import ChangeRoutes
from service.api.orders import OrderRoutes
from service.api.orders_stream import OrdersStreamRoutes
from service.api.paper import PaperRoutes
from service.api.queues import Handler
from service.api.stream import StreamRoutes
from service.api.venue import VenueRoutes
from service.api.webhooks import WebhookRoutes
from service.domain.api_key import Scope


class Idempotent(Enum):
    """Whether a route accepts an ``Idempotency-Key``."""

    NO = auto()
    BY_HANDLER = auto()  # the handler replays by itself
    BY_RESPONSE = auto()  # its response is stored and replayed


@dataclass(frozen=True, slots=True)
class RouteGroups:
    """The objects whose methods are the handlers; None: the venue has no such routes."""

    orders: OrderRoutes
    batch: BatchRoutes
    changes: ChangeRoutes
    stream: StreamRoutes
    orders_stream: OrdersStreamRoutes
    market: MarketRoutes
    market_stream: MarketStreamRoutes
    paper: PaperRoutes | None
    health: HealthRoute
    keys: KeyRoutes
    document: DocumentRoutes
    docs: DocsRoutes
    admin: AdminRoutes
    webhooks: WebhookRoutes
    approvals: ApprovalRoutes
    venue: VenueRoutes


@dataclass(frozen=True, slots=True)
class ApiLink:
    """What a client can do with a response: call an operation with one of its members as a parameter."""

    operation_id: str
    parameter: str
    member: str


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response other than a problem.

    Attributes:
        status: The status.
        description: What it means.
        schema: The schema of its body, in JSON.
        content_type: The type of a body without a schema; None: it has no body.
        links: The operations that can follow it.
    """

    status: int
    description: str
    schema: type[Schema] | None = None
    content_type: str | None = None
    links: tuple[ApiLink, ...] = ()


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """One row of the route table.

    Attributes:
        method: The HTTP method.
        path: The path in aiohttp's syntax, with parameters such as ``{order_id}``.
        scope: The scope that a caller needs; None: the route is public.
        handler: Returns the handler from the route groups; None: it is not served.
        operation_id: The operation's name in the document; client generators use it.
        summary: The summary, in one line.
        responses: The responses other than problems, the usual one first; a status may have several.
        problems: The statuses of its problems, except those of parsing the body or the query.
        description: Details beyond the summary.
        query: The schema of the query; None: the query is not read.
        body: The schema of the body; None: the body is not read.
        optional_body: Whether the request may have no body.
        while_stopping: Whether it is handled while the service stops, although it changes something: it ends
            something, and begins nothing.
        at_most: How many requests are handled concurrently; more are queued; None: no limit.
        allow_head: Whether a GET route also answers HEAD.
        websocket: Whether it is a WebSocket, which a ticket opens too.
        messages: The schemas of the messages that a WebSocket sends.
        idempotency: Whether it accepts an ``Idempotency-Key``, and what its replays are made from.
    """

    method: str
    path: str
    scope: Scope | None
    handler: Callable[[RouteGroups], Handler | None]
    operation_id: str
    summary: str
    responses: tuple[ApiResponse, ...]
    problems: tuple[int, ...] = ()
    description: str | None = None
    query: type[Schema] | None = None
    body: type[Schema] | None = None
    at_most: int | None = None
    allow_head: bool = True
    websocket: bool = False
    messages: tuple[type[Schema], ...] = ()
    idempotency: Idempotent = Idempotent.NO
    optional_body: bool = False
    while_stopping: bool = False
