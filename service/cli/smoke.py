"""The command ``python -m service smoke``: gives ``service.smoke`` its servers."""

import argparse
import asyncio
import sys

from service.cli.event_loop import loop_factory
from service.cli.servers import use_servers
from service.embedded import EmbeddedServerError
from service.settings import Settings
from service.smoke.options import SmokeError, add_options
from service.smoke.steps import SmokeTest


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "trade small amounts on a Solana cluster, kill the service in between, and print a report"
    parser = commands.add_parser("smoke", help=what, description=f"{what}; exits with 1 if a step failed")
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(_loaded: Settings, arguments: argparse.Namespace) -> None:
    test = SmokeTest(arguments)
    try:
        with use_servers(test.settings) as servers, asyncio.Runner(loop_factory=loop_factory()) as runner:
            passed = runner.run(test.run(servers.servers))
    except EmbeddedServerError as error:
        raise SmokeError(f"{error} They are used with --use-servers only.") from None
    if not passed:
        sys.exit(1)
    test.clean_up()
