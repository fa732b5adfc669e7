"""The commands that look at a venue before it trades: ``python -m service doctor``, ``wallet``, ``pools``."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from service.chains.factory import new_wallet, venue_inspector
from service.chains.inspection import FoundPool, InspectionError, Inspector
from service.cli import doctor
from service.clock import Clock
from service.domain.amounts import format_amount
from service.sandbox.embedded import EmbeddedSandbox, sandbox_elsewhere
from service.settings import Settings
from service.solana_settings import Cluster

Run = Callable[[Inspector, argparse.Namespace], Awaitable[bool]]
"""Runs a command, and returns whether everything is as it should be."""

_MOST_POOLS = 20
_LONGEST_LIST = 1_000


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to a command line: their ``run`` is called with the settings and the arguments.

    One that has ``alone`` needs no settings: that function is called instead, with the arguments.
    """
    doctor.add_to(commands, _run_doctor)

    what = "make a key, and show the wallet and what it holds"
    wallet = commands.add_parser("wallet", help=what, description=what).add_subparsers(
        dest="wallet_command", required=True, metavar="command"
    )
    _add(wallet, "show", "show the wallet's public key", _show)
    _add(wallet, "balances", "show what the wallet holds of each token that may be traded", _balances)
    what = "write a new key to a file that only you can read, and print its public key"
    new = wallet.add_parser("new", help=what, description=what)
    new.add_argument("file", type=Path, metavar="FILE", help="must not exist")
    new.set_defaults(alone=_new)

    what = "find and check the pools to trade in"
    pools = commands.add_parser("pools", help=what, description=what).add_subparsers(
        dest="pools_command", required=True, metavar="command"
    )
    discover = _add(pools, "discover", "find the pools of two tokens, the largest first", _discover)
    for name in ("first", "second"):
        discover.add_argument(name, metavar="TOKEN", help="a symbol of SOLANA_TOKENS, or a mint")
    discover.add_argument(
        "--most", type=_most, default=_MOST_POOLS, metavar="N", help=f"how many; default: {_MOST_POOLS}"
    )
    discover.add_argument(
        "--write", action="store_true", help="add those that can be used to the list SOLANA_POOLS"
    )
    _add(pools, "check", "check the pools of the list; exits with 1 if a check failed", _check)


def _add(
    group: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str, run: Run
) -> argparse.ArgumentParser:
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
    sandbox, local = None, None
    if loaded.solana is not None and loaded.solana.has_own_chain:
        sandbox = EmbeddedSandbox(clock)
        local = sandbox.cluster
    elif loaded.solana is not None and loaded.solana.cluster is Cluster.SANDBOX:
        local = sandbox_elsewhere(clock)
    try:
        if sandbox is not None:
            await sandbox.start()
        inspector = venue_inspector(loaded, clock, local)
        try:
            if inspector is not None:
                await inspector.start()
            yield inspector
        finally:
            if inspector is not None:
                await inspector.stop()
    finally:
        if sandbox is not None:
            await sandbox.stop()


def _run_doctor(loaded: Settings, arguments: argparse.Namespace) -> None:
    async def run() -> bool:
        clock = Clock()
        async with open_inspector(loaded, clock) as inspector:
            return await doctor.examine(loaded, clock, inspector, as_json=arguments.json)

    sys.exit(0 if asyncio.run(run()) else 1)


def _run(loaded: Settings, arguments: argparse.Namespace) -> None:
    async def run() -> bool:
        async with open_inspector(loaded, Clock()) as inspector:
            if inspector is None:
                raise InspectionError("VENUE=paper has neither a key nor a list of pools: set VENUE=solana")
            run_chain: Run = arguments.run_chain
            return await run_chain(inspector, arguments)

    sys.exit(0 if asyncio.run(run()) else 1)


def _new(arguments: argparse.Namespace) -> None:
    try:
        print(new_wallet(arguments.file.expanduser()))
    except OSError as error:
        raise InspectionError(f"{arguments.file}: {error.strerror}") from None


async def _show(inspector: Inspector, arguments: argparse.Namespace) -> bool:
    address = inspector.address()
    print(json.dumps({"address": address}) if arguments.json else address)
    return True


async def _balances(inspector: Inspector, arguments: argparse.Namespace) -> bool:
    held = await inspector.holdings()
    if arguments.json:
        shown = [
            {
                "token": each.token.symbol,
                "amount": format_amount(each.amount, each.token.decimals),
                "account": each.account,
            }
            for each in held
        ]
        print(json.dumps({"address": inspector.address(), "balances": shown}))
    else:
        amounts = [format_amount(each.amount, each.token.decimals) for each in held]
        rows = [(each.token.symbol, amount, each.account) for each, amount in zip(held, amounts, strict=True)]
        _print_table([("TOKEN", "AMOUNT", "ACCOUNT"), *rows])
    return True


async def _discover(inspector: Inspector, arguments: argparse.Namespace) -> bool:
    found = await inspector.discover(arguments.first, arguments.second)
    for problem in found.problems:
        print(f"warning: {problem}", file=sys.stderr)
    pools = found.pools[: arguments.most]
    if arguments.json:
        print(json.dumps({"found": len(found.pools), "pools": [_as_json(pool) for pool in pools]}))
    else:
        _print_table([("PROGRAM", "ADDRESS", "FEE", "RESERVES", "USE"), *map(_as_row, pools)])
        left_out = len(found.pools) - len(pools)
        if left_out:
            print(f"{left_out} smaller ones are left out; --most shows more")
    if arguments.write:
        _write(inspector, pools)
    return bool(found.pools) or not found.problems


def _write(inspector: Inspector, pools: Sequence[FoundPool]) -> None:
    new = [pool for pool in pools if pool.problem is None and not pool.listed]
    if not new:
        print("nothing to add to the list", file=sys.stderr)
        return
    file = inspector.list_pools(new)
    print(
        f"added {len(new)} pools to {file}; a service that runs knows them after a restart", file=sys.stderr
    )


async def _check(inspector: Inspector, arguments: argparse.Namespace) -> bool:
    return await doctor.print_checks(inspector.pool_checks(), as_json=arguments.json)


def _as_row(pool: FoundPool) -> tuple[str, ...]:
    fee = "-" if pool.fee_ppm is None else f"{format_amount(pool.fee_ppm, 4)} %"
    use = pool.problem or ("listed" if pool.listed else "yes")
    reserves = " ".join(f"{amount} {symbol}" for symbol, amount in _reserves(pool)) or "-"
    return pool.program, pool.address, fee, reserves, use if pool.problem is None else f"no: {use}"


def _as_json(pool: FoundPool) -> dict[str, object]:
    return {
        "program": pool.program,
        "address": pool.address,
        "tokens": [token.symbol for token in pool.tokens],
        "reserves": dict(_reserves(pool)) or None,
        "feePercent": None if pool.fee_ppm is None else format_amount(pool.fee_ppm, 4),
        "usable": pool.problem is None,
        "problem": pool.problem,
        "listed": pool.listed,
    }


def _reserves(pool: FoundPool) -> list[tuple[str, str]]:
    """Return what a pool holds of its tokens, in display units."""
    return [
        (token.symbol, format_amount(amount, token.decimals))
        for token, amount in zip(pool.tokens, pool.reserves or (), strict=False)
    ]


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        print(*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1], sep="  ")


def _most(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LONGEST_LIST:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_LONGEST_LIST}")
    return int(text)
