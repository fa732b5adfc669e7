"""A pool's output as a function of its input: a sequence of segments with falling prices.

On each segment of input, a pool's output is a Moebius function of the input: constant product and a price
range are one segment, a DLMM bin is a linear one. Sums, compositions and inverses of such segments have
closed forms, which splitting an amount over pools needs.

The segments follow the pools' formulas without rounding to base units. They guide the search; exact quotes
give the amounts.
"""

from collections.abc import Callable, Iterator
from math import isqrt
from typing import NamedTuple

from service.amm.errors import AmmError, AmountTooSmallError, UnsupportedPoolError
from service.amm.fixed_point import ONE
from service.amm.integers import U64_MAX
from service.amm.meteora_damm_v2 import COMPOUNDING, DammV2Pool
from service.amm.meteora_damm_v2_fees import RATE_SCALE as DAMM_RATE_SCALE
from service.amm.meteora_dlmm import DlmmPool
from service.amm.meteora_dlmm_fees import RATE_SCALE as DLMM_RATE_SCALE
from service.amm.meteora_dlmm_ladder import BinAhead
from service.amm.quote import ChainTime, Direction, PoolState, Ratio
from service.amm.raydium_amm_v4 import AmmV4Pool
from service.amm.raydium_cpmm import RATE_SCALE as CPMM_RATE_SCALE
from service.amm.raydium_cpmm import CpmmPool

_Q64 = 64
_Q128 = 128

# False position usually needs about eight steps; after this many, every second step bisects.
_QUICK_STEPS = 16


class Segment(NamedTuple):
    """A segment of input: ``t`` more base units in, 0 <= t <= length, pay gain * t / (depth + bend * t).

    The output is in base units, net of fees; the input is gross. The marginal price at ``t`` is
    gain * depth / (depth + bend * t)^2, which is gain / depth at the start.

    Attributes:
        gain: Positive.
        depth: Positive.
        bend: Zero if the price is constant.
        length: Base units of gross input.
    """

    gain: int
    depth: int
    bend: int
    length: int


def segments(state: PoolState, direction: Direction, now: ChainTime) -> Iterator[Segment]:
    """Return a pool's segments for one direction, lazily, with non-increasing marginal prices.

    The lengths add up to the pool's maximum input: to the end of its range, its last bin, or u64.

    Raises:
        AmmError: Like a quote: the pool is disabled, not open, empty or unsupported. The iterator raises
            errors of bins that are reached later.
    """
    if isinstance(state, CpmmPool):
        return iter((_cpmm(state, direction, now),))
    if isinstance(state, AmmV4Pool):
        return iter((_amm_v4(state, direction, now),))
    if isinstance(state, DammV2Pool):
        return iter((_damm_v2(state, direction, now),))
    if isinstance(state, DlmmPool):
        return _ironed(direction, state.ahead(direction, now))
    raise UnsupportedPoolError(f"no curve for {type(state).__name__}")


def _cpmm(pool: CpmmPool, direction: Direction, now: ChainTime) -> Segment:
    """With the rates f on the input and c on the output: out = (1-c) R_out n / (R_in + n), n = (1-f) x."""
    price = pool.tradable_price(direction, now)
    trade_rate, creator_rate, on_input = pool.rates(direction)
    rate_in, rate_out = (trade_rate + creator_rate, 0) if on_input else (trade_rate, creator_rate)
    kept_in, kept_out = CPMM_RATE_SCALE - rate_in, CPMM_RATE_SCALE - rate_out
    vault_in = pool.vault_0 if direction is Direction.A_TO_B else pool.vault_1
    return Segment(
        kept_in * kept_out * price.out,
        CPMM_RATE_SCALE * CPMM_RATE_SCALE * price.per,
        CPMM_RATE_SCALE * kept_in,
        max(0, U64_MAX - vault_in),
    )


def _amm_v4(pool: AmmV4Pool, direction: Direction, now: ChainTime) -> Segment:
    """Like CPMM, with a fee on the input only."""
    price = pool.tradable_price(direction, now)
    kept = pool.fee_denominator - pool.fee_numerator
    vault_in = pool.vault_coin if direction is Direction.A_TO_B else pool.vault_pc
    return Segment(kept * price.out, pool.fee_denominator * price.per, kept, max(0, U64_MAX - vault_in))


