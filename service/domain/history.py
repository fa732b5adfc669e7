"""The history of an order: its entries, and the only functions that say what an entry tells of its step.

An entry has one form wherever it is: in PostgreSQL, in messages between instances, and in the API. So nothing
has to be converted, however long a history is; a TypedDict costs nothing at run time. Two members are made in
SQL, by the statement that knows them: ``attempt`` of ``routing``, and ``nextTryAt``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, cast

from service.domain.amounts import format_amount, format_price
from service.domain.conditions import USD_DECIMALS, LiquidityUnit, PairFacts, SniperConditions, created_pool
from service.domain.failures import Failure
from service.domain.lifecycle import Status
from service.domain.quote import Amounts, Route
from service.domain.routing_record import RoutingRecord
from service.domain.tokens import TOKENS
from service.domain.transaction import Fill, Landing, SignedTransaction


class ObservedLiquidity(TypedDict):
    """What a pair's pools held, in display units of tokenOut or in dollars."""

    amount: str
    unit: str


class ObservedVolume(TypedDict):
    """What was traded in the last seconds, in display units of tokenOut."""

    amount: str
    seconds: int


class Observation(TypedDict, total=False):
    """What was seen of the market when an order fired: the price, and what each condition is about."""

    price: str
    poolId: str | None
    liquidity: ObservedLiquidity
    volume: ObservedVolume


Change = TypedDict("Change", {"from": Any, "to": Any})
"""A term of an order before and after an amendment, of whatever type the term is."""


class Details(TypedDict, total=False):
    """What an entry tells of its step. Amounts are decimal strings in display units, times RFC 3339."""

    attempt: int
    venue: str
    txHash: str
    landedSlot: int
    landedAt: str
    reason: str
    detail: str
    quotedIn: str
    quotedOut: str
    maximumIn: str
    minimumOut: str
    triggeredBy: Observation
    amended: dict[str, Change]
    nextTryAt: str


class HistoryEntry(Details):
    """An entry as clients see it; ``sequence`` counts from 1, without gaps."""

    sequence: int
    status: str
    timestamp: str


class StoredEntry(HistoryEntry):
    """An entry as it is stored: with the id of the write that made it, which is not for clients."""

    writeId: NotRequired[str]


def public(stored: StoredEntry) -> HistoryEntry:
    """Return a stored entry as clients see it: without the write's id, what all entries have first."""
    # PostgreSQL sorts the members; one that is named twice stays where it was first.
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
    """A step that is durable: the history entry, and what came with it.

    ``quoted`` is what the route of a transaction was quoted. ``decimals_out`` are tokenOut's, with a step
    that could be made only because they are known.
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


def opened(at: str) -> HistoryEntry:
    """Return the second entry of an order that rests: it is open as soon as it is accepted."""
    return {"sequence": 2, "status": Status.OPEN, "timestamp": at}


def routed(route: Route) -> Details:
    """Tell which venue executes the route that was chosen."""
    return {"venue": route.venue}


def signed(transaction: SignedTransaction, route: Route) -> Details:
    """Tell what a transaction was quoted, and what it must keep to."""
    decimals_in, decimals_out = TOKENS[route.token_in].decimals, TOKENS[route.token_out].decimals
    return {
        "txHash": transaction.id,
        "quotedIn": format_amount(route.amount_in, decimals_in),
        "quotedOut": format_amount(route.amount_out, decimals_out),
        "maximumIn": format_amount(transaction.maximum_in, decimals_in),
        "minimumOut": format_amount(transaction.minimum_out, decimals_out),
    }


def landed(fill: Fill, landing: Landing | None) -> Details:
    """Tell which transaction has landed, and when, where the venue still knows.

    It is written down later than it landed: perhaps after the order's time.
    """
    details: Details = {"txHash": fill.tx_hash}
    if landing is not None:
        details["landedSlot"] = landing.slot
        details["landedAt"] = landing.at
    return details


def attempt_failed(attempt: int, failure: Failure) -> Details:
    """Tell which attempt has failed, and why."""
    return {"attempt": attempt, "reason": failure.code, "detail": failure.detail}


def ended(failure: Failure) -> Details:
    """Tell why an order has ended without an attempt that failed."""
    return {"reason": failure.code, "detail": failure.detail}


def amended(before: Mapping[str, object], after: Mapping[str, object]) -> Details:
    """Tell which terms were amended: each as it was, and as it is.

    Args:
        before: The terms by their names in the API.
        after: The same terms.
    """
    return {
        "amended": {
            name: {"from": term, "to": after[name]} for name, term in before.items() if term != after[name]
        }
    }


def price_reached(token_in: str, amount_in: int, token_out: str, amount_out: int) -> Details:
    """Tell at which price a limit order was fired.

    Args:
        token_in: What is sold.
        amount_in: Base units of it.
        token_out: What is bought.
        amount_out: Base units of it that a route paid.
    """
    decimals_in, decimals_out = TOKENS[token_in].decimals, TOKENS[token_out].decimals
    return {"triggeredBy": {"price": format_price(amount_out, decimals_out, amount_in, decimals_in)}}


def conditions_held(conditions: SniperConditions, facts: PairFacts, accepted_at: float) -> Details:
    """Tell what was seen when a sniper order was fired. Arguments as of ``conditions.holds``."""
    return {"triggeredBy": observed(conditions, facts, accepted_at)}


def observed(conditions: SniperConditions, facts: PairFacts, accepted_at: float) -> Observation:
    """Return what triggered an order: the price, and what each condition is about, rounded down."""
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
