"""DAMM v2's fees: a base rate that falls from a cliff rate, and a volatility-dependent rate.

Source: MeteoraAg/damm-v2 programs/cp-amm/src: state/fee.rs, base_fee/fee_time_scheduler.rs,
math/fee_math.rs, constants.rs.
"""

from dataclasses import dataclass, replace

from service.amm.errors import ArithmeticOverflowError, UnsupportedPoolError
from service.amm.fixed_point import ONE, pow_q64
from service.amm.integers import U64_MAX, U128_MAX

BASIS_POINTS = 10_000
RATE_SCALE = 1_000_000_000
VARIABLE_SCALE = 100_000_000_000

# The cap on the total rate, by the pool's fee version: 50 and 99 percent.
RATE_MAX = (500_000_000, 990_000_000)

# The program's BaseFeeMode. The other modes charge by amount or by market value.
LINEAR, EXPONENTIAL = 0, 1


@dataclass(frozen=True, slots=True)
class BaseFee:
    """The base rate's schedule.

    Attributes:
        cliff_rate: The initial rate, scaled by 1e9.
        mode: 0: falls linearly, by the reduction each period; 1: exponentially, by that fraction.
        periods: The number of periods after which the rate stays constant.
        period_frequency: A period's length in slots or seconds; 0 keeps the rate at the cliff.
        reduction: Scaled by 1e9 in mode 0, in basis points in mode 1.
    """

    cliff_rate: int
    mode: int = LINEAR
    periods: int = 0
    period_frequency: int = 0
    reduction: int = 0

    def rate(self, point: int, activation_point: int) -> int:
        """Return the base rate at a slot or a Unix time, not before the activation.

        Raises:
            UnsupportedPoolError: The rate does not depend on time alone, or the schedule falls
                below zero.
        """
        if self.mode not in (LINEAR, EXPONENTIAL):
            raise UnsupportedPoolError(f"unsupported base fee mode {self.mode}")
        if self.period_frequency == 0:
            return self.cliff_rate
        period = min((point - activation_point) // self.period_frequency, self.periods)
        if self.mode == LINEAR:
            rate = self.cliff_rate - self.reduction * period
        elif self.reduction == 0:
            rate = self.cliff_rate
        elif self.reduction < BASIS_POINTS:
            kept = pow_q64(ONE - (self.reduction << 64) // BASIS_POINTS, period)
            rate = kept * self.cliff_rate >> 64
        else:
            rate = -1
        if rate < 0:
            raise UnsupportedPoolError("the base fee schedule falls below zero")
        return rate


@dataclass(frozen=True, slots=True)
class DynamicFee:
    """The volatility-dependent rate, with its state.

    Volatility is the distance of the price's square root from a reference, in bins.

    Attributes:
        bin_step: Basis points of a bin.
        bin_step_q64: The same as Q64.64.
        variable_fee_control: Scales the rate.
        max_volatility: The accumulator's cap.
        filter_period_s: A swap within this time of the last move keeps the references.
        decay_period_s: A swap after this time resets volatility to zero.
        reduction_factor: The part of earlier volatility kept in between, in basis points.
        last_update_s: Unix time of the last swap that moved the price by a bin.
        sqrt_price_reference: The reference of moves, Q64.64.
        accumulator: After the last swap, in 1/10,000 of a bin.
        reference: The decayed accumulator when the reference was last set.
    """

    bin_step: int
    bin_step_q64: int
    variable_fee_control: int
    max_volatility: int
    filter_period_s: int
    decay_period_s: int
    reduction_factor: int
    last_update_s: int = 0
    sqrt_price_reference: int = 0
    accumulator: int = 0
    reference: int = 0

    def rate(self) -> int:
        """Return the variable rate, scaled by 1e9, before the cap.

        Raises:
            ArithmeticOverflowError: It does not fit u128.
        """
        scaled = (self.accumulator * self.bin_step) ** 2 * self.variable_fee_control
        if scaled > U128_MAX - VARIABLE_SCALE:
            raise ArithmeticOverflowError("the variable rate does not fit u128")
        return -(-scaled // VARIABLE_SCALE)

    def before_swap(self, sqrt_price: int, timestamp_s: int) -> "DynamicFee":
        """Set the references for a swap at this time. The swap's own rate does not change."""
        elapsed_s = max(0, timestamp_s - self.last_update_s)
        if elapsed_s < self.filter_period_s:
            return self
        kept = 0
        if elapsed_s < self.decay_period_s:
            kept = self.accumulator * self.reduction_factor // BASIS_POINTS
        return replace(self, sqrt_price_reference=sqrt_price, reference=kept)

    def after_swap(self, before: int, after: int, timestamp_s: int) -> "DynamicFee":
        """Add a swap's move between two square-root prices, Q64.64.

        Raises:
            ArithmeticOverflowError: The move does not fit u128.
        """
        moved = self._bins_between(after, self.sqrt_price_reference) * BASIS_POINTS
        crossed = self._bins_between(before, after) > 0
        return replace(
            self,
            accumulator=min(self.reference + moved, self.max_volatility),
            last_update_s=timestamp_s if crossed else self.last_update_s,
        )

    def _bins_between(self, one: int, other: int) -> int:
        low, high = (one, other) if one < other else (other, one)
        if not low or not self.bin_step_q64:
            raise ArithmeticOverflowError("the distance between the prices is undefined")
        ratio = (high << 64) // low
        if ratio > U128_MAX:
            raise ArithmeticOverflowError("the distance between the prices does not fit u128")
        # Doubled, since one bin of the price is half a bin of its square root.
        return (ratio - ONE) // self.bin_step_q64 * 2


def capped_rate(base_rate: int, variable_rate: int, fee_version: int) -> int:
    """Return the total rate, scaled by 1e9.

    Raises:
        UnsupportedPoolError: The fee version is not known.
        ArithmeticOverflowError: The sum does not fit u64.
    """
    if not 0 <= fee_version < len(RATE_MAX):
        raise UnsupportedPoolError(f"unknown fee version {fee_version}")
    rate = base_rate + variable_rate
    if rate > U64_MAX:
        raise ArithmeticOverflowError("the fee rate does not fit u64")
    return min(rate, RATE_MAX[fee_version])


def fee_of_gross(amount: int, rate: int) -> int:
    """Return the fee contained in an amount, rounded up; the rate is scaled by 1e9."""
    return -(-amount * rate // RATE_SCALE)


def gross_of_net(amount: int, rate: int) -> int:
    """Return the smallest amount that leaves the net after a fee of this rate, scaled by 1e9.

    Raises:
        ArithmeticOverflowError: It does not fit u64.
    """
    gross = -(-amount * RATE_SCALE // (RATE_SCALE - rate))
    if gross > U64_MAX:
        raise ArithmeticOverflowError(f"{gross} does not fit u64")
    return gross
