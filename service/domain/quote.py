"""Quotes and routes: what a pool would pay, and how an order's amount is led through pools."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from service.domain.amounts import maximum_in, minimum_out
from service.domain.failures import FailureCode


class Dex(StrEnum):
    """Where pools are. The values are the API's words."""

    RAYDIUM = "raydium"
    METEORA = "meteora"


MULTIPLE = "multiple"
"""What the API calls the venue of a route through more than one DEX."""


class SwapMode(StrEnum):
    """Which side of a swap the client fixed. The values are the API's words."""

    EXACT_IN = "exactIn"
    EXACT_OUT = "exactOut"


@dataclass(frozen=True, slots=True)
class PoolQuote:
    """One pool's quote for a whole amount: pure mathematics on one state of it.

    Amounts are base units. ``fee_in`` is contained in ``amount_in``, ``amount_out`` is net of ``fee_out``.
    ``price_impact_ppm`` is how far, in millionths, the swap's price before fees lies below the pool's
    price before the swap.
    """

    dex: Dex
    pool_id: str
    amount_in: int
    amount_out: int
    fee_in: int
    fee_out: int
    price_impact_ppm: int


@dataclass(frozen=True, slots=True)
class NoQuote:
    """A pool that did not quote, and why."""

    dex: Dex
    pool_id: str
    reason: FailureCode


class Amounts(NamedTuple):
    """What goes into a swap and what comes out, in base units."""

    amount_in: int
    amount_out: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One swap in one pool, as quoted. Amounts are base units; fees as in ``PoolQuote``."""

    dex: Dex
    pool_id: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int
    fee_in: int
    fee_out: int
    price_impact_ppm: int


@dataclass(frozen=True, slots=True)
class Path:
    """Legs one after the other: all that the first pays goes into the second. One leg, or two."""

    legs: tuple[Leg, ...]

    @property
    def amount_in(self) -> int:
        """Base units that go in."""
        return self.legs[0].amount_in

    @property
    def amount_out(self) -> int:
        """Base units that come out."""
        return self.legs[-1].amount_out


@dataclass(frozen=True, slots=True)
class Route:
    """Paths side by side, which share no pool: together they take the whole amount.

    ``price_impact_ppm`` is that of the paths, weighted by what goes into each and rounded up; two legs
    in a row compound.
    """

    mode: SwapMode
    token_in: str
    token_out: str
    paths: tuple[Path, ...]
    price_impact_ppm: int

    @property
    def amount_in(self) -> int:
        """Base units that go in."""
        return sum(path.amount_in for path in self.paths)

    @property
    def amount_out(self) -> int:
        """Base units that come out."""
        return sum(path.amount_out for path in self.paths)

    @property
    def amounts(self) -> Amounts:
        """Both of them."""
        return Amounts(self.amount_in, self.amount_out)

    def limits(self, slippage_bps: int) -> tuple[int, int]:
        """Return the most it may cost and the least it must pay, in base units.

        What the client fixed is fixed; the other side may be worse than quoted by the slippage.
        """
        if self.mode is SwapMode.EXACT_IN:
            return self.amount_in, minimum_out(self.amount_out, slippage_bps)
        return maximum_in(self.amount_in, slippage_bps), self.amount_out

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Every leg, path by path."""
        return tuple(leg for path in self.paths for leg in path.legs)

    @property
    def venue(self) -> str:
        """The DEX that executes it, or ``multiple``."""
        dexes = {leg.dex for leg in self.legs}
        return dexes.pop() if len(dexes) == 1 else MULTIPLE


@dataclass(frozen=True, slots=True)
class Choice:
    """What the router saw, and what it chose.

    Attributes:
        quotes: Every direct pool's answer for the whole amount, in the venue's order of pools.
        route: What is best.
        runner_up: The best of the simpler routes that it beat, each on its own: the best single pool,
            or, where that was chosen, the next best; None when there was nothing else.
    """

    quotes: tuple[PoolQuote | NoQuote, ...]
    route: Route
    runner_up: Route | None
