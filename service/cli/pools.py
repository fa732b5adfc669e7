"""The command ``python -m service pools``: finds and checks the pools to trade in."""

import argparse
import json
import sys
from collections.abc import Sequence

from service.chains.inspection import FoundPool, Inspector
from service.cli.checks import print_checks
from service.cli.inspecting import add_command
from service.cli.tables import print_table
from service.domain.amounts import format_amount

_MOST_POOLS = 20
_LONGEST_LIST = 1_000


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "find and check the pools to trade in"
    pools = commands.add_parser("pools", help=what, description=what).add_subparsers(
        dest="pools_command", required=True, metavar="command"
    )
    discover = add_command(pools, "discover", "find the pools of two tokens, the largest first", _discover)
    for name in ("first", "second"):
        discover.add_argument(name, metavar="TOKEN", help="a symbol of SOLANA_TOKENS, or a mint")
    discover.add_argument(
        "--most", type=_most, default=_MOST_POOLS, metavar="N", help=f"how many; default: {_MOST_POOLS}"
    )
    discover.add_argument(
        "--write", action="store_true", help="add those that can be used to the list SOLANA_POOLS"
    )
    add_command(pools, "check", "check the pools of the list; exits with 1 if a check failed", _check)


async def _discover(inspector: Inspector, arguments: argparse.Namespace) -> bool:
    found = await inspector.discover(arguments.first, arguments.second)
    for problem in found.problems:
        print(f"warning: {problem}", file=sys.stderr)
    pools = found.pools[: arguments.most]
    if arguments.json:
        print(json.dumps({"found": len(found.pools), "pools": [_as_json(pool) for pool in pools]}))
    else:
        print_table([("PROGRAM", "ADDRESS", "FEE", "RESERVES", "USE"), *map(_as_row, pools)])
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
    return await print_checks(inspector.pool_checks(), as_json=arguments.json)


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


def _most(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LONGEST_LIST:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_LONGEST_LIST}")
    return int(text)
