"""Transactions that the real programs executed: built again, quoted, decoded, and read to the unit."""

from typing import Any, NamedTuple

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import MessageV1, to_bytes_versioned
from solders.transaction import VersionedTransaction

from service.amm import Direction, DlmmPool, PoolState
from service.chains.solana.addresses import TOKEN_PROGRAM, WRAPPED_SOL, associated_token_account
from service.chains.solana.builder import (
    ComputeBudget,
    compile_transaction,
    create_token_account,
    instructions,
)
from service.chains.solana.errors import failure_of
from service.chains.solana.plan import PlannedLeg, SwapPlan
from service.chains.solana.programs.meteora_dlmm import arrays_to_carry
from service.chains.solana.programs.pool import LegSwap, OnChainPool, UserAccounts
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.receipt import decoded_swaps, read_receipt
from service.domain.failures import FailureCode
from service.domain.quote import SwapMode
from tests.support.executed import ON_PURPOSE_WRONG, PROGRAMS, RENT, USDC, WALLET, Executed, executed

CASES = executed()
BUILDABLE = [name for name in CASES if name not in ON_PURPOSE_WRONG]
OLDER = [name for name in BUILDABLE if not CASES[name].version_1]
VERSION_1 = [name for name in BUILDABLE if CASES[name].version_1]
SUCCESSFUL = [name for name in CASES if CASES[name].err is None]
FAILED = [name for name in CASES if CASES[name].err is not None]

SEED = "o1f3a9c2b7d4e5a1"
"""The seed of the account for wrapped SOL in the transactions of version 1."""
BUDGET = ComputeBudget(compute_units=600_000, loaded_bytes=16 * 1024 * 1024, priority_fee=7_000)
SOL = 10**9

CPMM, AMM_V4 = MAINNET.raydium_cpmm, MAINNET.raydium_amm_v4
DLMM, DAMM_V2 = MAINNET.meteora_dlmm, MAINNET.meteora_damm_v2


class Ordered(NamedTuple):
    """One leg that a transaction of version 1 was made of."""

    program: Any
    amount_in: int
    amount_out: int
    mode: SwapMode = SwapMode.EXACT_IN
    sells_sol: bool = True


_OUT = SwapMode.EXACT_OUT
ORDERED: dict[str, list[list[Ordered]]] = {
    "v1_one_leg_raydium_cpmm": [[Ordered(CPMM, SOL, 149_610_076)]],
    "v1_one_leg_raydium_amm_v4": [[Ordered(AMM_V4, SOL, 149_617_537)]],
    "v1_one_leg_meteora_dlmm": [[Ordered(DLMM, SOL, 149_560_372)]],
    "v1_one_leg_meteora_damm2": [[Ordered(DAMM_V2, SOL, 149_610_038)]],
    "v1_four_legs": [
        [Ordered(CPMM, SOL, 149_610_076)],
        [Ordered(AMM_V4, SOL, 149_617_537)],
        [Ordered(DLMM, SOL, 149_560_372)],
        [Ordered(DAMM_V2, SOL, 149_610_038)],
    ],
    "exact_out_raydium_cpmm": [[Ordered(CPMM, SOL, 149_000_000, _OUT)]],
    "exact_out_raydium_amm_v4": [[Ordered(AMM_V4, SOL, 149_000_000, _OUT)]],
    "exact_out_meteora_dlmm": [[Ordered(DLMM, SOL, 149_000_000, _OUT)]],
    "exact_out_meteora_damm2": [[Ordered(DAMM_V2, SOL, 149_000_000, _OUT)]],
    # The second leg sells a fixed amount; what the first one pays above it is the residue.
    "two_hops_with_residue": [
        [Ordered(CPMM, SOL, 149_610_076), Ordered(DAMM_V2, 149_000_000, 1, sells_sol=False)]
    ],
    "atomic_last_leg_slippage": [[Ordered(CPMM, SOL, 149_610_076)], [Ordered(DAMM_V2, SOL, 10**12)]],
    "dlmm_two_arrays_buy": [[Ordered(DLMM, 100_000 * 10**6, 1, sells_sol=False)]],
}
"""What was ordered in each transaction of version 1 that the service could have built."""


def direction(pool: OnChainPool, *, sells_sol: bool) -> Direction:
    sol_first = pool.addresses.token_a.mint == WRAPPED_SOL
    return Direction.A_TO_B if sol_first is sells_sol else Direction.B_TO_A


def quoted(state: PoolState, swap: LegSwap, case: Executed) -> tuple[int, int, PoolState]:
    """Return what a swap pays and receives by the service's mathematics, and the pool after it."""
    if swap.mode is SwapMode.EXACT_IN:
        quote = state.quote_exact_in(swap.direction, swap.amount_in, case.now)
    else:
        quote = state.quote_exact_out(swap.direction, swap.amount_out, case.now)
    return quote.amount_in, quote.amount_out, quote.next_state()


