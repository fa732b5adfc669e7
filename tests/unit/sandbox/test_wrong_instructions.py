"""What the doubles refuse, instruction by instruction, with the codes of their programs."""

from dataclasses import replace

import pytest
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from service.amm.raydium_cpmm_account import CpmmPoolAccount
from service.chains.paper.pool_json import METEORA_DAMM_V2, METEORA_DLMM, RAYDIUM_AMM_V4, RAYDIUM_CPMM
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.programs.pool import LegSwap, UserAccounts
from service.domain.quote import SwapMode
from service.sandbox.accounts import StoredAccount
from service.sandbox.doubles.programs import doubles_of
from service.sandbox.doubles.staged import DoubledSwap, ProgramRefusedError, Staged
from tests.support.local_chain import PROGRAM_NAMES, SOL, LocalChain
from tests.support.solana_pools import made_up

LOCAL = LocalChain()
DOUBLES = doubles_of(LOCAL.chain.programs.ids)

POOL_AT = {RAYDIUM_CPMM: 3, RAYDIUM_AMM_V4: 1, METEORA_DLMM: 0, METEORA_DAMM_V2: 1}
USER_AT = {RAYDIUM_CPMM: (4, 5), RAYDIUM_AMM_V4: (15, 16), METEORA_DLMM: (4, 5), METEORA_DAMM_V2: (2, 3)}
SIGNER_AT = {RAYDIUM_CPMM: 0, RAYDIUM_AMM_V4: 17, METEORA_DLMM: 10, METEORA_DAMM_V2: 8}
NO_SIGNATURE = {RAYDIUM_CPMM: 3010, RAYDIUM_AMM_V4: 21, METEORA_DLMM: 3010, METEORA_DAMM_V2: 3010}
READ_ONLY_POOL = {RAYDIUM_CPMM: 2000, RAYDIUM_AMM_V4: 14, METEORA_DLMM: 2000, METEORA_DAMM_V2: 2000}
SLIPPAGE = {RAYDIUM_CPMM: 6005, RAYDIUM_AMM_V4: 30, METEORA_DLMM: 6003, METEORA_DAMM_V2: 6002}
NO_SWAP = {
    RAYDIUM_CPMM: 101,
    RAYDIUM_AMM_V4: "InvalidInstructionData",
    METEORA_DLMM: 101,
    METEORA_DAMM_V2: 101,
}
TOO_FEW = {RAYDIUM_CPMM: 3005, RAYDIUM_AMM_V4: 24, METEORA_DLMM: 3005, METEORA_DAMM_V2: 3005}
NOT_THERE = {RAYDIUM_CPMM: 3012, RAYDIUM_AMM_V4: 3, METEORA_DLMM: 3012, METEORA_DAMM_V2: 3012}

# For each program, some places with the code of a wrong account there; the whole table is the double's.
WRONG = [
    (RAYDIUM_CPMM, 1, 2006),
    (RAYDIUM_CPMM, 2, 2012),
    (RAYDIUM_CPMM, 6, 2003),
    (RAYDIUM_CPMM, 8, 3008),
    (RAYDIUM_CPMM, 12, 2012),
    (RAYDIUM_AMM_V4, 0, 38),
    (RAYDIUM_AMM_V4, 2, 1),
    (RAYDIUM_AMM_V4, 5, 4),
    (RAYDIUM_AMM_V4, 8, 11),
    (METEORA_DLMM, 2, 2001),
    (METEORA_DLMM, 8, 2001),
    (METEORA_DLMM, 13, 3008),
    (METEORA_DLMM, 14, 2006),
    (METEORA_DAMM_V2, 0, 2012),
    (METEORA_DAMM_V2, 4, 2001),
    (METEORA_DAMM_V2, 11, 2012),
    (METEORA_DAMM_V2, 12, 2006),
]


def swap_of(name: str) -> Instruction:
    """Return a swap of SOL by the trader, which has an account of wrapped SOL."""
    leg = LOCAL.leg(name, SOL)
    owner = LOCAL.chain.genesis.trader.pubkey()
    user = UserAccounts(
        owner,
        associated_token_account(owner, leg.sold.mint, TOKEN_PROGRAM),
        associated_token_account(owner, leg.bought.mint, TOKEN_PROGRAM),
    )
    return leg.pool.instruction(leg.swap, user)


def execute(each: Instruction, changed: dict[Pubkey, StoredAccount] | None = None) -> DoubledSwap:
    staged = Staged(lambda key: (changed or {}).get(key) or LOCAL.found(key), LOCAL.now)
    double = DOUBLES[each.program_id]
    return double.execute(LOCAL.chain.programs, each.program_id, each.accounts, each.data, staged)


def refusal(each: Instruction, changed: dict[Pubkey, StoredAccount] | None = None) -> int | str:
    with pytest.raises(ProgramRefusedError) as refused:
        execute(each, changed)
    return refused.value.reason


def with_account(each: Instruction, place: int, meta: AccountMeta) -> Instruction:
    accounts = list(each.accounts)
    accounts[place] = meta
    return Instruction(each.program_id, each.data, accounts)


def with_key(each: Instruction, place: int, key: Pubkey) -> Instruction:
    meta = each.accounts[place]
    return with_account(each, place, AccountMeta(key, meta.is_signer, meta.is_writable))


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_right_instruction_is_executed(name: str) -> None:
    swap = execute(swap_of(name))
    assert sorted(change > 0 for change in swap.vaults.values()) == [False, True]
    assert SOL in swap.vaults.values()


