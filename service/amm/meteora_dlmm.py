"""Meteora DLMM (LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo): bins with one price each, a dynamic fee.

Token A is X, token B is Y. A swap goes bin by bin; each bin has its own price and fee rate.

Source: MeteoraAg/dlmm-sdk commons/src/quote.rs (quote_exact_in, quote_exact_out,
swap_exact_in_quote_at_bin, swap_exact_out_quote_at_bin), extensions/lb_pair.rs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
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
    net_input_to_clear,
    walk,
)
from service.amm.meteora_dlmm_fees import (
    BASIS_POINTS,
    CALM,
    RATE_MAX,
    DlmmParameters,
    Volatility,
    fee_of_gross,
    fee_on_net,
    protocol_fee,
)
from service.amm.meteora_dlmm_prices import price_of_bin
from service.amm.quote import ChainTime, Direction, Ratio, SwapQuote, price_impact_ppm

ENABLED = 0

# The program's PairType. The first two open at once, the others at their activation point.
OPEN_PAIRS = (0, 3)
GATED_PAIRS = (1, 2)

# The program's FunctionType and CollectFeeMode.
UNDETERMINED, LIQUIDITY_MINING, LIMIT_ORDERS = 0, 1, 2
FEE_ON_INPUT, FEE_ON_Y = 0, 1


class _Step(NamedTuple):
    """A swap's part in one bin; amounts include fees."""

    bin_id: int
    bin_: Bin
    fill: Fill
    amount_in: int
    amount_out: int
    fee: int


class _Start(NamedTuple):
    """Values that are constant during a swap."""

    x_in: bool
    orders: bool
    fee_on_input: bool
    base_rate: int
    index_reference: int
    volatility_reference: int
    timestamp_s: int


