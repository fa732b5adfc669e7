"""The command ``python -m service audit``: compares every order with the venue's ledger."""

import argparse
import re
import sys
from datetime import datetime

from service.audit import NOT_COMPARED, Report, audit
from service.chain import open_local_chain
from service.chains.factory import chain_audit, venue_audit
from service.cli.servers import run_on_database
from service.clock import Clock
from service.domain.timestamps import InvalidTimestampError, parse_timestamp
from service.postgres.database import Database
from service.settings import Settings

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "check every order, against the venue's ledger, too; exits with 1 if it finds a violation"
    parser = commands.add_parser("audit", help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--chain", action="store_true", help="VENUE=solana: compare with the chain, too")
    parser.add_argument(
        "--since",
        type=_since,
        metavar="WHEN",
        help="with --chain: only what has changed from a date (UTC) or an RFC 3339 time on",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 also if something could not be checked"
    )

    def run(loaded: Settings, arguments: argparse.Namespace) -> None:
        if arguments.since is not None and not arguments.chain:
            parser.error("--since needs --chain")
        _run(loaded, arguments)

    parser.set_defaults(run=run)


def _run(loaded: Settings, arguments: argparse.Namespace) -> None:
    if arguments.chain and (loaded.solana is None or not loaded.solana.has_own_chain):
        # What cannot be compared is said before anything is started.
        chain_audit(loaded, Clock(), arguments.since, None)

    async def run(database: Database, clock: Clock) -> Report:
        if not arguments.chain:
            return await audit(database, venue_audit(loaded))
        async with open_local_chain(loaded, clock) as local:
            return await audit(database, chain_audit(loaded, clock, arguments.since, local))

    report = run_on_database(loaded, run)
    if arguments.json and report.landed is None:
        print(NOT_COMPARED, file=sys.stderr)
    print(report.as_json() if arguments.json else report.as_text())
    sys.exit(1 if report.findings or (arguments.strict and report.warnings) else 0)


def _since(text: str) -> datetime:
    try:
        return parse_timestamp(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except InvalidTimestampError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a date nor a time with an offset, such as "2030-01-31T12:00:00Z"'
        ) from None