def _damm_v2(pool: DammV2Pool, direction: Direction, now: ChainTime) -> Segment:
    """Within the range, with s the root of the price and L the liquidity, both scaled by 2^64.

    A to B: s' = L s / (L + n s) and out = L (s - s') / 2^128, so out = L s^2 n / 2^128 (L + n s).
    B to A: s' = s + 2^128 n / L and out = L (s' - s) / (s s'), so out = 2^128 L n / s (L s + 2^128 n).
    """
    rate = pool.rate(now)
    price = pool.price(direction)
    a_to_b = direction is Direction.A_TO_B
    amount_a, amount_b = pool.amounts()
    held_in, held_out = (amount_a, amount_b) if a_to_b else (amount_b, amount_a)
    if pool.collect_fee_mode == COMPOUNDING:
        gain, depth, bend, net_limit = price.out, price.per, 1, U64_MAX
    else:
        root, liquidity, root_min, root_max = pool.price_range()
        if a_to_b:
            gain, depth, bend = liquidity * root * root, liquidity << _Q128, root << _Q128
            floor = max(root_min, 1)
            net_limit = liquidity * (root - floor) // (root * floor)
        else:
            gain, depth, bend = liquidity << _Q128, liquidity * root * root, root << _Q128
            net_limit = liquidity * (root_max - root) >> _Q128
        if gain > held_out * bend:
            # The recorded reserve may be exhausted before the range ends.
            net_limit = min(net_limit, held_out * depth // (gain - held_out * bend))
    kept = DAMM_RATE_SCALE - rate
    if pool.fee_on_input(a_to_b=a_to_b):
        gross_limit = net_limit * DAMM_RATE_SCALE // kept
        bend *= kept
    else:
        gross_limit = net_limit
        bend *= DAMM_RATE_SCALE
    return Segment(gain * kept, depth * DAMM_RATE_SCALE, bend, max(0, min(gross_limit, U64_MAX - held_in)))


def _of_bin(direction: Direction, bin_: BinAhead) -> Segment:
    """A bin has one price; a fee rate r leaves (1-r) of it, on either side."""
    kept = DLMM_RATE_SCALE - bin_.rate
    if direction is Direction.A_TO_B:
        return Segment(kept * bin_.price, DLMM_RATE_SCALE << _Q64, 0, bin_.capacity)
    return Segment(kept << _Q64, DLMM_RATE_SCALE * bin_.price, 0, bin_.capacity)


def _ironed(direction: Direction, bins: Iterator[BinAhead]) -> Iterator[Segment]:
    """Yield the bins' segments; a segment with a worse price than its successor is merged with it.

    Prices get worse bin by bin, but the fee may fall faster while the walk approaches the volatility
    reference bin. The result is the least concave function above the pool's.
    """
    held: list[Segment] = []
    try:
        for bin_ in bins:
            piece = _of_bin(direction, bin_)
            if not held and not bin_.nearing:
                yield piece
                continue
            merged = False
            while held and held[-1].gain * piece.depth < piece.gain * held[-1].depth:
                piece, merged = _merged(held.pop(), piece), True
            held.append(piece)
            if not merged and not bin_.nearing:
                # Past the reference fees only rise, so no later bin has a better price.
                yield from held
                held.clear()
    except AmmError:
        # The bins before the error can be traded.
        yield from held
        raise
    yield from held


def _merged(one: Segment, other: Segment) -> Segment:
    """Return one linear segment with the start and the end of two adjacent ones."""
    length = one.length + other.length
    paid = sum((piece.gain * piece.length << _Q64) // piece.depth for piece in (one, other))
    return Segment(paid, length << _Q64, 0, length)


def input_to_price(state: PoolState, direction: Direction, now: ChainTime, price: Ratio) -> int:
    """Return the largest input that moves a pool's price to a target, and not below it.

    Args:
        state: The pool.
        direction: Which token goes in.
        now: When the swap would land.
        price: The target, in the form of ``PoolState.price``: before fees, out per in.

    Returns:
        Base units of gross input; 0 if the price is not above the target. For a DLMM pool, the input that
        clears all bins priced above the target; its price is then the last one's. The amount may be too
        small for the pool to quote.

    Raises:
        AmmError: Like a quote: the pool is disabled, not open, empty or unsupported, or bins that were
            not loaded are reached.
    """
    if isinstance(state, DlmmPool):
        above = 0
        for bin_ in state.ahead(direction, now):
            out, per = (bin_.price, ONE) if direction is Direction.A_TO_B else (ONE, bin_.price)
            if not _is_below(price, Ratio(out, per)):
                break
            above += bin_.capacity
        return min(above, U64_MAX)

    limit = sum(piece.length for piece in segments(state, direction, now))

    def price_after(amount: int) -> Ratio:
        try:
            return state.quote_exact_in(direction, amount, now).next_state().price(direction)
        except AmountTooSmallError:
            return state.price(direction)

    return _last_not_below(price_after, limit, state.price(direction), price)


def _last_not_below(price_after: Callable[[int], Ratio], limit: int, at_zero: Ratio, target: Ratio) -> int:
    """Return the largest amount after which the price is not below the target, by false position.

    The root of the inverse price is almost linear in the amount. An interval end that stays twice gets half
    the weight (Dowell and Jarratt's "Illinois" method), or it would never move.
    """
    if not limit or _is_below(at_zero, target):
        return 0
    price = price_after(limit)
    if not _is_below(price, target):
        return limit
    root = _inverse_root(target)
    low, high = 0, limit
    to_low, to_high = root - _inverse_root(at_zero), _inverse_root(price) - root
    steps = last_move = 0
    while high - low > 1:
        steps += 1
        if steps > _QUICK_STEPS and steps % 2:
            guess = (low + high) // 2
        else:
            guess = low + (high - low) * to_low // max(1, to_low + to_high)
            guess = min(max(guess, low + 1), high - 1)
        price = price_after(guess)
        if _is_below(price, target):
            high, to_high = guess, _inverse_root(price) - root
            to_low = to_low // 2 if last_move > 0 else to_low
            last_move = 1
        else:
            low, to_low = guess, root - _inverse_root(price)
            to_high = to_high // 2 if last_move < 0 else to_high
            last_move = -1
    return low


def _is_below(price: Ratio, target: Ratio) -> bool:
    return price.out * target.per < target.out * price.per


def _inverse_root(price: Ratio) -> int:
    """Return the square root of the inverse price, Q128."""
    return isqrt((price.per << 2 * _Q128) // price.out)
