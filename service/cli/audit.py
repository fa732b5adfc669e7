"""The options of the command ``python -m service audit``."""

import argparse
import re
from collections.abc import Callable
from datetime import datetime

from service.domain.timestamps import InvalidTimestampError, parse_timestamp

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", run: Callable[..., None]) -> None:
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

    def run_checked(loaded: object, arguments: argparse.Namespace) -> None:
        if arguments.since is not None and not arguments.chain:
            parser.error("--since needs --chain")
        run(loaded, arguments)

    parser.set_defaults(run=run_checked)


def _since(text: str) -> datetime:
    try:
        return parse_timestamp(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except InvalidTimestampError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a date nor a time with an offset, such as "2030-01-31T12:00:00Z"'
        ) from None
