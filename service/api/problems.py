"""Errors as clients see them: application/problem+json (RFC 9457).

Never a driver's message, and never a 500 for an input.

.. code-block:: text

    ProblemError
    +-- MalformedError       400  not JSON
    +-- NotFoundError        404  no such order
    +-- ConflictError        409  the client order id names another order
    +-- MediaTypeError       415  not application/json
    +-- InvalidError         422  JSON, but not valid; says which field and why
    +-- UpgradeError         426  a WebSocket route without a WebSocket
    +-- ServiceUnavailableError 503  try again later
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from urllib.parse import quote

import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError

from service.domain.condition_parser import FieldPath
from service.postgres.database import UnavailableError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"

_RETRY_AFTER_S = 1

# An answer stays small, whatever was sent: at most about 20 kB, and that for names that are all escapes.
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

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing in a request that is not valid: where it is, and why, for the client."""

    path: FieldPath
    detail: str


class ProblemError(Exception):
    """An answer that is an error."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, detail: str, *, errors: Sequence[FieldError] | None = None, **members: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.members = members

    @classmethod
    def of_status(cls, status: HTTPStatus, detail: str) -> "ProblemError":
        """Return a problem of a status that has no class of its own."""
        problem = cls(detail)
        problem.status = status
        return problem


class MalformedError(ProblemError):
    """The body is not JSON."""

    status = HTTPStatus.BAD_REQUEST


class NotFoundError(ProblemError):
    """There is no such thing."""

    status = HTTPStatus.NOT_FOUND


class ConflictError(ProblemError):
    """The request contradicts what is stored."""

    status = HTTPStatus.CONFLICT


class MediaTypeError(ProblemError):
    """The body is not said to be JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class InvalidError(ProblemError):
    """The request is well-formed and not valid."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY

    @classmethod
    def at(cls, path: FieldPath, detail: str) -> "InvalidError":
        """Return the problem of one thing."""
        return cls.at_each([FieldError(path, detail)])

    @classmethod
    def at_each(cls, errors: Iterable[FieldError]) -> "InvalidError":
        """Return the problem of several things, or of the first many."""
        return cls("The request is not valid.", errors=list(islice(errors, _MOST_ERRORS)))

    @classmethod
    def of(cls, error: ValidationError) -> "InvalidError":
        """Return the problem of what a schema refused."""
        messages = error.normalized_messages()  # type: ignore[no-untyped-call]
        return cls.at_each(_flattened(messages, ()))


class UpgradeError(ProblemError):
    """The route speaks WebSocket only."""

    status = HTTPStatus.UPGRADE_REQUIRED


class ServiceUnavailableError(ProblemError):
    """The service cannot do this now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


def _flattened(messages: object, path: FieldPath) -> Iterator[FieldError]:
    """Return a schema's messages, which are nested as the members are, one by one."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            # What is not known is said of a member, even of one whose name stands for the whole.
            of_the_whole = name == "_schema" and inner != [_UNKNOWN]
            yield from _flattened(inner, path if of_the_whole else (*path, name))
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            yield FieldError(path, str(message))


def _pointer(path: FieldPath) -> str:
    """Write a path as a JSON pointer (RFC 6901) in a URI's fragment."""
    return "".join(("#", *(f"/{_escape(str(step))}" for step in path)))


def _escape(step: str) -> str:
    """Write one step of a pointer; a name as long as a body can be is cut."""
    cut = step[:_LONGEST_NAME].replace("~", "~0").replace("/", "~1")
    return quote(cut, safe="~!$&'()*+,;=:@", errors="replace")


def respond(problem: ProblemError) -> web.Response:
    """Return the response that tells a problem."""
    status = HTTPStatus(problem.status)
    body: dict[str, object] = {
        "type": "about:blank",
        "title": _TITLES.get(status, status.phrase),
        "status": status.value,
        "detail": problem.detail,
        **problem.members,
    }
    if problem.errors is not None:
        body["errors"] = [
            {"detail": error.detail[:_LONGEST_DETAIL], "pointer": _pointer(error.path)}
            for error in problem.errors
        ]
    headers = {}
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(_RETRY_AFTER_S)
    if status is HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    return web.Response(
        status=status.value, body=orjson.dumps(body), content_type=CONTENT_TYPE, headers=headers
    )


@web.middleware
async def middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every error into a problem."""
    try:
        return await handler(request)
    except ProblemError as problem:
        return respond(problem)
    except UnavailableError as error:
        log.warning(
            "%s %s: PostgreSQL is away (%s)",
            request.method,
            request.raw_path,
            error,
            extra={"fault": "postgresql"},
        )
        return respond(ServiceUnavailableError("The database cannot be reached; try again."))
    except web.HTTPException as error:
        return respond_to_http_exception(error)
    except Exception as error:
        # Until the loop has told of it, a connection that was reset is only closing.
        if request.transport is None or request.transport.is_closing():
            log.debug("%s %s: the client has gone", request.method, request.raw_path)
        else:
            fault = f"error {type(error).__name__}"
            log.exception(
                "%s %s: an error of the service's own",
                request.method,
                request.raw_path,
                extra={"fault": fault},
            )
        return respond(ProblemError("The service met an error of its own."))


def respond_to_http_exception(error: web.HTTPException) -> web.StreamResponse:
    """Tell aiohttp's own refusals (no such route, method, size) in the same form."""
    if error.status < HTTPStatus.BAD_REQUEST:
        raise error
    status = HTTPStatus(error.status)
    response = respond(ProblemError.of_status(status, status.description or error.reason))
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = error.headers["Allow"]
    return response
