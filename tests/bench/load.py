"""A light client: places orders over a fixed number of connections, optionally watching each.

Runs in a process of its own (``python -m tests.bench.load``), speaks just enough HTTP and WebSocket, and
prints one JSON line. aiohttp's client would cost more than the service.
"""

import argparse
import asyncio
import json
import struct
import sys
import time
from collections.abc import Callable
from typing import cast

import uvloop

_BODY = b'{"tokenIn":"%s","tokenOut":"%s","amountIn":"%s","orderType":"market"}'
_PAIRS = [(b"SOL", b"USDC"), (b"USDC", b"SOL"), (b"SOL", b"JUP"), (b"JUP", b"SOL"), (b"RAY", b"USDC")]
_POST = (
    b"POST /api/orders/execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"%bContent-Length: %d\r\n\r\n%b"
)
WATCH = (
    b"GET /api/orders/%s/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A masked close frame with code 1000.
_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


def take_frame(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Return a WebSocket frame's opcode and payload, and the rest; None if it is not complete."""
    if len(buffer) < 2:
        return None
    length, start = buffer[1], 2
    if length == 126:
        if len(buffer) < 4:
            return None
        (length,), start = struct.unpack_from("!H", buffer, 2), 4
    if len(buffer) < start + length:
        return None
    return buffer[0] & 0x0F, buffer[start : start + length], buffer[start + length :]


class _Poster(asyncio.Protocol):
    """One keep-alive connection that sends one order after the other."""

    def __init__(self, next_request: Callable[[], bytes | None], placed: Callable[[bytes], None]) -> None:
        self._next_request = next_request
        self._placed = placed
        self._buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.send()

    def send(self) -> None:
        request = self._next_request()
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.index(b"Content-Length: ") + 16
        if len(body) < int(head[at : head.find(b"\r\n", at) if b"\r\n" in head[at:] else None]):
            return
        assert head.startswith(b"HTTP/1.1 201"), self._buffer
        at = body.index(b'"orderId":"') + 11
        self._buffer = b""
        self._placed(body[at : at + 36])

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


class _Watcher(asyncio.Protocol):
    """One WebSocket that follows one order to its end."""

    def __init__(self, order_id: bytes) -> None:
        self._order_id = order_id
        self._buffer = b""
        self._upgraded = False
        self._sequences: list[int] = []
        self._last = b""
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(WATCH % self._order_id)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._upgraded, self._buffer = True, rest
        while taken := take_frame(self._buffer):
            opcode, payload, self._buffer = taken
            self._take(opcode, payload)

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            at = payload.index(b'"sequence":') + 11
            self._sequences.append(int(payload[at : payload.index(b",", at)]))
            self._last = payload
        elif opcode == 8:
            complete = (
                payload[:2] == b"\x03\xe8"
                and self._sequences == list(range(1, len(self._sequences) + 1))
                and b'"status":"confirmed"' in self._last
            )
            self.done.set_result(complete)
            self._transport.write(_CLOSE)
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(False)


async def _run(
    host: str, port: int, orders: int, clients: int, watch: bool, token: str, amount: bytes
) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    left = orders
    complete = 0
    began = time.monotonic()
    watching: set[asyncio.Task[None]] = set()

    def next_request() -> bytes | None:
        nonlocal left
        if left == 0:
            return None
        left -= 1
        body = _BODY % (*_PAIRS[left % len(_PAIRS)], amount)
        headers = b""
        if token:
            key = f"{began}-{left}"
            headers = f"Authorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n".encode()
        return _POST % (headers, len(body), body)

    async def client() -> None:
        poster: _Poster

        async def follow(order_id: bytes) -> None:
            nonlocal complete
            _transport, watcher = await loop.create_connection(lambda: _Watcher(order_id), host, port)
            seen_all = await watcher.done  # awaited first: += would read the count before
            complete += seen_all
            poster.send()

        def placed(order_id: bytes) -> None:
            if watch:
                task = asyncio.create_task(follow(order_id))
                watching.add(task)
                task.add_done_callback(watching.discard)
            else:
                poster.send()

        _transport, poster = await loop.create_connection(lambda: _Poster(next_request, placed), host, port)
        await poster.done

    await asyncio.gather(*(client() for _ in range(clients)))
    return {"seconds": time.monotonic() - began, "complete": complete}


def main() -> None:
    """Place the orders and print the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("--token", default="", help="send it, and an Idempotency-Key with each order")
    parser.add_argument("--amount", default="1", help="that each order sells, in display units")
    options = parser.parse_args()
    result = uvloop.run(
        _run(
            options.host,
            options.port,
            options.orders,
            options.clients,
            options.watch,
            options.token,
            options.amount.encode(),
        )
    )
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
