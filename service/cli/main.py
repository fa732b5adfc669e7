"""The commands of ``python -m service``: its own, those of other modules, and how errors are shown."""

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psycopg2
from aiohttp import web

from service import crash_points, descriptors, embedded, logs, settings, stop_signals
from service.api.application import LARGEST_BODY
from service.api.connection import ConnectionLimits
from service.api.server import Runner
from service.app import Service
from service.audit import NOT_COMPARED, Report, audit
from service.background import Background, cancel
from service.chain import Chain, build_chain
from service.chains.factory import chain_audit, find_tokens, list_chain_tokens, trading_mode, venue_audit
from service.chains.inspection import InspectionError
from service.chains.venue import VenueUnavailableError
from service.cli import audit as audit_options
from service.cli import keys as key_commands
from service.cli import pools as chain_commands
from service.cli.key_options import KeyCommandError, named_tokens
from service.clock import Clock
from service.domain.tokens import list_token
from service.parts import Servers
from service.postgres import queries
from service.postgres.database import Database, UnavailableError
from service.postgres.migrations import MigrationError, migrate, migrate_if_empty
from service.sandbox import command as sandbox_command
from service.settings import InvalidSettingError, Settings
from service.smoke import command as smoke_command
from service.smoke.options import SmokeError
from service.store.api_keys import ApiKeys
from service.urls import parse_postgres_url

T = TypeVar("T")

log = logging.getLogger("service")

# Expected errors of a start; their messages are complete, so no traceback is shown.
_EXPECTED_ERRORS = (
    InvalidSettingError,
    embedded.EmbeddedServerError,
    KeyCommandError,
    InspectionError,
    sandbox_command.SandboxError,
    SmokeError,
)
_POSTGRESQL_ERRORS = (MigrationError, UnavailableError, VenueUnavailableError, psycopg2.Error)

_LONGEST_HOST_SHOWN = 64
_WATCH_SERVERS_EVERY_S = 1.0
_RESTART_PAUSE_S = 5.0


def main() -> None:
    """Run the command line; on an expected error, exit with 1 and a message."""
    parser = argparse.ArgumentParser(prog="python -m service", description="The order execution engine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command, what in (
        ("serve", _serve, "run the service"),
        ("migrate", _migrate, "migrate the database's schema without starting the service"),
    ):
        commands.add_parser(name, help=what, description=what).set_defaults(run=command)
    audit_options.add_to(commands, _audit)
    key_commands.add_to(commands, _keys)
    sandbox_command.add_to(commands, _sandbox)
    smoke_command.add_to(commands, _smoke)
    chain_commands.add_to(commands)
    parser.set_defaults(alone=None)
    arguments = parser.parse_args()
    try:
        if arguments.alone is not None:
            arguments.alone(arguments)
            return
        _run(settings.load(), arguments)
    except _EXPECTED_ERRORS as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.strerror or error}")


def _run(loaded: Settings, arguments: argparse.Namespace) -> None:
    try:
        logs.to_stderr(loaded.log_level, Clock())
        if arguments.run is _serve:
            log.info("mode: %s", trading_mode(loaded))
        _warn_of_ignored_options(loaded)
        _arm_crash_point(loaded.crash_at)
        queries.verify()
        stop_signals.check()
        arguments.run(loaded, arguments)
    except _POSTGRESQL_ERRORS as error:
        # Only the first line: PostgreSQL appends the statement.
        [reason, *_] = str(error).splitlines() or [repr(error)]
        where = "DATABASE_URL" if loaded.database_url else "the embedded PostgreSQL"
        if loaded.solana is not None and isinstance(error, VenueUnavailableError):
            where = "SOLANA_RPC_URLS"
        sys.exit(f"error: {where}: {reason}")


class _Embedded:
    """The servers in use, and the embedded ones among them, which this process supervises."""

    def __init__(self, servers: Servers, own: embedded.EmbeddedServers | None, data_dir: Path) -> None:
        self.servers = servers
        self.data_dir = data_dir if own is not None else None
        self._own = own

    async def watch(self, clock: Clock) -> None:
        """Restart an embedded server that has died."""
        while self._own is not None:
            await clock.sleep(_WATCH_SERVERS_EVERY_S)
            what = self._own.died()
            if what is not None:
                log.error("%s; restarting it", what)
                try:
                    self._own.restart_dead()
                except embedded.EmbeddedServerError as error:
                    log.error("%s", error)  # noqa: TRY400 - the message says everything
                    await clock.sleep(_RESTART_PAUSE_S)


