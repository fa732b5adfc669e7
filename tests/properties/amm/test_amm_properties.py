"""Properties of every pool in every state: no free money, and no value exceeds its width."""

from contextlib import suppress
from dataclasses import astuple
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.amm.account import Account
from service.amm.errors import (
    AmmError,
    AmountTooSmallError,
    InsufficientLiquidityError,
    SwapRefusedError,
    SwapUndeterminedError,
)
from service.amm.integers import U64_MAX
from service.amm.meteora_damm_v2 import COMPOUNDING, DammV2Pool
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_damm_v2_curve import Product, Range
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee
from service.amm.meteora_dlmm import DlmmPool
from service.amm.meteora_dlmm_account import (
    BinArrayAccount,
    BitmapExtensionAccount,
    LbPairAccount,
)
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility
from service.amm.quote import MILLION, ChainTime, Direction, PoolState, SwapQuote
from service.amm.raydium_amm_v4 import AmmV4Pool
from service.amm.raydium_amm_v4_account import AmmV4Account
from service.amm.raydium_cpmm import CpmmPool
from service.amm.raydium_cpmm_account import CpmmConfigAccount, CpmmPoolAccount

NOW = ChainTime(1_800_000_000)
MODEST = settings(max_examples=120, deadline=None)

SQRT_MIN, SQRT_MAX = 4_295_048_016, 79_226_673_521_066_979_257_578_248_091

directions = st.sampled_from(Direction)
reserves = st.integers(3, 16).flatmap(lambda digits: st.integers(10**digits, 10 ** (digits + 1)))
amounts = st.integers(0, 16).flatmap(lambda digits: st.integers(10**digits, 10 ** (digits + 1)))
last_updates = st.integers(NOW.timestamp_s - 1_000, NOW.timestamp_s)

cpmm_pools = st.builds(
    CpmmPool,
    vault_0=reserves,
    vault_1=reserves,
    trade_fee_rate=st.integers(1, 100_000),
    protocol_fee_rate=st.just(120_000),
    fund_fee_rate=st.just(40_000),
    creator_fee_rate=st.integers(0, 50_000),
    creator_fee_on=st.integers(0, 2),
    enable_creator_fee=st.booleans(),
    protocol_fees_0=st.integers(0, 400),
    fund_fees_1=st.integers(0, 400),
)

amm_v4_pools = st.builds(
    AmmV4Pool,
    vault_coin=reserves,
    vault_pc=reserves,
    need_take_pnl_coin=st.integers(0, 500),
    need_take_pnl_pc=st.integers(0, 500),
    fee_numerator=st.sampled_from([0, 1, 25, 100]),
)

base_fees = st.builds(
    BaseFee,
    cliff_rate=st.integers(100_000, 500_000_000),
    mode=st.integers(0, 1),
    periods=st.just(100),
    period_frequency=st.sampled_from([0, 60]),
    reduction=st.integers(0, 1_000),
)


@st.composite
def damm_v2_pools(draw: st.DrawFn) -> DammV2Pool:
    mode = draw(st.integers(0, 2))
    amount_b = draw(reserves)
    if mode == COMPOUNDING:
        amount_a = draw(reserves)
        sqrt_price = Product(amount_a, amount_b).sqrt_price()
    else:
        sqrt_price = draw(st.integers(1 << 62, 1 << 68))
    liquidity = (amount_b << 128) // sqrt_price
    if mode != COMPOUNDING:
        amount_a, amount_b = Range(sqrt_price, liquidity, SQRT_MIN, SQRT_MAX).reserves()
    dynamic_fee = st.builds(
        DynamicFee,
        bin_step=st.just(1),
        bin_step_q64=st.just(1_844_674_407_370_955),
        variable_fee_control=st.just(956),
        max_volatility=st.just(14_460_000),
        filter_period_s=st.just(10),
        decay_period_s=st.just(120),
        reduction_factor=st.just(5_000),
        last_update_s=last_updates,
        sqrt_price_reference=st.just(sqrt_price),
        accumulator=st.integers(0, 14_460_000),
        reference=st.integers(0, 1_000_000),
    )
    return DammV2Pool(
        liquidity=liquidity,
        sqrt_price=sqrt_price,
        sqrt_min_price=SQRT_MIN,
        sqrt_max_price=SQRT_MAX,
        amount_a=amount_a,
        amount_b=amount_b,
        base_fee=draw(base_fees),
        dynamic_fee=draw(st.none() | dynamic_fee),
        compounding_fee_bps=draw(st.sampled_from([0, 5_000])) if mode == COMPOUNDING else 0,
        collect_fee_mode=mode,
        activation_point=NOW.timestamp_s - draw(st.integers(0, 10_000)),
    )


@st.composite
def dlmm_pools(draw: st.DrawFn) -> DlmmPool:
    active_id = draw(st.integers(-500, 500))
    # One unit in a bin can be less than the fee on it, which an exact output then passes over.
    held = st.just(0) | st.integers(2, 10**12)
    orders = st.just(0) | st.integers(2, 10**9)
    bins = {}
    for bin_id in range(active_id - 12, active_id + 13):
        bins[bin_id] = Bin(
            amount_x=draw(held) if bin_id >= active_id else 0,
            amount_y=draw(held) if bin_id <= active_id else 0,
            open_orders=draw(orders) if bin_id % 5 == 0 else 0,
            begun_orders=draw(orders) if bin_id % 7 == 0 else 0,
            orders_ask=bin_id > active_id,
        )
    parameters = DlmmParameters(
        bin_step=draw(st.sampled_from([1, 5, 10, 25, 100, 400])),
        base_factor=draw(st.integers(1_000, 10_000)),
        variable_fee_control=draw(st.sampled_from([0, 7_500, 120_000])),
        collect_fee_mode=draw(st.integers(0, 1)),
        function_type=draw(st.integers(0, 2)),
    )
    index_reference = active_id + draw(st.integers(-5, 5))
    volatility = Volatility(100_000, 50_000, index_reference, draw(last_updates))
    return DlmmPool.of_bins(parameters, active_id, bins.items(), volatility)