@pytest.mark.parametrize(("name", "place", "code"), WRONG)
def test_a_wrong_account_has_the_code_of_its_place(name: str, place: int, code: int) -> None:
    assert refusal(with_key(swap_of(name), place, made_up("another"))) == code


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_pool_that_does_not_exist_or_is_another_programs_is_refused(name: str) -> None:
    swap, place = swap_of(name), POOL_AT[name]
    assert refusal(with_key(swap, place, made_up("nothing"))) == NOT_THERE[name]
    foreign = StoredAccount(1, TOKEN_PROGRAM, b"")
    key = swap.accounts[place].pubkey
    assert refusal(swap, {key: foreign}) == (27 if name == RAYDIUM_AMM_V4 else 3007)
    garbage = StoredAccount(1, swap.program_id, b"\0" * 100)
    assert refusal(swap, {key: garbage}) == (27 if name == RAYDIUM_AMM_V4 else 3002)


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_users_account_that_does_not_exist_is_refused(name: str) -> None:
    for place in USER_AT[name]:
        assert refusal(with_key(swap_of(name), place, made_up("nothing"))) == NOT_THERE[name]


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_missing_signature_and_a_read_only_pool_are_refused(name: str) -> None:
    swap = swap_of(name)
    user = swap.accounts[SIGNER_AT[name]]
    unsigned = with_account(swap, SIGNER_AT[name], AccountMeta(user.pubkey, False, user.is_writable))
    assert refusal(unsigned) == NO_SIGNATURE[name]
    pool = swap.accounts[POOL_AT[name]].pubkey
    assert refusal(with_account(swap, POOL_AT[name], AccountMeta(pool, False, False))) == READ_ONLY_POOL[name]


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_other_instructions_and_too_few_accounts_are_refused(name: str) -> None:
    swap = swap_of(name)
    assert refusal(Instruction(swap.program_id, b"\xfe" * 24, swap.accounts)) == NO_SWAP[name]
    assert refusal(Instruction(swap.program_id, swap.data[:-1], swap.accounts)) == NO_SWAP[name]
    assert refusal(Instruction(swap.program_id, swap.data, swap.accounts[:12])) == TOO_FEW[name]


@pytest.mark.parametrize("name", PROGRAM_NAMES)
@pytest.mark.parametrize("mode", SwapMode)
def test_a_limit_that_is_missed_by_one_unit_is_broken(name: str, mode: SwapMode) -> None:
    leg = LOCAL.leg(name, SOL)
    state, way = LOCAL.state(leg.pool), leg.swap.direction
    if mode is SwapMode.EXACT_IN:
        quote = state.quote_exact_in(way, SOL, LOCAL.now)
        kept = LegSwap(way, mode, SOL, quote.amount_out, leg.swap.bin_arrays)
        broken = replace(kept, amount_out=quote.amount_out + 1)
    else:
        quote = state.quote_exact_out(way, 10**6, LOCAL.now)
        kept = LegSwap(way, mode, quote.amount_in, 10**6, leg.swap.bin_arrays)
        broken = replace(kept, amount_in=quote.amount_in - 1)
    owner = LOCAL.chain.genesis.trader.pubkey()
    user = UserAccounts(
        owner,
        associated_token_account(owner, leg.sold.mint, TOKEN_PROGRAM),
        associated_token_account(owner, leg.bought.mint, TOKEN_PROGRAM),
    )
    assert execute(leg.pool.instruction(kept, user)).vaults[leg.sold.vault] == quote.amount_in
    assert refusal(leg.pool.instruction(broken, user)) == SLIPPAGE[name]


def test_a_disabled_pool_is_refused() -> None:
    swap = swap_of(RAYDIUM_CPMM)
    key = swap.accounts[3].pubkey
    account = LOCAL.account(key)
    disabled = replace(CpmmPoolAccount.decode(account.data), status=4).encode()
    assert refusal(swap, {key: replace(account, data=disabled)}) == 6000


def test_amm_v4_takes_any_account_of_a_market_that_it_does_not_touch() -> None:
    swap = swap_of(RAYDIUM_AMM_V4)
    for place in range(9, 15):
        swap = with_key(swap, place, made_up(f"market {place}"))
    assert execute(swap).transfers


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_swap_sees_the_one_before_it_in_the_same_pool(name: str) -> None:
    staged = Staged(LOCAL.found, LOCAL.now)
    amount = 5_000 * SOL
    leg = LOCAL.leg(name, amount, 1)
    owner = LOCAL.chain.genesis.trader.pubkey()
    user = UserAccounts(
        owner,
        associated_token_account(owner, leg.sold.mint, TOKEN_PROGRAM),
        associated_token_account(owner, leg.bought.mint, TOKEN_PROGRAM),
    )
    each = leg.pool.instruction(leg.swap, user)
    double = DOUBLES[each.program_id]

    def paid() -> int:
        done = double.execute(LOCAL.chain.programs, each.program_id, each.accounts, each.data, staged)
        staged.apply(done)
        return -done.vaults[leg.bought.vault]

    first = LOCAL.state(leg.pool).quote_exact_in(leg.swap.direction, amount, LOCAL.now)
    second = first.next_state().quote_exact_in(leg.swap.direction, amount, LOCAL.now)
    assert second.amount_out < first.amount_out
    assert [paid(), paid()] == [first.amount_out, second.amount_out]
