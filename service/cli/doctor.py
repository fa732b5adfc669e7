"""The command ``python -m service doctor``: checks everything that trading needs, and changes nothing.

It needs neither PostgreSQL nor Redis: of those it says whether they answer.
"""

import argparse
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable

from service.chains.inspection import Check, CheckResult, Inspector
from service.cli.server_checks import server_checks
from service.clock import Clock
from service.domain.amounts import format_amount
from service.domain.tokens import TOKENS
from service.settings import Settings
from service.solana_settings import SolanaSettings


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", run: Callable[..., None]) -> None:
    """Add the command to a command line."""
    what = "check settings, servers, endpoints, wallet, tokens and pools; exits with 1 if a check failed"
    parser = commands.add_parser("doctor", help=what, description=what)
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    parser.set_defaults(run=run)


async def examine(loaded: Settings, clock: Clock, inspector: Inspector | None, *, as_json: bool) -> bool:
    """Make all checks, and print each as a line; or all of them as JSON.

    Args:
        loaded: The settings.
        clock: The clock.
        inspector: Looks at the venue; None: it is the paper market.
        as_json: Whether to print JSON.

    Returns:
        Whether none has failed.
    """
    return await print_checks(_checks(loaded, clock, inspector), as_json=as_json)


async def print_checks(checks: AsyncIterator[Check], *, as_json: bool) -> bool:
    """Print each check as soon as it is made, or all as JSON; return whether none has failed."""
    made = []
    async for check in checks:
        made.append(check)
        if not as_json:
            print(check, flush=True)
    counted = Counter(check.result for check in made)
    if as_json:
        print(json.dumps({"checks": [check.as_json() for check in made], **_counts(counted)}))
    else:
        print(", ".join(f"{count} {result}" for result, count in _counts(counted).items()))
    return not counted[CheckResult.FAILED]


def _counts(counted: Counter[CheckResult]) -> dict[str, int]:
    return {result.value: counted[result] for result in CheckResult}


async def _checks(loaded: Settings, clock: Clock, inspector: Inspector | None) -> AsyncIterator[Check]:
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
    own = ", a local chain, started for this check" if loaded.solana.has_own_chain else ""
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
