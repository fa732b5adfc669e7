"""DLMM's fees: a base rate, a volatility-dependent rate, and the protocol's share.

Volatility is the price's distance in bins from a reference bin, plus the decayed volatility of earlier
moves. A swap after a pause resets the reference, so the rate depends on the time of the swap.

Source: MeteoraAg/dlmm-sdk commons/src/extensions/lb_pair.rs (update_references,
update_volatility_accumulator, get_total_fee, compute_fee, compute_fee_from_amount) and
commons/src/quote.rs (split_fee).
"""

from dataclasses import dataclass

from service.amm.errors import ArithmeticOverflowError
from service.amm.integers import U128_MAX, ceil_div

BASIS_POINTS = 10_000
RATE_SCALE = 1_000_000_000
RATE_MAX = 100_000_000
VARIABLE_SCALE = 100_000_000_000
U32_MAX = (1 << 32) - 1

# A limit order's owner gets half of the fee of its fill, the protocol the rest.
ORDER_SHARE_BPS = 5_000


@dataclass(frozen=True, slots=True)
class DlmmParameters:
    """A pool's constants.

    Attributes:
        bin_step: Basis points between two bins.
        base_factor: The base rate is base_factor * bin_step * 10 * 10^base_fee_power, scaled by 1e9.
        filter_period_s: A swap within this time of the last move keeps the references.
        decay_period_s: A swap after this time resets volatility to zero.
        reduction_factor: The part of earlier volatility kept in between, in basis points.
        variable_fee_control: Scales the variable rate; 0 disables it.
        max_volatility: The accumulator's cap.
        protocol_share: The protocol's part of the liquidity providers' fees, in basis points.
        function_type: 0 undetermined, 1 liquidity mining, 2 limit orders.
        collect_fee_mode: 0 the fee is on the input, 1 it is always in Y.
        has_rewards: Whether a reward mint is set; an undetermined pool then has no limit orders.
    """

    bin_step: int
    base_factor: int
    filter_period_s: int = 30
    decay_period_s: int = 600
    reduction_factor: int = 5_000
    variable_fee_control: int = 0
    max_volatility: int = 350_000
    protocol_share: int = 500
    base_fee_power: int = 0
    function_type: int = 0
    collect_fee_mode: int = 0
    has_rewards: bool = False

    @property
    def base_rate(self) -> int:
        """The base rate, scaled by 1e9, before the cap.

        Raises:
            ArithmeticOverflowError: It does not fit u128.
        """
        rate: int = self.base_factor * self.bin_step * 10 * 10**self.base_fee_power
        if rate > U128_MAX:
            raise ArithmeticOverflowError("the base rate does not fit u128")
        return rate

    def variable_rate(self, accumulator: int) -> int:
        """Return the variable rate, scaled by 1e9, before the cap.

        Raises:
            ArithmeticOverflowError: It does not fit u128.
        """
        scaled = self.variable_fee_control * (accumulator * self.bin_step) ** 2
        if scaled > U128_MAX - VARIABLE_SCALE:
            raise ArithmeticOverflowError("the variable rate does not fit u128")
        return -(-scaled // VARIABLE_SCALE)


@dataclass(frozen=True, slots=True)
class Volatility:
    """The state of the variable fee.

    Attributes:
        accumulator: At the last bin that traded, in 1/10,000 of a bin.
        reference: The decayed accumulator when the reference bin was last set.
        index_reference: The reference bin.
        last_update_s: Unix time of the last swap that left its bin.
    """

    accumulator: int = 0
    reference: int = 0
    index_reference: int = 0
    last_update_s: int = 0

    def at_start_of_swap(
        self, parameters: DlmmParameters, active_id: int, timestamp_s: int
    ) -> tuple[int, int]:
        """Return the reference bin and the volatility reference for a swap at this time.

        Raises:
            ArithmeticOverflowError: The decayed volatility does not fit u32.
        """
        elapsed_s = timestamp_s - self.last_update_s
        if elapsed_s < parameters.filter_period_s:
            return self.index_reference, self.reference
        if elapsed_s >= parameters.decay_period_s:
            return active_id, 0
        decayed = self.accumulator * parameters.reduction_factor
        if decayed > U32_MAX:
            raise ArithmeticOverflowError("the volatility reference does not fit u32")
        return active_id, decayed // BASIS_POINTS


CALM = Volatility()


def fee_of_gross(amount: int, rate: int) -> int:
    """Return the fee contained in an amount, rounded up; the rate is scaled by 1e9."""
    return -(-amount * rate // RATE_SCALE)


def fee_on_net(amount: int, rate: int) -> int:
    """Return the fee to add to an amount, rounded up; the rate is scaled by 1e9."""
    return -(-amount * rate // (RATE_SCALE - rate))


def protocol_fee(fee: int, protocol_share: int, pool_in: int, total_in: int) -> int:
    """Return the protocol's part of a fee; the whole fee if the net input is zero.

    Args:
        fee: The total fee of a swap in one bin.
        protocol_share: Of the liquidity providers' fee, in basis points.
        pool_in: The part of the net input for the liquidity providers; the rest is for limit orders.
        total_in: The net input.
    """
    if total_in == 0:
        return fee
    pool_fee = ceil_div(fee * pool_in, total_in)
    order_fee = fee - pool_fee
    return pool_fee * protocol_share // BASIS_POINTS + (
        order_fee - order_fee * ORDER_SHARE_BPS // BASIS_POINTS
    )
