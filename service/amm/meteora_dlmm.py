"""Meteora DLMM (LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo): bins with one price each, a dynamic fee.

Token A is X, token B is Y. A swap goes bin by bin; each bin has its own price and fee rate.

Source: MeteoraAg/dlmm-sdk commons/src/quote.rs (quote_exact_in, quote_exact_out,
swap_exact_in_quote_at_bin, swap_exact_out_quote_at_bin), extensions/lb_pair.rs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from service.amm.activation import check_open, current_point
from service.amm.errors import (
    AmountTooSmallError,
    ArithmeticOverflowError,
    InsufficientLiquidityError,
    PoolDisabledError,
    UnsupportedPoolError,
)
from service.amm.fixed_point import ONE
from service.amm.integers import U64_MAX, check_amount, fit_u64
from service.amm.meteora_dlmm_bins import (
    BINS_PER_ARRAY,
    Bin,
    BinArray,
    Fill,
    arrays_of,
    fill,
    net_input_for,
    walk,
)
from service.amm.meteora_dlmm_fees import (
    CALM,
    RATE_MAX,
    RATE_SCALE,
    DlmmParameters,
    Volatility,
    fee_of_gross,
    fee_on_net,
    protocol_fee,
)
from service.amm.meteora_dlmm_ladder import BinAhead, Ladder, SwapStart, bins_ahead
from service.amm.meteora_dlmm_prices import price_of_bin
from service.amm.quote import ChainTime, Direction, Ratio, SwapQuote, price_impact_ppm

ENABLED = 0

# The program's PairType. The first two open at once, the others at their activation point.
OPEN_PAIRS = (0, 3)
GATED_PAIRS = (1, 2)

# The program's FunctionType and CollectFeeMode.
UNDETERMINED, LIQUIDITY_MINING, LIMIT_ORDERS = 0, 1, 2
FEE_ON_INPUT, FEE_ON_Y = 0, 1

# Two directions, now and a little earlier or later.
_LADDERS_KEPT = 4

# With the highest fee on top of it, an output up to this still fits u64.
_SAFE_OUTPUT = U64_MAX // RATE_SCALE * (RATE_SCALE - RATE_MAX) - 1


class _Step(NamedTuple):
    """A swap's part in one bin; amounts include fees."""

    bin_id: int
    bin_: Bin
    fill: Fill
    amount_in: int
    amount_out: int
    fee: int


