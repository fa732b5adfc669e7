"""Cases that the golden vectors do not cover: errors, limit orders, price impact, invalid accounts."""

from dataclasses import replace

import pytest

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool, PoolState, errors
from service.amm.errors import (
    AmmError,
    AmountTooSmallError,
    ArithmeticOverflowError,
    BinArrayMissingError,
    InsufficientLiquidityError,
    MalformedStateError,
    PoolDisabledError,
    PoolNotOpenError,
    StateIncompleteError,
    UnsupportedPoolError,
)
from service.amm.integers import U64_MAX
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_damm_v2_curve import Range
from service.amm.meteora_damm_v2_fees import BaseFee
from service.amm.meteora_dlmm_account import (
    BinArrayAccount,
    BitmapExtensionAccount,
    LbPairAccount,
    liquid_arrays,
)
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters
from service.amm.quote import ChainTime, Direction, Fee, FeeSide
from service.amm.raydium_amm_v4_account import AmmV4Account
from service.amm.raydium_amm_v4_account import pool_of_account as amm_v4_pool_of
from service.amm.raydium_cpmm_account import CpmmPoolAccount

NOW = ChainTime(1_800_000_000)
FORTH, BACK = Direction.A_TO_B, Direction.B_TO_A

CPMM = CpmmPool(vault_0=10**12, vault_1=10**12, trade_fee_rate=2_500)
AMM_V4 = AmmV4Pool(vault_coin=10**12, vault_pc=10**12)
DLMM = DlmmPool.of_bins(
    DlmmParameters(bin_step=10, base_factor=10_000),
    0,
    [(-1, Bin(amount_y=10**9)), (0, Bin(10**9, 10**9)), (1, Bin(amount_x=10**9))],
)
DAMM_V2 = DammV2Pool(
    liquidity=10**12 << 64,
    sqrt_price=1 << 64,
    sqrt_min_price=4_295_048_016,
    sqrt_max_price=79_226_673_521_066_979_257_578_248_091,
    amount_a=10**12,
    amount_b=10**12,
    base_fee=BaseFee(cliff_rate=2_500_000),
)
POOLS: list[PoolState] = [CPMM, AMM_V4, DLMM, DAMM_V2]

REFUSED: list[tuple[PoolState, type[AmmError]]] = [
    (replace(CPMM, status=4), PoolDisabledError),
    (replace(CPMM, open_time_s=NOW.timestamp_s + 1), PoolNotOpenError),
    (replace(CPMM, creator_fee_on=3), UnsupportedPoolError),
    (replace(CPMM, trade_fee_rate=0), UnsupportedPoolError),
    (replace(CPMM, protocol_fees_0=10**12), InsufficientLiquidityError),
    (replace(CPMM, vault_0=U64_MAX - 100, vault_1=10**19), ArithmeticOverflowError),
    (replace(AMM_V4, status=1), UnsupportedPoolError),
    (replace(AMM_V4, status=2), PoolDisabledError),
    (replace(AMM_V4, status=7, open_time_s=NOW.timestamp_s + 1), PoolNotOpenError),
    (replace(AMM_V4, fee_numerator=10_000), UnsupportedPoolError),
    (replace(AMM_V4, need_take_pnl_pc=10**12), InsufficientLiquidityError),
    (replace(DLMM, status=1), PoolDisabledError),
    (replace(DLMM, pair_type=4), UnsupportedPoolError),
    (replace(DLMM, pair_type=1, activation_type=2), UnsupportedPoolError),
    (replace(DLMM, pair_type=2, activation_type=0), StateIncompleteError),
    (
        replace(DLMM, pair_type=2, activation_type=1, activation_point=NOW.timestamp_s + 1),
        PoolNotOpenError,
    ),
    (replace(DLMM, parameters=replace(DLMM.parameters, collect_fee_mode=2)), UnsupportedPoolError),
    (replace(DLMM, parameters=replace(DLMM.parameters, function_type=3)), UnsupportedPoolError),
    (replace(DLMM, arrays={}), BinArrayMissingError),
    (replace(DLMM, liquid_arrays=()), InsufficientLiquidityError),
    (replace(DAMM_V2, status=1), PoolDisabledError),
    (replace(DAMM_V2, activation_point=NOW.timestamp_s + 1), PoolNotOpenError),
    (replace(DAMM_V2, activation_type=0), StateIncompleteError),
    (replace(DAMM_V2, collect_fee_mode=3), UnsupportedPoolError),
    (replace(DAMM_V2, fee_version=2), UnsupportedPoolError),
    (replace(DAMM_V2, liquidity=0), InsufficientLiquidityError),
    *((replace(DAMM_V2, base_fee=BaseFee(2_500_000, mode)), UnsupportedPoolError) for mode in (2, 3, 4)),
]


@pytest.mark.parametrize(("pool", "error"), REFUSED)
def test_a_pool_that_cannot_swap_rejects_both_modes(pool: PoolState, error: type[AmmError]) -> None:
    for ask in (pool.quote_exact_in, pool.quote_exact_out):
        with pytest.raises(error) as refusal:
            ask(FORTH, 1_000, NOW)
        assert type(refusal.value) is error


