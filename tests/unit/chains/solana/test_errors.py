"""Errors as nodes report them, and what they mean for an order."""

from typing import Any

import pytest
from solders.pubkey import Pubkey

from service.chains.solana.addresses import (
    ASSOCIATED_TOKEN_PROGRAM,
    MEMO_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
)
from service.chains.solana.errors import TransactionError, UnreadableError, failure_of, read_error
from service.chains.solana.programs.registry import MAINNET
from service.domain.failures import FailureCode, Remedy

CPMM, AMM_V4 = MAINNET.raydium_cpmm, MAINNET.raydium_amm_v4
DLMM, DAMM_V2 = MAINNET.meteora_dlmm, MAINNET.meteora_damm_v2
CALLED = [SYSTEM_PROGRAM, CPMM]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"InstructionError": [1, {"Custom": 6005}]}, TransactionError("Custom", 1, CPMM, 6005)),
        ({"InstructionError": [0, {"Custom": 0}]}, TransactionError("Custom", 0, SYSTEM_PROGRAM, 0)),
        (
            {"InstructionError": [1, "ProgramFailedToComplete"]},
            TransactionError("ProgramFailedToComplete", 1, CPMM),
        ),
        ({"InstructionError": [1, {"BorshIoError": "x"}]}, TransactionError("BorshIoError", 1, CPMM)),
        ("BlockhashNotFound", TransactionError("BlockhashNotFound")),
        (
            {"InsufficientFundsForRent": {"account_index": 0}},
            TransactionError("InsufficientFundsForRent"),
        ),
    ],
)
def test_an_error_is_read(error: object, expected: TransactionError) -> None:
    assert read_error(error, CALLED) == expected


@pytest.mark.parametrize(
    "error",
    [
        None,
        7,
        [],
        {},
        {"a": 1, "b": 2},
        {"InstructionError": 1},
        {"InstructionError": [2, {"Custom": 1}]},
        {"InstructionError": [-1, {"Custom": 1}]},
        {"InstructionError": [1, {"Custom": 1}, 3]},
        {"InstructionError": [1, None]},
        {"InstructionError": [1, {}]},
        {"InstructionError": [1, {"Custom": -1}]},
        {"InstructionError": [1, {"Custom": 2**32}]},
        {"InstructionError": [1, {"Custom": "1"}]},
        # They would stand in an order's history.
        "<script>",
        "a text with spaces",
        "A" * 65,
        {7: 1},
        {"InstructionError": [1, ""]},
        {"InstructionError": [1, {"x y": 1}]},
    ],
)
def test_what_is_no_error_of_the_transaction_is_refused(error: object) -> None:
    with pytest.raises(UnreadableError) as refused:
        read_error(error, CALLED)
    # It gets into the log.
    assert str(refused.value) in {
        "not a transaction's error",
        "not an instruction's error",
        "not an error's name",
    }


