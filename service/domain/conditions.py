"""Sniper conditions: all of them must hold at the same time before the order executes.

.. code-block:: text

    poolCreated   {"venue": "raydium" | "meteora" | "any"}
    minLiquidity  {"amount": "50000", "unit": "tokenOut" | "usd"}       unit: tokenOut by default
    price         {"above": "1.5", "below": "2"}                        one of them, or both
    volume        {"amount": "1000", "seconds": 60}                     seconds: 1 to 3600
    timeWindow    {"notBefore": RFC 3339, "notAfter": RFC 3339}         one of them, or both

Amounts are decimal strings in display units and stay as sent: the token may be listed after the order is
placed, so its decimals are needed only when the conditions are evaluated. All comparisons are exact.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from service.domain.limit_price import PlainNumber
from service.domain.quote import Dex

LONGEST_VOLUME_S = 3_600
"""The longest window of a volume condition, in seconds."""

USD_DECIMALS = 6
"""Dollars are measured in base units of USDC."""


class LiquidityUnit(StrEnum):
    """The unit of a liquidity condition. The values are the API's words."""

    TOKEN_OUT = "tokenOut"  # noqa: S105 - a token to trade
    USD = "usd"


class Kind(StrEnum):
    """The conditions, in evaluation order. The values are the API's words."""

    TIME_WINDOW = "timeWindow"
    POOL_CREATED = "poolCreated"
    MIN_LIQUIDITY = "minLiquidity"
    PRICE = "price"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class PoolCreated:
    """A direct pool of the pair opened after the order was accepted; ``dex`` None: on any DEX."""

    dex: Dex | None


@dataclass(frozen=True, slots=True)
class MinLiquidity:
    """The pair's direct pools together hold at least this amount, in display units."""

    amount: PlainNumber
    unit: LiquidityUnit


@dataclass(frozen=True, slots=True)
class PriceRange:
    """The best marginal price, tokenOut for one tokenIn in display units, is strictly between the bounds."""

    above: PlainNumber | None
    below: PlainNumber | None


@dataclass(frozen=True, slots=True)
class Volume:
    """At least this amount of tokenOut, in display units, traded in the direct pools in the last seconds."""

    amount: PlainNumber
    seconds: int


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """From ``not_before`` (inclusive) to ``not_after`` (exclusive), in UTC."""

    not_before: datetime | None
    not_after: datetime | None


class Opened(NamedTuple):
    """A pool, and when its opening slot began, in seconds since the Unix epoch."""

    at: float
    pool_id: str


@dataclass(frozen=True, slots=True)
class PairFacts:
    """Market data of the pair (tokenIn, tokenOut) at one moment, in base units.

    Attributes:
        decimals_in: Decimal places of tokenIn.
        decimals_out: Decimal places of tokenOut.
        price: The best marginal price, tokenOut per tokenIn net of fees, as (out, per); None if no pool
            trades.
        liquidity_out: Total tokenOut in the direct pools.
        liquidity_usd: Twice the value of the tokenIn in the direct pools, in base units of USDC, as a
            quotient with a positive denominator; None if tokenIn has no price in USDC.
        newest: On each DEX, the direct pool that opened last.
        volume_out: Returns the tokenOut traded in the direct pools in the last given number of seconds.
    """

    decimals_in: int
    decimals_out: int
    price: tuple[int, int] | None
    liquidity_out: int
    liquidity_usd: tuple[int, int] | None
    newest: Mapping[Dex, Opened]
    volume_out: Callable[[int], int]


@dataclass(frozen=True, slots=True)
class SniperConditions:
    """Conditions that must all hold; at least one is set, None is no condition."""

    pool_created: PoolCreated | None = None
    min_liquidity: MinLiquidity | None = None
    price: PriceRange | None = None
    volume: Volume | None = None
    time_window: TimeWindow | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When the time window ends and the order expires."""
        return self.time_window.not_after if self.time_window else None

    @property
    def not_before(self) -> datetime | None:
        """When the time window begins."""
        return self.time_window.not_before if self.time_window else None


def holds(conditions: SniperConditions, facts: PairFacts, accepted_at: float, now: datetime) -> bool:
    """Return whether all conditions hold.

    Args:
        conditions: The order's.
        facts: Market data of its pair.
        accepted_at: When the slot began in which the order was accepted, in seconds since the Unix epoch.
        now: PostgreSQL's time, with a time zone.
    """
    return unmet(conditions, facts, accepted_at, now) is None


def unmet(conditions: SniperConditions, facts: PairFacts, accepted_at: float, now: datetime) -> Kind | None:
    """Return the first condition that does not hold; None if all do. Arguments as for ``holds``."""
    if conditions.time_window is not None and not _is_within(conditions.time_window, now):
        return Kind.TIME_WINDOW
    if conditions.pool_created is not None and not created_pool(conditions.pool_created, facts, accepted_at):
        return Kind.POOL_CREATED
    if conditions.min_liquidity is not None and not _is_liquid(conditions.min_liquidity, facts):
        return Kind.MIN_LIQUIDITY
    if conditions.price is not None and not _is_priced(conditions.price, facts):
        return Kind.PRICE
    if conditions.volume is not None and not _is_traded(conditions.volume, facts):
        return Kind.VOLUME
    return None


def created_pool(created: PoolCreated, facts: PairFacts, accepted_at: float) -> Opened | None:
    """Return the newest pool opened since an order was accepted, on an allowed DEX; None if there is none.

    A pool that opened in the same slot counts: which came first is not known, and the order must not wait
    forever for a pool that exists.
    """
    newest = [opened for dex, opened in facts.newest.items() if created.dex in {None, dex}]
    return max((opened for opened in newest if opened.at >= accepted_at), default=None)


def _is_within(window: TimeWindow, now: datetime) -> bool:
    return (window.not_before is None or now >= window.not_before) and (
        window.not_after is None or now < window.not_after
    )


def _is_liquid(least: MinLiquidity, facts: PairFacts) -> bool:
    if least.unit is LiquidityUnit.TOKEN_OUT:
        return not least.amount.is_above(facts.liquidity_out, 10**facts.decimals_out)
    if facts.liquidity_usd is None:
        return False
    numerator, denominator = facts.liquidity_usd
    return not least.amount.is_above(numerator, denominator * 10**USD_DECIMALS)


def _is_priced(prices: PriceRange, facts: PairFacts) -> bool:
    if facts.price is None:
        return False
    numerator = facts.price[0] * 10**facts.decimals_in
    denominator = facts.price[1] * 10**facts.decimals_out
    return (prices.above is None or prices.above.is_below(numerator, denominator)) and (
        prices.below is None or prices.below.is_above(numerator, denominator)
    )


def _is_traded(volume: Volume, facts: PairFacts) -> bool:
    return not volume.amount.is_above(facts.volume_out(volume.seconds), 10**facts.decimals_out)
