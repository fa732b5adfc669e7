"""The shape all pools share: a state that quotes, and the quote it gives.

Price impact has one definition for every pool::

    impact = 1 - (out before fees / in after fees) / (price before the swap)

the price being units of output per unit of input at the margin, without fees. So a fee alone makes
no impact, and a swap of any size through a pool of endless depth has none. It is kept in parts per
million, rounded up: an impact is never understated. Rounding of the output counts as impact, which
shows on dust.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

MILLION = 1_000_000


class Direction(Enum):
    """Which way a swap goes. A is the pool's first token: token 0, coin, X or A to the programs."""

    A_TO_B = "a_to_b"
    B_TO_A = "b_to_a"

    @property
    def opposite(self) -> "Direction":
        """The way back."""
        return Direction.B_TO_A if self is Direction.A_TO_B else Direction.A_TO_B


class FeeSide(Enum):
    """The token a fee is paid in: the one that goes in, or the one that comes out."""

    INPUT = "input"
    OUTPUT = "output"


class Fee(NamedTuple):
    """A fee in base units of one token of the swap."""

    side: FeeSide
    amount: int


class ChainTime(NamedTuple):
    """When a swap would land, as the chain's clock tells it.

    Attributes:
        timestamp_s: Unix time in seconds.
        slot: The slot, which only pools that count their activation in slots need.
    """

    timestamp_s: int
    slot: int | None = None


class Ratio(NamedTuple):
    """An exact price: units of output per unit of input, both in base units."""

    out: int
    per: int


P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True)
class SwapQuote(Generic[P_co]):
    """What a swap would do, to the unit.

    Amounts are what the pool's vaults receive and pay. A fee that a Token-2022 mint takes on
    transfers is outside of the pool, and the caller's to add.

    Attributes:
        amount_in: Base units the trader pays, fees included.
        amount_out: Base units the trader receives, fees deducted. DAMM v2 executes swaps that pay
            zero, so it may be zero there: never send one.
        fee_in: The part of amount_in kept as fees.
        fee_out: Fees kept from the output, on top of amount_out.
        price_impact_ppm: Parts per million, 0 to 1,000,000; defined in the module.
        next_state: Call it for the pool after the swap. It is computed on demand, since most quotes
            are only compared.
    """

    amount_in: int
    amount_out: int
    fee_in: int
    fee_out: int
    price_impact_ppm: int
    next_state: Callable[[], P_co] = field(repr=False, compare=False)

    @property
    def fees(self) -> tuple[Fee, ...]:
        """The fees, with their tokens; CPMM's creator fee may put one on either side."""
        both = (Fee(FeeSide.INPUT, self.fee_in), Fee(FeeSide.OUTPUT, self.fee_out))
        return tuple(fee for fee in both if fee.amount)


class PoolState(Protocol):
    """A pool as one snapshot, immutable, that a router can quote without knowing its program."""

    def quote_exact_in(self, direction: Direction, amount: int, now: ChainTime) -> SwapQuote[Self]:
        """Quote a swap of exactly this input.

        Args:
            direction: Which token goes in.
            amount: Base units in, fees included.
            now: When the swap would land; fees move with it.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        ...

    def quote_exact_out(self, direction: Direction, amount: int, now: ChainTime) -> SwapQuote[Self]:
        """Quote a swap for exactly this output, fees deducted.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        ...

    def price(self, direction: Direction) -> Ratio:
        """Return the marginal price before fees.

        Raises:
            InsufficientLiquidityError: The pool is empty, so it has none.
        """
        ...


def price_impact_ppm(price: Ratio, net_in: int, gross_out: int) -> int:
    """Return the price impact of a swap.

    Args:
        price: Before the swap, fees excluded.
        net_in: Base units in, after fees on the input.
        gross_out: Base units out, before fees on the output.

    Returns:
        Parts per million, rounded up, from 0 to 1,000,000.
    """
    at_price = net_in * price.out
    if at_price <= 0:
        return MILLION
    # Amounts in are rounded up for an exact output, so the rate can only look better by a rounding.
    lost = max(0, at_price - gross_out * price.per)
    return -(-lost * MILLION // at_price)
