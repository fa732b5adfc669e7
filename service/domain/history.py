"""The history of an order: its entries, and the only functions that create an entry's details.

An entry has the same form in PostgreSQL, in messages between instances and in the API, so that long histories
need no conversion; a TypedDict costs nothing at run time. Two members are computed in SQL: ``attempt`` of
``routing``, and ``nextTryAt``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, cast

from service.domain.amounts import format_amount, format_price, parse_amount
from service.domain.conditions import USD_DECIMALS, LiquidityUnit, PairFacts, SniperConditions, created_pool
from service.domain.failures import Failure, FailureCode
from service.domain.lifecycle import Status
from service.domain.quote import Amounts, Route
from service.domain.routing_record import RoutingRecord
from service.domain.tokens import TOKENS
from service.domain.transaction import (
    Fill,
    Landing,
    NetworkCost,
    Residue,
    SignedTransaction,
    SimulatedSwap,
)

_SOL_DECIMALS = 9


class ObservedLiquidity(TypedDict):
    """The liquidity of a pair's pools, in display units of tokenOut or in dollars."""

    amount: str
    unit: str


class ObservedVolume(TypedDict):
    """The volume of the last ``seconds``, in display units of tokenOut."""

    amount: str
    seconds: int


class Observation(TypedDict, total=False):
    """The market data observed when an order fired: the price, and the value for each condition."""

    price: str
    poolId: str | None
    liquidity: ObservedLiquidity
    volume: ObservedVolume


Change = TypedDict("Change", {"from": Any, "to": Any})
"""A term of an order before and after an amendment, of any type."""


class ResidueAmount(TypedDict):
    """What a fill left of a token between its legs, in display units."""

    token: str
    amount: str


class SimulatedDetails(TypedDict):
    """What a simulated transaction would have done, in display units; amounts only if the node told them."""

    amountIn: NotRequired[str]
    amountOut: NotRequired[str]
    networkCost: str


class Details(TypedDict, total=False):
    """The details of an entry. Amounts are decimal strings in display units, times RFC 3339."""

    attempt: int
    venue: str
    txHash: str
    landedSlot: int
    landedAt: str
    networkCost: str
    residue: list[ResidueAmount]
    simulated: SimulatedDetails
    reason: str
    detail: str
    quotedIn: str
    quotedOut: str
    maximumIn: str
    minimumOut: str
    triggeredBy: Observation
    amended: dict[str, Change]
    nextTryAt: str
    awaitingApproval: bool
    approvedBy: str
    refusedBy: str


class HistoryEntry(Details):
    """An entry as clients see it; ``sequence`` counts from 1, without gaps."""

    sequence: int
    status: str
    timestamp: str


class StoredEntry(HistoryEntry):
    """An entry as stored: with the id of the write that created it, which clients do not see."""

    writeId: NotRequired[str]


def public(stored: StoredEntry) -> HistoryEntry:
    """Return a stored entry as clients see it: without the write id, and common members first."""
    # PostgreSQL sorts the members; a repeated key keeps its first position in a dict.
    entry = cast(
        "StoredEntry",
        {
            "sequence": stored["sequence"],
            "status": stored["status"],
            "timestamp": stored["timestamp"],
            **stored,
        },
    )
    entry.pop("writeId", None)
    return entry


@dataclass(frozen=True, slots=True)
class Committed:
    """A durable step: the history entry, and the data written with it.

    ``quoted`` are the quoted amounts of a transaction's route. ``decimals_out`` are tokenOut's decimals, with
    a step that requires them.
    """

    order_id: str
    entry: HistoryEntry
    routing: RoutingRecord | None = None
    quoted: Amounts | None = None
    fill: Fill | None = None
    decimals_out: int | None = None

    @property
    def sequence(self) -> int:
        """The entry's place in the history, from 1."""
        return self.entry["sequence"]


def accepted(at: str) -> HistoryEntry:
    """Return an order's first entry."""
    return {"sequence": 1, "status": Status.PENDING, "timestamp": at}


def opened(at: str, *, awaiting_approval: bool = False) -> HistoryEntry:
    """Return the second entry of an order that is open at once: it rests, or awaits approval."""
    entry: HistoryEntry = {"sequence": 2, "status": Status.OPEN, "timestamp": at}
    if awaiting_approval:
        entry["awaitingApproval"] = True
    return entry


def awaits_approval(entry: HistoryEntry, *, before: bool) -> bool:
    """Return whether an order awaits approval after an entry; ``before`` is whether it did before it."""
    if entry["status"] != Status.OPEN or "approvedBy" in entry:
        return False
    return before or "awaitingApproval" in entry


def routed(route: Route) -> Details:
    """Return the details of a chosen route: its DEX."""
    return {"venue": route.dex}


def signed(transaction: SignedTransaction, route: Route) -> Details:
    """Return the details of a signed transaction: its quoted amounts and its limits."""
    decimals_in, decimals_out = TOKENS[route.token_in].decimals, TOKENS[route.token_out].decimals
    return {
        "txHash": transaction.id,
        "quotedIn": format_amount(route.amount_in, decimals_in),
        "quotedOut": format_amount(route.amount_out, decimals_out),
        "maximumIn": format_amount(transaction.maximum_in, decimals_in),
        "minimumOut": format_amount(transaction.minimum_out, decimals_out),
    }


