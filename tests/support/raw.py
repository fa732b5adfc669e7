"""A client that sends HTTP byte by byte, so that it can send it malformed, slowly, or not at all."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import orjson

from tests.support.process import ServiceProcess

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class RawResponse:
    """The received data, up to the end of the connection or the time-out."""

    status: int | None
    headers: dict[str, str]
    body: bytes
    closed: bool

    @property
    def problem(self) -> dict[str, Any]:
        """The body, which must be problem+json."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem: dict[str, Any] = orjson.loads(self.body)
        return problem


@contextlib.contextmanager
def connected(service: ServiceProcess, *sent: bytes) -> Iterator[socket.socket]:
    """Open a connection, and send something."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as link:
        for part in sent:
            link.sendall(part)
        yield link


def answer_on(link: socket.socket, *, within_s: float = 10) -> RawResponse:
    """Read one complete response, or until the connection ends or the time-out."""
    link.settimeout(within_s)
    received, closed = b"", False
    with contextlib.suppress(TimeoutError):
        while not _is_whole(received):
            part = b""
            with contextlib.suppress(ConnectionError):
                part = link.recv(65_536)
            if not part:
                closed = True
                break
            received += part
    status, headers, body = _parsed(received)
    return RawResponse(status, headers, body, closed)


def is_closed(link: socket.socket, *, within_s: float = 10) -> bool:
    """Read on, and return whether the connection ends in time."""
    link.settimeout(within_s)
    try:
        while link.recv(65_536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def _parsed(received: bytes) -> tuple[int | None, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    first, _, fields = head.partition(b"\r\n")
    if not first:
        return None, {}, b""
    status = int(first.split(b" ")[1])
    if status == 100:
        return _parsed(body)
    headers = BytesParser(policy=HTTP).parsebytes(fields + b"\r\n\r\n")
    return status, {name.lower(): value for name, value in headers.items()}, body


def _is_whole(received: bytes) -> bool:
    status, headers, body = _parsed(received)
    if status is None or b"\r\n\r\n" not in received:
        return False
    if headers.get("transfer-encoding") == "chunked":
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(headers["content-length"])
