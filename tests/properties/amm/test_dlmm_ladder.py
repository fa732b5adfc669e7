"""DLMM's quotes from its ladder are those of a walk that fills bin after bin."""

from dataclasses import replace
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from service.amm import AmmError, Direction, DlmmPool
from service.amm.errors import (
    AmountTooSmallError,
    ArithmeticOverflowError,
    BinArrayMissingError,
    InsufficientLiquidityError,
)
from service.amm.integers import U64_MAX, fit_u64
from service.amm.meteora_dlmm_bins import Bin, Fill, fill, net_input_for, walk
from service.amm.meteora_dlmm_fees import RATE_MAX, fee_of_gross, fee_on_net
from service.amm.meteora_dlmm_prices import price_of_bin
from tests.properties.amm.test_amm_properties import NOW, amounts, directions, dlmm_pools

_A_TO_B = Direction.A_TO_B


class Walked(NamedTuple):
    amount_in: int
    amount_out: int
    fee: int


def bin_by_bin(
    pool: DlmmPool, direction: Direction, amount: int, *, exact_out: bool
) -> Walked | type[AmmError]:
    """Quote a pool without a ladder; return the kind of its error if it refuses."""
    x_in = direction is _A_TO_B
    on_input = pool.parameters.collect_fee_mode == 0 or not x_in
    orders = pool.parameters.function_type == 2 or (
        pool.parameters.function_type == 0 and not pool.parameters.has_rewards
    )
    index_reference, reference = pool.volatility.at_start_of_swap(
        pool.parameters, pool.active_id, NOW.timestamp_s
    )

    def rate_of(bin_id: int) -> int:
        moved = min(reference + abs(index_reference - bin_id) * 10_000, pool.parameters.max_volatility)
        variable = pool.parameters.variable_rate(moved) if pool.parameters.variable_fee_control else 0
        return min(pool.parameters.base_rate + variable, RATE_MAX)

    def swap(bin_: Bin, bin_id: int, gross: int) -> Walked:
        rate, price = rate_of(bin_id), price_of_bin(bin_id, pool.parameters.bin_step)
        fee = fee_of_gross(gross, rate) if on_input else 0
        filled: Fill = fill(bin_, price, gross - fee, x_in=x_in, orders=orders)
        if not on_input:
            fee = fee_of_gross(filled.total_out, rate)
            return Walked(filled.total_in, filled.total_out - fee, fee)
        if filled.total_in == gross - fee:
            return Walked(gross, filled.total_out, fee)
        fee = fee_on_net(filled.total_in, rate)
        return Walked(filled.total_in + fee, filled.total_out, fee)

    def swap_for(bin_: Bin, bin_id: int, out: int) -> Walked:
        rate, price = rate_of(bin_id), price_of_bin(bin_id, pool.parameters.bin_step)
        gross_out = fit_u64(out if on_input else out + fee_on_net(out, rate))
        if gross_out >= bin_.amount_for(x_in=x_in, orders=orders):
            return swap(bin_, bin_id, U64_MAX)
        net = net_input_for(bin_, price, gross_out, x_in=x_in)
        gross = fit_u64(net + fee_on_net(net, rate)) if on_input else net
        return swap(bin_, bin_id, gross)._replace(amount_out=out)

    left, total = amount, Walked(0, 0, 0)
    try:
        for bin_id, bin_ in walk(pool.arrays, pool.liquid_arrays, pool.active_id, x_in=x_in, orders=orders):
            part = swap_for(bin_, bin_id, left) if exact_out else swap(bin_, bin_id, left)
            total = Walked(*map(sum, zip(total, part, strict=True)))
            left -= part.amount_out if exact_out else part.amount_in
            if not left:
                break
        else:
            return InsufficientLiquidityError
        fit_u64(total.amount_in)
        fit_u64(total.amount_out)
    except AmmError as error:
        return type(error)
    return total


def from_ladder(
    pool: DlmmPool, direction: Direction, amount: int, *, exact_out: bool
) -> Walked | type[AmmError]:
    """Quote a pool; return the kind of its error if it refuses."""
    ask = pool.quote_exact_out if exact_out else pool.quote_exact_in
    try:
        quote = ask(direction, amount, NOW)
    except AmmError as error:
        return type(error)
    return Walked(quote.amount_in, quote.amount_out, quote.fee_in + quote.fee_out)


@settings(max_examples=200, deadline=None)
@given(
    dlmm_pools(),
    directions,
    st.lists(st.tuples(st.booleans(), st.booleans(), amounts, st.integers(0, 60)), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_ladder_quotes_what_a_walk_quotes(
    pool: DlmmPool, direction: Direction, asked: list[tuple[bool, bool, int, int]], torn: bool
) -> None:
    """Whatever was asked of the same state before: amounts at random, and those at the ends of bins."""
    if torn and len(pool.arrays) > 1:
        gone = min(pool.arrays) if direction is _A_TO_B else max(pool.arrays)
        pool = replace(pool, arrays={index: pool.arrays[index] for index in pool.arrays if index != gone})
    ends: list[int] = []
    try:
        for ahead in pool.ahead(direction, NOW):
            ends.append(ahead.capacity + (ends[-1] if ends else 0))
    except (BinArrayMissingError, ArithmeticOverflowError):
        pass
    # Otherwise the ladder is complete before the first quote.
    pool = replace(pool)
    for exact_out, at_end, at_random, place in asked:
        amount = ends[place % len(ends)] + place % 3 - 1 if at_end and ends else at_random
        if not 0 < amount <= U64_MAX:
            continue
        walked = bin_by_bin(pool, direction, amount, exact_out=exact_out)
        if isinstance(walked, Walked) and not walked.amount_out:
            walked = AmountTooSmallError
        assert from_ladder(pool, direction, amount, exact_out=exact_out) == walked
