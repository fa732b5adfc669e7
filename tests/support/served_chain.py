"""A local chain behind a server, with several endpoints, and the service's own client of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestServer

from service.chains.solana.rpc.endpoints import Endpoints
from service.chains.solana.rpc.urls import RpcUrl, parse_rpc_urls
from service.clock import Clock
from service.sandbox.faults import Faults
from service.sandbox.node import Node
from service.sandbox.server import Sandbox
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
