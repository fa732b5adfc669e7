"""One client's connection: its time-outs, and responses to requests that cannot be read.

aiohttp waits forever for the rest of a request and for a client to read its response, and it answers
malformed HTTP with plain text and a traceback in the log. Here each of these waits has a time-out, every
error response is a problem, and each kind of fault logs at most one line per second.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong

from service.api import problems
from service.api.problems import MalformedError, ProblemError

log = logging.getLogger(__name__)

LARGEST_HEAD = 32 * 1024
"""Maximum bytes of a request before its body; a typical one has a few hundred."""

_LONGEST_TARGET = 8 * 1024
_LONGEST_FIELD = _LONGEST_TARGET - 2  # a different number, to distinguish which limit was exceeded
_MOST_FIELDS = 100

# The time for a response to reach a client that is still sending; what it sends is discarded.
_LINGER_S = 2.0

# Disables aiohttp's own timer: the limits below end a wait.
_NEVER_S = 1e9


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Time-outs in seconds, and the maximum number of connections.

    ``head_s``: for a new client's first request, and for the rest of a request's head. ``body_s``: for the
    rest of its body. ``idle_s``: for the next request. ``answer_s``: for a client to accept one more byte.
    """

    head_s: int
    body_s: int
    idle_s: int
    answer_s: int
    connections: int


