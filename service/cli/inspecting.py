"""What ``doctor``, ``wallet`` and ``pools`` share: they open what looks at the venue."""

import argparse
import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from service.chain import open_local_chain
from service.chains.factory import venue_inspector
from service.chains.inspection import InspectionError, Inspector
from service.clock import Clock
from service.settings import Settings

Run = Callable[[Inspector, argparse.Namespace], Awaitable[bool]]
"""Runs a command, and returns whether everything is as it should be."""


def add_command(
    group: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str, run: Run
) -> argparse.ArgumentParser:
    """Add a command about a venue with a wallet; it exits with 1 unless everything is as it should be."""
    parser = group.add_parser(name, help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run, run_chain=run)
    return parser


@asynccontextmanager
async def open_inspector(loaded: Settings, clock: Clock) -> AsyncIterator[Inspector | None]:
    """Open what looks at the venue, with the chain that it is on, if that is one of this process.

    Raises:
        InvalidSettingError: The settings name something that cannot be used.
    """
    # What is wrong with an endpoint is in the result, or in the error.
    logging.getLogger("service.chains.solana.rpc").setLevel(logging.ERROR)
    async with open_local_chain(loaded, clock) as local:
        inspector = venue_inspector(loaded, clock, local)
        try:
            if inspector is not None:
                await inspector.start()
            yield inspector
        finally:
            if inspector is not None:
                await inspector.stop()


def _run(loaded: Settings, arguments: argparse.Namespace) -> None:
    async def run() -> bool:
        async with open_inspector(loaded, Clock()) as inspector:
            if inspector is None:
                raise InspectionError("VENUE=paper has neither a key nor a list of pools: set VENUE=solana")
            run_chain: Run = arguments.run_chain
            return await run_chain(inspector, arguments)

    sys.exit(0 if asyncio.run(run()) else 1)
