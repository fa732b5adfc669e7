"""Limits, fees and atomicity of single transactions."""

from dataclasses import replace
from typing import Any

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, TransactionConfig
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from service.chains.paper.pool_json import METEORA_DAMM_V2, METEORA_DLMM, RAYDIUM_AMM_V4, RAYDIUM_CPMM
from service.chains.solana.addresses import MEMO_PROGRAM, TOKEN_PROGRAM, associated_token_account
from service.chains.solana.programs.pool import UserAccounts
from service.sandbox.accounts import StoredAccount
from service.sandbox.errors import TransactionRefusedError
from service.sandbox.machine import ExecutionResult
from tests.support.local_chain import BUDGET, PROGRAM_NAMES, SOL, LocalChain
from tests.support.solana_pools import made_up

LOCAL = LocalChain()
MEMO = Instruction(MEMO_PROGRAM, b"hello", [])


def simulate(transaction: VersionedTransaction) -> ExecutionResult:
    return LOCAL.chain.simulate(transaction, LOCAL.chain.tip)


def error_of(transaction: VersionedTransaction) -> Any:
    with pytest.raises(TransactionRefusedError) as refused:
        simulate(transaction)
    return refused.value.error


def config(**values: int) -> TransactionConfig:
    whole = {
        "compute_unit_limit": 400_000,
        "loaded_accounts_data_size_limit": 16 * 1024 * 1024,
        "priority_fee": 7_000,
    }
    return TransactionConfig(**{**whole, **values})


def test_a_limit_of_compute_units_that_is_one_too_low_fails_in_the_last_instruction() -> None:
    instructions = LOCAL.instructions([LOCAL.leg(RAYDIUM_CPMM, SOL)])
    units = simulate(LOCAL.signed(instructions)).units
    assert simulate(LOCAL.signed(instructions, config(compute_unit_limit=units))).error is None
    failed = simulate(LOCAL.signed(instructions, config(compute_unit_limit=units - 1)))
    last = len(instructions) - 1
    assert failed.error == {"InstructionError": [last, "ComputationalBudgetExceeded"]}
    assert failed.units == units - 1
    assert set(failed.changed) == {LOCAL.wallet.pubkey()}


def test_a_limit_of_compute_units_that_is_not_set_is_zero() -> None:
    failed = simulate(LOCAL.signed([MEMO], TransactionConfig(loaded_accounts_data_size_limit=1 << 20)))
    assert failed.error == {"InstructionError": [0, "ComputationalBudgetExceeded"]}


def test_the_first_instruction_that_fails_counts() -> None:
    """A swap whose minimum is too high, after instructions that need more units than there are."""
    instructions = LOCAL.instructions([LOCAL.leg(RAYDIUM_CPMM, SOL, 10**12)])
    assert simulate(LOCAL.signed(instructions)).error == {"InstructionError": [3, {"Custom": 6005}]}
    failed = simulate(LOCAL.signed(instructions, config(compute_unit_limit=300)))
    assert failed.error == {"InstructionError": [1, "ComputationalBudgetExceeded"]}


def test_a_limit_of_loaded_bytes_that_is_too_low_or_not_set_fails_and_pays() -> None:
    needed = simulate(LOCAL.sell()).loaded_bytes
    for limit in (
        TransactionConfig(compute_unit_limit=400_000),
        config(loaded_accounts_data_size_limit=needed - 1),
    ):
        instructions = LOCAL.instructions([LOCAL.leg(RAYDIUM_CPMM, SOL)])
        failed = simulate(LOCAL.signed(instructions, limit))
        assert failed.error == "MaxLoadedAccountsDataSizeExceeded"
        assert set(failed.changed) == {LOCAL.wallet.pubkey()}
    instructions = LOCAL.instructions([LOCAL.leg(RAYDIUM_CPMM, SOL)])
    exact = config(loaded_accounts_data_size_limit=needed)
    assert simulate(LOCAL.signed(instructions, exact)).error is None


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_failed_transaction_costs_its_fee_and_nothing_else(name: str) -> None:
    failed = simulate(LOCAL.sell(name, minimum_out=10**15))
    assert failed.error is not None
    # The instruction that fails has used its units too.
    done = simulate(LOCAL.sell(name, minimum_out=1))
    assert done.units * 9 // 10 < failed.units < done.units
    wallet = LOCAL.account(LOCAL.wallet.pubkey())
    assert failed.changed == {
        LOCAL.wallet.pubkey(): StoredAccount(wallet.lamports - 12_000, wallet.owner, wallet.data)
    }


