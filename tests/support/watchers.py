"""Clients of the stream of all orders, in a process of their own: ``python -m tests.support.watchers``.

They speak just enough WebSocket. A message is the same for all of them, so each is parsed once. When a line
arrives on its standard input, the process prints what they have seen as one JSON line.
"""

import argparse
import asyncio
import contextlib
import json
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import uvloop

_UPGRADE = (
    b"GET /api/orders/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TEXT, _CLOSE, _PING = 1, 8, 9


@dataclass
class Seen:
    """The messages that were seen: by number, and the events in each."""

    numbers: dict[bytes, int] = field(default_factory=dict)
    events: list[list[tuple[str, int]]] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)

    def number_of(self, message: bytes) -> int:
        """Return the number of a message; the same one has the same number."""
        number = self.numbers.get(message)
        if number is None:
            number = self.numbers[message] = len(self.numbers)
            events = json.loads(message)["events"]
            self.events.append([(event["orderId"], event["sequence"]) for event in events])
        return number

    def note_age(self, message: bytes) -> None:
        """Note how old the last event of a message is."""
        if events := json.loads(message)["events"]:
            at = datetime.fromisoformat(events[-1]["timestamp"]).timestamp()
            self.ages_ms.append((time.time() - at) * 1000)


class OrderWatcher(asyncio.Protocol):
    """One client: the numbers of the messages that it has received.

    Args:
        seen: The messages of all clients.
        timed: Whether it notes the age of the messages.
    """

    def __init__(self, seen: Seen, *, timed: bool) -> None:
        self._seen = seen
        self._timed = timed
        self._buffer = bytearray()
        self.messages: list[int] = []
        self.closed: str | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_UPGRADE)

    def data_received(self, data: bytes) -> None:
        """Take all frames that are complete."""
        self._buffer += data
        if not self.ready.done():
            head, separator, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not separator:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._buffer = bytearray(rest)
            self.ready.set_result(None)
        start = 0
        while (frame := self._frame_at(start)) is not None:
            opcode, payload, start = frame
            if opcode == _TEXT:
                self.messages.append(self._seen.number_of(payload))
                if self._timed:
                    self._seen.note_age(payload)
            elif opcode == _PING:
                self._transport.write(struct.pack("!BBxxxx", 0x8A, 0x80 | len(payload)) + payload)
            elif opcode == _CLOSE:
                self.closed = f"closed with {struct.unpack('!H', payload[:2])[0]}"
        del self._buffer[:start]

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that the service ended the connection."""
        self.closed = self.closed or "disconnected"

    def _frame_at(self, start: int) -> tuple[int, bytes, int] | None:
        buffer = self._buffer
        if len(buffer) < start + 2:
            return None
        length, at = buffer[start + 1], start + 2
        if length >= 126:
            kind, size = ("!H", 2) if length == 126 else ("!Q", 8)
            if len(buffer) < at + size:
                return None
            [length] = struct.unpack_from(kind, buffer, at)
            at += size
        if len(buffer) < at + length:
            return None
        return buffer[start] & 0x0F, bytes(buffer[at : at + length]), at + length


async def _run(port: int, count: int) -> dict[str, object]:
    loop, seen = asyncio.get_running_loop(), Seen()
    watchers: list[OrderWatcher] = []
    for number in range(count):
        _transport, watcher = await loop.create_connection(
            lambda timed=number in {0, count - 1}: OrderWatcher(seen, timed=timed),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        watchers.append(watcher)
    for watcher in watchers:
        await watcher.ready
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.readline)
    # Most have seen the same.
    histories = Counter(
        tuple(number for number in watcher.messages if seen.events[number]) for watcher in watchers
    )
    return {
        "seen": [
            [[event for number in history for event in seen.events[number]], clients]
            for history, clients in histories.items()
        ],
        "closed": [watcher.closed for watcher in watchers if watcher.closed],
        "ages_ms": sorted(seen.ages_ms),
        "messages": len(seen.numbers),
    }


def main() -> None:
    """Watch, and print what was seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--watchers", type=int, required=True)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        json.dump(uvloop.run(_run(options.port, options.watchers)), sys.stdout)


if __name__ == "__main__":
    main()
