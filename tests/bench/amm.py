"""Median time of a quote for each pool: ``python -m tests.bench.amm``."""

from statistics import median
from timeit import repeat

from service.amm import (
    AmmV4Pool,
    ChainTime,
    CpmmPool,
    DammV2Pool,
    Direction,
    DlmmPool,
    PoolState,
)
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters

NOW = ChainTime(1_800_000_000)
ROUNDS, QUOTES = 15, 2_000


def dlmm_pool() -> DlmmPool:
    """Return a pool in which 10^7 crosses ten bins."""
    bins = {
        bin_id: Bin(amount_x=1_050_000 if bin_id >= 0 else 0, amount_y=1_050_000 if bin_id <= 0 else 0)
        for bin_id in range(-70, 71)
    }
    parameters = DlmmParameters(bin_step=10, base_factor=10_000, variable_fee_control=40_000)
    return DlmmPool.of_bins(parameters, 0, bins.items())


def damm_v2_pool() -> DammV2Pool:
    return DammV2Pool(
        liquidity=10**12 << 64,
        sqrt_price=1 << 64,
        sqrt_min_price=4_295_048_016,
        sqrt_max_price=79_226_673_521_066_979_257_578_248_091,
        amount_a=10**12,
        amount_b=10**12,
        base_fee=BaseFee(10_000_000, mode=1, periods=100, period_frequency=3_600, reduction=50),
        dynamic_fee=DynamicFee(
            bin_step=1,
            bin_step_q64=1_844_674_407_370_955,
            variable_fee_control=956,
            max_volatility=14_460_000,
            filter_period_s=10,
            decay_period_s=120,
            reduction_factor=5_000,
            sqrt_price_reference=1 << 64,
            accumulator=500_000,
        ),
        activation_point=NOW.timestamp_s - 100_000,
    )


def pools() -> list[tuple[str, PoolState, int]]:
    return [
        ("Raydium CPMM", CpmmPool(10**15, 10**15, 2_500, 120_000, 40_000), 5),
        ("Raydium AMM v4", AmmV4Pool(10**15, 10**15), 5),
        ("Meteora DAMM v2", damm_v2_pool(), 15),
        ("Meteora DLMM, 10 bins", dlmm_pool(), 100),
    ]


def main() -> None:
    print(f"{'pool':24} {'exact in':>9} {'exact out':>9} {'limit':>9}   us, median")
    for name, pool, limit_us in pools():
        times_us = []
        for ask in (pool.quote_exact_in, pool.quote_exact_out):
            runs = repeat(
                lambda ask=ask: ask(Direction.A_TO_B, 10**7, NOW),  # type: ignore[misc]
                number=QUOTES,
                repeat=ROUNDS,
            )
            times_us.append(median(runs) / QUOTES * 1e6)
        print(f"{name:24} {times_us[0]:9.2f} {times_us[1]:9.2f} {limit_us:9}")


if __name__ == "__main__":
    main()
