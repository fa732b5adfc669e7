"""The command ``python -m service doctor``: checks everything that trading needs, and changes nothing.

It needs neither PostgreSQL nor Redis: of those it says whether they answer.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator

from service.chains.inspection import Check, Inspector
from service.cli.checks import print_checks
from service.cli.inspecting import open_inspector
from service.cli.server_checks import server_checks
from service.clock import Clock
from service.domain.amounts import format_amount
from service.domain.tokens import TOKENS
from service.settings import Settings
from service.solana_settings import SolanaSettings


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to a command line."""
    what = "check settings, servers, endpoints, wallet, tokens and pools; exits with 1 if a check failed"
    parser = commands.add_parser("doctor", help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    parser.set_defaults(run=_run)


def _run(loaded: Settings, arguments: argparse.Namespace) -> None:
    async def run() -> bool:
        clock = Clock()
        async with open_inspector(loaded, clock) as inspector:
            return await print_checks(_checks(loaded, clock, inspector), as_json=arguments.json)

    sys.exit(0 if asyncio.run(run()) else 1)


async def _checks(loaded: Settings, clock: Clock, inspector: Inspector | None) -> AsyncIterator[Check]:
    """Make all checks; without an inspector the venue is the paper market."""
    yield _settings(loaded)
    yield _limits(loaded)
    async for check in server_checks(loaded, clock):
        yield check
    if inspector is not None:
        async for check in inspector.checks():
            yield check


def _settings(loaded: Settings) -> Check:
    """Return what orders are executed on; settings that are not valid have stopped the command."""
    if loaded.solana is None:
        found = "valid; VENUE=paper: a simulated market, which the service makes in PostgreSQL; no real money"
        return Check.ok("settings", "", found)
    chain = f"VENUE=solana, SOLANA_CLUSTER={loaded.solana.cluster}, mode {loaded.solana.mode}"
    own = ", a local chain: the service's, or a copy of it" if loaded.solana.has_own_chain else ""
    return Check.ok("settings", "", f"valid; {chain}{own}")


def _limits(loaded: Settings) -> Check:
    """Return the limits in force, whoever places an order."""
    told = [f"at most {most} {token} per order" for token, most in loaded.max_order_amounts.items()]
    told += [f"at most {most} {token} in 24 hours" for token, most in loaded.max_day_amounts.items()]
    if loaded.max_price_impact_bps:
        told.append(f"a price impact of at most {loaded.max_price_impact_bps} bps")
    if loaded.solana is not None:
        told += _limits_of_transactions(loaded.solana)
    return Check.ok("limits", "", ", ".join(told) or "none")


def _limits_of_transactions(solana: SolanaSettings) -> list[str]:
    decimals = TOKENS["SOL"].decimals
    fee, kept = format_amount(solana.max_fee, decimals), format_amount(solana.sol_reserve, decimals)
    return [f"at most {fee} SOL in fees per transaction", f"{kept} SOL are never sold"]
