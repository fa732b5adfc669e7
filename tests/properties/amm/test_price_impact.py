"""Price impact: exact in constant-product pools, none for the smallest trades, and rising with the amount."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.amm import AmmV4Pool, CpmmPool, Direction, PoolState
from service.amm.errors import AmmError
from service.amm.quote import MILLION
from tests.properties.amm.test_amm_properties import MODEST, NOW, directions, exact_in, pools

DEEP = 10**12
BINS = 25
"""The bins of a DLMM pool: each rounds its output to a base unit."""

no_fee = AmmV4Pool(DEEP, DEEP, fee_numerator=0)
deep_pools = st.builds(
    CpmmPool,
    vault_0=st.integers(10**15, 10**18),
    vault_1=st.integers(10**15, 10**18),
    trade_fee_rate=st.integers(1, 100_000),
)


def exact_impact_ppm(reserve_in: int, net_in: int) -> Fraction:
    """Return the impact of a constant-product pool without rounding: 1 - Y / (X + x) / (Y / X)."""
    return Fraction(MILLION * net_in, reserve_in + net_in)


@pytest.mark.parametrize(
    ("pool", "amount", "impact_ppm"),
    [
        # 10^12 in doubles the pool: half of the price before.
        (no_fee, DEEP, 500_000),
        (no_fee, 3 * DEEP, 750_000),
        # 1 / 1001, rounded up.
        (no_fee, 10**9, 1_000),
        (no_fee, 10**6, 1),
        # Of 10^9 the fee takes 2,500,000: 997,500,000 / 1,000,997,500,000 is 0.000996506.
        (CpmmPool(DEEP, DEEP, trade_fee_rate=2_500), 10**9, 997),
        # The price does not matter: 10 of the other token for each.
        (CpmmPool(DEEP, 10 * DEEP, trade_fee_rate=2_500), 10**9, 997),
        # A tenth is the fee, of the rest 9 / 109 is the impact: 0.0825688.
        (CpmmPool(DEEP, DEEP, trade_fee_rate=100_000), DEEP // 10, 82_569),
    ],
)
def test_a_constant_product_pool_has_the_impact_computed_by_hand(
    pool: PoolState, amount: int, impact_ppm: int
) -> None:
    assert pool.quote_exact_in(Direction.A_TO_B, amount, NOW).price_impact_ppm == impact_ppm


@MODEST
@given(deep_pools, directions, st.integers(10**9, 10**17))
def test_only_rounding_adds_to_the_exact_impact(pool: CpmmPool, direction: Direction, amount: int) -> None:
    reserve = pool.vault_0 if direction is Direction.A_TO_B else pool.vault_1
    quoted = exact_in(pool, direction, amount)
    exact = exact_impact_ppm(reserve, quoted.amount_in - quoted.fee_in)
    # Never understated; over it by one unit of the output, and by rounding up to a millionth.
    assert exact <= quoted.price_impact_ppm < exact + Fraction(MILLION, quoted.amount_out) + 1


@MODEST
@given(deep_pools, directions)
def test_a_tiny_trade_has_none(pool: CpmmPool, direction: Direction) -> None:
    reserve = pool.vault_0 if direction is Direction.A_TO_B else pool.vault_1
    before = MILLION
    for fraction in (10, 10**3, 10**5, 10**7):
        quoted = exact_in(pool, direction, reserve // fraction)
        assert quoted.price_impact_ppm <= before
        before = quoted.price_impact_ppm
    assert before <= 2


@MODEST
@given(pools, directions, st.integers(10**6, 10**17), st.integers(1, 10**17))
def test_it_rises_with_the_amount(pool: PoolState, direction: Direction, amount: int, more: int) -> None:
    smaller, larger = exact_in(pool, direction, amount), exact_in(pool, direction, amount + more)
    assume(smaller.amount_out > 0)
    rounding = Fraction(MILLION * BINS, smaller.amount_out) + 1
    assert larger.price_impact_ppm >= smaller.price_impact_ppm - rounding


@MODEST
@given(deep_pools, directions, st.integers(10**9, 10**14))
def test_an_exact_output_has_the_impact_of_its_input(
    pool: CpmmPool, direction: Direction, amount: int
) -> None:
    try:
        bought = pool.quote_exact_out(direction, amount, NOW)
    except AmmError:
        assume(False)
        raise
    sold = exact_in(pool, direction, bought.amount_in)
    assert abs(bought.price_impact_ppm - sold.price_impact_ppm) <= 1
