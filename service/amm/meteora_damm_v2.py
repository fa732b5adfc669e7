"""Meteora DAMM v2 (cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG): one price range, dynamic fees.

The fee is on the output; in collect modes 1 and 2 a swap from B to A pays it on the input, so that it is
always in B. Mode 2 keeps part of the fee in the pool and uses constant product.

The program executes swaps with an output of zero, so a quote's amount_out may be zero: never send one.

Source: MeteoraAg/damm-v2 programs/cp-amm/src: state/pool.rs (get_swap_result_from_exact_input,
get_swap_result_from_exact_output, apply_swap_result, update_pre_swap, update_post_swap,
update_layout_version_if_needed), state/fee.rs (FeeMode, split_fees),
instructions/swap/ix_p_swap.rs.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from service.amm.activation import check_open, current_point
from service.amm.errors import (
    ArithmeticOverflowError,
    InsufficientLiquidityError,
    PoolDisabledError,
    UnsupportedPoolError,
)
from service.amm.integers import U64_MAX, check_amount
from service.amm.meteora_damm_v2_curve import Product, Range
from service.amm.meteora_damm_v2_fees import (
    BASIS_POINTS,
    BaseFee,
    DynamicFee,
    capped_rate,
    fee_of_gross,
    gross_of_net,
)
from service.amm.quote import ChainTime, Direction, Ratio, SwapQuote, price_impact_ppm

ENABLED = 0

# CollectFeeMode of the program.
FEE_ON_OUTPUT, FEE_ON_B, COMPOUNDING = 0, 1, 2


class _Swap(NamedTuple):
    """One swap, before and after fees.

    Attributes:
        net_in: The input less the fee.
        gross_out: The output before the fee.
        fee: On either side.
        sqrt_price: After the swap; for constant product the old one, since it is recalculated from reserves.
    """

    a_to_b: bool
    fee_on_input: bool
    net_in: int
    gross_out: int
    fee: int
    sqrt_price: int
    timestamp_s: int


@dataclass(frozen=True, slots=True)
class DammV2Pool:
    """A DAMM v2 pool.

    Attributes:
        liquidity: Scaled by 2^64.
        sqrt_price: Square root of the price, units of B per unit of A, Q64.64.
        sqrt_min_price: The lowest a swap may reach.
        sqrt_max_price: The highest a swap may reach.
        amount_a: The pool's recorded reserve of A in base units, fees not included.
        amount_b: The same for B.
        base_fee: The base rate's schedule.
        dynamic_fee: The volatility-dependent rate; None if the pool has none.
        protocol_fee_percent: The protocol's part of every fee.
        compounding_fee_bps: The part of the rest that stays in the pool, in collect mode 2.
        collect_fee_mode: 0 on the output, 1 always in B, 2 always in B and compounding.
        fee_version: Selects the cap on the rate.
        protocol_fee_a: Collected for the protocol, in base units of A.
        protocol_fee_b: The same for B.
        layout_version: 0: the pool has no recorded reserves until its next swap.
        status: 0 if swaps are enabled.
        activation_type: 0 by slot, 1 by Unix time.
        activation_point: When the pool opens, and the base rate's first period begins.
    """

    liquidity: int
    sqrt_price: int
    sqrt_min_price: int
    sqrt_max_price: int
    amount_a: int
    amount_b: int
    base_fee: BaseFee
    dynamic_fee: DynamicFee | None = None
    protocol_fee_percent: int = 20
    compounding_fee_bps: int = 0
    collect_fee_mode: int = FEE_ON_OUTPUT
    fee_version: int = 1
    protocol_fee_a: int = 0
    protocol_fee_b: int = 0
    layout_version: int = 1
    status: int = ENABLED
    activation_type: int = 1
    activation_point: int = 0

    def price(self, direction: Direction) -> Ratio:
        """Return the price: the square of ``sqrt_price``, or the ratio of reserves for constant product.

        Raises:
            InsufficientLiquidityError: The pool is empty.
        """
        if self.collect_fee_mode == COMPOUNDING:
            b, a = self.amount_b, self.amount_a
        else:
            b, a = self.sqrt_price * self.sqrt_price, 1 << 128
        if b <= 0 or a <= 0 or self.liquidity <= 0:
            raise InsufficientLiquidityError("the pool is empty")
        return Ratio(b, a) if direction is Direction.A_TO_B else Ratio(a, b)

    def quote_exact_in(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[DammV2Pool]":
        """Quote a swap of exactly this input.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        rate = self.rate(now)
        price = self.price(direction)
        a_to_b = direction is Direction.A_TO_B
        fee_on_input = self.fee_on_input(a_to_b=a_to_b)
        fee = fee_of_gross(amount, rate) if fee_on_input else 0
        net_in = amount - fee
        sqrt_price = self.sqrt_price
        if self.collect_fee_mode == COMPOUNDING:
            gross_out = Product(self.amount_a, self.amount_b).out_for(net_in, a_to_b=a_to_b)
        else:
            gross_out, sqrt_price = self.price_range().out_for(net_in, a_to_b=a_to_b)
        if not fee_on_input:
            fee = fee_of_gross(gross_out, rate)
        swap = _Swap(a_to_b, fee_on_input, net_in, gross_out, fee, sqrt_price, now.timestamp_s)
        return self._quote(price, swap)

    def quote_exact_out(self, direction: Direction, amount: int, now: ChainTime) -> "SwapQuote[DammV2Pool]":
        """Quote a swap for exactly this output.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        check_amount(amount)
        rate = self.rate(now)
        price = self.price(direction)
        a_to_b = direction is Direction.A_TO_B
        fee_on_input = self.fee_on_input(a_to_b=a_to_b)
        gross_out = amount if fee_on_input else gross_of_net(amount, rate)
        sqrt_price = self.sqrt_price
        if self.collect_fee_mode == COMPOUNDING:
            net_in = Product(self.amount_a, self.amount_b).in_for(gross_out, a_to_b=a_to_b)
        else:
            net_in, sqrt_price = self.price_range().in_for(gross_out, a_to_b=a_to_b)
        fee = gross_of_net(net_in, rate) - net_in if fee_on_input else gross_out - amount
        swap = _Swap(a_to_b, fee_on_input, net_in, gross_out, fee, sqrt_price, now.timestamp_s)
        return self._quote(price, swap)

    def rate(self, now: ChainTime) -> int:
        """Check that the pool swaps now, and return its fee rate, scaled by 1e9.

        Raises:
            AmmError: See the tree in ``errors``.
        """
        if self.status != ENABLED:
            raise PoolDisabledError(f"the pool's status is {self.status}")
        point = current_point(self.activation_type, now)
        check_open(point, self.activation_point)
        base_rate = self.base_fee.rate(point, self.activation_point)
        variable_rate = self.dynamic_fee.rate() if self.dynamic_fee else 0
        return capped_rate(base_rate, variable_rate, self.fee_version)

    def fee_on_input(self, *, a_to_b: bool) -> bool:
        """Return whether a swap in this direction pays its fee on the input.

        Raises:
            UnsupportedPoolError: The collect mode is not known.
        """
        if self.collect_fee_mode not in (FEE_ON_OUTPUT, FEE_ON_B, COMPOUNDING):
            raise UnsupportedPoolError(f"unknown collect fee mode {self.collect_fee_mode}")
        return self.collect_fee_mode != FEE_ON_OUTPUT and not a_to_b

    def price_range(self) -> Range:
        """Return the curve of a pool without compounding."""
        return Range(self.sqrt_price, self.liquidity, self.sqrt_min_price, self.sqrt_max_price)

    def amounts(self) -> tuple[int, int]:
        """Return the pool's reserves of A and B, calculated from the range if they are not recorded yet.

        Raises:
            ArithmeticOverflowError: A calculated reserve does not fit u64.
        """
        if self.layout_version == 0 and self.collect_fee_mode != COMPOUNDING:
            return self.price_range().reserves()
        return self.amount_a, self.amount_b

    def _quote(self, price: Ratio, swap: _Swap) -> "SwapQuote[DammV2Pool]":
        fee_in, fee_out = (swap.fee, 0) if swap.fee_on_input else (0, swap.fee)
        amount_in = swap.net_in + fee_in
        amount_a, amount_b = self.amounts()
        held_in, held_out = (amount_a, amount_b) if swap.a_to_b else (amount_b, amount_a)
        if swap.gross_out > held_out:
            raise InsufficientLiquidityError(f"output {swap.gross_out} exceeds the reserve of {held_out}")
        if amount_in > U64_MAX or held_in + amount_in > U64_MAX:
            raise ArithmeticOverflowError(f"input {amount_in} does not fit u64")
        return SwapQuote(
            amount_in,
            swap.gross_out - fee_out,
            fee_in,
            fee_out,
            price_impact_ppm(price, swap.net_in, swap.gross_out),
            partial(self._after, swap, amount_a, amount_b),
        )

    def _after(self, swap: _Swap, amount_a: int, amount_b: int) -> "DammV2Pool":
        """Return the pool after a swap without a referrer (apply_swap_result)."""
        protocol_fee = swap.fee * self.protocol_fee_percent // 100
        compounded = (swap.fee - protocol_fee) * self.compounding_fee_bps // BASIS_POINTS
        if swap.a_to_b:
            amount_a += swap.net_in
            amount_b -= swap.gross_out
        else:
            amount_a -= swap.gross_out
            amount_b += swap.net_in
        amount_b += compounded
        sqrt_price = swap.sqrt_price
        if self.collect_fee_mode == COMPOUNDING:
            sqrt_price = Product(amount_a, amount_b).sqrt_price()
        dynamic_fee = self.dynamic_fee
        if dynamic_fee:
            dynamic_fee = dynamic_fee.before_swap(self.sqrt_price, swap.timestamp_s).after_swap(
                self.sqrt_price, sqrt_price, swap.timestamp_s
            )
        # The fee is in A only if it is on an output of A.
        in_a = not swap.a_to_b and not swap.fee_on_input
        return replace(
            self,
            sqrt_price=sqrt_price,
            amount_a=amount_a,
            amount_b=amount_b,
            dynamic_fee=dynamic_fee,
            protocol_fee_a=self.protocol_fee_a + (protocol_fee if in_a else 0),
            protocol_fee_b=self.protocol_fee_b + (0 if in_a else protocol_fee),
            layout_version=1,
        )