@pytest.mark.parametrize("pool", POOLS)
def test_amounts_out_of_range_are_rejected(pool: PoolState) -> None:
    for ask in (pool.quote_exact_in, pool.quote_exact_out):
        for amount in (0, -1):
            with pytest.raises(AmountTooSmallError):
                ask(FORTH, amount, NOW)
        with pytest.raises(ArithmeticOverflowError):
            ask(FORTH, U64_MAX + 1, NOW)
    with pytest.raises(InsufficientLiquidityError):
        pool.quote_exact_out(FORTH, 2 * 10**12, NOW)


def test_every_error_has_a_unique_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = [kind.code for kind in kinds if issubclass(kind, AmmError)]
    assert len(codes) == len(set(codes)) == 12


@pytest.mark.parametrize("pool", POOLS)
def test_a_fee_alone_causes_no_price_impact(pool: PoolState) -> None:
    quoted = pool.quote_exact_in(FORTH, 100_000, NOW)
    assert quoted.amount_out < 100_000
    # The rest is the rounding of one unit.
    assert quoted.price_impact_ppm <= 11


def test_price_impact_is_measured_against_the_price_before_the_swap() -> None:
    pool = replace(AMM_V4, fee_numerator=0)
    quoted = pool.quote_exact_in(FORTH, 10**12, NOW)
    assert (quoted.amount_out, quoted.price_impact_ppm) == (10**12 // 2, 500_000)
    assert pool.quote_exact_in(FORTH, 3 * 10**12, NOW).price_impact_ppm == 750_000


def test_a_creator_fee_on_the_output_adds_a_fee_on_both_sides() -> None:
    pool = replace(CPMM, creator_fee_rate=1_000, creator_fee_on=2, enable_creator_fee=True)
    quoted = pool.quote_exact_in(FORTH, 10**9, NOW)
    assert quoted.fees == (
        Fee(FeeSide.INPUT, 2_500_000),
        Fee(FeeSide.OUTPUT, quoted.fee_out),
    )
    after = quoted.next_state()
    assert (after.creator_fees_0, after.creator_fees_1) == (0, quoted.fee_out)
    assert after.vault_1 == pool.vault_1 - quoted.amount_out


def test_the_first_swap_of_a_waiting_pool_activates_it() -> None:
    pool = replace(AMM_V4, status=7, open_time_s=NOW.timestamp_s)
    assert pool.quote_exact_in(FORTH, 1_000, NOW).next_state().status == 6


def test_a_pool_that_counts_in_slots_opens_at_its_slot() -> None:
    pool = replace(DLMM, pair_type=1, activation_type=0, activation_point=7)
    with pytest.raises(PoolNotOpenError):
        pool.quote_exact_in(FORTH, 1_000, ChainTime(NOW.timestamp_s, slot=6))
    assert pool.quote_exact_in(FORTH, 1_000, ChainTime(NOW.timestamp_s, slot=7)).amount_out


def test_a_missing_bin_array_is_named() -> None:
    pool = replace(DLMM, liquid_arrays=(-5, *DLMM.liquid_arrays))
    with pytest.raises(BinArrayMissingError) as missing:
        pool.quote_exact_in(FORTH, 10**10, NOW)
    assert missing.value.index == -5
    assert missing.value.transient


def limit_order_pool(function_type: int, **kwargs: bool) -> DlmmPool:
    parameters = DlmmParameters(bin_step=10, base_factor=10_000, function_type=function_type, **kwargs)
    held = Bin(amount_y=1_000, open_orders=5_000, begun_orders=300, orders_ask=False)
    return DlmmPool.of_bins(parameters, 0, [(0, held), (-1, Bin(amount_y=10**6))])


@pytest.mark.parametrize("pool", [limit_order_pool(0), limit_order_pool(2)])
def test_limit_orders_are_filled_after_the_providers_and_in_order(pool: DlmmPool) -> None:
    after = pool.quote_exact_out(FORTH, 1_200, NOW).next_state().bin(0)
    assert (after.amount_y, after.begun_orders, after.open_orders) == (0, 100, 5_000)
    after = pool.quote_exact_out(FORTH, 1_400, NOW).next_state().bin(0)
    assert (after.amount_y, after.begun_orders, after.open_orders) == (0, 4_900, 0)
    # The providers received only the proceeds of what they sold.
    assert after.amount_x == 1_000


def test_limit_orders_of_the_other_side_or_of_a_mining_pool_are_not_filled() -> None:
    for pool in (limit_order_pool(1), limit_order_pool(0, has_rewards=True)):
        assert pool.quote_exact_out(FORTH, 1_400, NOW).next_state().active_id == -1
    with pytest.raises(InsufficientLiquidityError):
        limit_order_pool(2).quote_exact_in(BACK, 1_000, NOW)


@pytest.mark.parametrize("fee_on_y", [False, True])
def test_the_excess_of_an_expensive_unit_goes_to_the_protocol_if_the_fee_is_on_it(fee_on_y: bool) -> None:
    parameters = DlmmParameters(bin_step=400, base_factor=1_000, collect_fee_mode=int(fee_on_y))
    pool = DlmmPool.of_bins(parameters, 176, [(176, Bin(amount_y=10**6))])
    quoted = pool.quote_exact_out(FORTH, 5, NOW)
    after = quoted.next_state()
    assert quoted.amount_out == 5
    left = after.bin(176).amount_y
    # One X is worth about a thousand Y, and the bin pays all of them.
    assert left < 10**6 - 900
    unasked = 10**6 - left - quoted.amount_out - quoted.fee_out
    assert after.protocol_fee_y == (unasked + quoted.fee_out * 500 // 10_000 if fee_on_y else 0)


def test_a_base_fee_decreases_by_period_to_its_minimum() -> None:
    linear = BaseFee(10_000_000, 0, periods=5, period_frequency=60, reduction=1_000_000)
    assert [linear.rate(at, 0) for at in (0, 59, 60, 299, 300, 10_000)] == [
        10_000_000,
        10_000_000,
        9_000_000,
        6_000_000,
        5_000_000,
        5_000_000,
    ]
    halving = replace(linear, mode=1, reduction=5_000)
    assert [halving.rate(at, 0) for at in (0, 60, 120)] == [10_000_000, 5_000_000, 2_500_000]
    with pytest.raises(UnsupportedPoolError):
        replace(linear, reduction=3_000_000).rate(300, 0)


def test_a_pool_without_recorded_amounts_starts_to_record_them() -> None:
    pool = replace(DAMM_V2, layout_version=0, amount_a=0, amount_b=0)
    quoted = pool.quote_exact_in(FORTH, 1_000_000, NOW)
    after = quoted.next_state()
    held_a, held_b = Range(
        pool.sqrt_price, pool.liquidity, pool.sqrt_min_price, pool.sqrt_max_price
    ).reserves()
    assert after.layout_version == 1
    assert after.amount_a == held_a + 1_000_000
    assert after.amount_b == held_b - quoted.amount_out - quoted.fee_out


def test_an_amm_v4_account_is_decoded_into_a_pool() -> None:
    account = AmmV4Account(
        status=6,
        swap_fee_numerator=25,
        swap_fee_denominator=10_000,
        need_take_pnl_coin=7,
        need_take_pnl_pc=8,
        open_time=9,
    )
    data = account.encode()
    assert (data[0], data[176], data[192], data[200], data[224]) == (6, 25, 7, 8, 9)
    pool = amm_v4_pool_of(AmmV4Account.decode(data), vault_coin=10, vault_pc=11)
    assert pool == AmmV4Pool(10, 11, 7, 8, 25, 10_000, 6, 9)
    assert account.written(pool) == account


def test_the_changes_of_a_swap_are_written_to_the_accounts() -> None:
    after = CPMM.quote_exact_in(FORTH, 10**9, NOW).next_state()
    assert CpmmPoolAccount().written(after).protocol_fees_0 == after.protocol_fees_0
    moved = DLMM.quote_exact_in(FORTH, 15 * 10**8, NOW).next_state()
    pair = LbPairAccount().written(moved)
    assert (pair.active_id, pair.last_update) == (-1, NOW.timestamp_s)
    for index, array in moved.arrays.items():
        account = BinArrayAccount(index=index).written(array)
        assert BinArrayAccount.decode(account.encode()).array == array
    traded = DAMM_V2.quote_exact_in(FORTH, 10**9, NOW).next_state()
    assert DammV2Account().written(traded).sqrt_price == traded.sqrt_price


def test_bitmaps_show_which_arrays_have_liquidity() -> None:
    pair = LbPairAccount(bitmap=((1 << 0) | (1 << 511) | (1 << 1023)).to_bytes(128, "little"))
    assert liquid_arrays(pair) == (-512, -1, 511)
    extension = BitmapExtensionAccount(
        positive=((1 << 0) | (1 << 6143)).to_bytes(768, "little"),
        negative=((1 << 0) | (1 << 6143)).to_bytes(768, "little"),
    )
    assert liquid_arrays(pair, extension) == (-6656, -513, -512, -1, 511, 512, 6655)


def test_bytes_of_another_kind_are_rejected() -> None:
    data = CpmmPoolAccount().encode()
    for broken in (data[:-1], b"\0" + data[1:], b""):
        with pytest.raises(MalformedStateError):
            CpmmPoolAccount.decode(broken)
    with pytest.raises(MalformedStateError):
        CpmmPoolAccount(lp_supply=U64_MAX + 1).encode()
    with pytest.raises(MalformedStateError):
        DammV2Account(liquidity=-1).encode()
    with pytest.raises(MalformedStateError):
        CpmmPoolAccount(mint_0=b"short").encode()