class _Wait(Enum):
    """What the server is waiting for; ``NOTHING`` while it handles a request or streams."""

    FIRST_REQUEST = auto()
    HEAD = auto()
    BODY = auto()
    NEXT_REQUEST = auto()
    NOTHING = auto()


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, with a time-out for every wait.

    Args:
        manager: The server.
        loop: The event loop.
        now: Returns the monotonic time in seconds.
    """

    __slots__ = ("_accepted_at", "_body", "_head_bytes", "_unsent", "_wait", "_waits_since")

    def __init__(
        self, manager: web.Server, loop: asyncio.AbstractEventLoop, now: Callable[[], float]
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # None disables it
            keepalive_timeout=_NEVER_S,
            lingering_time=_LINGER_S,
            max_line_size=_LONGEST_TARGET,
            max_field_size=_LONGEST_FIELD,
            max_headers=_MOST_FIELDS,
        )
        self._head_bytes = 0
        self._body: StreamReader | None = None
        self._wait = _Wait.FIRST_REQUEST
        self._waits_since = self._accepted_at = now()
        self._unsent = 0

    def data_received(self, data: bytes) -> None:
        """Process data from the client."""
        requests = self._request_count
        super().data_received(data)
        if self._request_count > requests:
            self._head_bytes = 0
            # Checks are rare: at the next one the connection may be in the same wait for another request.
            self._wait = _Wait.NOTHING
            if self._body is not None and self._misses_body:
                # Before a body has ended, aiohttp counts a new request only for unreadable data.
                self._body.set_exception(web.RequestPayloadError("The rest of the body is not HTTP."))
        elif self._awaits_request:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self.refuse(_too_large(f"The request's head must not exceed {LARGEST_HEAD} bytes."))

    def set_body(self, body: StreamReader) -> None:
        """Record the body of the current request."""
        self._body = body

    def check_timeouts(self, now: float, limits: ConnectionLimits, transport: asyncio.Transport) -> bool:
        """Check the connection's time-outs; return whether one was exceeded and the wait was ended."""
        if self._has_write_timeout(now, limits, transport):
            transport.abort()
            return True
        wait = self._current_wait()
        if wait is not self._wait:
            self._wait, self._waits_since = wait, now
        if now - self._waits_since < _timeout_s(wait, limits):
            return False
        if wait is _Wait.BODY and self._body is not None:
            self._body.set_exception(_too_slow("body"))
            self._body = None
        elif wait is _Wait.HEAD:
            self.refuse(_too_slow("head"))
        else:
            self.force_close()
        return True

    def refuse(self, problem: ProblemError) -> None:
        """Send an error for a request that has not been read, and close the connection."""
        if self.transport is not None:
            self.transport.write(_as_bytes(problem))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the error has it
    ) -> web.StreamResponse:
        """Return the response to malformed HTTP, or to an exception that no handler caught."""
        if isinstance(exc, HttpProcessingError):
            problem = _problem_of(exc)
            fault = type(exc).__name__
            log.info("request from %s rejected: %s", request.remote, problem.detail, extra={"fault": fault})
        else:
            problem = ProblemError.of_status(HTTPStatus(status), "Internal error.")
            self.log_exception("internal error", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of another response has been sent")
        response = problems.respond(problem)
        response.force_close()
        return response

    def log_exception(self, message: str, *arguments: object, exc_info: BaseException | None = None) -> None:
        """Log an error, except for an unreadable body, about which the client was informed."""
        if isinstance(exc_info, web.RequestPayloadError | ProblemError | ConnectionError):
            log.debug("a body could not be read to its end: %r", exc_info)
            return
        log.error(message, *arguments, exc_info=exc_info, extra={"fault": f"http {type(exc_info).__name__}"})

    @property
    def _misses_body(self) -> bool:
        """Whether the rest of a body is still missing."""
        return self._body is not None and not self._body.is_eof()

    @property
    def _awaits_request(self) -> bool:
        """Whether no request is being handled or queued."""
        return not (self._messages or self._request_in_progress or self._misses_body)

    def _current_wait(self) -> _Wait:
        if self._misses_body:
            return _Wait.BODY
        if not self._awaits_request:
            return _Wait.NOTHING
        if self._head_bytes:
            return _Wait.HEAD
        return _Wait.NEXT_REQUEST if self._request_count else _Wait.FIRST_REQUEST

    def _has_write_timeout(self, now: float, limits: ConnectionLimits, transport: asyncio.Transport) -> bool:
        """Return whether the client has not accepted any pending data within its time-out."""
        unsent = transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._accepted_at = now
        self._unsent = unsent
        return now - self._accepted_at >= limits.answer_s


def _timeout_s(wait: _Wait, limits: ConnectionLimits) -> float:
    return {
        _Wait.FIRST_REQUEST: limits.head_s,
        _Wait.HEAD: limits.head_s,
        _Wait.BODY: limits.body_s,
        _Wait.NEXT_REQUEST: limits.idle_s,
        _Wait.NOTHING: _NEVER_S,
    }[wait]


def _too_slow(part: str) -> ProblemError:
    return ProblemError.of_status(
        HTTPStatus.REQUEST_TIMEOUT, f"The rest of the request's {part} did not arrive in time."
    )


def _too_large(detail: str) -> ProblemError:
    return ProblemError.of_status(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)


def _problem_of(error: HttpProcessingError) -> ProblemError:
    """Return the problem for a request that aiohttp could not parse."""
    if isinstance(error, LineTooLong):
        if error.args[1] == _LONGEST_TARGET:
            detail = f"The request's target must not exceed {_LONGEST_TARGET} bytes."
            return ProblemError.of_status(HTTPStatus.REQUEST_URI_TOO_LONG, detail)
        return _too_large(f"A header field must not exceed {_LONGEST_FIELD} bytes.")
    if isinstance(error, InvalidURLError):
        return MalformedError("The request's target is not a valid URL.")
    # After its first line the message repeats what the client sent.
    reason = error.message.partition("\n")[0].rstrip(":.")
    return MalformedError(f"The request is not valid HTTP: {reason[:100]}.")


def _as_bytes(problem: ProblemError) -> bytes:
    """Encode a problem as a raw HTTP response, for connections without a parsed request."""
    response = problems.respond(problem)
    body = response.body if isinstance(response.body, bytes) else b""
    fields = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {response.status} {response.reason}\r\n{head}\r\n".encode() + body
