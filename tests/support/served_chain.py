"""A local chain behind a server, with several endpoints, and the service's own client and feed of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestServer
from solders.pubkey import Pubkey

from service.amm import PoolState
from service.chains.paper.pool_json import RAYDIUM_CPMM
from service.chains.solana.feed.feed import FeedSettings, SolanaFeed
from service.chains.solana.feed.pools import ListedPool
from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.urls import RpcUrl, parse_rpc_urls
from service.chains.venue import MarketChange
from service.clock import Clock
from service.domain.tokens import find_token
from service.sandbox.faults import Faults
from service.sandbox.node import Node
from service.sandbox.server import Sandbox
from tests.support.clock import ManualClock
from tests.support.local_chain import LocalChain

KEY = "s3cr3t-of-the-url"
"""Stands in every URL, and may stand nowhere else."""


class ServedChain:
    """A chain that only the test moves, its endpoints, and their client.

    Args:
        base: The server's address.
        roles: What stands after each endpoint's URL.
        clock: The client's.
    """

    def __init__(self, local: LocalChain, sandbox: Sandbox, base: str, roles: tuple[str, ...], clock: Clock):
        self.local = local
        self.chain = local.chain
        self.sandbox = sandbox
        self.base = base
        self.roles = roles
        self.nodes = list(sandbox.nodes.values())
        self.urls: tuple[RpcUrl, ...] = parse_rpc_urls(
            ",".join(
                f"{base}{path}?api-key={KEY}{role}" for path, role in zip(sandbox.nodes, roles, strict=True)
            )
        )
        self.endpoints = Endpoints(self.urls, clock)

    def arm(self, kind: str, endpoint: int = 0, **arguments: Any) -> None:
        """Arm a fault of an endpoint."""
        self.nodes[endpoint].faults.arm(kind, **arguments)


@asynccontextmanager
async def served_chain(
    *roles: str, clock: Clock | None = None, started: bool = True
) -> AsyncIterator[ServedChain]:
    """Serve a chain with an endpoint for each role: ``#read``, ``;rps=5``, or empty: both, no limit."""
    clock = clock or Clock(0)
    local = LocalChain()
    roles = roles or ("",)
    others = [Node(local.chain, Faults(clock.seeded(f"node {each}"))) for each in range(1, len(roles))]
    # The faults of a slow endpoint are in real time.
    sandbox = Sandbox(local.chain, [local.node, *others], Clock(0))
    server = TestServer(sandbox.application())
    await server.start_server()
    served = ServedChain(local, sandbox, str(server.make_url("")).rstrip("/"), roles, clock)
    try:
        if started:
            await served.endpoints.start()
        yield served
    finally:
        await served.endpoints.stop()
        await server.close()


class FeedStand:
    """The feed of a served chain's pools, on a clock that only the test moves.

    Args:
        served: The chain.
        clock: Moved by the test.
        pools: The pools to list; all of the genesis if none are given.
        settings: How often the feed reads.
    """

    def __init__(
        self,
        served: ServedChain,
        clock: ManualClock,
        pools: Sequence[Pubkey] = (),
        settings: FeedSettings | None = None,
    ) -> None:
        self.served = served
        self.chain = served.chain
        self.local = served.local
        self.clock = clock
        keys = pools or tuple(self.chain.genesis.pools.values())
        listed = [ListedPool(self.local.account(key).owner, key) for key in keys]
        self.feed = SolanaFeed(served.endpoints, self.chain.programs, listed, find_token, clock, settings)
        self.changes: list[MarketChange] = []
        self.feed.on_change(self.changes.append)

    def truth(self, pool_id: str, slot: int) -> PoolState:
        """Return a pool's state as the chain had it after a slot."""
        pool = self.feed._pools[pool_id]
        assert pool.opened is not None
        at = self.chain.accounts.at
        return pool.opened.state({key: found.data for key in pool.keys if (found := at(key, slot))})

    def state(self, pool_id: str) -> PoolState:
        """Return a pool's state as the feed has it."""
        reading = self.feed._pools[pool_id].reading
        assert reading is not None
        return reading.state

    def slot(self, pool_id: str) -> int:
        """Return the slot in which the feed last read a pool."""
        return self.feed._pools[pool_id].slot

    def swap(self, program: str = RAYDIUM_CPMM) -> str:
        """Swap in a pool for SOL and USDC, in a new block; return the pool's id."""
        transaction = self.local.sell(program)
        self.chain.submit(transaction, bytes(transaction))
        self.chain.advance()
        return self.id_of(program)

    def id_of(self, program: str) -> str:
        """Return the id of a program's pool for SOL and USDC."""
        return str(self.local.pool(program).addresses.pool)

    async def read(self) -> None:
        """Wait until whatever the feed was told to read has been read."""
        await self.clock.advance(0)
        await self.feed._reader.look([])

    def calls(self) -> int:
        """Return how many reads of accounts were asked for, at all endpoints together."""
        return self.served.endpoints.calls()["getMultipleAccounts"]


@asynccontextmanager
async def feed_stand(
    *roles: str, pools: Sequence[Pubkey] = (), settings: FeedSettings | None = None
) -> AsyncIterator[FeedStand]:
    """Serve a chain, and start the feed of its pools."""
    clock = ManualClock()
    async with served_chain(*roles, clock=clock) as served:
        stand = FeedStand(served, clock, pools, settings)
        try:
            await stand.feed.start()
            # What opening the pools hinted at is read as well.
            await clock.advance(0.4)
            await stand.read()
            yield stand
        finally:
            await stand.feed.stop()
