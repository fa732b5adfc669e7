"""DLMM's ladder: the bins that swaps in one direction clear from one state on, with running totals.

Which bin a swap ends in follows from its amount by a search in the totals, so that only that one is filled
anew. The ladder grows with the largest swap, and is kept with the state.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from service.amm.errors import AmmError, ArithmeticOverflowError
from service.amm.integers import U64_MAX
from service.amm.meteora_dlmm_bins import Bin, net_input_to_clear
from service.amm.meteora_dlmm_fees import (
    BASIS_POINTS,
    RATE_MAX,
    RATE_SCALE,
    DlmmParameters,
    fee_of_gross,
    fee_on_net,
)
from service.amm.meteora_dlmm_prices import price_of_bin


class SwapStart(NamedTuple):
    """Values that are constant during a swap.

    Attributes:
        x_in: The direction.
        orders: Whether limit orders count.
        fee_on_input: Whether the fee is taken from the input.
        base_rate: The base fee rate, scaled by 1e9.
        index_reference: The bin from which volatility counts.
        volatility_reference: The volatility there, in 1/10,000 of a bin.
    """

    x_in: bool
    orders: bool
    fee_on_input: bool
    base_rate: int
    index_reference: int
    volatility_reference: int

    def accumulator_at(self, bin_id: int, parameters: DlmmParameters) -> int:
        """Return the volatility of a swap that reaches a bin, in 1/10,000 of a bin."""
        moved = abs(self.index_reference - bin_id) * BASIS_POINTS
        return min(self.volatility_reference + moved, parameters.max_volatility)

    def rate_at(self, bin_id: int, parameters: DlmmParameters) -> int:
        """Return a bin's fee rate, scaled by 1e9.

        Raises:
            ArithmeticOverflowError: It does not fit u128.
        """
        rate = self.base_rate
        if parameters.variable_fee_control:
            rate += parameters.variable_rate(self.accumulator_at(bin_id, parameters))
        return min(rate, RATE_MAX)


class BinAhead(NamedTuple):
    """A bin that a swap would reach, and what clears it.

    Attributes:
        bin_id: The bin.
        bin_: Its contents.
        price: Units of Y per unit of X, Q64.64.
        rate: The bin's fee rate, scaled by 1e9.
        nearing: Whether the next bin may have a lower fee, being closer to the volatility reference.
        net_capacity: Base units of input that clear it, without fees.
        capacity: The same, including a fee on the input.
    """

    bin_id: int
    bin_: Bin
    price: int
    rate: int
    nearing: bool
    net_capacity: int
    capacity: int


def bins_ahead(
    start: SwapStart, parameters: DlmmParameters, bins: Iterable[tuple[int, Bin]]
) -> Iterator[BinAhead]:
    """Iterate over the bins that a swap would clear in sequence.

    Args:
        start: The swap.
        parameters: The pool's constants.
        bins: Each bin's id and contents, in the sequence of the swap; see ``meteora_dlmm_bins.walk``.

    Raises:
        AmmError: See the tree in ``errors``, for bins that are reached later.
    """
    moving = parameters.variable_fee_control > 0
    for bin_id, bin_ in bins:
        price = price_of_bin(bin_id, parameters.bin_step)
        rate = start.rate_at(bin_id, parameters)
        net = net_input_to_clear(bin_, price, x_in=start.x_in, orders=start.orders)
        gross = net + fee_on_net(net, rate) if start.fee_on_input else net
        to_reference = bin_id - start.index_reference if start.x_in else start.index_reference - bin_id
        yield BinAhead(bin_id, bin_, price, rate, moving and to_reference > 0, net, gross)


class Cleared(NamedTuple):
    """The totals of the bins that a swap clears, in base units; amounts include fees."""

    amount_in: int
    amount_out: int
    fee: int


class Ladder:
    """The bins ahead of a state in one direction.

    Args:
        start: The swap.
        bins: The bins in the sequence of the swap, computed on demand; it may raise an ``AmmError``.
    """

    __slots__ = ("_bins", "_ends", "_error", "_outs", "_source", "_start", "_totals")

    def __init__(self, start: SwapStart, bins: Iterator[BinAhead]) -> None:
        self._start = start
        self._source = bins
        self._bins: list[BinAhead] = []
        # The totals before each bin, and after the last one.
        self._totals = [Cleared(0, 0, 0)]
        # For each bin, the largest input of a swap that ends in it, and the total output once it is cleared.
        self._ends: list[int] = []
        self._outs: list[int] = []
        # Why no further bin can be reached; None if there are no more.
        self._error: AmmError | None = None

    def __iter__(self) -> Iterator[BinAhead]:
        """Iterate over the bins; raises the error of the one that cannot be reached."""
        index = 0
        while index < len(self._bins) or self._grow():
            yield self._bins[index]
            index += 1

    def __getitem__(self, index: int) -> BinAhead:
        return self._bins[index]

    @property
    def total(self) -> Cleared:
        """The totals of the bins that were computed so far."""
        return self._totals[-1]

    def before(self, index: int) -> Cleared:
        """Return the totals of the bins before one."""
        return self._totals[index]

    def last_for_input(self, amount: int) -> int | None:
        """Return the index of the bin in which an input ends; None if it exceeds all bins.

        Raises:
            AmmError: A bin before it cannot be cleared or reached.
        """
        while not self._ends or self._ends[-1] < amount:
            if not self._grow():
                return None
        return bisect_left(self._ends, amount)

    def last_for_output(self, amount: int) -> int | None:
        """Return the index of the bin in which an output ends; None if it exceeds all bins.

        Raises:
            AmmError: A bin before it cannot be cleared or reached.
        """
        while not self._outs or self._outs[-1] < amount:
            if not self._grow():
                return None
        return bisect_left(self._outs, amount)

    def _grow(self) -> bool:
        """Add a bin; return False if there are no more."""
        if self._error is not None:
            # Without the frames of the quotes that raised it before.
            raise self._error.with_traceback(None)
        try:
            self._check_last()
            ahead = next(self._source, None)
        except AmmError as error:
            self._error = error
            raise
        if ahead is None:
            return False
        taken, paid, kept = self._totals[-1]
        gross_out = ahead.bin_.amount_for(x_in=self._start.x_in, orders=self._start.orders)
        if self._start.fee_on_input:
            fee = ahead.capacity - ahead.net_capacity
            # The largest gross input whose net, floor(gross * (1 - rate)), is no more than the capacity. At
            # most one unit more than what clears the bin, so that the ends never fall.
            kept_of_gross = RATE_SCALE - ahead.rate
            largest = -(-(ahead.net_capacity + 1) * RATE_SCALE // kept_of_gross) - 1
        else:
            fee = fee_of_gross(gross_out, ahead.rate)
            gross_out -= fee
            largest = ahead.capacity
        self._bins.append(ahead)
        self._ends.append(taken + largest)
        self._totals.append(Cleared(taken + ahead.capacity, paid + gross_out, kept + fee))
        self._outs.append(paid + gross_out)
        return True

    def _check_last(self) -> None:
        """Check that the last bin can hold what clears it.

        Raises:
            ArithmeticOverflowError: Its amount would not fit u64.
        """
        if not self._bins:
            return
        last, x_in = self._bins[-1], self._start.x_in
        held = last.bin_.amount_x if x_in else last.bin_.amount_y
        if held + last.net_capacity <= U64_MAX:
            return
        # The input paid to limit orders does not stay in the bin.
        if held + net_input_to_clear(last.bin_, last.price, x_in=x_in, orders=False) > U64_MAX:
            raise ArithmeticOverflowError("the bin's amount does not fit u64")
