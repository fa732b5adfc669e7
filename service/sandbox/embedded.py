"""The sandbox as a part of the service: a chain in its process, and what the venue must know of any sandbox.

The chain is kept in a folder, and continues at the next start. Commands read it there, or ask the process
that runs it. Without options every sandbox has the same wallet and the same pools, so the venue also finds
its way on one that runs as a process of its own.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from service.background import Background
from service.chains.local_cluster import LocalCluster, LocalPool
from service.chains.solana.programs.registry import MAINNET
from service.clock import Clock
from service.sandbox.chain import Timing
from service.sandbox.genesis import genesis_of
from service.sandbox.keeping import ChainFolder, new_chain, read_chain, running_url
from service.sandbox.server import Sandbox
from service.sandbox.standalone import HOST, make_sandbox, sandbox_of

SEED = 1
"""The seed of a sandbox that is started without options."""

_CLOSE_S = 1.0


class EmbeddedSandbox:
    """A chain in this process, on a free port of loopback, bound at once; it answers from ``start`` on.

    Args:
        clock: The chain's pace.
        data_dir: Where the chain is kept.
    """

    def __init__(self, clock: Clock, data_dir: Path) -> None:
        self._clock = clock
        self._data_dir = data_dir
        self._folder: ChainFolder | None = None
        self._served: _Served | None = None
        # The venue is built with the address, before anything starts.
        self._socket = socket.create_server((HOST, 0))

    @property
    def cluster(self) -> LocalCluster:
        """What the venue must know of it."""
        return _cluster(self._clock, _url_of(self._socket))

    async def start(self) -> None:
        """Continue the chain, answer, and make slots.

        Raises:
            ChainDataError: The chain cannot be used, or not be kept.
        """
        self._folder = ChainFolder(self._data_dir, self._clock)
        sandbox = make_sandbox(SEED, Timing(), 1, self._clock, self._folder)
        self._served = _Served(sandbox, self._socket, self._clock)
        await self._served.start()
        self._folder.note(_url_of(self._socket))

    async def stop(self) -> None:
        """End the chain; what has not landed is not kept."""
        if self._served is not None:
            await self._served.stop()
        self.close()

    def close(self) -> None:
        """Give the port and the folder back; it has not been started, or has been stopped."""
        if self._folder is not None:
            self._folder.close()
        self._socket.close()


@asynccontextmanager
async def open_embedded(clock: Clock, data_dir: Path) -> AsyncIterator[LocalCluster]:
    """Open a service's chain to read it: the one that runs, or a copy of the kept one, or a new one.

    Raises:
        ChainDataError: The kept one is damaged.
    """
    url = running_url(data_dir)
    if url is not None:
        yield _cluster(clock, url)
        return
    chain = read_chain(data_dir, Timing(), clock) or new_chain(SEED, Timing(), clock)[0]
    with socket.create_server((HOST, 0)) as listening:
        served = _Served(sandbox_of(chain, SEED, 1, clock), listening, clock)
        try:
            await served.start()
            yield _cluster(clock, _url_of(listening))
        finally:
            await served.stop()


def sandbox_elsewhere(clock: Clock) -> LocalCluster:
    """Return what the venue must know of a sandbox that another process runs without another seed."""
    return _cluster(clock, None)


class _Served:
    """A sandbox that answers on a socket and makes slots."""

    def __init__(self, sandbox: Sandbox, listening: socket.socket, clock: Clock) -> None:
        self._slots = Background("sandbox slots", sandbox.make_slots, clock)
        self._runner = web.AppRunner(sandbox.application(), access_log=None, shutdown_timeout=_CLOSE_S)
        self._socket = listening

    async def start(self) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        self._slots.start()

    async def stop(self) -> None:
        await self._slots.stop()
        await self._runner.cleanup()


def _url_of(listening: socket.socket) -> str:
    return f"http://{HOST}:{listening.getsockname()[1]}"


def _cluster(clock: Clock, url: str | None) -> LocalCluster:
    # Wallet and pools do not depend on the time of the start.
    genesis = genesis_of(SEED, 0, MAINNET, clock)
    pools = [LocalPool(str(genesis.accounts[key].owner), str(key)) for key in genesis.pools.values()]
    return LocalCluster(url, bytes(genesis.wallet), pools)
