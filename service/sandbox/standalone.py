"""The local chain alone, for any Solana client: what ``python -m service sandbox`` runs."""

import argparse
import asyncio
import os
from pathlib import Path

from aiohttp import web

from service.background import Background
from service.chains.solana.sending.key_files import write_key_file
from service.clock import Clock
from service.sandbox.chain import SandboxChain, Timing
from service.sandbox.faults import Faults
from service.sandbox.keeping import ChainFolder, new_chain
from service.sandbox.node import Node
from service.sandbox.server import Sandbox
from service.stop_signals import SIGNALS

HOST = "127.0.0.1"
_MOST_ENDPOINTS = 9
_LAST_PORT = 65_535
_LATEST_FINALITY = 1_000
# How long open WebSockets may take to close when it stops.
_CLOSE_S = 1.0


class SandboxError(Exception):
    """The sandbox cannot start; the message says why."""


def make_sandbox(
    seed: int, timing: Timing, endpoints: int, clock: Clock, folder: ChainFolder | None = None
) -> Sandbox:
    """Return a sandbox that begins now, or continues what its folder has.

    Raises:
        ChainDataError: The folder's chain cannot be used.
    """
    chain = new_chain(seed, timing, clock)[0] if folder is None else folder.open(seed, timing, clock)
    return sandbox_of(chain, seed, endpoints, clock, folder)


def sandbox_of(
    chain: SandboxChain, seed: int, endpoints: int, clock: Clock, folder: ChainFolder | None = None
) -> Sandbox:
    """Return a sandbox of a chain.

    Args:
        chain: The chain.
        seed: Decides which requests take a fault with a rate.
        endpoints: How many there are, from one on.
        clock: The chain's pace.
        folder: Where the chain is kept.
    """
    nodes = [
        Node(chain, Faults(clock.seeded(f"faults:{seed}:{place}"))) for place in range(max(1, endpoints))
    ]
    return Sandbox(chain, nodes, clock, folder)


async def serve(arguments: argparse.Namespace, clock: Clock) -> None:
    """Run the sandbox until a stop signal arrives.

    Raises:
        SandboxError: A port is taken, or the keypair's file exists.
        ChainDataError: The folder's chain cannot be used.
    """
    if not 1 <= arguments.endpoints <= _MOST_ENDPOINTS:
        raise SandboxError(f"--endpoints must be from 1 to {_MOST_ENDPOINTS}")
    if not (0 <= arguments.port < _LAST_PORT and arguments.slot_ms >= 0):
        raise SandboxError(f"--port must be from 0 to {_LAST_PORT - 1}, --slot-ms not negative")
    timing = Timing(arguments.slot_ms or Timing().slot_ms, finalized_after=arguments.finalized_after)
    if not timing.confirmed_after <= timing.finalized_after <= _LATEST_FINALITY:
        raise SandboxError(f"--finalized-after must be from {timing.confirmed_after} to {_LATEST_FINALITY}")
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder = None if arguments.data is None else ChainFolder(arguments.data, clock)
    try:
        await _serve(arguments, timing, clock, folder, stop)
    finally:
        if folder is not None:
            folder.close()


async def _serve(
    arguments: argparse.Namespace,
    timing: Timing,
    clock: Clock,
    folder: ChainFolder | None,
    stop: asyncio.Event,
) -> None:
    sandbox = make_sandbox(arguments.seed, timing, arguments.endpoints, clock, folder)
    slots = Background("sandbox slots", sandbox.make_slots, clock)
    runner = web.AppRunner(sandbox.application(), access_log=None, shutdown_timeout=_CLOSE_S)
    try:
        await runner.setup()
        port = await _listen(runner, arguments.port)
        if arguments.keypair is not None:
            # Once nothing else can fail: a file that exists is never written again.
            _write_keys(arguments.keypair, bytes(sandbox.chain.genesis.wallet))
        if arguments.slot_ms:
            slots.start()
        _greet(sandbox, port)
        await stop.wait()
    finally:
        await slots.stop()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> int:
    """Listen on a port, and on the next one, where some clients look for WebSockets; return the first."""
    try:
        await web.TCPSite(runner, HOST, port).start()
        found: int = runner.addresses[0][1]
        if port:
            await web.TCPSite(runner, HOST, port + 1).start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SandboxError(f"ports {port} and {port + 1}: {reason}") from None
    return found


def _write_keys(file: Path, keys: bytes) -> None:
    try:
        write_key_file(file, keys)
    except OSError as error:
        raise SandboxError(f"{file}: {error.strerror}") from None


def _greet(sandbox: Sandbox, port: int) -> None:
    url = f"http://{HOST}:{port}"
    genesis = sandbox.chain.genesis
    health = '{"jsonrpc":"2.0","id":1,"method":"getHealth"}'
    print(
        f"Listening on {url}",
        "A local Solana chain; its AMM programs are doubles, and its tokens are worth nothing",
        f"Genesis hash: {genesis.genesis_hash}",
        *(f"Another endpoint: {url}{path}" for path in sandbox.nodes if path != "/"),
        f"Funded wallet: {genesis.wallet.pubkey()}",
        f"Pools: {len(genesis.pools)}",
        "Try:",
        f"  curl {url} -H 'Content-Type: application/json' -d '{health}'",
        sep="\n",
        flush=True,
    )
