"""The sandbox as a part of the service: a chain in its process, and what the venue must know of any sandbox.

Without options every sandbox has the same wallet and the same pools, so the venue also finds its way on one
that runs as a process of its own.
"""

import socket

from aiohttp import web

from service.background import Background
from service.chains.local_cluster import LocalCluster, LocalPool
from service.chains.solana.programs.registry import MAINNET
from service.clock import Clock
from service.sandbox.chain import Genesis, Timing
from service.sandbox.genesis import genesis_of
from service.sandbox.standalone import HOST, make_sandbox

SEED = 1
"""The seed of a sandbox that is started without options."""

_CLOSE_S = 1.0


class EmbeddedSandbox:
    """A chain in this process, on a free port of loopback, bound at once; it answers from ``start`` on.

    Args:
        clock: The chain's pace.
    """

    def __init__(self, clock: Clock) -> None:
        self._sandbox = make_sandbox(SEED, Timing(), 1, clock)
        self._slots = Background("sandbox slots", self._sandbox.make_slots, clock)
        self._runner = web.AppRunner(self._sandbox.application(), access_log=None, shutdown_timeout=_CLOSE_S)
        # The venue is built with the address, before anything starts.
        self._socket = socket.create_server((HOST, 0))

    @property
    def cluster(self) -> LocalCluster:
        """What the venue must know of it."""
        port = self._socket.getsockname()[1]
        return _cluster_of(self._sandbox.chain.genesis, f"http://{HOST}:{port}")

    async def start(self) -> None:
        """Answer, and make slots."""
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        self._slots.start()

    async def stop(self) -> None:
        """End the chain; nothing of it is kept."""
        await self._slots.stop()
        await self._runner.cleanup()
        self.close()

    def close(self) -> None:
        """Give the port back; it has not been started, or has been stopped."""
        self._socket.close()


def sandbox_elsewhere(clock: Clock) -> LocalCluster:
    """Return what the venue must know of a sandbox that another process runs without another seed."""
    # Wallet and pools do not depend on the time of its start.
    return _cluster_of(genesis_of(SEED, 0, MAINNET, clock), None)


def _cluster_of(genesis: Genesis, url: str | None) -> LocalCluster:
    pools = [LocalPool(str(genesis.accounts[key].owner), str(key)) for key in genesis.pools.values()]
    return LocalCluster(url, bytes(genesis.wallet), pools)
