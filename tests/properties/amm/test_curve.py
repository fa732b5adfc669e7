"""A pool's curve: it matches exact quotes, its prices fall, and it ends where the pool does."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.amm import AmmV4Pool, ChainTime, CpmmPool, DammV2Pool, Direction, DlmmPool, PoolState
from service.amm.curve import Segment, input_to_price, segments
from service.amm.errors import (
    AmmError,
    AmountTooSmallError,
    BinArrayMissingError,
    InsufficientLiquidityError,
    PoolDisabledError,
    PoolNotOpenError,
    UnsupportedPoolError,
)
from service.amm.integers import U64_MAX
from service.amm.meteora_damm_v2_curve import Range
from service.amm.meteora_damm_v2_fees import BaseFee
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility
from service.amm.quote import Ratio
from tests.properties.amm.test_amm_properties import directions, pools

NOW = ChainTime(1_800_000_000)
MODEST = settings(max_examples=150, deadline=None)
SHARE = Fraction(1, 10**9)

shares_ppm = st.integers(1, 10**6)


def pieces_of(pool: PoolState, direction: Direction) -> list[Segment]:
    try:
        pieces = list(segments(pool, direction, NOW))
    except AmmError:
        assume(False)
        raise
    assume(pieces)
    return pieces


def paid(pieces: list[Segment], amount: int) -> Fraction:
    """Return what the curve pays for an amount, without rounding."""
    total = Fraction(0)
    for piece in pieces:
        part = min(amount, piece.length)
        total += Fraction(piece.gain * part, piece.depth + piece.bend * part)
        amount -= part
    return total


def price_at(piece: Segment, amount: int) -> Fraction:
    return Fraction(piece.gain * piece.depth, (piece.depth + piece.bend * amount) ** 2)


def fraction(price: Ratio) -> Fraction:
    return Fraction(price.out, price.per)


@MODEST
@given(pools, directions)
def test_prices_never_rise_along_a_curve(pool: PoolState, direction: Direction) -> None:
    pieces = pieces_of(pool, direction)
    ends = [price for piece in pieces for price in (price_at(piece, 0), price_at(piece, piece.length))]
    assert ends == sorted(ends, reverse=True)
    assert all(piece.gain > 0 and piece.depth > 0 and piece.bend >= 0 for piece in pieces)


@MODEST
@given(pools, directions, shares_ppm)
def test_a_curve_pays_what_the_pool_pays_but_for_roundings(
    pool: PoolState, direction: Direction, share_ppm: int
) -> None:
    pieces = pieces_of(pool, direction)
    # No bin of these is dearer for being nearer to the reference, or the curve would be above the pool.
    limit = min(sum(piece.length for piece in pieces), 10**15)
    amount = limit * share_ppm // 10**6
    try:
        quoted = pool.quote_exact_in(direction, amount, NOW).amount_out
    except AmountTooSmallError:
        quoted = 0
    # Every bin rounds a fee up and an output down, and a unit of fee may be worth many of output.
    unit = price_at(pieces[0], 0)
    slack = (2 + 2 * unit) * len(pieces) + paid(pieces, amount) * SHARE
    exact = paid(pieces, amount)
    assert exact + slack >= quoted
    if not _is_ironed(pool):
        assert quoted >= exact - slack


def _is_ironed(pool: PoolState) -> bool:
    return isinstance(pool, DlmmPool) and pool.parameters.variable_fee_control > 0


@MODEST
@given(pools, directions)
def test_a_curve_ends_where_the_pool_does(pool: PoolState, direction: Direction) -> None:
    limit = sum(piece.length for piece in pieces_of(pool, direction))
    assume(0 < limit <= U64_MAX)
    try:
        assert pool.quote_exact_in(direction, limit, NOW).amount_in == limit
    except AmountTooSmallError:
        return
    beyond = min(limit + max(2, limit // 10**6), U64_MAX)
    if beyond > limit:
        with pytest.raises(AmmError):
            pool.quote_exact_in(direction, beyond, NOW)


@MODEST
@given(pools, directions, st.integers(1, 2 * 10**6))
def test_an_input_takes_the_price_to_its_target_and_no_further(
    pool: PoolState, direction: Direction, target_ppm: int
) -> None:
    start = pool.price(direction)
    target = Ratio(start.out * target_ppm, start.per * 10**6)
    try:
        amount = input_to_price(pool, direction, NOW, target)
    except AmmError:
        assume(False)
        raise
    assert 0 <= amount <= U64_MAX
    if target_ppm > 10**6:
        assert amount == 0
        return
    limit = sum(piece.length for piece in pieces_of(pool, direction))
    assert amount <= limit
    if isinstance(pool, DlmmPool):
        _check_dlmm(pool, direction, target, amount)
        return
    assert price_after(pool, direction, amount) >= fraction(target)
    if amount < limit:
        assert price_after(pool, direction, amount + 1) < fraction(target)


def _check_dlmm(pool: DlmmPool, direction: Direction, target: Ratio, amount: int) -> None:
    better = sum(
        bin_.capacity
        for bin_ in pool.ahead(direction, NOW)
        if Fraction(bin_.price, 1 << 64) ** (1 if direction is Direction.A_TO_B else -1) > fraction(target)
    )
    assert amount == min(better, U64_MAX)
    if amount == better:
        assert price_after(pool, direction, amount) >= fraction(target)


def price_after(pool: PoolState, direction: Direction, amount: int) -> Fraction:
    try:
        return fraction(pool.quote_exact_in(direction, amount, NOW).next_state().price(direction))
    except AmountTooSmallError:
        return fraction(pool.price(direction))


DEEP = 10**15
DEEP_POOLS = [
    CpmmPool(DEEP, 3 * DEEP, 2_500, 120_000, 40_000),
    CpmmPool(DEEP, 3 * DEEP, 2_500, 120_000, 40_000, 1_000, 2, enable_creator_fee=True),
    AmmV4Pool(DEEP, DEEP // 7),
    DammV2Pool(DEEP << 64, 1 << 64, 1 << 40, 1 << 90, DEEP, DEEP, BaseFee(10_000_000), collect_fee_mode=1),
    DammV2Pool(
        DEEP << 64,
        1 << 64,
        1 << 40,
        1 << 90,
        DEEP,
        2 * DEEP,
        BaseFee(10_000_000),
        compounding_fee_bps=5_000,
        collect_fee_mode=2,
    ),
]


@pytest.mark.parametrize("pool", DEEP_POOLS)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("target_ppm", [999_990, 990_000, 500_000, 10_000])
def test_a_deep_pool_reaches_a_target_within_a_millionth(
    pool: PoolState, direction: Direction, target_ppm: int
) -> None:
    start = fraction(pool.price(direction))
    target = start * target_ppm / 10**6
    amount = input_to_price(pool, direction, NOW, Ratio(target.numerator, target.denominator))
    after = price_after(pool, direction, amount)
    assert target <= after <= target * Fraction(1_000_001, 1_000_000)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("target_ppm", [999_900, 990_000, 950_000])
def test_a_full_dlmm_reaches_a_target_within_a_bin(direction: Direction, target_ppm: int) -> None:
    bins = {i: Bin(10**9 if i >= 7 else 0, 10**9 if i <= 7 else 0) for i in range(-100, 101)}
    pool = DlmmPool.of_bins(DlmmParameters(10, 10_000, variable_fee_control=40_000), 7, bins.items())
    target = fraction(pool.price(direction)) * target_ppm / 10**6
    amount = input_to_price(pool, direction, NOW, Ratio(target.numerator, target.denominator))
    after = price_after(pool, direction, amount)
    assert target <= after <= target * Fraction(10_010, 10_000)


def test_a_range_is_sold_out_at_its_end() -> None:
    reserves = Range(1 << 64, DEEP << 64, (1 << 64) * 99 // 100, (1 << 64) * 101 // 100).reserves()
    pool = DammV2Pool(
        DEEP << 64,
        1 << 64,
        (1 << 64) * 99 // 100,
        (1 << 64) * 101 // 100,
        *reserves,
        BaseFee(10_000_000),
    )
    for direction in Direction:
        (piece,) = segments(pool, direction, NOW)
        assert input_to_price(pool, direction, NOW, Ratio(1, 2)) == piece.length
        end = pool.quote_exact_in(direction, piece.length, NOW).next_state()
        assert abs(fraction(end.price(direction)) - Fraction(99, 100) ** 2) < Fraction(1, 1_000)
        with pytest.raises(InsufficientLiquidityError):
            pool.quote_exact_in(direction, piece.length + 3, NOW)


def test_bins_that_a_falling_fee_makes_better_are_merged_at_their_mean() -> None:
    # Volatility counts from bin -5, five bins of a large step ahead: each charges far less than the last.
    bins = {i: Bin(0, 10**9) for i in range(-10, 1)}
    parameters = DlmmParameters(100, 1_000, variable_fee_control=360_000)
    pool = DlmmPool.of_bins(parameters, 0, bins.items(), Volatility(0, 0, -5, NOW.timestamp_s))
    raw = list(pool.ahead(Direction.A_TO_B, NOW))
    assert raw[0].rate > raw[1].rate > raw[5].rate
    pieces = list(segments(pool, Direction.A_TO_B, NOW))
    assert len(pieces) < len(raw)
    assert sum(piece.length for piece in pieces) == sum(bin_.capacity for bin_ in raw)
    total = sum(bin_.capacity for bin_ in raw)
    assert abs(paid(pieces, total) - pool.quote_exact_in(Direction.A_TO_B, total, NOW).amount_out) < 50


def test_a_curve_ends_with_the_error_of_the_array_that_is_missing() -> None:
    bins = {i: Bin(0, 10**9) for i in range(-100, 1)}
    pool = DlmmPool.of_bins(DlmmParameters(10, 10_000), 0, bins.items())
    partly = replace(pool, arrays={i: array for i, array in pool.arrays.items() if i != -2})
    walk = segments(partly, Direction.A_TO_B, NOW)
    assert len([next(walk) for _ in range(71)]) == 71
    with pytest.raises(BinArrayMissingError):
        next(walk)


@pytest.mark.parametrize(
    ("pool", "error"),
    [
        (CpmmPool(10, 10, 2_500, status=4), PoolDisabledError),
        (CpmmPool(10, 10, 2_500, open_time_s=NOW.timestamp_s + 1), PoolNotOpenError),
        (CpmmPool(0, 10, 2_500), InsufficientLiquidityError),
        (CpmmPool(10, 10, 0), UnsupportedPoolError),
        (AmmV4Pool(10, 10, status=1), UnsupportedPoolError),
        (DammV2Pool(1, 1, 1, 1, 1, 1, BaseFee(1), status=1), PoolDisabledError),
        (replace(DlmmPool.of_bins(DlmmParameters(1, 1), 0, []), status=1), PoolDisabledError),
    ],
)
def test_a_pool_that_would_not_quote_has_no_curve(pool: PoolState, error: type[AmmError]) -> None:
    with pytest.raises(error):
        segments(pool, Direction.A_TO_B, NOW)
    with pytest.raises(error):
        input_to_price(pool, Direction.A_TO_B, NOW, Ratio(1, 10**9))
