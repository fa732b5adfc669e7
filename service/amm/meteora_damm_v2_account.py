"""The account of Meteora's DAMM v2 program (cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG).

Layout: MeteoraAg/damm-v2 programs/cp-amm/src/state/pool.rs and state/fee.rs. The base fee's fields are
decoded as those of the time schedulers, the only supported modes.
"""

from dataclasses import dataclass, replace

from service.amm.account import (
    KEY,
    U8,
    U16,
    U32,
    U64,
    U128,
    Account,
    anchor_discriminator,
    at,
)
from service.amm.meteora_damm_v2 import DammV2Pool
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee


@dataclass(frozen=True, slots=True)
class DammV2Account(Account):
    """Pool: the fields that a quote needs."""

    SIZE = 1112
    DISCRIMINATOR = anchor_discriminator("Pool")

    cliff_fee_numerator: int = at(8, U64)
    base_fee_mode: int = at(16, U8)
    number_of_period: int = at(22, U16)
    period_frequency: int = at(24, U64)
    reduction_factor: int = at(32, U64)
    protocol_fee_percent: int = at(48, U8)
    referral_fee_percent: int = at(50, U8)
    compounding_fee_bps: int = at(54, U16)
    dynamic_initialized: int = at(56, U8)
    dynamic_max_volatility: int = at(64, U32)
    dynamic_variable_fee_control: int = at(68, U32)
    dynamic_bin_step: int = at(72, U16)
    dynamic_filter_period: int = at(74, U16)
    dynamic_decay_period: int = at(76, U16)
    dynamic_reduction_factor: int = at(78, U16)
    dynamic_last_update: int = at(80, U64)
    dynamic_bin_step_q64: int = at(88, U128)
    dynamic_sqrt_price_reference: int = at(104, U128)
    dynamic_accumulator: int = at(120, U128)
    dynamic_reference: int = at(136, U128)
    initial_sqrt_price: int = at(152, U128)
    mint_a: bytes = at(168, KEY)
    mint_b: bytes = at(200, KEY)
    vault_a: bytes = at(232, KEY)
    vault_b: bytes = at(264, KEY)
    liquidity: int = at(360, U128)
    protocol_fee_a: int = at(392, U64)
    protocol_fee_b: int = at(400, U64)
    sqrt_min_price: int = at(424, U128)
    sqrt_max_price: int = at(440, U128)
    sqrt_price: int = at(456, U128)
    activation_point: int = at(472, U64)
    activation_type: int = at(480, U8)
    status: int = at(481, U8)
    token_flag_a: int = at(482, U8)
    token_flag_b: int = at(483, U8)
    collect_fee_mode: int = at(484, U8)
    pool_type: int = at(485, U8)
    fee_version: int = at(486, U8)
    amount_a: int = at(680, U64)
    amount_b: int = at(688, U64)
    layout_version: int = at(696, U8)

    def written(self, pool: DammV2Pool) -> "DammV2Account":
        """Return the account with the fields that later swaps read taken from a pool.

        Fees of positions, and the totals of fees, are not updated.
        """
        account = replace(
            self,
            sqrt_price=pool.sqrt_price,
            amount_a=pool.amount_a,
            amount_b=pool.amount_b,
            layout_version=pool.layout_version,
            protocol_fee_a=pool.protocol_fee_a,
            protocol_fee_b=pool.protocol_fee_b,
        )
        if pool.dynamic_fee is None:
            return account
        return replace(
            account,
            dynamic_last_update=pool.dynamic_fee.last_update_s,
            dynamic_sqrt_price_reference=pool.dynamic_fee.sqrt_price_reference,
            dynamic_accumulator=pool.dynamic_fee.accumulator,
            dynamic_reference=pool.dynamic_fee.reference,
        )


def pool_of_account(account: DammV2Account) -> DammV2Pool:
    """Return a pool's state from its account."""
    dynamic_fee = DynamicFee(
        bin_step=account.dynamic_bin_step,
        bin_step_q64=account.dynamic_bin_step_q64,
        variable_fee_control=account.dynamic_variable_fee_control,
        max_volatility=account.dynamic_max_volatility,
        filter_period_s=account.dynamic_filter_period,
        decay_period_s=account.dynamic_decay_period,
        reduction_factor=account.dynamic_reduction_factor,
        last_update_s=account.dynamic_last_update,
        sqrt_price_reference=account.dynamic_sqrt_price_reference,
        accumulator=account.dynamic_accumulator,
        reference=account.dynamic_reference,
    )
    return DammV2Pool(
        liquidity=account.liquidity,
        sqrt_price=account.sqrt_price,
        sqrt_min_price=account.sqrt_min_price,
        sqrt_max_price=account.sqrt_max_price,
        amount_a=account.amount_a,
        amount_b=account.amount_b,
        base_fee=BaseFee(
            account.cliff_fee_numerator,
            account.base_fee_mode,
            account.number_of_period,
            account.period_frequency,
            account.reduction_factor,
        ),
        dynamic_fee=dynamic_fee if account.dynamic_initialized else None,
        protocol_fee_percent=account.protocol_fee_percent,
        compounding_fee_bps=account.compounding_fee_bps,
        collect_fee_mode=account.collect_fee_mode,
        fee_version=account.fee_version,
        protocol_fee_a=account.protocol_fee_a,
        protocol_fee_b=account.protocol_fee_b,
        layout_version=account.layout_version,
        status=account.status,
        activation_type=account.activation_type,
        activation_point=account.activation_point,
    )