def landed(
    fill: Fill, landing: Landing | None, cost: NetworkCost | None = None, residue: Sequence[Residue] = ()
) -> Details:
    """Return the details of a landed transaction: its hash, and what the venue knows of the rest.

    The entry is written after the landing, possibly after the order's expiry.

    Args:
        fill: The fill.
        landing: When it landed.
        cost: What it cost.
        residue: What it left of the tokens between its legs.
    """
    details: Details = {"txHash": fill.tx_hash}
    if landing is not None:
        details["landedSlot"] = landing.slot
        details["landedAt"] = landing.at
    if residue:
        details["residue"] = [
            {"token": left.token, "amount": format_amount(left.amount, TOKENS[left.token].decimals)}
            for left in residue
        ]
    return details | _costing(cost)


def attempt_failed(
    attempt: int, failure: Failure, cost: NetworkCost | None = None, simulated: SimulatedSwap | None = None
) -> Details:
    """Return the details of a failed attempt.

    Args:
        attempt: Its number.
        failure: The reason.
        cost: What its transaction cost.
        simulated: What its transaction would have done, if it was only simulated.
    """
    details: Details = {"attempt": attempt, "reason": failure.code, "detail": failure.detail}
    if simulated is not None:
        details["simulated"] = _simulated(simulated)
    return details | _costing(cost)


def _simulated(swap: SimulatedSwap) -> SimulatedDetails:
    details: SimulatedDetails = {"networkCost": format_amount(swap.cost.total, _SOL_DECIMALS)}
    if swap.amount_in is not None:
        details["amountIn"] = format_amount(swap.amount_in, TOKENS[swap.token_in].decimals)
    if swap.amount_out is not None:
        details["amountOut"] = format_amount(swap.amount_out, TOKENS[swap.token_out].decimals)
    return details


def _costing(cost: NetworkCost | None) -> Details:
    return {} if cost is None else {"networkCost": format_amount(cost.total, _SOL_DECIMALS)}


def total_cost(before: str | None, entry: HistoryEntry) -> str | None:
    """Return what the transactions of an order have cost after an entry, in SOL; None: none is known.

    Args:
        before: What they had cost before it.
        entry: The entry.
    """
    cost = entry.get("networkCost")
    if cost is None or before is None:
        return cost or before
    lamports = sum(parse_amount(each, _SOL_DECIMALS) for each in (before, cost) if each != "0")
    return format_amount(lamports, _SOL_DECIMALS)


def ended(failure: Failure) -> Details:
    """Return the details of an ending without a failed attempt: the reason."""
    return {"reason": failure.code, "detail": failure.detail}


def amended(
    before: Mapping[str, object], after: Mapping[str, object], *, needs_approval: bool = False
) -> Details:
    """Return the details of an amendment: each changed term before and after.

    Args:
        before: The terms by their names in the API.
        after: The same terms.
        needs_approval: Whether the order awaits approval because of it.
    """
    approval: Details = {"awaitingApproval": True} if needs_approval else {}
    return {
        **approval,
        "amended": {
            name: {"from": term, "to": after[name]} for name, term in before.items() if term != after[name]
        },
    }


def approved(by: str, reason: str | None) -> Details:
    """Return the details of an approval: by which API key, and what it gave as a reason."""
    return {"approvedBy": by} if reason is None else {"approvedBy": by, "detail": reason}


def refused(by: str, reason: str | None) -> Details:
    """Return the details of a refused approval, which ends the order. Arguments as of ``approved``."""
    failure = Failure.of(FailureCode.APPROVAL_REFUSED)
    return {"refusedBy": by, "reason": failure.code, "detail": reason or failure.detail}


def price_reached(token_in: str, amount_in: int, token_out: str, amount_out: int) -> Details:
    """Return the details of a limit order's firing: the price.

    Args:
        token_in: The token sold.
        amount_in: Its amount in base units.
        token_out: The token bought.
        amount_out: A route's output in base units.
    """
    decimals_in, decimals_out = TOKENS[token_in].decimals, TOKENS[token_out].decimals
    return {"triggeredBy": {"price": format_price(amount_out, decimals_out, amount_in, decimals_in)}}


def conditions_held(conditions: SniperConditions, facts: PairFacts, accepted_at: float) -> Details:
    """Return the details of a sniper order's firing. Arguments as of ``conditions.holds``."""
    return {"triggeredBy": observed(conditions, facts, accepted_at)}


def observed(conditions: SniperConditions, facts: PairFacts, accepted_at: float) -> Observation:
    """Return the observed price, and the observed value for each condition, rounded down."""
    seen: Observation = {}
    if facts.price is not None:
        seen["price"] = format_price(facts.price[0], facts.decimals_out, facts.price[1], facts.decimals_in)
    if conditions.pool_created is not None:
        pool = created_pool(conditions.pool_created, facts, accepted_at)
        seen["poolId"] = None if pool is None else pool.pool_id
    if conditions.min_liquidity is not None:
        unit = conditions.min_liquidity.unit
        held, decimals = facts.liquidity_out, facts.decimals_out
        if unit is LiquidityUnit.USD:
            numerator, denominator = facts.liquidity_usd or (0, 1)
            held, decimals = numerator // denominator, USD_DECIMALS
        seen["liquidity"] = {"amount": format_amount(held, decimals), "unit": unit.value}
    if conditions.volume is not None:
        seconds = conditions.volume.seconds
        traded = format_amount(facts.volume_out(seconds), facts.decimals_out)
        seen["volume"] = {"amount": traded, "seconds": seconds}
    return seen