def test_a_transaction_of_four_legs_does_all_or_nothing() -> None:
    legs = [LOCAL.leg(name, SOL) for name in (RAYDIUM_CPMM, RAYDIUM_AMM_V4, METEORA_DLMM)]
    done = simulate(LOCAL.swap(*legs, LOCAL.leg(METEORA_DAMM_V2, SOL)))
    assert done.error is None
    vaults = {leg.sold.vault for leg in legs}
    assert vaults < set(done.changed)
    failed = simulate(LOCAL.swap(*legs, LOCAL.leg(METEORA_DAMM_V2, SOL, 10**12)))
    assert failed.error == {"InstructionError": [6, {"Custom": 6002}]}
    assert not vaults & set(failed.changed)


def test_the_fee_is_taken_before_the_instructions_run() -> None:
    """Everything but the fee may be sold; one lamport more fails in the first instruction."""
    keys = Keypair()
    someone = made_up("someone")
    local = LocalChain()
    local.chain.accounts.write(
        local.chain.tip.slot,
        keys.pubkey(),
        StoredAccount(10 * SOL, LOCAL.account(LOCAL.wallet.pubkey()).owner),
    )

    def paid(lamports: int) -> ExecutionResult:
        pay = transfer(TransferParams(from_pubkey=keys.pubkey(), to_pubkey=someone, lamports=lamports))
        return local.chain.simulate(local.signed([pay], payer=keys), local.chain.tip)

    assert paid(10 * SOL - 12_000).error is None
    assert paid(10 * SOL - 11_999).error == {"InstructionError": [0, {"Custom": 1}]}


def test_who_cannot_pay_is_not_in_any_block() -> None:
    stranger = Keypair()
    assert error_of(LOCAL.signed([MEMO], payer=stranger)) == "AccountNotFound"
    dear = config(priority_fee=2 * 10**13)
    assert error_of(LOCAL.signed([MEMO], dear)) == "InsufficientFundsForFee"
    wallet = LOCAL.account(LOCAL.wallet.pubkey()).lamports
    nearly_all = config(priority_fee=wallet - 5_001)
    assert error_of(LOCAL.signed([MEMO], nearly_all)) == {"InsufficientFundsForRent": {"account_index": 0}}


def test_a_program_that_does_not_exist_or_is_none_is_not_in_any_block() -> None:
    wallet = LOCAL.wallet.pubkey()
    missing = Instruction(made_up("program"), b"", [AccountMeta(wallet, True, True)])
    assert error_of(LOCAL.signed([missing])) == "ProgramAccountNotFound"
    none = Instruction(LOCAL.pool(RAYDIUM_CPMM).addresses.pool, b"", [])
    assert error_of(LOCAL.signed([none])) == "InvalidProgramForExecution"


@pytest.mark.parametrize("version", ["legacy", 0])
def test_older_versions_set_their_limits_by_instructions(version: str | int) -> None:
    def signed(*extra: Instruction) -> VersionedTransaction:
        instructions, payer, hash_ = [*extra, MEMO], LOCAL.wallet.pubkey(), LOCAL.chain.tip.blockhash
        message = (
            Message.new_with_blockhash(instructions, payer, hash_)
            if version == "legacy"
            else MessageV0.try_compile(payer, instructions, [], hash_)
        )
        return VersionedTransaction(message, [LOCAL.wallet])

    plain = simulate(signed())
    assert (plain.error, plain.budget.fee, plain.budget.units) == (None, 5_000, 200_000)
    priced = simulate(signed(set_compute_unit_limit(100_000), set_compute_unit_price(10_001)))
    assert (priced.error, priced.budget.fee, priced.budget.units) == (None, 6_001, 100_000)
    assert priced.units == plain.units + 300
    low = simulate(signed(set_compute_unit_limit(200)))
    assert low.error == {"InstructionError": [1, "ComputationalBudgetExceeded"]}
    twice = signed(set_compute_unit_limit(1_000), set_compute_unit_limit(1_001))
    assert error_of(twice) == {"DuplicateInstruction": 1}


def test_the_fee_of_version_1_is_a_total() -> None:
    assert simulate(LOCAL.signed([MEMO], config(priority_fee=777))).budget.fee == 5_777
    assert BUDGET.priority_fee == 7_000