def with_arrays(pool: OnChainPool, swap: LegSwap, case: Executed) -> LegSwap:
    """Return a swap with the bin arrays that its quote uses; the recorded ones carry no spare."""
    state = pool.state(case.data)
    if not isinstance(state, DlmmPool):
        return swap
    _, _, after = quoted(state, swap, case)
    assert isinstance(after, DlmmPool)
    arrays = arrays_to_carry(state, after, swap.direction, spare=0)
    return LegSwap(swap.direction, swap.mode, swap.amount_in, swap.amount_out, arrays)


def plan_of(case: Executed) -> SwapPlan:
    """Return the plan of a transaction of version 1."""
    paths = []
    for path in ORDERED[case.name]:
        legs = []
        for leg in path:
            pool = case.pools[leg.program]
            way = direction(pool, sells_sol=leg.sells_sol)
            swap = LegSwap(way, leg.mode, leg.amount_in, leg.amount_out)
            legs.append(PlannedLeg(pool, with_arrays(pool, swap, case)))
        paths.append(tuple(legs))
    return SwapPlan(tuple(paths))


def older_swap(case: Executed) -> tuple[OnChainPool, LegSwap]:
    """Return the pool and the swap of a transaction of version 0; its name says what it sells."""
    [pool] = case.pools.values()
    way = direction(pool, sells_sol="sell_sol" in case.name)
    swap = LegSwap(way, SwapMode.EXACT_IN, case.facts["amount_in"], case.facts["min_out"])
    return pool, with_arrays(pool, swap, case)


def older_instruction(case: Executed) -> Instruction:
    """Build the swap of a transaction of version 0, in which SOL is wrapped in the wallet's own account."""
    pool, swap = older_swap(case)
    sol, usdc = (
        associated_token_account(WALLET.pubkey(), mint, TOKEN_PROGRAM) for mint in (WRAPPED_SOL, USDC)
    )
    source, destination = (sol, usdc) if "sell_sol" in case.name else (usdc, sol)
    return pool.instruction(swap, UserAccounts(WALLET.pubkey(), source, destination))


def test_the_recorded_transactions_are_those_that_are_expected() -> None:
    assert (len(CASES), len(OLDER), len(VERSION_1), len(BUILDABLE)) == (30, 16, 12, 28)
    assert set(ORDERED) == set(VERSION_1)
    assert (len(SUCCESSFUL), len(FAILED)) == (19, 11)


@pytest.mark.parametrize("name", OLDER)
def test_the_swap_is_the_one_that_the_program_executed(name: str) -> None:
    assert older_instruction(CASES[name]) == CASES[name].single_swap


@pytest.mark.parametrize("name", VERSION_1)
def test_the_whole_transaction_is_the_one_that_the_chain_executed(name: str) -> None:
    """All bytes, signature included; the recorded ones carry no mark, which is the last instruction."""
    case = CASES[name]
    plan = plan_of(case)
    built = instructions(plan, WALLET.pubkey(), SEED, RENT)[:-1]
    if name == "dlmm_two_arrays_buy":
        # Recorded with one instruction more: it creates the account of the token that is sold, which exists.
        built.insert(2, create_token_account(WALLET.pubkey(), plan.legs[0].sold))
    blockhash = Hash.from_string("GfVcyD4kkTrj4bKc7WA9sZCin9JDbdT4Zkd3EittNR1W")
    compiled = compile_transaction(built, WALLET.pubkey(), BUDGET, blockhash)
    assert bytes(VersionedTransaction(compiled.message, [WALLET])) == case.raw
    assert compiled.size == len(case.raw)


@pytest.mark.parametrize("name", SUCCESSFUL)
def test_the_state_in_the_accounts_quotes_what_the_program_paid(name: str) -> None:
    case = CASES[name]
    legs = [older_swap(case)] if name in OLDER else [(leg.pool, leg.swap) for leg in plan_of(case).legs]
    receipt = read_receipt(case.answer(), case.raw, PROGRAMS)
    for (pool, swap), paid in zip(legs, receipt.legs, strict=True):
        assert quoted(pool.state(case.data), swap, case)[:2] == (paid.amount_in, paid.amount_out)


@pytest.mark.parametrize("name", CASES)
def test_every_swap_is_decoded(name: str) -> None:
    case = CASES[name]
    swaps = decoded_swaps(case.transaction, PROGRAMS)
    if name in OLDER:
        pool, ordered = older_swap(case)
        legs = [(pool, ordered)]
    elif name in VERSION_1:
        legs = [(leg.pool, leg.swap) for leg in plan_of(case).legs]
    else:
        way = direction(case.pools[DLMM], sells_sol=False)
        legs = [(case.pools[DLMM], LegSwap(way, SwapMode.EXACT_IN, 100_000 * 10**6, 1))]
    assert len(swaps) == len(legs)
    for swap, (pool, leg) in zip(swaps, legs, strict=True):
        addresses = pool.addresses
        assert (swap.program, swap.pool) == (addresses.program, addresses.pool)
        assert set(swap.vaults) == {addresses.token_a.vault, addresses.token_b.vault}
        assert swap.user.owner == WALLET.pubkey()
        assert (swap.mode, swap.amount_in, swap.amount_out) == (leg.mode, leg.amount_in, leg.amount_out)
        if name not in ON_PURPOSE_WRONG:
            named = pool.instruction(leg, swap.user).accounts[16:] if swap.program == DLMM else []
            assert swap.bin_arrays == tuple(meta.pubkey for meta in named)


