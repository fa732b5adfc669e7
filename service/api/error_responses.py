"""The problems in the OpenAPI document: which ones a route can give, and what each of them means.

Most are the same for many routes: the document describes those once, as a component.
"""

from typing import Any

from service.api.problem_schemas import ProblemSchema
from service.api.problems import CONTENT_TYPE
from service.api.route import ApiRoute, Idempotent

_Json = dict[str, Any]

_OF_EVERY_REQUEST = (400, 408, 413, 414, 417, 421, 431, 503)
"""What is decided before a request reaches its route, or by the connection."""

_OF_ACCESS = (401, 403, 429)
_OF_KEY = (409, 422)
_OF_BODY = (415, 422)
_OF_QUERY = (422,)

_OF_ITS_ROUTE = frozenset({404, 409, 422})
"""These mean something else on each route, and so each has an example of its own there."""

_MEANINGS = {
    400: "Not HTTP, not JSON, or JSON with a duplicate member, too many members or too many levels; or the "
    "Idempotency-Key is malformed.",
    401: "No valid API key.",
    403: "The API key's scope or one of its limits does not allow it, or the Origin is foreign.",
    404: "There is no such thing, or it belongs to another account.",
    408: "The request was not sent in time.",
    409: "It conflicts with what is stored, or a request with this Idempotency-Key is being handled.",
    413: "The body is too large.",
    414: "The request's target is too long.",
    415: "The body is not JSON.",
    417: "The expectation in the header Expect cannot be met.",
    421: "The Host is not expected.",
    422: "It is not valid; `errors` says where. Or the Idempotency-Key was used for another request.",
    426: "Not a WebSocket request.",
    429: "Too many requests in a second, or too many WebSockets.",
    431: "The request's head, or one of its fields, is too large.",
    503: "PostgreSQL is unavailable, trading is halted, too much is waiting, or the service is stopping.",
}

HEADERS: dict[str, _Json] = {
    "Idempotent-Replayed": {
        "description": "The response is the one that was sent before under the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "RateLimit": {
        "description": "With a limit: the requests that are left (r) in the current second (t).",
        "schema": {"type": "string"},
        "example": '"default";r=49;t=1',
    },
    "RateLimit-Policy": {
        "description": "With a limit: how many requests (q) are allowed in how many seconds (w).",
        "schema": {"type": "string"},
        "example": '"default";q=50;w=1',
    },
    "Retry-After": {
        "description": "Seconds until a new attempt makes sense.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
    "Upgrade": {
        "description": "What the route speaks.",
        "required": True,
        "schema": {"type": "string", "enum": ["websocket"]},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Bearer realm="order execution engine"',
    },
}
"""The headers of responses; the document has them as components."""

OF_ANY_LIMIT = ("RateLimit", "RateLimit-Policy")
"""The headers that each response of a route with an API key may have."""

_HEADERS_OF = {
    401: ("WWW-Authenticate",),
    426: ("Upgrade", *OF_ANY_LIMIT),
    429: ("Retry-After", *OF_ANY_LIMIT),
    503: ("Retry-After", *OF_ANY_LIMIT),
}
_WITHOUT_LIMIT = frozenset({408, 413, 414, 417, 421, 431})


def problem_statuses(route: ApiRoute) -> list[int]:
    """Return the statuses of a route's problems, in order."""
    statuses = {*_OF_EVERY_REQUEST, *route.problems}
    if route.path == "/health":
        statuses.discard(421)  # it answers under any name
    if route.scope is not None:
        statuses.update(_OF_ACCESS)
    if route.idempotency is not Idempotent.NO:
        statuses.update(_OF_KEY)
    if route.body is not None:
        statuses.update(_OF_BODY)
    if route.query is not None:
        statuses.update(_OF_QUERY)
    return sorted(statuses)


def own_problems(route: ApiRoute) -> list[int]:
    """Return the statuses of the problems that mean something else on each route."""
    of_request = _OF_QUERY if route.body is not None or route.query is not None else ()
    return sorted(_OF_ITS_ROUTE & {*route.problems, *of_request})


def problem_response(status: int) -> _Json:
    """Return the description of a problem's response."""
    described: _Json = {
        "description": _MEANINGS[status],
        "content": {CONTENT_TYPE: {"schema": ProblemSchema}},
    }
    names = _HEADERS_OF.get(status, () if status in _WITHOUT_LIMIT else OF_ANY_LIMIT)
    if names:
        described["headers"] = header_references(names)
    return described


def header_references(names: tuple[str, ...]) -> _Json:
    """Return references to headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def component_name(status: int | str) -> str:
    """Return the name of the component that describes a problem's response."""
    return f"Problem{status}"


SHARED = [status for status in _MEANINGS if status != 404]
"""The statuses of the problems that are described once."""