pools: st.SearchStrategy[PoolState] = st.one_of(cpmm_pools, amm_v4_pools, damm_v2_pools(), dlmm_pools())


def holdings(pool: PoolState) -> list[int]:
    """Return everything a pool holds or owes, in base units."""
    if isinstance(pool, DlmmPool):
        bins = [bin_ for array in pool.arrays.values() for bin_ in array.bins]
        return [number for bin_ in bins for number in astuple(bin_)] + [
            pool.protocol_fee_x,
            pool.protocol_fee_y,
        ]
    if isinstance(pool, DammV2Pool):
        return [pool.amount_a, pool.amount_b, pool.protocol_fee_a, pool.protocol_fee_b]
    if isinstance(pool, CpmmPool):
        price = pool.price(Direction.A_TO_B)
        return [pool.vault_0, pool.vault_1, *price, pool.creator_fees_0, pool.creator_fees_1]
    assert isinstance(pool, AmmV4Pool)
    return [pool.vault_coin, pool.vault_pc, *pool.price(Direction.A_TO_B)]


def exact_in(pool: PoolState, direction: Direction, amount: int) -> SwapQuote[PoolState]:
    """Quote, or give up on an amount that the pool refuses."""
    try:
        return pool.quote_exact_in(direction, amount, NOW)
    except AmmError:
        assume(False)
        raise


def exact_out(pool: PoolState, direction: Direction, amount: int) -> SwapQuote[PoolState]:
    try:
        return pool.quote_exact_out(direction, amount, NOW)
    except AmmError:
        assume(False)
        raise


@MODEST
@given(pools, directions, amounts)
def test_a_round_trip_never_gains(pool: PoolState, direction: Direction, amount: int) -> None:
    there = exact_in(pool, direction, amount)
    try:
        back = there.next_state().quote_exact_in(direction.opposite, there.amount_out, NOW)
    except SwapRefusedError:
        # Too little came out, or it came from limit orders, which do not trade back.
        return
    assert back.amount_out <= amount


@MODEST
@given(pools, directions, amounts, amounts)
def test_more_in_never_pays_less(pool: PoolState, direction: Direction, amount: int, more: int) -> None:
    larger = exact_in(pool, direction, amount + more)
    try:
        smaller = pool.quote_exact_in(direction, amount, NOW)
    except AmountTooSmallError:
        return
    assert smaller.amount_out <= larger.amount_out


@MODEST
@given(pools, directions, amounts, amounts)
def test_more_out_never_costs_less(pool: PoolState, direction: Direction, amount: int, more: int) -> None:
    larger = exact_out(pool, direction, amount + more)
    try:
        smaller = pool.quote_exact_out(direction, amount, NOW)
    except (AmountTooSmallError, SwapUndeterminedError):
        # DLMM refuses what two ways to round make cost two amounts, and may take more than that.
        return
    assert smaller.amount_in <= larger.amount_in


@MODEST
@given(pools, directions, amounts)
def test_what_an_exact_output_costs_buys_it(pool: PoolState, direction: Direction, amount: int) -> None:
    asked = exact_out(pool, direction, amount)
    try:
        bought = pool.quote_exact_in(direction, asked.amount_in, NOW)
    except InsufficientLiquidityError:
        # At the very edge of a range a rounding may decide.
        return
    assert asked.amount_out == amount
    assert bought.amount_out >= amount


@MODEST
@given(pools, directions, amounts)
def test_what_an_input_buys_costs_no_more(pool: PoolState, direction: Direction, amount: int) -> None:
    bought = exact_in(pool, direction, amount)
    asked = exact_out(pool, direction, bought.amount_out)
    # AMM v4 forgives a fee below half a unit on the way in only.
    assert asked.amount_in <= amount + isinstance(pool, AmmV4Pool)


@MODEST
@given(pools, directions, amounts, st.booleans())
def test_a_swap_leaves_a_state_that_holds(
    pool: PoolState, direction: Direction, amount: int, inwards: bool
) -> None:
    quoted = (exact_in if inwards else exact_out)(pool, direction, amount)
    assert 0 <= quoted.price_impact_ppm <= MILLION
    assert 0 <= quoted.fee_in <= quoted.amount_in <= U64_MAX
    assert quoted.fee_out >= 0
    assert 0 <= quoted.amount_out <= U64_MAX
    before = holdings(pool)
    after = quoted.next_state()
    assert holdings(pool) == before
    assert all(0 <= number <= U64_MAX for number in holdings(after))
    assert quoted.next_state() == after


@MODEST
@given(pools, directions, st.integers())
def test_any_amount_is_quoted_or_refused_by_name(pool: PoolState, direction: Direction, amount: int) -> None:
    for ask in (pool.quote_exact_in, pool.quote_exact_out):
        with suppress(AmmError):
            assert ask(direction, amount, NOW).amount_in > 0


@pytest.mark.parametrize(
    "account",
    [
        CpmmPoolAccount,
        CpmmConfigAccount,
        AmmV4Account,
        LbPairAccount,
        BinArrayAccount,
        BitmapExtensionAccount,
        DammV2Account,
    ],
)
@settings(max_examples=20, deadline=None)
@given(st.integers())
def test_any_bytes_of_an_account_come_back(account: type[Account], seed: int) -> None:
    noise = Random(seed).randbytes(account.SIZE - len(account.DISCRIMINATOR))
    data = account.DISCRIMINATOR + noise
    assert account.decode(data).encode() == data
