"""A TCP proxy between the service and a server that injects network faults.

It listens on a TCP port and connects to a Unix socket or a TCP address. It runs on an event loop in its own
thread, so that tests may block.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

T = TypeVar("T")

_LATENCY_S = 0.05
_TRICKLE_BYTES = 64
_TRICKLE_S = 0.002
_LARGEST_READ = 64 * 1024


class Weather(StrEnum):
    """The state of the network."""

    FINE = "fine"
    LATENCY = "latency"  # everything arrives, 50 ms later
    CUT = "cut"  # connections are closed, new ones are refused
    RESET = "reset"  # connections are reset, and so is every new one
    HALF_OPEN = "half-open"  # data is dropped silently, as with an unplugged cable
    TRICKLE = "trickle"  # a few bytes at a time


@dataclass(eq=False)
class _Link:
    """One connection through the proxy; one that was half-open stays dead when the network recovers."""

    writers: list[asyncio.StreamWriter]
    dead: bool = False


class Proxy:
    """Forwards a TCP port of 127.0.0.1 to a server.

    Args:
        target: A Unix socket's path, or a host and a port.
    """

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._weather = Weather.FINE
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_error: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._links)

    def turn(self, weather: Weather) -> None:
        """Change the weather; returns once it is in effect."""
        self._call(self._turn(weather))

    def _call(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _turn(self, weather: Weather) -> None:
        self._weather = weather
        if weather is Weather.CUT:
            await self._close_listener()
            self._end_links(lambda writer: writer.close())
        elif self._server is None:
            await self._listen()
        if weather is Weather.RESET:
            self._end_links(_reset)
        if weather is Weather.HALF_OPEN:
            for link in self._links:
                link.dead = True

    async def _end(self) -> None:
        await self._close_listener()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _end_links(self, end: Callable[[asyncio.StreamWriter], None]) -> None:
        for link in self._links:
            for writer in link.writers:
                end(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        # Errors at the end of the loop or of the connection are ignored.
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await self._carry(reader, writer)
        self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather is Weather.RESET:
            _reset(writer)
            return
        link = _Link([writer], dead=self._weather is Weather.HALF_OPEN)
        self._links.add(link)
        try:
            server_reader, server_writer = await self._connect()
            link.writers.append(server_writer)
            directions = [
                asyncio.create_task(self._pump(link, reader, server_writer)),
                asyncio.create_task(self._pump(link, server_reader, writer)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        finally:
            self._links.discard(link)
            for each in link.writers:
                each.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction's bytes, until there are no more."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_LARGEST_READ):
                await self._deliver(link, data, writer)
        if link.dead and link.writers[0] is writer:
            await asyncio.Event().wait()  # the server has closed, but the client never notices

    async def _deliver(self, link: _Link, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            part, pause_s = data, 0.0
            if self._weather is Weather.LATENCY:
                pause_s = _LATENCY_S
            elif self._weather is Weather.TRICKLE:
                part, pause_s = data[:_TRICKLE_BYTES], _TRICKLE_S
            if pause_s:
                await asyncio.sleep(pause_s)
            if link.dead:  # by now
                return
            writer.write(part)
            await writer.drain()
            data = data[len(part) :]


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST, where supported."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
