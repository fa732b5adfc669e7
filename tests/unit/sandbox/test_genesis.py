"""The genesis: pools of all four programs, as their programs would have them."""

import pytest
from solders.pubkey import Pubkey

from service.amm import CpmmPool, Direction
from service.chains.paper.genesis import genesis_pools
from service.chains.paper.pool import PaperPool
from service.chains.paper.pool_json import RAYDIUM_CPMM
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.programs.pool import UserAccounts
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.tokens import read_mint, token_amount
from service.domain.tokens import TOKENS
from service.settings import Range
from tests.support.clock import ManualClock
from tests.support.local_chain import LocalChain

LOCAL = LocalChain()
PAPER = {pool.id: pool for pool in genesis_pools(1, Range(20_000, 50_000), ManualClock(), slot=0, slot_ms=1)}


def test_there_are_pools_of_all_four_programs() -> None:
    pools = LOCAL.chain.genesis.pools
    assert set(pools) == set(PAPER)
    assert len(pools) == 44
    owners = {LOCAL.account(key).owner for key in pools.values()}
    assert owners == {
        MAINNET.raydium_cpmm,
        MAINNET.raydium_amm_v4,
        MAINNET.meteora_dlmm,
        MAINNET.meteora_damm_v2,
    }


@pytest.mark.parametrize("paper", PAPER.values(), ids=lambda pool: pool.id)
def test_a_pools_accounts_are_the_paper_markets_pool(paper: PaperPool) -> None:
    key = LOCAL.chain.genesis.pools[paper.id]
    account = LOCAL.account(key)
    pool = LOCAL.chain.programs.open(key, account.owner, account.data)
    mints = [TOKENS[symbol].mint for symbol in paper.pair]
    sides = (pool.addresses.token_a, pool.addresses.token_b)
    state = LOCAL.state(pool)
    held = [paper.vault_a, paper.vault_b]
    if paper.program == RAYDIUM_CPMM:
        assert bytes(sides[0].mint) < bytes(sides[1].mint)
    if str(sides[0].mint) != mints[0]:
        # Only CPMM sorts its tokens, and its pool is symmetrical.
        assert isinstance(state, CpmmPool)
        mints, held = mints[::-1], held[::-1]
        assert (state.vault_0, state.vault_1) == (held[0], held[1])
    else:
        assert state == paper.state
    assert [str(side.mint) for side in sides] == mints
    assert [token_amount(LOCAL.account(side.vault).data) for side in sides] == held


@pytest.mark.parametrize("pool_id", LOCAL.chain.genesis.pools)
def test_every_pool_swaps_both_ways_as_quoted(pool_id: str) -> None:
    key = LOCAL.chain.genesis.pools[pool_id]
    account = LOCAL.account(key)
    pool = LOCAL.chain.programs.open(key, account.owner, account.data)
    trader = LOCAL.chain.genesis.trader
    for direction in Direction:
        sold, bought = pool.addresses.sides(direction)
        amount = token_amount(LOCAL.account(sold.vault).data) // 1_000
        leg = LOCAL.leg_of(pool, direction, amount)
        user = UserAccounts(
            trader.pubkey(),
            associated_token_account(trader.pubkey(), sold.mint, TOKEN_PROGRAM),
            associated_token_account(trader.pubkey(), bought.mint, TOKEN_PROGRAM),
        )
        instruction = pool.instruction(leg.swap, user)
        done = LOCAL.chain.simulate(LOCAL.signed([instruction], payer=trader), LOCAL.chain.tip)
        assert done.error is None
        received = done.changed[user.destination]
        assert received is not None
        before = token_amount(LOCAL.account(user.destination).data)
        assert token_amount(received.data) - before == leg.swap.amount_out


def test_the_mints_are_those_of_mainnet() -> None:
    for token in TOKENS.values():
        account = LOCAL.account(Pubkey.from_string(token.mint))
        assert read_mint(account.owner, account.data).decimals == token.decimals


def test_the_wallet_has_sol_and_every_other_token() -> None:
    wallet = LOCAL.wallet.pubkey()
    assert LOCAL.account(wallet).lamports == 10_000 * 10**9
    for token in TOKENS.values():
        held = LOCAL.found(associated_token_account(wallet, Pubkey.from_string(token.mint), TOKEN_PROGRAM))
        if token.symbol == "SOL":
            assert held is None
        else:
            assert token_amount(held.data) == 1_000_000 * 10**token.decimals