class BinAhead(NamedTuple):
    """A bin that a swap would reach.

    Attributes:
        bin_id: The bin.
        price: Units of Y per unit of X, Q64.64.
        rate: The bin's fee rate, scaled by 1e9.
        fee_on_input: Whether the fee is taken from the input.
        capacity: Base units of input that clear it, including a fee on the input.
        nearing: Whether the next bin may have a lower fee, being closer to the volatility reference.
    """

    bin_id: int
    price: int
    rate: int
    fee_on_input: bool
    capacity: int
    nearing: bool


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
        steps: list[_Step] = []
        left = amount
        for bin_id, bin_ in self._walk(start):
            step = self._swap_in_bin(start, bin_id, bin_, left)
            steps.append(step)
            left -= step.amount_in
            if not left:
                return self._quote(direction, start, steps)
        raise InsufficientLiquidityError(f"{left} of input {amount} exceed the pool's liquidity")

    def quote_exact_out(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[DlmmPool]":
        """Quote a swap for exactly this output.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        start = self._start(direction, now)
        steps: list[_Step] = []
        left = amount
        for bin_id, bin_ in self._walk(start):
            # A bin whose whole output goes to the fee is cleared too, with an output of zero.
            step = self._swap_for_output(start, bin_id, bin_, left)
            steps.append(step)
            left -= step.amount_out
            if not left:
                return self._quote(direction, start, steps)
        raise InsufficientLiquidityError(f"the pool is {left} short of output {amount}")

    def ahead(self, direction: Direction, now: ChainTime) -> Iterator[BinAhead]:
        """Check that the pool swaps, and iterate over the bins that a swap would clear in sequence.

        Raises:
            AmmError: See the tree in ``errors``; the iterator raises errors of bins that are reached later.
        """
        return self._ahead(self._start(direction, now))

    def _ahead(self, start: _Start) -> Iterator[BinAhead]:
        x_in, orders, fee_on_input = start.x_in, start.orders, start.fee_on_input
        moving = self.parameters.variable_fee_control > 0
        for bin_id, bin_ in self._walk(start):
            price = price_of_bin(bin_id, self.parameters.bin_step)
            rate = self._rate(start, bin_id)
            capacity = net_input_to_clear(bin_, price, x_in=x_in, orders=orders)
            if fee_on_input:
                capacity += fee_on_net(capacity, rate)
            to_reference = bin_id - start.index_reference if x_in else start.index_reference - bin_id
            yield BinAhead(bin_id, price, rate, fee_on_input, capacity, moving and to_reference > 0)

    def _start(self, direction: Direction, now: ChainTime) -> _Start:
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
        return _Start(
            x_in,
            function == LIMIT_ORDERS or (function == UNDETERMINED and not parameters.has_rewards),
            parameters.collect_fee_mode == FEE_ON_INPUT or not x_in,
            parameters.base_rate,
            index_reference,
            volatility_reference,
            now.timestamp_s,
        )

    def _walk(self, start: _Start) -> Iterable[tuple[int, Bin]]:
        return walk(self.arrays, self.liquid_arrays, self.active_id, x_in=start.x_in, orders=start.orders)

    def _accumulator(self, start: _Start, bin_id: int) -> int:
        moved = abs(start.index_reference - bin_id) * BASIS_POINTS
        return min(start.volatility_reference + moved, self.parameters.max_volatility)

    def _rate(self, start: _Start, bin_id: int) -> int:
        """Return a bin's fee rate, scaled by 1e9."""
        rate = start.base_rate
        if self.parameters.variable_fee_control:
            rate += self.parameters.variable_rate(self._accumulator(start, bin_id))
        return min(rate, RATE_MAX)

    def _swap_in_bin(self, start: _Start, bin_id: int, bin_: Bin, amount: int) -> _Step:
        """Swap as much of an input, fee included, as one bin can take."""
        rate = self._rate(start, bin_id)
        price = price_of_bin(bin_id, self.parameters.bin_step)
        fee = fee_of_gross(amount, rate) if start.fee_on_input else 0
        net_in = amount - fee
        filled = fill(bin_, price, net_in, x_in=start.x_in, orders=start.orders)
        gross_out = filled.total_out
        if not start.fee_on_input:
            fee = fee_of_gross(gross_out, rate)
            return _Step(bin_id, bin_, filled, filled.total_in, gross_out - fee, fee)
        if filled.total_in == net_in:
            return _Step(bin_id, bin_, filled, amount, gross_out, fee)
        fee = fee_on_net(filled.total_in, rate)
        return _Step(bin_id, bin_, filled, filled.total_in + fee, gross_out, fee)

    def _swap_for_output(self, start: _Start, bin_id: int, bin_: Bin, amount: int) -> _Step:
        """Swap for as much of an output, fee deducted, as one bin can pay."""
        rate = self._rate(start, bin_id)
        gross_out = amount if start.fee_on_input else amount + fee_on_net(amount, rate)
        if fit_u64(gross_out) >= bin_.amount_for(x_in=start.x_in, orders=start.orders):
            return self._swap_in_bin(start, bin_id, bin_, U64_MAX)
        price = price_of_bin(bin_id, self.parameters.bin_step)
        amount_in = net_input_for(bin_, price, gross_out, x_in=start.x_in)
        if start.fee_on_input:
            amount_in = fit_u64(amount_in + fee_on_net(amount_in, rate))
        step = self._swap_in_bin(start, bin_id, bin_, amount_in)
        # One unit of input may be worth many of output; the trader gets only the requested amount.
        return step._replace(amount_out=amount)

    def _quote(self, direction: Direction, start: _Start, steps: list[_Step]) -> "SwapQuote[DlmmPool]":
        amount_in = amount_out = fee = 0
        for step in steps:
            amount_in += step.amount_in
            amount_out += step.amount_out
            fee += step.fee
        if amount_in > U64_MAX or amount_out > U64_MAX:
            raise ArithmeticOverflowError(f"input {amount_in} or output {amount_out} does not fit u64")
        if not amount_out:
            raise AmountTooSmallError(f"input {amount_in} has no output")
        fee_in, fee_out = (fee, 0) if start.fee_on_input else (0, fee)
        impact = price_impact_ppm(self.price(direction), amount_in - fee_in, amount_out + fee_out)
        after = partial(self._after, start, steps)
        return SwapQuote(amount_in, amount_out, fee_in, fee_out, impact, after)

    def _after(self, start: _Start, steps: list[_Step]) -> "DlmmPool":
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
                self._accumulator(start, end_id),
                start.volatility_reference,
                start.index_reference,
                self.volatility.last_update_s if end_id == self.active_id else start.timestamp_s,
            ),
            protocol_fee_x=self.protocol_fee_x + fee_x,
            protocol_fee_y=self.protocol_fee_y + fee - fee_x,
        )
