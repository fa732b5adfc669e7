"""The doubles against the transactions that the real programs executed, all thirty of them."""

from collections.abc import Callable, Iterator

import pytest
from solders.pubkey import Pubkey

from service.chains.solana.addresses import TOKEN_PROGRAM
from service.chains.solana.programs.registry import MAINNET
from service.sandbox.accounts import StoredAccount
from service.sandbox.machine import BROUGHT_ALONG, ExecutionResult, Machine
from tests.support.executed import PROGRAMS, WALLET, Executed, executed

CASES = executed()
VERSION_1 = [name for name in CASES if CASES[name].version_1]

PRIORITY_FEE = 7_000
"""Of the recorded transactions of version 1, which LiteSVM did not charge and the sandbox does."""

BIN_BYTES, BINS_AT = 144, 56


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(PROGRAMS)


@pytest.fixture(scope="module")
def own(machine: Machine) -> dict[Pubkey, StoredAccount | None]:
    programs = {
        program: StoredAccount(1, Pubkey.default(), executable=True)
        for program in (
            MAINNET.raydium_cpmm,
            MAINNET.raydium_amm_v4,
            MAINNET.meteora_dlmm,
            MAINNET.meteora_damm_v2,
        )
    }
    return {key: machine.own_account(key) for key in BROUGHT_ALONG} | programs


def reader(
    case: Executed, own: dict[Pubkey, StoredAccount | None]
) -> Callable[[Pubkey], StoredAccount | None]:
    state = {
        key: StoredAccount(account.lamports, account.owner, account.data)
        for key, account in case.before.items()
    }
    return lambda key: state.get(key) or own.get(key)


def execute(machine: Machine, own: dict[Pubkey, StoredAccount | None], name: str) -> ExecutionResult:
    case = CASES[name]
    return machine.execute(case.transaction, reader(case, own), case.now)


def ignored(owner: Pubkey, size: int) -> Iterator[range]:
    """Yield the bytes that no swap reads and that the doubles leave as they are."""
    if owner == MAINNET.raydium_cpmm and size == 4_075:
        yield range(size)  # observed prices
    elif owner == MAINNET.raydium_amm_v4:
        yield range(256, 336)  # totals of swapped amounts
    elif owner == MAINNET.meteora_dlmm and size == 3_232:
        yield range(size)  # the oracle
    elif owner == MAINNET.meteora_dlmm and size == 10_136:
        for bin_at in range(BINS_AT, size, BIN_BYTES):
            yield range(bin_at + 80, bin_at + 112)  # fees that positions may claim
    elif owner == MAINNET.meteora_damm_v2:
        yield range(488, 536)  # fees that positions may claim
        yield range(584, 616)  # totals of fees


def without_ignored(owner: Pubkey, data: bytes) -> bytes:
    kept = bytearray(data)
    for part in ignored(owner, len(data)):
        kept[part.start : part.stop] = bytes(len(part))
    return bytes(kept)


@pytest.mark.parametrize("name", CASES)
def test_the_error_is_that_of_the_real_program(
    name: str, machine: Machine, own: dict[Pubkey, StoredAccount | None]
) -> None:
    assert execute(machine, own, name).error == CASES[name].err


@pytest.mark.parametrize("name", CASES)
def test_the_accounts_are_those_after_the_real_program(
    name: str, machine: Machine, own: dict[Pubkey, StoredAccount | None]
) -> None:
    case = CASES[name]
    changed, read = execute(machine, own, name).changed, reader(case, own)
    for key, data in case.after.items():
        account = changed.get(key, read(key))
        assert account is not None, key
        expected = without_ignored(account.owner, data)
        assert without_ignored(account.owner, account.data) == expected, (key, account.owner)


@pytest.mark.parametrize("name", VERSION_1)
def test_lamports_are_those_after_the_real_program(
    name: str, machine: Machine, own: dict[Pubkey, StoredAccount | None]
) -> None:
    case = CASES[name]
    execution, read = execute(machine, own, name), reader(case, own)
    keys = case.transaction.message.account_keys
    known = [place for place, key in enumerate(keys) if key in case.before or key in execution.changed]
    for place in known:
        account = execution.changed.get(keys[place], read(keys[place]))
        expected = case.facts["meta"]["postBalances"][place]
        assert (0 if account is None else account.lamports) == expected - (PRIORITY_FEE if place == 0 else 0)
    assert execution.budget.fee == case.facts["meta"]["fee"] + PRIORITY_FEE


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].version_1])
def test_the_wallet_of_an_older_transaction_has_what_it_had_after_the_real_program(
    name: str, machine: Machine, own: dict[Pubkey, StoredAccount | None]
) -> None:
    case = CASES[name]
    execution = execute(machine, own, name)
    paid = execution.changed[WALLET.pubkey()]
    assert paid is not None
    assert paid.lamports - case.before[WALLET.pubkey()].lamports == case.facts["wallet_lamports"]
    assert execution.budget.fee == case.facts["fee"]


@pytest.mark.parametrize("name", [name for name in VERSION_1 if CASES[name].err is None])
def test_compute_units_are_not_understated_and_near_those_of_the_real_program(
    name: str, machine: Machine, own: dict[Pubkey, StoredAccount | None]
) -> None:
    real = CASES[name].facts["meta"]["computeUnitsConsumed"]
    assert real <= execute(machine, own, name).units <= real * 108 // 100


def test_every_swap_is_two_transfers_of_the_token_program(
    machine: Machine, own: dict[Pubkey, StoredAccount | None]
) -> None:
    case = CASES["v1_four_legs"]
    inner = execute(machine, own, "v1_four_legs").inner
    keys = case.transaction.message.account_keys
    swaps = [
        index
        for index, each in enumerate(case.transaction.message.instructions)
        if keys[each.program_id_index] in machine_programs()
    ]
    assert len(swaps) == 4
    for index in swaps:
        assert [keys[call.program] for call in inner[index]] == [TOKEN_PROGRAM] * 2


def machine_programs() -> set[Pubkey]:
    ids = MAINNET
    return {ids.raydium_cpmm, ids.raydium_amm_v4, ids.meteora_dlmm, ids.meteora_damm_v2}
