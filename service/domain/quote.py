"""Quotes and routes: a pool's output for an amount, and an order's path through pools."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from service.domain.amounts import maximum_in, minimum_out
from service.domain.failures import FailureCode


class Dex(StrEnum):
    """The DEXs. The values are the API's."""

    RAYDIUM = "raydium"
    METEORA = "meteora"


MULTIPLE = "multiple"
"""What stands for the DEX of a route through more than one. The value is the API's."""


class SwapMode(StrEnum):
    """Which side of a swap the client fixed. The values are the API's."""

    EXACT_IN = "exactIn"
    EXACT_OUT = "exactOut"


@dataclass(frozen=True, slots=True)
class PoolQuote:
    """One pool's quote for a whole amount, computed from one state of the pool.

    Amounts are in base units. ``fee_in`` is contained in ``amount_in``, ``amount_out`` is net of ``fee_out``.
    ``price_impact_ppm`` is how far the swap's price before fees is below the pool's price before the swap, in
    millionths.
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
    """A swap's input and output, in base units."""

    amount_in: int
    amount_out: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One swap in one pool, as quoted. Amounts are in base units; fees as in ``PoolQuote``."""

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
    """One or two legs in sequence: the second sells the first's quoted output less the hop margin.

    For an exact output the first buys the second's quoted input plus the margin.
    """

    legs: tuple[Leg, ...]

    @property
    def amount_in(self) -> int:
        """Input in base units."""
        return self.legs[0].amount_in

    @property
    def amount_out(self) -> int:
        """Output in base units."""
        return self.legs[-1].amount_out


@dataclass(frozen=True, slots=True)
class Route:
    """Parallel paths that share no pool and together trade the whole amount.

    ``price_impact_ppm`` is the paths' average, weighted by input and rounded up; along a path it compounds.
    """

    mode: SwapMode
    token_in: str
    token_out: str
    paths: tuple[Path, ...]
    price_impact_ppm: int

    @property
    def amount_in(self) -> int:
        """Input in base units."""
        return sum(path.amount_in for path in self.paths)

    @property
    def amount_out(self) -> int:
        """Output in base units."""
        return sum(path.amount_out for path in self.paths)

    @property
    def amounts(self) -> Amounts:
        """Input and output."""
        return Amounts(self.amount_in, self.amount_out)

    def limits(self, slippage_bps: int, limit_out: int | None = None) -> tuple[int, int]:
        """Return the maximum input and the minimum output, in base units.

        The side that the client fixed is exact; the slippage applies to the other. The minimum is never below
        ``limit_out``, a limit order's minimum output.
        """
        if self.mode is SwapMode.EXACT_OUT:
            return maximum_in(self.amount_in, slippage_bps), self.amount_out
        return self.amount_in, max(minimum_out(self.amount_out, slippage_bps), limit_out or 0)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Every leg, path by path."""
        return tuple(leg for path in self.paths for leg in path.legs)

    @property
    def dex(self) -> str:
        """The route's DEX, or ``multiple``."""
        dexes = {leg.dex for leg in self.legs}
        return dexes.pop() if len(dexes) == 1 else MULTIPLE


@dataclass(frozen=True, slots=True)
class Choice:
    """The router's quotes and its choice.

    Attributes:
        quotes: Every direct pool's quote or refusal for the whole amount, in the venue's order of pools.
        route: The best route.
        runner_up: The best simpler route that it beat: the best single pool or, if that was chosen, the
            next best; None if there was no other.
    """

    quotes: tuple[PoolQuote | NoQuote, ...]
    route: Route
    runner_up: Route | None