@pytest.mark.parametrize(
    ("program", "code", "meaning"),
    [
        (CPMM, 6005, FailureCode.SLIPPAGE_EXCEEDED),
        (AMM_V4, 30, FailureCode.SLIPPAGE_EXCEEDED),
        (DLMM, 6003, FailureCode.SLIPPAGE_EXCEEDED),
        (DAMM_V2, 6002, FailureCode.SLIPPAGE_EXCEEDED),
        (DLMM, 3005, FailureCode.TRANSACTION_FAILED),
        (CPMM, 1, FailureCode.INSUFFICIENT_BALANCE),
        (DLMM, 1, FailureCode.INSUFFICIENT_BALANCE),
        (DAMM_V2, 1, FailureCode.INSUFFICIENT_BALANCE),
        (SYSTEM_PROGRAM, 1, FailureCode.INSUFFICIENT_BALANCE),
        (ASSOCIATED_TOKEN_PROGRAM, 1, FailureCode.INSUFFICIENT_SOL),
        (TOKEN_PROGRAM, 1, FailureCode.INSUFFICIENT_BALANCE),
        (AMM_V4, 40, FailureCode.INSUFFICIENT_BALANCE),
        (CPMM, 6000, FailureCode.POOL_DISABLED),
        (AMM_V4, 22, FailureCode.POOL_DISABLED),
        (DLMM, 6042, FailureCode.POOL_DISABLED),
        (DAMM_V2, 6003, FailureCode.POOL_DISABLED),
        (DAMM_V2, 6015, FailureCode.INSUFFICIENT_LIQUIDITY),
        (DLMM, 6036, FailureCode.INSUFFICIENT_LIQUIDITY),
        (CPMM, 2505, FailureCode.AMOUNT_TOO_SMALL),
        (DLMM, 6039, FailureCode.AMOUNT_TOO_SMALL),
        # The same number is something else, or nothing, in another program.
        (AMM_V4, 1, FailureCode.TRANSACTION_REJECTED),
        (CPMM, 30, FailureCode.TRANSACTION_REJECTED),
        (CPMM, 3005, FailureCode.TRANSACTION_REJECTED),
        (CPMM, 3012, FailureCode.TRANSACTION_REJECTED),
        (DLMM, 6005, FailureCode.TRANSACTION_REJECTED),
        (MEMO_PROGRAM, 1, FailureCode.TRANSACTION_REJECTED),
        (SYSTEM_PROGRAM, 0, FailureCode.TRANSACTION_REJECTED),
    ],
)
def test_a_code_means_what_its_program_says(program: Pubkey, code: int, meaning: FailureCode) -> None:
    failure = failure_of(TransactionError("Custom", 3, program, code), MAINNET)
    assert failure.code is meaning
    assert f"error {code} of {program}, instruction 3" in failure.detail


def error(name: str, instruction: int | None = None) -> TransactionError:
    return TransactionError(name, instruction, None if instruction is None else CPMM)


@pytest.mark.parametrize(
    ("given", "meaning", "remedy"),
    [
        (error("ComputationalBudgetExceeded", 3), FailureCode.TRANSACTION_FAILED, Remedy.REQUOTE),
        (error("ProgramFailedToComplete", 3), FailureCode.TRANSACTION_FAILED, Remedy.REQUOTE),
        (error("MaxLoadedAccountsDataSizeExceeded"), FailureCode.TRANSACTION_FAILED, Remedy.REQUOTE),
        (error("BlockhashNotFound"), FailureCode.TRANSACTION_FAILED, Remedy.REQUOTE),
        (error("InsufficientFundsForFee"), FailureCode.INSUFFICIENT_SOL, Remedy.NONE),
        (error("InsufficientFundsForRent"), FailureCode.INSUFFICIENT_SOL, Remedy.NONE),
        (error("InvalidAccountData", 3), FailureCode.TRANSACTION_REJECTED, Remedy.NONE),
        (error("SignatureFailure"), FailureCode.TRANSACTION_REJECTED, Remedy.NONE),
        (error("SomethingNew"), FailureCode.TRANSACTION_REJECTED, Remedy.NONE),
    ],
)
def test_a_named_error_has_a_meaning(given: TransactionError, meaning: FailureCode, remedy: Remedy) -> None:
    failure = failure_of(given, MAINNET)
    assert (failure.code, failure.remedy) == (meaning, remedy)
    assert given.name in failure.detail


def test_only_some_errors_leave_the_same_bytes_a_chance_or_ask_for_higher_limits() -> None:
    assert error("AlreadyProcessed").same_bytes_may_land
    assert not error("InsufficientFundsForFee").same_bytes_may_land
    # An instruction's error of that name is the transaction's own.
    assert not error("AccountInUse", 3).same_bytes_may_land
    assert error("ComputationalBudgetExceeded", 3).limits_too_low
    assert not error("Custom", 3).limits_too_low


def test_the_texts_are_for_a_person() -> None:
    given: Any = {"InstructionError": [1, {"Custom": 6005}]}
    detail = failure_of(read_error(given, CALLED), MAINNET).detail
    assert detail == (
        "At execution the swap would have paid less than the minimum amount out. "
        f"(error 6005 of {CPMM}, instruction 1)"
    )
    short_of_sol = failure_of(error("InsufficientFundsForFee"), MAINNET).detail
    assert short_of_sol == (
        "The wallet does not hold enough SOL for the fee and the rent. (InsufficientFundsForFee)"
    )