@dataclass(frozen=True, slots=True)
class DlmmPool:
    """A DLMM pool with the bin arrays that were loaded.

    Attributes:
        parameters: The pool's constants.
        active_id: The active bin.
        arrays: The loaded bin arrays, by index.
        liquid_arrays: The indices of all arrays with liquidity, ascending, loaded or not.
        volatility: The state of the variable fee.
        protocol_fee_x: Collected for the protocol, in base units of X.
        protocol_fee_y: The same for Y.
        status: 0 if swaps are enabled.
        pair_type: 0 and 3 are open at once, 1 and 2 at their activation point.
        activation_type: 0 by slot, 1 by Unix time.
        activation_point: When a gated pool opens.
    """

    parameters: DlmmParameters
    active_id: int
    arrays: Mapping[int, BinArray] = field(repr=False)
    liquid_arrays: tuple[int, ...]
    volatility: Volatility = CALM
    protocol_fee_x: int = 0
    protocol_fee_y: int = 0
    status: int = ENABLED
    pair_type: int = 0
    activation_type: int = 0
    activation_point: int = 0
    # What quotes have computed of this state. At other times it may have other fees, so there may be several.
    _ladders: dict[SwapStart, Ladder] = field(
        default_factory=dict, init=False, repr=False, compare=False, hash=False
    )

    @classmethod
    def of_bins(
        cls,
        parameters: DlmmParameters,
        active_id: int,
        bins: Iterable[tuple[int, Bin]],
        volatility: Volatility = CALM,
    ) -> "DlmmPool":
        """Return a pool whose bins are all given."""
        arrays = arrays_of(bins)
        liquid = tuple(sorted(index for index, array in arrays.items() if not array.is_empty))
        return cls(parameters, active_id, arrays, liquid, volatility)

    def bin(self, bin_id: int) -> Bin:
        """Return a bin; an empty one if its array is not loaded."""
        array = self.arrays.get(bin_id // BINS_PER_ARRAY)
        return Bin() if array is None else array.bins[bin_id % BINS_PER_ARRAY]

    def price(self, direction: Direction) -> Ratio:
        """Return the active bin's price.

        Raises:
            ArithmeticOverflowError: The bin's price is out of range.
        """
        price = price_of_bin(self.active_id, self.parameters.bin_step)
        return Ratio(price, ONE) if direction is Direction.A_TO_B else Ratio(ONE, price)

    def quote_exact_in(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[DlmmPool]":
        """Quote a swap of exactly this input.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        start = self._start(direction, now)
        ladder = self._ladder(start)
        index = ladder.last_for_input(amount)
        if index is None:
            left = amount - ladder.total.amount_in
            raise InsufficientLiquidityError(f"{left} of input {amount} exceed the pool's liquidity")
        last = _swap_in_bin(start, ladder[index], amount - ladder.before(index).amount_in)
        return self._quote(direction, now, start, ladder, index, last)

    def quote_exact_out(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[DlmmPool]":
        """Quote a swap for exactly this output.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        start = self._start(direction, now)
        ladder = self._ladder(start)
        index = ladder.last_for_output(amount)
        if index is None:
            left = amount - ladder.total.amount_out
            raise InsufficientLiquidityError(f"the pool is {left} short of output {amount}")
        if amount > _SAFE_OUTPUT and not start.fee_on_input:
            for cleared in range(index):
                left = amount - ladder.before(cleared).amount_out
                fit_u64(left + fee_on_net(left, ladder[cleared].rate))
        last = _swap_for_output(start, ladder[index], amount - ladder.before(index).amount_out)
        return self._quote(direction, now, start, ladder, index, last)

    def ahead(self, direction: Direction, now: ChainTime) -> Iterator[BinAhead]:
        """Check that the pool swaps, and iterate over the bins that a swap would clear in sequence.

        Raises:
            AmmError: See the tree in ``errors``; the iterator raises errors of bins that are reached later.
        """
        return iter(self._ladder(self._start(direction, now)))

    def _ladder(self, start: SwapStart) -> Ladder:
        """Return the ladder of swaps with these values, as far as it was computed."""
        ladder = self._ladders.get(start)
        if ladder is None:
            if len(self._ladders) >= _LADDERS_KEPT:
                self._ladders.clear()
            bins = walk(self.arrays, self.liquid_arrays, self.active_id, x_in=start.x_in, orders=start.orders)
            ladder = self._ladders[start] = Ladder(start, bins_ahead(start, self.parameters, bins))
        return ladder

    def _start(self, direction: Direction, now: ChainTime) -> SwapStart:
        """Check that the pool swaps, and set the references for a swap at this time."""
        if self.status != ENABLED:
            raise PoolDisabledError(f"the pool's status is {self.status}")
        if self.pair_type in GATED_PAIRS:
            check_open(current_point(self.activation_type, now), self.activation_point)
        elif self.pair_type not in OPEN_PAIRS:
            raise UnsupportedPoolError(f"unknown pair type {self.pair_type}")
        parameters = self.parameters
        if parameters.collect_fee_mode not in (FEE_ON_INPUT, FEE_ON_Y):
            raise UnsupportedPoolError(f"unknown collect fee mode {parameters.collect_fee_mode}")
        function = parameters.function_type
        if function not in (UNDETERMINED, LIQUIDITY_MINING, LIMIT_ORDERS):
            raise UnsupportedPoolError(f"unknown function type {function}")
        x_in = direction is Direction.A_TO_B
        index_reference, volatility_reference = self.volatility.at_start_of_swap(
            parameters, self.active_id, now.timestamp_s
        )
        return SwapStart(
            x_in,
            function == LIMIT_ORDERS or (function == UNDETERMINED and not parameters.has_rewards),
            parameters.collect_fee_mode == FEE_ON_INPUT or not x_in,
            parameters.base_rate,
            index_reference,
            volatility_reference,
        )

    def _quote(
        self, direction: Direction, now: ChainTime, start: SwapStart, ladder: Ladder, index: int, last: _Step
    ) -> "SwapQuote[DlmmPool]":
        """Return the quote of a swap that clears the bins before an index and ends with a step there."""
        before = ladder.before(index)
        amount_in, amount_out = before.amount_in + last.amount_in, before.amount_out + last.amount_out
        fee = before.fee + last.fee
        if amount_in > U64_MAX or amount_out > U64_MAX:
            raise ArithmeticOverflowError(f"input {amount_in} or output {amount_out} does not fit u64")
        if not amount_out:
            raise AmountTooSmallError(f"input {amount_in} has no output")
        fee_in, fee_out = (fee, 0) if start.fee_on_input else (0, fee)
        impact = price_impact_ppm(self.price(direction), amount_in - fee_in, amount_out + fee_out)

        def after() -> DlmmPool:
            cleared = [_swap_in_bin(start, ladder[each], U64_MAX) for each in range(index)]
            return self._after(start, now, [*cleared, last])

        return SwapQuote(amount_in, amount_out, fee_in, fee_out, impact, after)

    def _after(self, start: SwapStart, now: ChainTime, steps: list[_Step]) -> "DlmmPool":
        """Return the pool after a swap.

        A bin's payment beyond an exact output goes to the protocol if the fee is on the output; otherwise it
        belongs to no one. An emptied array is removed from the liquid ones: it held only limit orders, since
        liquidity providers are paid into their bins.
        """
        end_id = steps[-1].bin_id
        changed: dict[int, dict[int, Bin]] = {}
        fee = 0
        for step in steps:
            bins = changed.setdefault(step.bin_id // BINS_PER_ARRAY, {})
            bins[step.bin_id] = step.fill.applied_to(step.bin_, x_in=start.x_in)
            fee += protocol_fee(
                step.fee, self.parameters.protocol_share, step.fill.pool_in, step.fill.total_in
            )
            if not start.fee_on_input:
                fee += step.fill.total_out - step.fee - step.amount_out
        fee_x = fee if start.fee_on_input and start.x_in else 0
        arrays = {index: self.arrays[index].with_bins(bins) for index, bins in changed.items()}
        emptied = {index for index, array in arrays.items() if array.is_empty}
        return replace(
            self,
            active_id=end_id,
            arrays={**self.arrays, **arrays},
            liquid_arrays=tuple(index for index in self.liquid_arrays if index not in emptied)
            if emptied
            else self.liquid_arrays,
            volatility=Volatility(
                start.accumulator_at(end_id, self.parameters),
                start.volatility_reference,
                start.index_reference,
                self.volatility.last_update_s if end_id == self.active_id else now.timestamp_s,
            ),
            protocol_fee_x=self.protocol_fee_x + fee_x,
            protocol_fee_y=self.protocol_fee_y + fee - fee_x,
        )


def _swap_in_bin(start: SwapStart, ahead: BinAhead, amount: int) -> _Step:
    """Swap as much of an input, fee included, as one bin can take."""
    bin_id, bin_, rate = ahead.bin_id, ahead.bin_, ahead.rate
    fee = fee_of_gross(amount, rate) if start.fee_on_input else 0
    net_in = amount - fee
    filled = fill(bin_, ahead.price, net_in, x_in=start.x_in, orders=start.orders)
    gross_out = filled.total_out
    if not start.fee_on_input:
        fee = fee_of_gross(gross_out, rate)
        return _Step(bin_id, bin_, filled, filled.total_in, gross_out - fee, fee)
    if filled.total_in == net_in:
        return _Step(bin_id, bin_, filled, amount, gross_out, fee)
    fee = fee_on_net(filled.total_in, rate)
    return _Step(bin_id, bin_, filled, filled.total_in + fee, gross_out, fee)


def _swap_for_output(start: SwapStart, ahead: BinAhead, amount: int) -> _Step:
    """Swap for as much of an output, fee deducted, as one bin can pay."""
    bin_, rate = ahead.bin_, ahead.rate
    gross_out = amount if start.fee_on_input else amount + fee_on_net(amount, rate)
    if fit_u64(gross_out) >= bin_.amount_for(x_in=start.x_in, orders=start.orders):
        return _swap_in_bin(start, ahead, U64_MAX)
    amount_in = net_input_for(bin_, ahead.price, gross_out, x_in=start.x_in)
    if start.fee_on_input:
        amount_in = fit_u64(amount_in + fee_on_net(amount_in, rate))
    step = _swap_in_bin(start, ahead, amount_in)
    # One unit of input may be worth many of output; the trader gets only the requested amount.
    return step._replace(amount_out=amount)
