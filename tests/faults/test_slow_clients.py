"""Stalled clients keep no connection open, and delay neither other clients nor a stop."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.flood import LIMIT_ORDER, ask, time_to_confirmed
from tests.support.judge import wait_until
from tests.support.orders import MARKET_ORDER
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.raw import HOST, JSON, answer_on, connected, is_closed

Spawn = Callable[..., ServiceProcess]

SHORT = {f"{name}_TIMEOUT_S": "1" for name in ("HEAD", "BODY", "IDLE", "ANSWER")}
EACH = 15

HALF_HEAD = b"POST /api/orders/execute HTTP/1.1\r\n" + HOST
HALF_BODY = HALF_HEAD + JSON + b"Content-Length: 40\r\n\r\n{"
WHOLE = b"GET /api/tokens HTTP/1.1\r\n" + HOST + b"\r\n"
# More than the kernel buffers for one connection.
MUCH = (b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 300
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextlib.contextmanager
def many(service: ServiceProcess, *sent: bytes, count: int = EACH) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connected(service, *sent)) for _ in range(count)]


def descriptors(service: ServiceProcess) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def resident_mib(service: ServiceProcess) -> float:
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_an_unfinished_request_times_out(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS, **SHORT)
    time_to_confirmed(service)
    open_before = descriptors(service)
    with (
        many(service) as silent,
        many(service, HALF_HEAD) as half_heads,
        many(service, HALF_BODY) as half_bodies,
        many(service, WHOLE) as idle,
    ):
        assert [answer_on(link).problem["status"] for link in half_heads] == [408] * EACH
        assert [answer_on(link).problem["status"] for link in half_bodies] == [408] * EACH
        assert [answer_on(link).status for link in idle] == [200] * EACH
        assert [answer_on(link).status for link in silent] == [None] * EACH
        assert all(map(is_closed, half_heads + half_bodies + idle + silent))
    wait_until(lambda: descriptors(service) <= open_before + 2)
    assert "Traceback" not in service.output


def test_a_client_that_is_never_idle_for_long_is_not_disconnected(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS, **SHORT)
    begins = time.monotonic()
    with connected(service) as link:
        # Each response is sent between two checks of the time-outs.
        while time.monotonic() - begins < 3.5:
            link.sendall(WHOLE)
            assert answer_on(link).status == 200
            time.sleep(0.21)


def test_a_client_with_repeatedly_late_bodies_is_not_disconnected(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS, **SHORT)
    body = json.dumps({"filter": {}}).encode()
    head = b"POST /api/orders/cancel HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: %d\r\n\r\n" % len(body)
    begins = time.monotonic()
    with connected(service) as link:
        while time.monotonic() - begins < 3.5:
            link.sendall(head)
            time.sleep(0.21)
            link.sendall(body)
            assert answer_on(link).status != 408


def test_a_client_that_does_not_read_the_response_is_disconnected(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS, **SHORT)
    time_to_confirmed(service)
    open_before = descriptors(service)
    with many(service, MUCH, count=6) as links:
        # Each is being sent a response, and reads none of it.
        assert all(link.recv(1, socket.MSG_PEEK) for link in links)
        wait_until(lambda: descriptors(service) <= open_before + 2)


def test_a_slow_client_is_served(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS, **{**SHORT, "HEAD_TIMEOUT_S": "60", "BODY_TIMEOUT_S": "60"})
    resting = ask(service, "POST", "/api/orders/execute", LIMIT_ORDER)["orderId"]
    watch = b"GET /api/orders/" + resting.encode() + b"/ws HTTP/1.1\r\n" + HOST + UPGRADE
    body = json.dumps(MARKET_ORDER).encode()
    request = HALF_HEAD + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with connected(service, watch) as watcher:
        assert watcher.recv(65_536).startswith(b"HTTP/1.1 101 ")
        with connected(service) as slow:
            for byte in range(0, len(request), 8):
                slow.sendall(request[byte : byte + 8])
                time.sleep(0.08)  # a slow line: in total longer than every short time-out
            assert answer_on(slow).status == 201
        ask(service, "DELETE", f"/api/orders/{resting}")
        watcher.settimeout(10)
        received = b""
        while b'"cancelled"' not in received:
            part = watcher.recv(65_536)
            assert part, "the watcher was cut off"
            received += part


def test_one_connection_too_many_gets_a_503(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS, MAX_CONNECTIONS="20")
    with many(service, WHOLE, count=20) as links:
        assert [answer_on(link).status for link in links] == [200] * 20
        with connected(service) as one_more:
            refused = answer_on(one_more)
        assert refused.problem["status"] == 503
        assert refused.headers["retry-after"] == "1"
        links[0].close()

        def there_is_room() -> bool:
            with connected(service, WHOLE) as link:
                return answer_on(link).status == 200

        wait_until(there_is_room)


def test_a_stop_does_not_wait_for_stalled_clients(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS)
    with many(service), many(service, HALF_HEAD), many(service, HALF_BODY), many(service, MUCH, count=3):
        time_to_confirmed(service)
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 6, service.output[-1_000:]
    assert "Traceback" not in service.output


@pytest.mark.long
def test_a_thousand_stalled_clients_leak_no_memory(spawn: Spawn) -> None:
    service = spawn(**NO_DELAYS, **SHORT)
    for _ in range(2):  # the first round fills the allocator's pools
        before = resident_mib(service)
        for sent in (b"", HALF_HEAD, HALF_BODY, WHOLE):
            with many(service, sent, count=250) as links:
                assert all(map(is_closed, links))
    assert resident_mib(service) - before < 5
