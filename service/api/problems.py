"""Errors as clients see them: application/problem+json (RFC 9457).

Problems never contain a driver's message, and no input causes a 500.

.. code-block:: text

    ProblemError
    +-- MalformedError       400  not JSON
    +-- UnauthorizedError    401  no valid API key
    +-- ForbiddenError       403  the API key does not allow this
    +-- NotFoundError        404  no such order
    +-- ConflictError        409  the client order id names another order
    +-- MediaTypeError       415  not application/json
    +-- InvalidError         422  JSON, but not valid; names the field and the reason
    |   +-- InsufficientBalanceError  the wallet cannot pay the order now
    +-- UpgradeError         426  a WebSocket route without a WebSocket
    +-- TooManyRequestsError 429  the key's requests or WebSockets are too many
    +-- ServiceUnavailableError 503  try again later
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Self
from urllib.parse import quote

import orjson
from aiohttp import hdrs, web
from marshmallow import Schema, ValidationError

from service.domain.condition_parser import FieldPath
from service.domain.key_limits import Breach
from service.postgres.database import UnavailableError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

DATABASE_UNAVAILABLE = "The database is unavailable; try again."

_RETRY_AFTER_S = 1

# Keeps a response small for any request: at most about 20 kB, if all names consist of escapes.
_MOST_ERRORS = 20
_LONGEST_DETAIL = 300
_LONGEST_NAME = 64

_UNKNOWN: str = Schema.error_messages.get("unknown", "Unknown field.")

# These phrases differ between the versions of Python; here they are RFC 9110's.
_TITLES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.REQUEST_URI_TOO_LONG: "URI Too Long",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}

SECURITY_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every response, unless it has one of the name itself."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class FieldError:
    """An invalid part of a request: its path, and the reason for the client."""

    path: FieldPath
    detail: str


class ProblemError(Exception):
    """An error response."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    type = "about:blank"
    """A URI that names the kind of problem; this one: the status tells it."""
    title: str | None = None
    """What the type means; None: what the status means."""

    def __init__(self, detail: str, *, errors: Sequence[FieldError] | None = None, **members: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.members = members
        self.headers: dict[str, str] = {}
        """Further headers of the response."""

    @classmethod
    def of_status(cls, status: HTTPStatus, detail: str) -> "ProblemError":
        """Return a problem of a status that has no class of its own."""
        problem = cls(detail)
        problem.status = status
        return problem

    def within(self, path: FieldPath) -> Self:
        """Prefix the paths of the errors: the request is a part of a larger one. Returns the problem."""
        if self.errors is not None:
            self.errors = [FieldError((*path, *error.path), error.detail) for error in self.errors]
        return self


class MalformedError(ProblemError):
    """The body is not JSON."""

    status = HTTPStatus.BAD_REQUEST


class UnauthorizedError(ProblemError):
    """The caller is not authenticated; the text is the same whatever is wrong with its key."""

    status = HTTPStatus.UNAUTHORIZED


class ForbiddenError(ProblemError):
    """The caller is authenticated, and may not do this."""

    status = HTTPStatus.FORBIDDEN

    @classmethod
    def of(cls, breach: Breach) -> "ForbiddenError":
        """Return the problem of an order that does not keep a limit of the API key, or of the service."""
        problem = cls(breach.detail, rule=breach.rule, limit=breach.limit)
        if breach.left is not None:
            problem.members["left"] = breach.left
        return problem


class NotFoundError(ProblemError):
    """The resource does not exist."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(ProblemError):
    """The request conflicts with the stored state."""

    status = HTTPStatus.CONFLICT


class MediaTypeError(ProblemError):
    """The body's content type is not JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class InvalidError(ProblemError):
    """The request is well-formed but not valid."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    @classmethod
    def at(cls, path: FieldPath, detail: str) -> "InvalidError":
        """Return the problem of one invalid field."""
        return cls.at_each([FieldError(path, detail)])

    @classmethod
    def at_each(cls, errors: Iterable[FieldError]) -> "InvalidError":
        """Return the problem of several invalid fields; only the first ``_MOST_ERRORS`` are listed."""
        return cls("The request is not valid.", errors=list(islice(errors, _MOST_ERRORS)))

    @classmethod
    def of(cls, error: ValidationError) -> "InvalidError":
        """Return the problem of a schema's validation error."""
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        return cls.at_each(_flattened(messages, ()))


class InsufficientBalanceError(InvalidError):
    """The order is valid, and would be executed at once, but the wallet cannot pay it now."""

    type = "urn:problem-type:insufficient-balance"
    title = "Insufficient balance"


class UpgradeError(ProblemError):
    """The route requires a WebSocket upgrade."""

    status = HTTPStatus.UPGRADE_REQUIRED


class TooManyRequestsError(ProblemError):
    """The caller has sent too many requests in a second, or has too many WebSockets open."""

    status = HTTPStatus.TOO_MANY_REQUESTS


class ServiceUnavailableError(ProblemError):
    """The service cannot handle the request now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


def _flattened(messages: object, path: FieldPath) -> Iterator[FieldError]:
    """Yield a schema's messages one by one; they are nested like the members."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            # An "unknown field" error is about a member, even one named "_schema".
            of_the_whole = name == "_schema" and inner != [_UNKNOWN]
            yield from _flattened(inner, path if of_the_whole else (*path, name))
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            yield FieldError(path, str(message))


def _pointer(path: FieldPath) -> str:
    """Format a path as a JSON pointer (RFC 6901) in a URI fragment."""
    return "".join(("#", *(f"/{_escape(str(step))}" for step in path)))


def _escape(step: str) -> str:
    """Escape one step of a pointer; long names are truncated."""
    cut = step[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1")
    return quote(cut, safe="~!$&'()*+,;=:@", errors="replace")


def problem_json(problem: ProblemError) -> dict[str, object]:
    """Return a problem's members (RFC 9457)."""
    status = HTTPStatus(problem.status)
    body: dict[str, object] = {
        "type": problem.type,
        "title": problem.title or _TITLES.get(status, status.phrase),
        "status": status.value,
        "detail": problem.detail,
        **problem.members,
    }
    if problem.errors is not None:
        body["errors"] = [
            {"detail": error.detail[:_LONGEST_DETAIL], "pointer": _pointer(error.path)}
            for error in problem.errors
        ]
    return body


def respond(problem: ProblemError) -> web.Response:
    """Return the response for a problem."""
    status = HTTPStatus(problem.status)
    headers = {**SECURITY_HEADERS, **problem.headers}
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="order execution engine"'
    if status is HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    return web.Response(
        status=status.value,
        body=orjson.dumps(problem_json(problem)),
        content_type=CONTENT_TYPE,
        headers=headers,
    )


@web.middleware
async def middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Convert every exception to a problem."""
    try:
        return await handler(request)
    except ProblemError as problem:
        return respond(problem)
    except UnavailableError as error:
        log.warning(
            "%s %s: PostgreSQL is unavailable (%s)",
            request.method,
            request.raw_path,
            error,
            extra={"fault": "postgresql"},
        )
        return respond(ServiceUnavailableError(DATABASE_UNAVAILABLE))
    except web.HTTPException as error:
        return respond_to_http_exception(error)
    except Exception as error:
        # A connection that was reset stays in the closing state until the event loop has reported it.
        if request.transport is None or request.transport.is_closing():
            log.debug("%s %s: the client has disconnected", request.method, request.raw_path)
        else:
            fault = f"error {type(error).__name__}"
            log.exception(
                "%s %s: internal error",
                request.method,
                request.raw_path,
                extra={"fault": fault},
            )
        return respond(ProblemError("Internal error."))


def respond_to_http_exception(error: web.HTTPException) -> web.StreamResponse:
    """Convert aiohttp's own errors (unknown route, method, body size) to problems."""
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    status = HTTPStatus(error.status)
    response = respond(ProblemError.of_status(status, status.description or error.reason))
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = error.headers["Allow"]
    return response
