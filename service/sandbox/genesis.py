"""The sandbox chain's genesis: the paper market's pools as accounts of their programs, and funded wallets.

The same seed makes the same accounts. The time of the start is part of the chain's identity and of its
blockhashes, so that no transaction of one start can land in another.
"""

import hashlib
from collections.abc import Iterator

from solders.hash import Hash
from solders.pubkey import Pubkey

from service.chains.paper.genesis import genesis_pools
from service.chains.solana.addresses import TOKEN_PROGRAM, WRAPPED_SOL, associated_token_account
from service.chains.solana.programs.registry import ProgramIds
from service.clock import Clock
from service.domain.tokens import TOKENS
from service.sandbox.accounts import StoredAccount, held_account, mint_account, rent_exempt
from service.sandbox.chain import Genesis
from service.sandbox.pools import Address, pool_accounts
from service.settings import Range

UPGRADEABLE_LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")

_SPREAD_PPM = Range(20_000, 50_000)
_SUPPLY = 10**19
_MINT_BYTES = 82
_PROGRAM_TAG = (2).to_bytes(4, "little")

# Display units, and lamports for fees and rent.
_WALLET_TOKENS, _TRADER_TOKENS = 1_000_000, 1_000_000_000
_WALLET_LAMPORTS, _TRADER_LAMPORTS = 10_000 * 10**9, 1_000_000 * 10**9


def genesis_of(seed: int, time_s: int, ids: ProgramIds, clock: Clock, start: str = "") -> Genesis:
    """Return the genesis of a seed.

    Args:
        seed: Decides all addresses, pools and prices.
        time_s: Unix time of the first block.
        ids: The programs' addresses.
        clock: The source of the seeded numbers.
        start: What makes the chain's identity differ from that of another start in the same second.
    """
    address = Address(seed)
    wallet, trader = address.keypair("wallet"), address.keypair("trader")
    accounts = dict(_programs(ids))
    for token in TOKENS.values():
        mint = Pubkey.from_string(token.mint)
        accounts[mint] = StoredAccount(
            rent_exempt(_MINT_BYTES),
            TOKEN_PROGRAM,
            mint_account(token.decimals, 0 if mint == WRAPPED_SOL else _SUPPLY),
        )
    for owner, tokens, lamports in (
        (wallet.pubkey(), _WALLET_TOKENS, _WALLET_LAMPORTS),
        (trader.pubkey(), _TRADER_TOKENS, _TRADER_LAMPORTS),
    ):
        accounts[owner] = StoredAccount(lamports, Pubkey.default())
        accounts |= dict(_wallet_accounts(owner, tokens, with_sol=owner == trader.pubkey()))
    pools = {}
    # Slot 0, since the reference price of a seed must not depend on the time of the start.
    for pool in genesis_pools(seed, _SPREAD_PPM, clock, slot=0, slot_ms=1):
        made = pool_accounts(pool, address, ids)
        pools[pool.id] = made.pool
        accounts |= made.accounts
    identity = hashlib.sha256(f"sandbox/{seed}/{time_s}/{start}".encode()).digest()
    return Genesis(accounts, Hash(identity), time_s, wallet, trader, pools)


def _programs(ids: ProgramIds) -> Iterator[tuple[Pubkey, StoredAccount]]:
    """Yield accounts that say that the programs exist; doubles execute their instructions."""
    for program in (ids.raydium_cpmm, ids.raydium_amm_v4, ids.meteora_dlmm, ids.meteora_damm_v2):
        data_at = Pubkey.find_program_address([bytes(program)], UPGRADEABLE_LOADER)[0]
        data = _PROGRAM_TAG + bytes(data_at)
        yield program, StoredAccount(rent_exempt(len(data)), UPGRADEABLE_LOADER, data, executable=True)


def _wallet_accounts(owner: Pubkey, tokens: int, *, with_sol: bool) -> Iterator[tuple[Pubkey, StoredAccount]]:
    """Yield a wallet's token accounts; the user's has its SOL unwrapped only."""
    for token in TOKENS.values():
        mint = Pubkey.from_string(token.mint)
        if mint == WRAPPED_SOL and not with_sol:
            continue
        yield (
            associated_token_account(owner, mint, TOKEN_PROGRAM),
            held_account(mint, owner, tokens * 10**token.decimals),
        )
