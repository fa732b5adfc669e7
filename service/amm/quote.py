"""The interface of all pools: a state that quotes, and its quote.

Price impact is defined in the same way for every pool::

    impact = 1 - (out before fees / in after fees) / (price before the swap)

where the price is the marginal price, units of output per unit of input, without fees. So fees are not part
of the impact, and in a pool of infinite depth it is zero. It is in parts per million, rounded up, so it is
never understated. Rounding of the output counts as impact, which matters for tiny amounts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

MILLION = 1_000_000


class Direction(Enum):
    """The direction of a swap. A is the pool's first token: token 0, coin, X or A in the programs."""

    A_TO_B = "a_to_b"
    B_TO_A = "b_to_a"

    @property
    def opposite(self) -> "Direction":
        """The reverse direction."""
        return Direction.B_TO_A if self is Direction.A_TO_B else Direction.A_TO_B


class FeeSide(Enum):
    """Whether a fee is paid in the input token or the output token."""

    INPUT = "input"
    OUTPUT = "output"


class Fee(NamedTuple):
    """A fee in base units of one token of the swap."""

    side: FeeSide
    amount: int


class ChainTime(NamedTuple):
    """When a swap would land, by the chain's clock.

    Attributes:
        timestamp_s: Unix time in seconds.
        slot: The slot; only pools that are activated by slot need it.
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
    """The result of a swap, exact to the base unit.

    Amounts are what the pool's vaults receive and pay. The transfer fee of a Token-2022 mint is outside the
    pool; the caller must add it.

    Attributes:
        amount_in: Base units the trader pays, fees included.
        amount_out: Base units the trader receives, fees deducted. DAMM v2 executes swaps that pay
            zero, so it may be zero there: never send one.
        fee_in: The part of amount_in kept as fees.
        fee_out: Fees kept from the output, on top of amount_out.
        price_impact_ppm: Parts per million, 0 to 1,000,000; see the module.
        next_state: Returns the pool after the swap. It is computed on demand, since most quotes are only
            compared.
    """

    amount_in: int
    amount_out: int
    fee_in: int
    fee_out: int
    price_impact_ppm: int
    next_state: Callable[[], P_co] = field(repr=False, compare=False)

    @property
    def fees(self) -> tuple[Fee, ...]:
        """The fees with their tokens; with CPMM's creator fee there may be one on each side."""
        both = (Fee(FeeSide.INPUT, self.fee_in), Fee(FeeSide.OUTPUT, self.fee_out))
        return tuple(fee for fee in both if fee.amount)


class PoolState(Protocol):
    """An immutable snapshot of a pool that a router can quote without knowing its program."""

    def quote_exact_in(self, direction: Direction, amount: int, now: ChainTime) -> SwapQuote[Self]:
        """Quote a swap of exactly this input.

        Args:
            direction: Which token goes in.
            amount: Base units in, fees included.
            now: When the swap would land; fees may depend on it.

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
            InsufficientLiquidityError: The pool is empty.
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
    # The input of an exact output is rounded up, so rounding can make the rate look better at most.
    lost = max(0, at_price - gross_out * price.per)
    return -(-lost * MILLION // at_price)
