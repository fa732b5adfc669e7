"""The command ``python -m service sandbox``: its options, and the event loop."""

import argparse
import asyncio
from pathlib import Path

from service.cli.event_loop import loop_factory
from service.clock import Clock
from service.sandbox.chain import Timing
from service.sandbox.standalone import serve
from service.settings import Settings


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "run a local Solana chain, with doubles of the AMM programs, on this machine only"
    parser = commands.add_parser("sandbox", help=what, description=what)
    parser.add_argument("--port", type=int, default=8899, help="default: 8899; the next one too, for sockets")
    parser.add_argument("--seed", type=int, default=1, help="of the pools and the wallet; default: 1")
    parser.add_argument("--slot-ms", type=int, default=200, help="a slot's length; 0: slots by request only")
    finality = "slots after which a block is final; default: 32"
    parser.add_argument("--finalized-after", type=int, default=Timing().finalized_after, help=finality)
    parser.add_argument("--endpoints", type=int, default=1, help="how many endpoints, each with its faults")
    parser.add_argument("--keypair", type=Path, metavar="FILE", help="write the wallet's keys to a new file")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keep the chain there, and continue it")
    parser.set_defaults(run=_run)


def _run(_loaded: Settings, arguments: argparse.Namespace) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(arguments, Clock()))
