"""The constant-product pool: properties that hold whatever its state and whatever is sold to it."""

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.failures import FailureCode
from service.domain.quote import Dex
from service.settings import PPM, Range
from service.venues.paper.constant_product import ConstantProductPool
from service.venues.paper.market import found_pools
from service.venues.venue import QuoteRefusedError

MODEST = settings(max_examples=80, deadline=None)

A, B = "A", "B"

# Small ones, where rounding tells, and those near the bound.
reserves = st.integers(1, U64_MAX) | st.integers(U64_MAX // 2, U64_MAX)
fees_ppm = st.sampled_from([0, 1, 2_000, 2_500, 30_000, 500_000, 999_999])


def a_pool(
    reserve_a: int = 10**9,
    reserve_b: int = 2 * 10**9,
    fee_ppm: int = 2_500,
    home_a: int = 1,
    home_b: int = 2,
) -> ConstantProductPool:
    return ConstantProductPool(
        id="raydium:A-B",
        dex=Dex.RAYDIUM,
        token_a=A,
        token_b=B,
        fee_ppm=fee_ppm,
        reserve_a=reserve_a,
        reserve_b=reserve_b,
        home_a=home_a,
        home_b=home_b,
        version=7,
    )


pools = st.builds(a_pool, reserves, reserves, fees_ppm)
sides = st.sampled_from([A, B])


def swap(pool: ConstantProductPool, token: str, amount: int) -> tuple[ConstantProductPool, int]:
    """Swap, unless the pool refuses: then this example says nothing."""
    try:
        out = pool.quote(token, amount).amount_out
    except QuoteRefusedError:
        assume(False)
        raise
    return pool.after(token, amount, out), out


@MODEST
@given(pools, sides, reserves)
def test_a_swap_keeps_the_pool_sound(pool: ConstantProductPool, side: str, amount: int) -> None:
    after, out = swap(pool, side, amount)
    assert out >= 1
    assert 1 <= after.reserve_a <= U64_MAX
    assert 1 <= after.reserve_b <= U64_MAX
    assert after.reserve_a * after.reserve_b >= pool.reserve_a * pool.reserve_b
    assert after.version == pool.version + 1


@MODEST
@given(pools, sides, reserves)
def test_there_and_back_never_gains(pool: ConstantProductPool, side: str, amount: int) -> None:
    after, out = swap(pool, side, amount)
    _, back = swap(after, pool.other(side), out)
    assert back <= amount


@MODEST
@given(pools, sides, st.integers(1, U64_MAX // 2), st.integers(1, U64_MAX // 2))
def test_splitting_a_swap_never_pays_more_than_its_rounding(
    pool: ConstantProductPool, side: str, first: int, second: int
) -> None:
    # Only without a fee: with one, what the first part leaves in the pool works for the second.
    pool = a_pool(pool.reserve_a, pool.reserve_b, fee_ppm=0)
    _, whole = swap(pool, side, first + second)
    after, one = swap(pool, side, first)
    _, other = swap(after, side, second)
    assert one + other <= whole


@MODEST
@given(pools, sides, reserves)
def test_a_quote_accounts_for_every_unit(pool: ConstantProductPool, side: str, amount: int) -> None:
    try:
        quote = pool.quote(side, amount)
    except QuoteRefusedError:
        return
    assert quote.amount_in == amount
    assert 0 <= Fraction(quote.fee) - Fraction(amount * pool.fee_ppm, PPM) < 1
    assert 0 <= quote.price_impact_ppm <= PPM


@MODEST
@given(pools, sides, reserves)
def test_a_refusal_has_its_reason(pool: ConstantProductPool, side: str, amount: int) -> None:
    held = pool.reserve_a if side == A else pool.reserve_b
    reason = None
    try:
        pool.quote(side, amount)
    except QuoteRefusedError as refusal:
        reason = refusal.code
    if held + amount > U64_MAX:
        assert reason is FailureCode.INSUFFICIENT_LIQUIDITY
    else:
        assert reason in {None, FailureCode.AMOUNT_TOO_SMALL}


def test_a_pool_is_filled_to_the_last_unit_of_u64_and_no_further() -> None:
    room = U64_MAX - a_pool().reserve_a
    assert a_pool().quote(A, room).amount_out > 0
    with pytest.raises(QuoteRefusedError, match=FailureCode.INSUFFICIENT_LIQUIDITY):
        a_pool().quote(A, room + 1)


@MODEST
@given(pools, sides, st.integers(1, U64_MAX - 1))
def test_more_in_never_pays_less(pool: ConstantProductPool, side: str, amount: int) -> None:
    _, out = swap(pool, side, amount)
    _, more = swap(pool, side, amount + 1)
    assert more >= out


@pytest.mark.parametrize(
    ("side", "amount", "out", "fee", "impact_ppm"),
    [
        # 997,500 net of 1,000,000; 997,500 * 2e9 // (1e9 + 997,500).
        (A, 1_000_000, 1_993_011, 2_500, 997),
        (B, 1_000_000, 498_501, 2_500, 500),
        (A, 10**9, 998_748_435, 2_500_000, 499_375),
        (A, 2, 1, 1, 500_000),
    ],
)
def test_a_quote_in_numbers(side: str, amount: int, out: int, fee: int, impact_ppm: int) -> None:
    quote = a_pool().quote(side, amount)
    assert (quote.amount_out, quote.fee, quote.price_impact_ppm) == (out, fee, impact_ppm)
    assert (quote.dex, quote.pool_id) == (Dex.RAYDIUM, "raydium:A-B")


def distance_from_home(pool: ConstantProductPool, sold: str) -> Fraction:
    """Return the price of the token sold over its home price, less one: negative is past home."""
    price = Fraction(pool.reserve_b, pool.reserve_a) / Fraction(pool.home_b, pool.home_a)
    return price - 1 if sold == A else 1 / price - 1


def tolerance(before: ConstantProductPool, after: ConstantProductPool, sold: str) -> Fraction:
    """Return what rounding to base units may leave: of the amount, its fee, and what is paid out."""
    if sold == A:
        return Fraction(5, before.reserve_a) + Fraction(2, after.reserve_b)
    return Fraction(5, before.reserve_b) + Fraction(2, after.reserve_a)


big = st.integers(10**4, 10**15)


@MODEST
@given(st.builds(a_pool, big, big, fees_ppm, big, big))
def test_the_restoring_trade_brings_the_price_home_and_never_past_it(pool: ConstantProductPool) -> None:
    trade = pool.restoring_trade()
    if trade is None:
        sold = A if distance_from_home(pool, A) >= 0 else B
        assert 0 <= distance_from_home(pool, sold) <= tolerance(pool, pool, sold)
        return
    sold, amount = trade
    assert distance_from_home(pool, sold) > 0
    after, _ = swap(pool, sold, amount)
    assume(min(after.reserve_a, after.reserve_b) >= 1_000)  # fewer units have no price to speak of
    assert 0 <= distance_from_home(after, sold) <= tolerance(pool, after, sold)


@MODEST
@given(st.lists(st.tuples(st.integers(0, 29), sides, st.integers(1, 10**15)), min_size=1, max_size=8))
def test_the_paper_markets_pools_are_brought_home_after_every_swap(swaps: list[tuple[int, str, int]]) -> None:
    market = found_pools(1, Range(20_000, 50_000), Clock(seed=1))
    for place, side, amount in swaps:
        pool = market[place]
        try:
            token = pool.token_a if side == A else pool.token_b
            moved, _ = swap(pool, token, amount)
        except QuoteRefusedError:
            continue
        trade = moved.restoring_trade()
        if trade is not None:
            moved, _ = swap(moved, *trade)
        price = Fraction(moved.reserve_b, moved.reserve_a) / Fraction(moved.home_b, moved.home_a)
        assert abs(price - 1) < Fraction(1, 10**6)
        market[place] = moved


def test_a_pool_at_home_is_left_alone() -> None:
    assert a_pool().restoring_trade() is None
