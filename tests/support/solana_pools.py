"""Pools of the four programs at made-up addresses, from the accounts of executed transactions."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from solders.pubkey import Pubkey

from service.amm import Direction, DlmmPool, PoolState
from service.amm.meteora_damm_v2_account import DammV2Account
from service.amm.meteora_dlmm_account import LbPairAccount
from service.amm.raydium_amm_v4_account import AmmV4Account
from service.amm.raydium_cpmm_account import CpmmPoolAccount
from service.chains.solana.programs.meteora_dlmm import arrays_to_carry
from service.chains.solana.programs.pool import OnChainPool
from service.chains.solana.programs.registry import MAINNET
from service.domain.quote import Dex, Leg
from tests.support.executed import PROGRAMS, Executed, executed

FOUR_LEGS = "v1_four_legs"
"""The transaction that uses one pool of each program."""


def made_up(name: str) -> Pubkey:
    """Return an address that nothing else has."""
    return Pubkey.from_bytes(hashlib.sha256(name.encode()).digest())


@dataclass(frozen=True, slots=True)
class KnownPool:
    """A pool with its state."""

    pool: OnChainPool
    state: PoolState


@cache
def recorded(name: str = FOUR_LEGS) -> Mapping[Pubkey, KnownPool]:
    """Return the pools of an executed transaction, by program."""
    case = executed()[name]
    return {program: KnownPool(pool, pool.state(case.data)) for program, pool in case.pools.items()}


def elsewhere(program: Pubkey, name: str, mint_a: Pubkey, mint_b: Pubkey) -> OnChainPool:
    """Return a pool of a program that trades another pair, with an address and vaults of its own."""
    case = executed()[FOUR_LEGS]
    known = case.pools[program].addresses.pool
    a, b = bytes(mint_a), bytes(mint_b)
    vault_a, vault_b = bytes(made_up(f"{name} vault a")), bytes(made_up(f"{name} vault b"))
    data = case.before[known].data
    if program == MAINNET.raydium_cpmm:
        encoded = replace(
            CpmmPoolAccount.decode(data),
            mint_0=a,
            mint_1=b,
            vault_0=vault_a,
            vault_1=vault_b,
            observation=bytes(made_up(f"{name} observation")),
        ).encode()
    elif program == MAINNET.raydium_amm_v4:
        encoded = replace(
            AmmV4Account.decode(data), coin_mint=a, pc_mint=b, coin_vault=vault_a, pc_vault=vault_b
        ).encode()
    elif program == MAINNET.meteora_dlmm:
        encoded = replace(
            LbPairAccount.decode(data),
            mint_x=a,
            mint_y=b,
            reserve_x=vault_a,
            reserve_y=vault_b,
            oracle=bytes(made_up(f"{name} oracle")),
        ).encode()
    else:
        encoded = replace(
            DammV2Account.decode(data), mint_a=a, mint_b=b, vault_a=vault_a, vault_b=vault_b
        ).encode()
    return PROGRAMS.open(made_up(name), program, encoded)


def quoted_leg(
    known: KnownPool, pool_id: str, amount_in: int, way: Direction, tokens: tuple[str, str], case: Executed
) -> tuple[Leg, tuple[int, ...]]:
    """Return a leg of an exact-in route as quoted, and the bin arrays that it carries, one of them spare."""
    quote = known.state.quote_exact_in(way, amount_in, case.now)
    leg = Leg(
        Dex.RAYDIUM,
        pool_id,
        tokens[0],
        tokens[1],
        quote.amount_in,
        quote.amount_out,
        quote.fee_in,
        quote.fee_out,
        quote.price_impact_ppm,
    )
    after = quote.next_state()
    if isinstance(known.state, DlmmPool) and isinstance(after, DlmmPool):
        return leg, arrays_to_carry(known.state, after, way, spare=1)
    return leg, ()
