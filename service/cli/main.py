"""The parser of ``python -m service``, which command it runs, and how errors are shown."""

import argparse
import logging
import sys

import psycopg2

from service import crash_points, logs, settings, stop_signals
from service.chains.factory import trading_mode
from service.chains.inspection import InspectionError
from service.chains.venue import VenueUnavailableError
from service.cli import audit, doctor, keys, migrate, pools, sandbox, serve, smoke, wallet
from service.cli.key_options import KeyCommandError
from service.clock import Clock
from service.embedded import EmbeddedServerError
from service.postgres import queries
from service.postgres.database import UnavailableError
from service.postgres.migrations import MigrationError
from service.sandbox.chain_file import ChainDataError
from service.sandbox.standalone import SandboxError
from service.settings import InvalidSettingError, Settings
from service.smoke.options import SmokeError
from service.urls import parse_postgres_url

log = logging.getLogger("service")

# In the order in which --help lists them.
_COMMANDS = (serve, migrate, audit, keys, sandbox, smoke, doctor, wallet, pools)

# Expected errors of a start; their messages are complete, so no traceback is shown.
_EXPECTED_ERRORS = (
    InvalidSettingError,
    EmbeddedServerError,
    KeyCommandError,
    InspectionError,
    ChainDataError,
    SandboxError,
    SmokeError,
)
_POSTGRESQL_ERRORS = (MigrationError, UnavailableError, VenueUnavailableError, psycopg2.Error)


def main() -> None:
    """Run the command line; on an expected error, exit with 1 and a message."""
    parser = argparse.ArgumentParser(prog="python -m service", description="The order execution engine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in _COMMANDS:
        command.add_to(commands)
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
        if arguments.run is serve.run:
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


def _arm_crash_point(crash_at: str | None) -> None:
    try:
        crash_points.arm(crash_at)
    except ValueError as error:
        raise InvalidSettingError(f"CRASH_AT {error}") from error


def _warn_of_ignored_options(loaded: Settings) -> None:
    ignored = parse_postgres_url(loaded.database_url).ignored if loaded.database_url else ()
    if ignored:
        log.warning("DATABASE_URL: options for other clients are ignored: %s", ", ".join(ignored))
