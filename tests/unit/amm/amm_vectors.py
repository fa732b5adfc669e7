"""The golden vectors: results of the programs themselves, with the pools that produced them."""

import json
import os
from pathlib import Path
from typing import Any

from service.amm.meteora_damm_v2 import DammV2Pool
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee
from service.amm.meteora_dlmm import DlmmPool
from service.amm.meteora_dlmm_bins import BINS_PER_ARRAY, Bin
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility
from service.amm.quote import ChainTime, Direction
from service.amm.raydium_amm_v4 import AmmV4Pool
from service.amm.raydium_cpmm import CpmmPool

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parents[2] / "golden"))

# Vectors of the programs without a clock of their own ran at this time.
NOON = ChainTime(1_800_000_000)

Vector = dict[str, Any]


def vectors(name: str) -> list[Vector]:
    """Return the vectors of one program."""
    loaded: list[Vector] = json.loads((GOLDEN_DIR / f"{name}.json").read_text())["vectors"]
    return loaded


def sequences(name: str) -> list[Vector]:
    """Return the recorded sequences of swaps of one program."""
    loaded: list[Vector] = json.loads((GOLDEN_DIR / f"{name}.json").read_text())
    return loaded


def differences() -> list[Vector]:
    """Return swaps in DLMM pools of all kinds, each with the program's result."""
    loaded: list[Vector] = json.loads((GOLDEN_DIR / "dlmm_differs.json").read_text())
    return loaded


def direction(*, a_to_b: bool) -> Direction:
    return Direction.A_TO_B if a_to_b else Direction.B_TO_A


def time_of(vector: Vector) -> ChainTime:
    return ChainTime(vector["now"], vector.get("slot")) if "now" in vector else NOON


def cpmm_pool(vector: Vector) -> CpmmPool:
    protocol_0, protocol_1, fund_0, fund_1 = vector["vault_pending_fees"]
    reserves = vector["reserve_in"], vector["reserve_out"]
    reserve_0, reserve_1 = reserves if vector["zero_for_one"] else reserves[::-1]
    return CpmmPool(
        vault_0=reserve_0 + protocol_0 + fund_0,
        vault_1=reserve_1 + protocol_1 + fund_1,
        trade_fee_rate=vector["trade_fee_rate"],
        protocol_fee_rate=vector["protocol_fee_rate"],
        fund_fee_rate=vector["fund_fee_rate"],
        creator_fee_rate=vector["creator_fee_rate"],
        creator_fee_on=vector["creator_fee_on"],
        enable_creator_fee=vector["creator_fee_rate"] > 0,
        protocol_fees_0=protocol_0,
        protocol_fees_1=protocol_1,
        fund_fees_0=fund_0,
        fund_fees_1=fund_1,
    )


def amm_v4_pool(vector: Vector) -> AmmV4Pool:
    coin, pc = vector["need_take_pnl"]
    return AmmV4Pool(
        vault_coin=vector["vault_coin"],
        vault_pc=vector["vault_pc"],
        need_take_pnl_coin=coin,
        need_take_pnl_pc=pc,
        fee_numerator=vector["fee_numerator"],
        fee_denominator=vector["fee_denominator"],
    )


def dlmm_pool(vector: Vector) -> DlmmPool:
    pool = vector["pool"]
    parameters = DlmmParameters(
        bin_step=pool["bin_step"],
        base_factor=pool["base_factor"],
        filter_period_s=pool["filter_period"],
        decay_period_s=pool["decay_period"],
        reduction_factor=pool["reduction_factor"],
        variable_fee_control=pool["variable_fee_control"],
        max_volatility=pool["max_va"],
        protocol_share=pool["protocol_share"],
        base_fee_power=pool["power"],
        function_type=pool["function_type"],
        collect_fee_mode=pool["collect_fee_mode"],
        has_rewards=any(mint.strip("0") for mint in vector.get("rewards", ())),
    )
    listed = vector.get("listed", ())
    plain = DlmmPool.of_bins(
        parameters,
        pool["active_id"],
        [
            *((index * BINS_PER_ARRAY, Bin()) for index in listed),
            *((bin_id, _bin(*amounts)) for bin_id, *amounts in vector["bins"]),
        ],
        Volatility(pool["va"], pool["vref"], pool["idxref"], pool["last_ts"]),
    )
    return DlmmPool(
        parameters=plain.parameters,
        active_id=plain.active_id,
        arrays=plain.arrays,
        liquid_arrays=tuple(listed) or plain.liquid_arrays,
        volatility=plain.volatility,
        protocol_fee_x=pool.get("pf_x", 0),
        protocol_fee_y=pool.get("pf_y", 0),
        status=pool["status"],
        pair_type=pool["pair_type"],
        activation_type=pool.get("activation_type", 0),
        activation_point=pool.get("activation_point", 0),
    )


def _bin(x: int, y: int, open_orders: int = 0, begun_orders: int = 0, ask: int = 0) -> Bin:
    return Bin(x, y, open_orders, begun_orders, orders_ask=ask != 0)


def damm_v2_pool(vector: Vector) -> DammV2Pool:
    pool = vector["pool"]
    dynamic_fee = DynamicFee(
        bin_step=pool["dyn_step"],
        bin_step_q64=pool["dyn_step128"],
        variable_fee_control=pool["dyn_vfc"],
        max_volatility=pool["dyn_maxva"],
        filter_period_s=pool["dyn_filter"],
        decay_period_s=pool["dyn_decay"],
        reduction_factor=pool["dyn_red"],
        last_update_s=pool["dyn_ts"],
        sqrt_price_reference=pool["dyn_sref"],
        accumulator=pool["dyn_va"],
        reference=pool["dyn_vref"],
    )
    return DammV2Pool(
        liquidity=pool["liq"],
        sqrt_price=pool["sp"],
        sqrt_min_price=pool["smin"],
        sqrt_max_price=pool["smax"],
        amount_a=pool["a_amt"],
        amount_b=pool["b_amt"],
        base_fee=BaseFee(pool["cliff"], pool["mode"], pool["periods"], pool["freq"], pool["reduction"]),
        dynamic_fee=dynamic_fee if pool["dyn"] else None,
        protocol_fee_percent=pool["protocol_pct"],
        compounding_fee_bps=pool["compound_bps"],
        collect_fee_mode=pool["collect"],
        fee_version=pool["fee_version"],
        protocol_fee_a=pool["pa_fee"],
        protocol_fee_b=pool["pb_fee"],
        layout_version=pool["layout"],
        status=pool["status"],
        activation_type=pool["act_type"],
        activation_point=pool["act_point"],
    )