@pytest.mark.parametrize("name", SUCCESSFUL)
def test_the_receipt_has_what_was_paid_and_received(name: str) -> None:
    case = CASES[name]
    receipt = read_receipt(case.answer(), case.raw, PROGRAMS)
    assert receipt.error is None
    assert receipt.differences == ()
    assert receipt.signature == str(case.transaction.signatures[0])
    assert receipt.network_fee == (5_000 if case.version_1 else 15_000)
    if name in OLDER:
        sells_sol = "sell_sol" in name
        mints = (WRAPPED_SOL, USDC) if sells_sol else (USDC, WRAPPED_SOL)
        expected = {"amount_in": case.facts["amount_in"], "amount_out": case.facts["quote_out"]}
    else:
        path = ORDERED[name][0]
        mints = (WRAPPED_SOL if path[0].sells_sol else USDC, USDC if path[-1].sells_sol else WRAPPED_SOL)
        expected = case.facts["expect"]
        sells_sol = path[0].sells_sol
    fill = receipt.fill(*mints)
    assert fill.tx_hash == receipt.signature
    assert fill.amount_in == expected.get("amount_in", fill.amount_in)
    assert fill.amount_out == expected.get("amount_out", fill.amount_out)
    residue = {USDC: expected["residue_usdc"]} if "residue_usdc" in expected else {}
    assert receipt.residue(*mints) == residue
    # Only the wallet's account for USDC is new, when it receives them.
    assert receipt.rent == (RENT if sells_sol else 0)


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_transaction_costs_its_fee_and_nothing_else(name: str) -> None:
    case = CASES[name]
    receipt = read_receipt(case.answer(), case.raw, PROGRAMS)
    assert receipt.legs == ()
    assert receipt.rent == 0
    assert receipt.network_fee == (5_000 if case.version_1 else 15_000)
    assert receipt.differences == ()


EXPECTED_ERRORS: dict[str, tuple[int, int, FailureCode]] = {
    "raydium_amm_v4 sell_sol_slippage": (6, 30, FailureCode.SLIPPAGE_EXCEEDED),
    "raydium_amm_v4 sell_sol_insufficient": (6, 40, FailureCode.INSUFFICIENT_BALANCE),
    "raydium_cpmm sell_sol_slippage": (6, 6005, FailureCode.SLIPPAGE_EXCEEDED),
    "raydium_cpmm sell_sol_insufficient": (6, 1, FailureCode.INSUFFICIENT_BALANCE),
    "meteora_damm_v2 sell_sol_slippage": (6, 6002, FailureCode.SLIPPAGE_EXCEEDED),
    "meteora_damm_v2 sell_sol_insufficient": (6, 1, FailureCode.INSUFFICIENT_BALANCE),
    "meteora_dlmm sell_sol_slippage": (6, 6003, FailureCode.SLIPPAGE_EXCEEDED),
    "meteora_dlmm sell_sol_insufficient": (6, 1, FailureCode.INSUFFICIENT_BALANCE),
    "atomic_last_leg_slippage": (4, 6002, FailureCode.SLIPPAGE_EXCEEDED),
    "dlmm_second_array_missing": (3, 3005, FailureCode.TRANSACTION_FAILED),
    "dlmm_arrays_reversed": (3, 3005, FailureCode.TRANSACTION_FAILED),
}
"""The index of the failed instruction, the program's code, and what it means for the order."""


@pytest.mark.parametrize("name", FAILED)
def test_an_error_is_known_by_its_instruction_and_its_code(name: str) -> None:
    case = CASES[name]
    error = read_receipt(case.answer(), case.raw, PROGRAMS).error
    assert error is not None
    index, code, meaning = EXPECTED_ERRORS[name]
    message = case.transaction.message
    program = message.account_keys[message.instructions[index].program_id_index]
    assert (error.instruction, error.code, error.program) == (index, code, program)
    assert failure_of(error, MAINNET).code is meaning


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].version_1])
def test_a_version_1_message_is_decoded_and_encoded_again(name: str) -> None:
    case = CASES[name]
    message = case.transaction.message
    assert isinstance(message, MessageV1)
    again = to_bytes_versioned(MessageV1.from_bytes(bytes(message)))
    assert case.raw == again + bytes(case.transaction.signatures[0])
