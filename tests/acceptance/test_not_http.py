"""Malformed HTTP is answered with a problem, and does not flood the log."""

import gzip
import time
from collections.abc import Iterator

import pytest

from service.api.problem_schemas import ProblemSchema
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.raw import HOST, JSON, RawResponse, answer_on, connected, is_closed
from tests.support.servers import TestCluster

POST = b"POST /api/orders/execute HTTP/1.1\r\n" + HOST + JSON
NOWHERE = b"POST /nowhere HTTP/1.1\r\n" + HOST + JSON
GZIP = b"Content-Encoding: gzip\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BOMB = gzip.compress(b" " * 20_000_000)

REFUSED: dict[str, tuple[int, bytes]] = {
    "TLS": (400, bytes.fromhex("16030100c8010000c40303") + bytes(200)),
    "garbage": (400, b"\x00\x01\x02\xff" * 20 + b"\r\n\r\n"),
    "method": (400, b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "version": (400, b"GET / HTTP/9.9\r\n" + HOST + b"\r\n"),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "no host": (400, b"GET /health HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "line feeds": (400, b"GET /health HTTP/1.1\nHost: x\n\n"),
    "folded field": (400, b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"),
    "NUL in field": (400, b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n"),
    "NUL in path": (400, b"GET /he\x00alth HTTP/1.1\r\n" + HOST + b"\r\n"),
    "bytes in path": (400, b"GET /api/orders/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n"),
    "bytes in query": (400, b"GET /api/orders?status=\xff HTTP/1.1\r\n" + HOST + b"\r\n"),
    "no URL": (400, b"GET http://[::1/health HTTP/1.1\r\n" + HOST + b"\r\n"),
    "encoded bytes": (404, b"GET /api/orders/%ff%zz HTTP/1.1\r\n" + HOST + b"\r\n"),
    "long target": (414, b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    "long field": (431, b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 200_000),
    "long name": (431, b"GET /health HTTP/1.1\r\n" + HOST + b"a" * 9_000 + b": x\r\n\r\n"),
    "many fields": (400, b"GET /health HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 1_000 + b"\r\n"),
    "large head": (431, b"GET /health HTTP/1.1\r\n" + HOST + (b"X: " + b"a" * 8_000 + b"\r\n") * 9),
    "huge length": (400, POST + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n{}"),
    "large length": (413, POST + b"Content-Length: 10000000000\r\n\r\n{}"),
    "large length expected": (413, POST + b"Expect: 100-continue\r\nContent-Length: 10000000000\r\n\r\n"),
    "negative length": (400, POST + b"Content-Length: -1\r\n\r\n{}"),
    "two lengths": (400, POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    "length and chunks": (400, POST + b"Content-Length: 2\r\n" + CHUNKED + b"\r\n0\r\n\r\n"),
    "transfer coding": (400, POST + b"Transfer-Encoding: foo\r\n\r\n{}"),
    "chunk": (400, POST + CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "long trailer": (431, POST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
    "expectation": (417, POST + b"Expect: foo\r\nContent-Length: 2\r\n\r\n{}"),
    "expectation nowhere": (417, NOWHERE + b"Expect: foo\r\nContent-Length: 2\r\n\r\n{}"),
    "gzip": (400, POST + GZIP + b"Content-Length: 10\r\n\r\n0123456789"),
    "gzip nowhere": (404, NOWHERE + GZIP + b"Content-Length: 10\r\n\r\n0123456789"),
    "gzip bomb": (413, POST + GZIP + b"Content-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "OPTIONS": (405, b"OPTIONS /health HTTP/1.1\r\n" + HOST + b"\r\n"),
    "OPTIONS *": (404, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "TRACE": (405, b"TRACE /health HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT": (404, b"CONNECT x:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
}


@pytest.fixture(scope="module")
def service(cluster: TestCluster) -> Iterator[ServiceProcess]:
    with ServiceProcess({**NO_DELAYS, **cluster.new().environment}) as service:
        yield service.wait_until_ready()


def told(service: ServiceProcess, *sent: bytes) -> RawResponse:
    with connected(service, *sent) as link:
        return answer_on(link)


@pytest.mark.parametrize("name", REFUSED)
def test_every_rejection_is_a_problem(service: ServiceProcess, name: str) -> None:
    status, sent = REFUSED[name]
    answer = told(service, sent)
    assert (answer.status, answer.problem["status"]) == (status, status), answer
    assert ProblemSchema().validate(answer.problem) == {}
    assert "\n" not in answer.problem["detail"]
    assert ("allow" in answer.headers) == (status == 405)
    assert "Traceback" not in service.output


def test_a_body_that_continues_with_garbage_is_400_at_once(service: ServiceProcess) -> None:
    with connected(service, POST + CHUNKED + b"Expect: 100-continue\r\n\r\n") as link:
        assert link.recv(65_536).startswith(b"HTTP/1.1 100 ")  # the service is reading the body
        link.sendall(b"2\r\n{}\r\nzz\r\n")
        assert answer_on(link).problem["status"] == 400
        assert is_closed(link)
    assert "Traceback" not in service.output


def test_head_is_get_without_the_body(service: ServiceProcess) -> None:
    with connected(service, b"HEAD /health HTTP/1.1\r\n" + HOST + b"\r\n") as link:
        received = link.recv(65_536)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"\r\n\r\n")


def test_requests_may_be_pipelined(service: ServiceProcess) -> None:
    request = b"GET /health HTTP/1.1\r\n" + HOST
    last = request + b"Connection: close\r\n\r\n"
    with connected(service, (request + b"\r\n") * 99 + last) as link:
        received = b""
        while part := link.recv(65_536):
            received += part
    assert received.count(b"HTTP/1.1 200 ") == 100


def test_many_bad_requests_log_only_a_few_lines(service: ServiceProcess) -> None:
    kinds = [sent for name, (_status, sent) in REFUSED.items() if name in {"TLS", "no host", "chunk", "gzip"}]
    before, began = service.output.count("\n"), time.monotonic()
    for number in range(200):
        told(service, kinds[number % len(kinds)])
    seconds = time.monotonic() - began
    assert service.output.count("\n") - before <= (seconds + 1) * len(kinds)
