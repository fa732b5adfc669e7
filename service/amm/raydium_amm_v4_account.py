"""The account of Raydium's AMM v4 program (675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8).

Layout: raydium-io/raydium-amm program/src/state.rs, AmmInfo. It has no discriminator.
"""

from dataclasses import dataclass, replace

from service.amm.account import KEY, U64, U128, Account, at
from service.amm.raydium_amm_v4 import AmmV4Pool


@dataclass(frozen=True, slots=True)
class AmmV4Account(Account):
    """AmmInfo: the pool without its balances, which are in the vaults."""

    SIZE = 752

    status: int = at(0, U64)
    nonce: int = at(8, U64)
    coin_decimals: int = at(32, U64)
    pc_decimals: int = at(40, U64)
    swap_fee_numerator: int = at(176, U64)
    swap_fee_denominator: int = at(184, U64)
    need_take_pnl_coin: int = at(192, U64)
    need_take_pnl_pc: int = at(200, U64)
    open_time: int = at(224, U64)
    swap_coin_in_amount: int = at(256, U128)
    swap_pc_out_amount: int = at(272, U128)
    swap_acc_pc_fee: int = at(288, U64)
    swap_pc_in_amount: int = at(296, U128)
    swap_coin_out_amount: int = at(312, U128)
    swap_acc_coin_fee: int = at(328, U64)
    coin_vault: bytes = at(336, KEY)
    pc_vault: bytes = at(368, KEY)
    coin_mint: bytes = at(400, KEY)
    pc_mint: bytes = at(432, KEY)
    lp_mint: bytes = at(464, KEY)
    open_orders: bytes = at(496, KEY)
    market: bytes = at(528, KEY)
    market_program: bytes = at(560, KEY)
    target_orders: bytes = at(592, KEY)
    amm_owner: bytes = at(688, KEY)
    lp_amount: int = at(720, U64)
    recent_epoch: int = at(736, U64)

    def written(self, pool: AmmV4Pool) -> "AmmV4Account":
        """Return the account with the pool's status, the only field here that later swaps read.

        The totals of swapped amounts, which no swap reads, are not updated.
        """
        return replace(self, status=pool.status)


def pool_of_account(account: AmmV4Account, *, vault_coin: int, vault_pc: int) -> AmmV4Pool:
    """Return a pool's state from its account and the balances of its vaults."""
    return AmmV4Pool(
        vault_coin=vault_coin,
        vault_pc=vault_pc,
        need_take_pnl_coin=account.need_take_pnl_coin,
        need_take_pnl_pc=account.need_take_pnl_pc,
        fee_numerator=account.swap_fee_numerator,
        fee_denominator=account.swap_fee_denominator,
        status=account.status,
        open_time_s=account.open_time,
    )
