"""No route blocks the event loop for long, even with the largest requests and the longest responses.

The tests measure the CPU time of the loop's thread in each callback (see ``LoopProbe``): the longest of a
request, and the least of several requests, so that neither a busy machine nor other work of the service
counts. The garbage collector is off meanwhile, because it would scan the test's own heap.
"""

import functools
import gc
import http.client
import itertools
import json
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from service.store.order_events import MOST_IN_PAGE
from tests.conftest import service_on
from tests.support.loop_lag import LoopProbe, watched_service
from tests.support.loop_load import ENTRIES, store_events, store_orders
from tests.support.servers import TestServers
from tests.support.sockets import CLOSE, PING, TEXT, frame

LONGEST_MS = 5.0
ROUNDS = 6
BODY = 64 * 1024 - 64
NOBODY = "0190a8f5-0000-7000-8000-000000000000"

LARGE_ORDER = {
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amountIn": "0." + "1".ljust(60, "0"),
    "orderType": "limit",
    "limitPrice": "1000000." + "0" * 50,
    "timeInForce": "GTD",
    "expiresAt": "2100-01-01T00:00:00.000000000+00:00",
    "label": "x" * 64,
    "slippageBps": 10_000,
}
ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1", "orderType": "market"}
# As many as a socket may watch, in amounts that are split over all pools, and small ones.
MANY_PAIRS = ",".join(
    f"{sold}-{bought}:{amount}"
    for (sold, bought), amount in zip(
        itertools.permutations(("SOL", "USDC", "USDT", "JUP", "RAY", "BONK"), 2),
        itertools.cycle(("18446744.7", "0.00001")),
        strict=False,
    )
).rsplit(",", 10)[0]
# A public address, and a label that no order has: nothing is sent.
WEBHOOK = {
    "url": "https://8.8.8.8/",
    "events": ["open"] * 9,
    "label": "of no order",
    "description": "x" * 200,
}
POOL = {"program": "raydium_cpmm", "tokenA": "SOL", "tokenB": "GEM", "amountA": "1", "amountB": "1"}


