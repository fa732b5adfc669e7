"""The accounts of Raydium's CPMM program (CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C).

Layouts: raydium-io/raydium-cp-swap programs/cp-swap/src/states/pool.rs and states/config.rs.
"""

from dataclasses import dataclass, replace

from service.amm.account import KEY, U8, U16, U64, Account, anchor_discriminator, at
from service.amm.raydium_cpmm import CpmmPool


@dataclass(frozen=True, slots=True)
class CpmmPoolAccount(Account):
    """PoolState: the pool without its balances, which are in the vaults, and without its rates."""

    SIZE = 637
    DISCRIMINATOR = anchor_discriminator("PoolState")

    amm_config: bytes = at(8, KEY)
    pool_creator: bytes = at(40, KEY)
    vault_0: bytes = at(72, KEY)
    vault_1: bytes = at(104, KEY)
    lp_mint: bytes = at(136, KEY)
    mint_0: bytes = at(168, KEY)
    mint_1: bytes = at(200, KEY)
    token_program_0: bytes = at(232, KEY)
    token_program_1: bytes = at(264, KEY)
    observation: bytes = at(296, KEY)
    auth_bump: int = at(328, U8)
    status: int = at(329, U8)
    lp_decimals: int = at(330, U8)
    decimals_0: int = at(331, U8)
    decimals_1: int = at(332, U8)
    lp_supply: int = at(333, U64)
    protocol_fees_0: int = at(341, U64)
    protocol_fees_1: int = at(349, U64)
    fund_fees_0: int = at(357, U64)
    fund_fees_1: int = at(365, U64)
    open_time: int = at(373, U64)
    recent_epoch: int = at(381, U64)
    creator_fee_on: int = at(389, U8)
    enable_creator_fee: int = at(390, U8)
    creator_fees_0: int = at(397, U64)
    creator_fees_1: int = at(405, U64)

    def written(self, pool: CpmmPool) -> "CpmmPoolAccount":
        """Return the account with the fields that swaps change taken from a pool; the epoch stays."""
        return replace(
            self,
            protocol_fees_0=pool.protocol_fees_0,
            protocol_fees_1=pool.protocol_fees_1,
            fund_fees_0=pool.fund_fees_0,
            fund_fees_1=pool.fund_fees_1,
            creator_fees_0=pool.creator_fees_0,
            creator_fees_1=pool.creator_fees_1,
        )


@dataclass(frozen=True, slots=True)
class CpmmConfigAccount(Account):
    """AmmConfig: the rates shared by many pools, in parts per million."""

    SIZE = 236
    DISCRIMINATOR = anchor_discriminator("AmmConfig")

    bump: int = at(8, U8)
    disable_create_pool: int = at(9, U8)
    index: int = at(10, U16)
    trade_fee_rate: int = at(12, U64)
    protocol_fee_rate: int = at(20, U64)
    fund_fee_rate: int = at(28, U64)
    creator_fee_rate: int = at(108, U64)


def pool_of_accounts(
    pool: CpmmPoolAccount, config: CpmmConfigAccount, *, vault_0: int, vault_1: int
) -> CpmmPool:
    """Return a pool's state from its account, its config and the balances of its vaults."""
    return CpmmPool(
        vault_0=vault_0,
        vault_1=vault_1,
        trade_fee_rate=config.trade_fee_rate,
        protocol_fee_rate=config.protocol_fee_rate,
        fund_fee_rate=config.fund_fee_rate,
        creator_fee_rate=config.creator_fee_rate,
        creator_fee_on=pool.creator_fee_on,
        enable_creator_fee=pool.enable_creator_fee != 0,
        protocol_fees_0=pool.protocol_fees_0,
        protocol_fees_1=pool.protocol_fees_1,
        fund_fees_0=pool.fund_fees_0,
        fund_fees_1=pool.fund_fees_1,
        creator_fees_0=pool.creator_fees_0,
        creator_fees_1=pool.creator_fees_1,
        status=pool.status,
        open_time_s=pool.open_time,
    )
