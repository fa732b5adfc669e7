"""One client's connection: how long it may keep the server waiting, and what it is told that is no answer.

aiohttp waits for ever for the rest of a request and for a client to take its answer, and it answers what is
not HTTP in plain text, with a traceback in the log. Here each of these waits has a limit, every answer is a
problem, and each kind of fault is one line a second in the log at most.
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
"""Bytes of a request before its body; one takes a few hundred."""

_LONGEST_TARGET = 8 * 1024
_LONGEST_FIELD = _LONGEST_TARGET - 2  # another number, by which to tell which of the two was exceeded
_MOST_FIELDS = 100

# For an answer to reach a client that is still sending; what it sends is thrown away.
_LINGER_S = 2.0

# The limits below end a wait before aiohttp's own timer does.
_NEVER_S = 1e9


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a server waits for a client, in seconds, and for how many clients at once.

    ``head_s``: for a new client's first request, and for the rest of a request's head. ``body_s``: for the
    rest of its body. ``idle_s``: for the next request. ``answer_s``: for a client to take a byte more.
    """

    head_s: int
    body_s: int
    idle_s: int
    answer_s: int
    connections: int


class _Wait(Enum):
    """What of the client's is waited for; ``NOTHING``: the service works, or streams."""

    FIRST_REQUEST = auto()
    HEAD = auto()
    BODY = auto()
    NEXT_REQUEST = auto()
    NOTHING = auto()


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, with an end to every wait.

    Args:
        manager: The server.
        loop: The event loop.
        now: Tells the time, in seconds.
    """

    __slots__ = ("_body", "_head_bytes", "_taken_at", "_unsent", "_wait", "_waits_since")

    def __init__(
        self, manager: web.Server, loop: asyncio.AbstractEventLoop, now: Callable[[], float]
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type] # which aiohttp takes for none
            keepalive_timeout=_NEVER_S,
            lingering_time=_LINGER_S,
            max_line_size=_LONGEST_TARGET,
            max_field_size=_LONGEST_FIELD,
            max_headers=_MOST_FIELDS,
        )
        self._head_bytes = 0
        self._body: StreamReader | None = None
        self._wait = _Wait.FIRST_REQUEST
        self._waits_since = self._taken_at = now()
        self._unsent = 0

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        requests = self._request_count
        super().data_received(data)
        if self._request_count > requests:
            self._head_bytes = 0
            # Looks are seldom: at the next one the same may be waited for again, from another request.
            self._wait = _Wait.NOTHING
            if self._body is not None and self._misses_body:
                # Before a body has ended, only what cannot be read counts as a request.
                self._body.set_exception(web.RequestPayloadError("The rest of the body is not HTTP."))
        elif self._awaits_request:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self.refuse(_too_large(f"A request's head may have {LARGEST_HEAD} bytes."))

    def follow(self, body: StreamReader) -> None:
        """Take note of the body of the request that is answered now."""
        self._body = body

    def look(self, now: float, limits: ConnectionLimits, transport: asyncio.Transport) -> bool:
        """End the wait if it has been too long, and return whether it has."""
        if self._takes_nothing(now, limits, transport):
            transport.abort()
            return True
        wait = self._current_wait()
        if wait is not self._wait:
            self._wait, self._waits_since = wait, now
        if now - self._waits_since < _patience(wait, limits):
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
        """Answer a client whose request has not been read, and close the connection."""
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
        """Return the answer to what is not HTTP, or to what a handler did not deal with."""
        if isinstance(exc, HttpProcessingError):
            problem = _problem_of(exc)
            fault = type(exc).__name__
            log.info("refused from %s: %s", request.remote, problem.detail, extra={"fault": fault})
        else:
            problem = ProblemError.of_status(HTTPStatus(status), "The service met an error of its own.")
            self.log_exception("an error of the service's own", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of another answer has been sent")
        response = problems.respond(problem)
        response.force_close()
        return response

    def log_exception(self, message: str, *arguments: object, exc_info: BaseException | None = None) -> None:
        """Log an error; a body that could not be read is none: its client has been told."""
        if isinstance(exc_info, web.RequestPayloadError | ProblemError | ConnectionError):
            log.debug("a body could not be read to its end: %r", exc_info)
            return
        log.error(message, *arguments, exc_info=exc_info, extra={"fault": f"http {type(exc_info).__name__}"})

    @property
    def _misses_body(self) -> bool:
        """Whether the rest of a body is still to come."""
        return self._body is not None and not self._body.is_eof()

    @property
    def _awaits_request(self) -> bool:
        """Whether no request is being answered, and none is waiting for that."""
        return not (self._messages or self._request_in_progress or self._misses_body)

    def _current_wait(self) -> _Wait:
        if self._misses_body:
            return _Wait.BODY
        if not self._awaits_request:
            return _Wait.NOTHING
        if self._head_bytes:
            return _Wait.HEAD
        return _Wait.NEXT_REQUEST if self._request_count else _Wait.FIRST_REQUEST

    def _takes_nothing(self, now: float, limits: ConnectionLimits, transport: asyncio.Transport) -> bool:
        """Return whether the client has taken nothing of what there is for it in all the time it has."""
        unsent = transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._taken_at = now
        self._unsent = unsent
        return now - self._taken_at >= limits.answer_s


def _patience(wait: _Wait, limits: ConnectionLimits) -> float:
    return {
        _Wait.FIRST_REQUEST: limits.head_s,
        _Wait.HEAD: limits.head_s,
        _Wait.BODY: limits.body_s,
        _Wait.NEXT_REQUEST: limits.idle_s,
        _Wait.NOTHING: _NEVER_S,
    }[wait]


def _too_slow(part: str) -> ProblemError:
    return ProblemError.of_status(
        HTTPStatus.REQUEST_TIMEOUT, f"The rest of the request's {part} did not come in time."
    )


def _too_large(detail: str) -> ProblemError:
    return ProblemError.of_status(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)


def _problem_of(error: HttpProcessingError) -> ProblemError:
    """Return what a client is told whose request aiohttp could not read."""
    if isinstance(error, LineTooLong):
        if error.args[1] == _LONGEST_TARGET:
            detail = f"A request's target may have {_LONGEST_TARGET} bytes."
            return ProblemError.of_status(HTTPStatus.REQUEST_URI_TOO_LONG, detail)
        return _too_large(f"A header field may have {_LONGEST_FIELD} bytes.")
    if isinstance(error, InvalidURLError):
        return MalformedError("The request's target is not a URL.")
    # After its first line the message repeats what the client sent.
    reason = error.message.partition("\n")[0].rstrip(":.")
    return MalformedError(f"The request is not HTTP: {reason[:100]}.")


def _as_bytes(problem: ProblemError) -> bytes:
    """Write a problem as it is sent where there is no request to answer."""
    response = problems.respond(problem)
    body = response.body if isinstance(response.body, bytes) else b""
    fields = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {response.status} {response.reason}\r\n{head}\r\n".encode() + body