@contextmanager
def _servers(loaded: Settings, *, with_redis: bool = True) -> Iterator[_Embedded]:
    """Use the servers of the settings, and start embedded ones for those that are not set."""
    postgres, redis = loaded.database_url is None, loaded.redis_url is None and with_redis
    own = embedded.start(loaded.data_dir, postgres=postgres, redis=redis) if postgres or redis else None
    try:
        servers = Servers(
            database_url=loaded.database_url or (own.database_url if own else None) or "",
            redis_url=loaded.redis_url or (own.redis_url if own else None) or "",
            # The lock on the data folder excludes all other processes from the embedded PostgreSQL.
            alone=postgres,
        )
        yield _Embedded(servers, own, loaded.data_dir)
    finally:
        if own is not None:
            own.stop()


def _serve(loaded: Settings, _arguments: argparse.Namespace) -> None:
    _check_host(loaded.host)
    clock = Clock()
    chain = build_chain(loaded, clock)
    with _servers(loaded) as servers, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_signal(loaded, servers, clock, chain))


async def _serve_until_signal(loaded: Settings, servers: _Embedded, clock: Clock, chain: Chain) -> None:
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


def _run_on_database(loaded: Settings, run: Callable[[Database, Clock], Coroutine[None, None, T]]) -> T:
    """Run a command on the database, whether or not the service is running on it."""

    async def run_on(url: str) -> T:
        clock = Clock()
        database = Database(url, size=1, clock=clock)
        try:
            return await run(database, clock)
        finally:
            await database.close()

    try:
        with _servers(loaded, with_redis=False) as servers:
            return asyncio.run(run_on(servers.servers.database_url))
    except embedded.DataDirInUseError as in_use:
        if in_use.database_url is None:
            raise
        return asyncio.run(run_on(in_use.database_url))


def _keys(loaded: Settings, arguments: argparse.Namespace) -> None:
    list_chain_tokens(loaded)  # before any server is started

    async def run(database: Database, clock: Clock) -> None:
        await migrate_if_empty(database)
        keys = ApiKeys(database, clock)
        await keys.get_changed(None)  # reads PostgreSQL's time
        for token in await find_tokens(loaded, database, clock, named_tokens(arguments)):
            list_token(token)
        await arguments.run_key(keys, clock.database_time(), arguments)

    _run_on_database(loaded, run)


def _sandbox(_loaded: Settings, arguments: argparse.Namespace) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(sandbox_command.serve(arguments, Clock()))


def _smoke(_loaded: Settings, arguments: argparse.Namespace) -> None:
    test = smoke_command.SmokeTest(arguments)
    try:
        with _servers(test.settings) as servers, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            passed = runner.run(test.run(servers.servers))
    except embedded.EmbeddedServerError as error:
        raise SmokeError(f"{error} They are used with --use-servers only.") from None
    if not passed:
        sys.exit(1)
    test.clean_up()


def _audit(loaded: Settings, arguments: argparse.Namespace) -> None:
    chain = chain_audit(loaded, Clock(), arguments.since) if arguments.chain else None

    async def run(database: Database, _clock: Clock) -> Report:
        return await audit(database, chain or venue_audit(loaded))

    report = _run_on_database(loaded, run)
    if arguments.json and report.landed is None:
        print(NOT_COMPARED, file=sys.stderr)
    print(report.as_json() if arguments.json else report.as_text())
    sys.exit(1 if report.findings or (arguments.strict and report.warnings) else 0)


def _migrate(loaded: Settings, _arguments: argparse.Namespace) -> None:
    async def run(database: Database, _clock: Clock) -> None:
        applied = await migrate(database)
        for migration in applied:
            print(f"applied {migration.version:04d}_{migration.name}")
        if not applied:
            print("the schema is up to date")

    _run_on_database(loaded, run)


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


def _arm_crash_point(crash_at: str | None) -> None:
    try:
        crash_points.arm(crash_at)
    except ValueError as error:
        raise InvalidSettingError(f"CRASH_AT {error}") from error


def _warn_of_ignored_options(loaded: Settings) -> None:
    ignored = parse_postgres_url(loaded.database_url).ignored if loaded.database_url else ()
    if ignored:
        log.warning("DATABASE_URL: options for other clients are ignored: %s", ", ".join(ignored))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not available on Windows
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