def bodies(valid: dict[str, Any]) -> Iterator[bytes]:
    """Yield bodies of the maximum size: a valid one, and those that are most expensive to reject."""
    text = json.dumps(valid).encode()
    yield text + b" " * (BODY - len(text))
    yield b"{" + b",".join(b'"k%d":0' % number for number in range(BODY // 12)) + b"}"
    yield b"{" + b'"a":1,' * (BODY // 6 - 1) + b'"a":1}'
    yield b"[" + b"{}," * (BODY // 3 - 1) + b"{}]"
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (60, 1_000, BODY // 8):
            yield opening * depth + b"1" + closing * depth
    for name in (*valid, "limitPrice", "sniperConditions"):
        values: tuple[Any, ...] = ("9" * (BODY - 400), "1." + "0" * (BODY - 400), ["1"] * (BODY // 6), {})
        for value in values:
            yield json.dumps({**valid, name: value}).encode()[:BODY]


def queries() -> Iterator[str]:
    """Yield query strings of the maximum length."""
    yield "&".join(f"{number:x}=" for number in range(1_500))
    yield "pairs=" + "SOL-USDC:1," * 700
    yield "pairs=" + ",".join(f"T{number}-USDC" for number in range(20))
    for name in ("amountIn", "tokenIn", "token", "cursor", "limit", "from", "pairs"):
        yield f"{name}=" + "9" * 8_000
    yield "cursor=" + "%41" * 2_600


@dataclass
class MeasuredService:
    """A measured service with orders."""

    port: int
    probe: LoopProbe
    ended: list[str]
    resting: list[str]
    position: str

    def request(self, method: str, path: str, body: bytes | None = None) -> int:
        """Send a request and read its whole response; return its status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status < 500, (method, path[:80], answer.status)
        return answer.status

    def stream(self, path: str, said: bytes, frames: int) -> None:
        """Open a stream, send data, and read a number of frames."""
        with socket.create_connection(("127.0.0.1", self.port)) as link, link.makefile("rb") as answers:
            link.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
            )
            while answers.readline() != b"\r\n":
                pass
            link.sendall(said)
            for _ in range(frames):
                size = answers.read(2)[1]
                if size >= 126:
                    kind, length = ("!H", 2) if size == 126 else ("!Q", 8)
                    [size] = struct.unpack(kind, answers.read(length))
                answers.read(size)
            link.sendall(frame(CLOSE, struct.pack("!H", 1000)))


Case = Callable[[MeasuredService], object]


def get(path: str) -> list[Case]:
    """Return GET requests of a path, without a query and with each query."""
    paths = [path, *(f"{path}?{query}"[:8_100] for query in queries())]
    return [lambda rig, path=path: rig.request("GET", path) for path in paths]  # type: ignore[misc]


def send(method: str, path: str, valid: dict[str, Any]) -> list[Case]:
    """Return requests with every body."""
    return [
        lambda rig, body=body: rig.request(method, path, body)  # type: ignore[misc]
        for body in bodies(valid)
    ]


def dry_run(**swap: str) -> Case:
    body = json.dumps({**swap, "orderType": "market"}).encode()
    return lambda rig: rig.request("POST", "/api/orders/execute?dryRun=true", body)


def with_order(method: str, body: bytes | None = None, path: str = "") -> Case:
    return lambda rig: rig.request(method, f"/api/orders/{rig.resting.pop()}{path}", body)


CASES: dict[tuple[str, str], list[Case]] = {
    ("POST", "/api/orders/execute"): [
        *send("POST", "/api/orders/execute", ORDER),
        *send("POST", "/api/orders/execute?dryRun=true", ORDER),
        dry_run(tokenIn="SOL", tokenOut="USDC", amountIn="18446744073.7"),
        dry_run(tokenIn="JUP", tokenOut="BONK", amountIn="0.00001"),
        dry_run(tokenIn="BONK", tokenOut="SOL", amountOut="18446744073.7"),
    ],
    ("POST", "/api/orders/batch"): [
        *send("POST", "/api/orders/batch", {"orders": [ORDER] * 100}),
        lambda rig: rig.request(
            "POST", "/api/orders/batch", json.dumps({"orders": [LARGE_ORDER] * 100}).encode()
        ),
    ],
    ("GET", "/api/orders"): [
        *get("/api/orders"),
        *get("/api/orders?limit=500&status=open")[:1],
        *get("/api/orders?limit=500&status=cancelled")[:1],
    ],
    ("GET", "/api/orders/by-client-id/{client_order_id}"): get("/api/orders/by-client-id/" + "x" * 4_000)[:2],
    ("GET", "/api/orders/{order_id}"): [
        *get(f"/api/orders/{NOBODY}"),
        lambda rig: rig.request("GET", f"/api/orders/{rig.ended[0]}"),
    ],
    ("PATCH", "/api/orders/{order_id}"): [
        *send("PATCH", f"/api/orders/{NOBODY}", {"limitPrice": "5"}),
        with_order("PATCH", b'{"limitPrice":"2000000"}'),
    ],
    ("DELETE", "/api/orders/{order_id}"): [with_order("DELETE")],
    ("POST", "/api/orders/{order_id}/approve"): [
        *send("POST", f"/api/orders/{NOBODY}/approve", {"reason": "x" * 200}),
        with_order("POST", path="/approve"),
    ],
    ("POST", "/api/orders/{order_id}/refuse"): [
        *send("POST", f"/api/orders/{NOBODY}/refuse", {"reason": "x" * 200}),
        with_order("POST", path="/refuse"),
    ],
    ("GET", "/api/orders/{order_id}/ws"): [
        lambda rig: rig.stream(f"/api/orders/{rig.ended[0]}/ws", b"", ENTRIES),
        lambda rig: rig.stream(f"/api/orders/{rig.ended[1]}/ws?from={ENTRIES - 1}", b"", 1),
        lambda rig: rig.stream(f"/api/orders/{rig.resting[0]}/ws?from={ENTRIES}", frame(PING) * 3_000, 3_000),
        lambda rig: rig.stream(
            f"/api/orders/{rig.resting[0]}/ws?from={ENTRIES}", frame(TEXT, b"x") * 20_000 + frame(PING), 1
        ),
        lambda rig: rig.stream(
            f"/api/orders/{rig.resting[0]}/ws?from={ENTRIES}", frame(TEXT, b"x" * 4_000) * 30 + frame(PING), 1
        ),
    ],
    ("GET", "/api/orders/ws"): [
        *get("/api/orders/ws"),
        *get("/api/orders/ws?from=" + "MS4" * 2_300)[:1],
        lambda rig: rig.stream("/api/orders/ws", b"", 1),
        lambda rig: rig.stream(f"/api/orders/ws?from={rig.position}", b"", 1 + 2_000 // MOST_IN_PAGE),
        lambda rig: rig.stream("/api/orders/ws", frame(PING) * 3_000, 3_001),
    ],
    ("GET", "/api/quotes"): [
        *get("/api/quotes"),
        *get("/api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=18446744073.7")[:1],
        *get("/api/quotes?tokenIn=JUP&tokenOut=BONK&amountIn=0.000001")[:1],
        *get("/api/quotes?tokenIn=BONK&tokenOut=SOL&amountOut=18446744073.7")[:1],
    ],
    ("GET", "/api/tokens"): get("/api/tokens"),
    ("GET", "/api/pools"): get("/api/pools"),
    ("GET", "/api/market/ws"): [
        *get("/api/market/ws"),
        # The message, and the ping that follows it.
        lambda rig: rig.stream(f"/api/market/ws?pairs={MANY_PAIRS}", b"", 2),
        lambda rig: rig.stream(f"/api/market/ws?pairs={MANY_PAIRS}", frame(PING) * 3_000, 3_002),
    ],
    ("GET", "/api/venue"): get("/api/venue"),
    ("GET", "/api/balances"): [*get("/api/balances"), *get("/api/balances?limit=500")[:1]],
    ("POST", "/api/paper/pools"): send("POST", "/api/paper/pools", POOL),
    ("DELETE", "/api/paper/pools/{pool_id}"): [
        lambda rig: rig.request("DELETE", "/api/paper/pools/" + "x" * 4_000)
    ],
    ("GET", "/api/keys/me"): get("/api/keys/me"),
    ("POST", "/api/stream-tickets"): send("POST", "/api/stream-tickets", {}),
    ("POST", "/api/orders/cancel-after"): [
        *send("POST", "/api/orders/cancel-after", {"timeoutMs": 86_400_000}),
        lambda rig: rig.request("POST", "/api/orders/cancel-after", b'{"timeoutMs":0}'),
    ],
    ("POST", "/api/webhooks"): [
        *send("POST", "/api/webhooks", WEBHOOK),
        *[lambda rig: rig.request("POST", "/api/webhooks", json.dumps(WEBHOOK).encode())] * 20,
    ],
    ("GET", "/api/webhooks"): get("/api/webhooks"),
    ("GET", "/api/webhooks/{webhook_id}"): get(f"/api/webhooks/{NOBODY}")[:1],
    ("PATCH", "/api/webhooks/{webhook_id}"): send("PATCH", f"/api/webhooks/{NOBODY}", {"enabled": False}),
    ("DELETE", "/api/webhooks/{webhook_id}"): [lambda rig: rig.request("DELETE", f"/api/webhooks/{NOBODY}")],
    ("POST", "/api/webhooks/{webhook_id}/rotate-secret"): send(
        "POST", f"/api/webhooks/{NOBODY}/rotate-secret", {}
    ),
    ("GET", "/health"): get("/health"),
    ("GET", "/openapi.json"): get("/openapi.json"),
    ("GET", "/asyncapi.json"): get("/asyncapi.json"),
    ("GET", "/docs"): get("/docs"),
    ("GET", "/docs/{asset}"): [*get("/docs/swagger-ui-bundle.js"), *get("/docs/" + "x" * 8_000)[:1]],
    # Last, since no order rests afterwards.
    ("POST", "/api/orders/cancel"): [
        *send("POST", "/api/orders/cancel", {"tokenIn": "GEM"}),
        lambda rig: rig.request("POST", "/api/orders/cancel", b'{"all":true}'),
    ],
    ("POST", "/api/admin/halt"): send("POST", "/api/admin/halt", {"reason": "x" * 200}),
    ("POST", "/api/admin/resume"): send("POST", "/api/admin/resume", {}),
}


def longest_ms(rig: MeasuredService, case: Case) -> float:
    """Return how long the loop was blocked, in the best of several rounds; one good round is enough."""
    best = float("inf")
    for _ in range(ROUNDS):
        rig.probe.reset()
        case(rig)
        best = min(best, rig.probe.longest_ms)
        if best < LONGEST_MS / 2:
            break
    return best


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_no_route_blocks_the_event_loop(servers: TestServers) -> None:
    ended, resting = store_orders(servers, 500, "cancelled"), store_orders(servers, 500, "open")
    position = store_events(servers, ended, versions=4)
    make = functools.partial(
        service_on,
        servers,
        SLOT_MS="60000",
        LOG_LEVEL="ERROR",
        MAX_HISTORY_ENTRIES=str(ENTRIES + 50),
        SHUTDOWN_GRACE_S="0",
    )
    held = []
    with watched_service(make) as (service, port, probe):
        served = {
            (route.method, route.resource.canonical)
            for route in service.web.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
        assert served == set(CASES)
        rig = MeasuredService(port, probe, ended, resting, position)
        for route, cases in CASES.items():
            for number, case in enumerate(cases):
                took_ms = longest_ms(rig, case)
                if took_ms > LONGEST_MS:
                    held.append((route, number, round(took_ms, 1), probe.what))
    assert not held, held
