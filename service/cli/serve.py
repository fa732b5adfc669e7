"""The command ``python -m service serve``: runs the service until a stop signal arrives."""

import argparse
import asyncio
import os
import socket
from collections.abc import Coroutine
from pathlib import Path

from aiohttp import web

from service import descriptors, stop_signals
from service.api.application import LARGEST_BODY
from service.api.connection import ConnectionLimits
from service.api.server import Runner
from service.app import Service
from service.background import Background, cancel
from service.chain import Chain, build_chain
from service.cli.event_loop import loop_factory
from service.cli.servers import ServersInUse, use_servers
from service.clock import Clock
from service.settings import InvalidSettingError, Settings

_LONGEST_HOST_SHOWN = 64


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "run the service"
    commands.add_parser("serve", help=what, description=what).set_defaults(run=run)


def run(loaded: Settings, _arguments: argparse.Namespace) -> None:
    """Run the service until a stop signal arrives."""
    _check_host(loaded.host)
    clock = Clock()
    chain = build_chain(loaded, clock)
    with use_servers(loaded) as servers, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve_until_signal(loaded, servers, clock, chain))


async def _serve_until_signal(loaded: Settings, servers: ServersInUse, clock: Clock, chain: Chain) -> None:
    stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in stop_signals.SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, _set_once, stop, number)
    stop_signals.check()
    service = Service(loaded, servers.servers, clock, chain)
    runner = _runner(loaded, service, clock)
    watcher = Background("embedded servers", lambda: servers.watch(clock), clock)
    try:
        watcher.start()
        await _start_unless_stopped(stop, runner.setup())
        site = web.TCPSite(runner, loaded.host, loaded.port)
        await _listen(site, loaded.port)
        host, port = runner.addresses[0][:2]
        _print_greeting(host, port, servers.data_dir)
        await stop
        print("Stopping ...", flush=True)
        await site.stop()
        await service.drain()
    finally:
        await watcher.stop()
        await runner.cleanup()
        # aiohttp does not send on_cleanup if on_startup has failed.
        await service.stop()


def _set_once(stop: asyncio.Future[int], number: int) -> None:
    if not stop.done():
        stop.set_result(number)


async def _start_unless_stopped(stop: asyncio.Future[int], start: Coroutine[None, None, None]) -> None:
    """Wait for the start; cancel it if the process receives a stop signal.

    Raises:
        StopSignal: A signal arrived.
    """
    starting = asyncio.create_task(start, name="start")
    either: list[asyncio.Future[None] | asyncio.Future[int]] = [starting, stop]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await cancel([starting])
        raise stop_signals.StopSignal(stop.result())
    await starting


def _check_host(host: str) -> None:
    """Check, before anything starts, that this machine can listen on the host, with any port.

    Raises:
        InvalidSettingError: It cannot.
    """
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError):
        told = host if len(host) <= _LONGEST_HOST_SHOWN else f"{host[:_LONGEST_HOST_SHOWN]}..."
        raise InvalidSettingError(
            f'Environment variable "HOST" invalid: {told!r} is not an address of this machine; '
            "the default is 127.0.0.1 (conda sets HOST to something else)"
        ) from None


def _runner(loaded: Settings, service: Service, clock: Clock) -> Runner:
    limits = ConnectionLimits(
        head_s=loaded.head_timeout_s,
        body_s=loaded.body_timeout_s,
        idle_s=loaded.idle_timeout_s,
        answer_s=loaded.answer_timeout_s,
        connections=descriptors.room_for(loaded.max_connections),
    )
    return Runner(service.web, limits, clock, largest_body=LARGEST_BODY, stop_s=1)


async def _listen(site: web.BaseSite, port: int) -> None:
    try:
        await site.start()
    except OSError as error:
        # asyncio's message repeats the address and shows the errno as a number.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InvalidSettingError(f'Environment variable "PORT" invalid: {port}: {reason}') from None


def _print_greeting(host: str, port: int, data_dir: Path | None) -> None:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    order = '{"tokenIn":"SOL","tokenOut":"USDC","amountIn":"100","orderType":"market"}'
    print(
        f"Listening on {url}",
        f"Data in {data_dir}" if data_dir else "Data in the servers of DATABASE_URL and REDIS_URL",
        "Try:",
        f"  curl {url}/api/orders/execute -H 'Content-Type: application/json' -d '{order}'",
        sep="\n",
        flush=True,
    )