@pytest.mark.parametrize("name", [METEORA_DLMM, METEORA_DAMM_V2])
def test_a_vault_that_holds_less_than_its_pool_pays_is_told_by_the_token_program(name: str) -> None:
    """These two programs know their reserves by their own accounts; the others ask the vaults."""
    local = LocalChain()
    leg = local.leg(name, SOL, sells_sol=True)
    vault = leg.pool.addresses.sides(leg.swap.direction)[1].vault
    account = local.account(vault)
    # The amount stands after the mint and the owner.
    poor = account.data[:64] + (1).to_bytes(8, "little") + account.data[72:]
    local.chain.accounts.write(local.chain.tip.slot, vault, replace(account, data=poor))
    instructions = local.instructions([leg])
    failed = local.chain.simulate(local.signed(instructions), local.chain.tip)
    [place] = [
        place for place, each in enumerate(instructions) if each.program_id == leg.pool.addresses.program
    ]
    assert failed.error == {"InstructionError": [place, {"Custom": 1}]}


def test_nothing_is_kept_of_a_simulation() -> None:
    before = LOCAL.account(LOCAL.wallet.pubkey())
    first = simulate(LOCAL.sell())
    second = simulate(LOCAL.sell())
    assert LOCAL.account(LOCAL.wallet.pubkey()) == before
    assert first.changed[LOCAL.wallet.pubkey()] == second.changed[LOCAL.wallet.pubkey()]


def test_an_account_that_is_left_with_too_little_for_its_rent_is_named() -> None:
    poor = made_up("poor")
    pay = transfer(TransferParams(from_pubkey=LOCAL.wallet.pubkey(), to_pubkey=poor, lamports=1))
    transaction = LOCAL.signed([*LOCAL.instructions([LOCAL.leg(RAYDIUM_CPMM, SOL)]), pay])
    place = transaction.message.account_keys.index(poor)
    failed = simulate(transaction)
    assert failed.error == {"InsufficientFundsForRent": {"account_index": place}}
    assert set(failed.changed) == {LOCAL.wallet.pubkey()}


def test_a_wallet_that_pays_its_last_lamport_is_gone() -> None:
    wallet = LOCAL.account(LOCAL.wallet.pubkey()).lamports
    done = simulate(LOCAL.signed([MEMO], config(priority_fee=wallet - 5_000)))
    assert done.error is None
    assert done.changed == {LOCAL.wallet.pubkey(): None}


@pytest.mark.parametrize(("name", "most"), [(RAYDIUM_CPMM, 21), (METEORA_DAMM_V2, 16)])
def test_a_transaction_executes_64_instructions_those_that_are_called_included(name: str, most: int) -> None:
    trader = LOCAL.chain.genesis.trader
    leg = LOCAL.leg(name, 1_000, 1)
    user = UserAccounts(
        trader.pubkey(),
        associated_token_account(trader.pubkey(), leg.sold.mint, TOKEN_PROGRAM),
        associated_token_account(trader.pubkey(), leg.bought.mint, TOKEN_PROGRAM),
    )
    swap = leg.pool.instruction(leg.swap, user)
    whole = config(compute_unit_limit=1_400_000)
    assert simulate(LOCAL.signed([swap] * most, whole, payer=trader)).error is None
    failed = simulate(LOCAL.signed([swap] * (most + 1), whole, payer=trader))
    assert failed.error == {"InstructionError": [most, "MaxInstructionTraceLengthExceeded"]}
    assert set(failed.changed) == {trader.pubkey()}


@pytest.mark.parametrize(("name", "code"), [(RAYDIUM_AMM_V4, 40), (RAYDIUM_CPMM, 6005)])
def test_which_is_told_of_a_balance_too_small_and_a_limit_that_is_broken(name: str, code: int) -> None:
    """AMM v4 looks at the balance first; the others leave that to the token program, after their limits."""
    millions = 2_000_000 * 10**6
    failed = simulate(LOCAL.swap(LOCAL.leg(name, millions, 10**18, sells_sol=False)))
    assert failed.error == {"InstructionError": [2, {"Custom": code}]}
    poor = simulate(LOCAL.swap(LOCAL.leg(name, millions, 1, sells_sol=False)))
    assert poor.error == {"InstructionError": [2, {"Custom": 40 if name == RAYDIUM_AMM_V4 else 1}]}
