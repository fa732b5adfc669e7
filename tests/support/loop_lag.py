"""Measures how long each callback blocks an event loop, and runs a service on such a loop."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from aiohttp import web

from service.app import Service


class LoopProbe:
    """Measures every callback of one event loop, including the steps of tasks.

    It measures the CPU time of the loop's thread, so that other processes and threads do not count.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.longest_ms = 0.0
        self.what = ""

    def reset(self) -> None:
        """Discard the measurements."""
        self.longest_ms, self.what = 0.0, ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure the callbacks of ``loop``, which must be asyncio's own."""
        run = asyncio.Handle._run

        def measured(handle: asyncio.Handle) -> None:
            if handle._loop is not self.loop:  # type: ignore[attr-defined]
                return run(handle)
            began = time.thread_time()
            run(handle)
            took_ms = (time.thread_time() - began) * 1_000
            if took_ms > self.longest_ms:
                self.longest_ms, self.what = took_ms, repr(handle)
            return None

        with patch.object(asyncio.Handle, "_run", measured):
            yield


@contextmanager
def watched_service(make: Callable[[], Service]) -> Iterator[tuple[Service, int, LoopProbe]]:
    """Run a service in its own thread, on a measured loop; yield it, its port and the probe."""
    probe, ready, stop = LoopProbe(), threading.Event(), asyncio.Event()
    found: list[tuple[Service, int]] = []

    async def serve() -> None:
        probe.loop = asyncio.get_running_loop()
        service = make()
        runner = web.AppRunner(service.web, access_log=None, shutdown_timeout=1)
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            found.append((service, runner.addresses[0][1]))
            ready.set()
            await stop.wait()
        finally:
            await service.drain()
            await runner.cleanup()
            ready.set()

    def run() -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="watched service")
    with probe.watching():
        thread.start()
        try:
            assert ready.wait(60)
            assert found, "the service did not start"
            yield (*found[0], probe)
        finally:
            if probe.loop is not None:
                probe.loop.call_soon_threadsafe(stop.set)
            thread.join(30)
