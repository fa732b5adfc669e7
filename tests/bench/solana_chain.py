"""A local Solana chain in a process of its own that counts the calls it gets, for ``tests.bench.solana``.

``GET /calls`` returns them by method, since the start. It ends when its standard input is closed.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from typing import Any

import uvloop
from aiohttp import web

from service.background import Background
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.clock import Clock
from service.sandbox.chain import SandboxChain
from service.sandbox.embedded import SEED
from service.sandbox.faults import Faults
from service.sandbox.genesis import genesis_of
from service.sandbox.node import Node
from service.sandbox.server import Sandbox
from service.sandbox.standalone import HOST


async def _serve(endpoints: int) -> None:
    clock = Clock()
    genesis = genesis_of(SEED, clock.time_ms() // 1000, MAINNET, clock, clock.new_instance_id())
    chain = SandboxChain(genesis, AmmPrograms(MAINNET))
    nodes = [Node(chain, Faults(clock.seeded(str(place)))) for place in range(endpoints)]
    sandbox = Sandbox(chain, nodes, clock)
    calls: Counter[str] = Counter()

    @web.middleware
    async def count(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.method == "POST":
            calls[json.loads(await request.read())["method"]] += 1
        response: web.StreamResponse = await handler(request)
        return response

    async def show(_request: web.Request) -> web.Response:
        return web.json_response(calls)

    application = sandbox.application()
    application.middlewares.append(count)
    application.router.add_get("/calls", show)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    slots = Background("sandbox slots", sandbox.make_slots, clock)
    slots.start()
    print(f"http://{HOST}:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await slots.stop()
    await runner.cleanup()


def main() -> None:
    """Run the chain."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoints", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().endpoints))


if __name__ == "__main__":
    main()
