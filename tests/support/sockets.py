"""A WebSocket client without automatic behaviour: no close frame, no pong, no reading."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.orders import Client
from tests.support.process import ServiceProcess

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA

_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return a client's frame, masked with zeros."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BBxxxx", 0x80 | opcode, 0x80 | size) + payload
    return struct.pack("!BBHxxxx", 0x80 | opcode, 0xFE, size) + payload


class RawSocket:
    """One connection, after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *frames: bytes) -> None:
        """Send raw frames."""
        self._writer.write(b"".join(frames))

    def answer_close(self, code: int) -> None:
        """Send a close frame."""
        self.send(frame(CLOSE, struct.pack("!H", code)))

    async def receive(self) -> tuple[int, bytes]:
        """Return the next frame's opcode and payload."""
        first, size = struct.unpack("!BB", await self._reader.readexactly(2))
        if size == 126:
            [size] = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            [size] = struct.unpack("!Q", await self._reader.readexactly(8))
        return first & 0x0F, await self._reader.readexactly(size)

    async def close_code(self) -> int:
        """Read on until the close frame, and return its code."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                [code] = struct.unpack("!H", payload[:2])
                return int(code)

    async def end(self) -> float:
        """Read to the end of the connection, and return how many seconds that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await self._reader.read() == b""
        return loop.time() - began


@asynccontextmanager
async def connect(service: Client | ServiceProcess, order_id: str) -> AsyncIterator[RawSocket]:
    """Open an order's stream."""
    async with connect_to(service.port, f"/api/orders/{order_id}/ws") as socket:
        yield socket


@asynccontextmanager
async def connect_to(port: int | None, path: str) -> AsyncIterator[RawSocket]:
    """Open a stream on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_HANDSHAKE.format(path=path).encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    try:
        yield RawSocket(reader, writer)
    finally:
        writer.close()
