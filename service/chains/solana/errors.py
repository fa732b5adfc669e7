"""Errors of transactions: read from a node's JSON, and mapped to failure codes by program and code.

A node reports an error inside an instruction as ``{"InstructionError": [index, {"Custom": code}]}``, or with
a name in place of the code, and any other as a name. A program's own code means nothing without the program:
6003 is exceeded slippage in DLMM and a disabled pool in DAMM v2.

Sources: raydium-io/raydium-cp-swap programs/cp-swap/src/error.rs; raydium-io/raydium-amm
program/src/error.rs; MeteoraAg/dlmm-sdk idls/dlmm.json; MeteoraAg/damm-v2 programs/cp-amm/src/error.rs;
Anchor's lang/src/error.rs; solana-program/token interface/src/error.rs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solders.pubkey import Pubkey

from service.chains.solana.addresses import (
    ASSOCIATED_TOKEN_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
)
from service.chains.solana.programs.registry import ProgramIds
from service.domain.failures import Failure, FailureCode

_INSTRUCTION, _CUSTOM = "InstructionError", "Custom"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_U32_MAX = 2**32 - 1

# Programs whose codes are their own from 100 on: below are those of the token program that they call.
_FIRST_ANCHOR_CODE = 100

# Of the token program: insufficient funds. Of the system program: insufficient lamports.
_TRANSFER_CODES = {1: FailureCode.INSUFFICIENT_BALANCE}

# It takes SOL from the wallet only for the rent of accounts.
_ASSOCIATED_TOKEN_CODES = {1: FailureCode.INSUFFICIENT_SOL}

_CPMM_CODES = {
    2505: FailureCode.AMOUNT_TOO_SMALL,  # RequireGtViolated: the output is zero
    6000: FailureCode.POOL_DISABLED,  # NotApproved
    6002: FailureCode.INSUFFICIENT_LIQUIDITY,  # EmptySupply
    6005: FailureCode.SLIPPAGE_EXCEEDED,  # ExceededSlippage
    6006: FailureCode.AMOUNT_TOO_SMALL,  # ZeroTradingTokens
}
_AMM_V4_CODES = {
    22: FailureCode.POOL_DISABLED,  # InvalidStatus
    29: FailureCode.AMOUNT_TOO_SMALL,  # InvalidInput: the input or the output is zero
    30: FailureCode.SLIPPAGE_EXCEEDED,  # ExceededSlippage
    40: FailureCode.INSUFFICIENT_BALANCE,  # InsufficientFunds
}
_DLMM_CODES = {
    3005: FailureCode.TRANSACTION_FAILED,  # AccountNotEnoughKeys: it reached an array that was not carried
    6003: FailureCode.SLIPPAGE_EXCEEDED,  # ExceededAmountSlippageTolerance
    6012: FailureCode.INSUFFICIENT_LIQUIDITY,  # PairInsufficientLiquidity
    6036: FailureCode.INSUFFICIENT_LIQUIDITY,  # BitmapExtensionAccountIsNotProvided: no array is left
    6037: FailureCode.INSUFFICIENT_LIQUIDITY,  # CannotFindNonZeroLiquidityBinArrayId
    6039: FailureCode.AMOUNT_TOO_SMALL,  # InsufficientOutAmount
    6042: FailureCode.POOL_DISABLED,  # PoolDisabled
}
_DAMM_V2_CODES = {
    6002: FailureCode.SLIPPAGE_EXCEEDED,  # ExceededSlippage
    6003: FailureCode.POOL_DISABLED,  # PoolDisabled
    6015: FailureCode.INSUFFICIENT_LIQUIDITY,  # PriceRangeViolation
    6023: FailureCode.INSUFFICIENT_LIQUIDITY,  # InsufficientLiquidity
}

_LIMITS_TOO_LOW = frozenset(
    {"ComputationalBudgetExceeded", "ProgramFailedToComplete", "MaxLoadedAccountsDataSizeExceeded"}
)
_SAME_BYTES_AGAIN = frozenset({"AccountInUse", "AlreadyProcessed", "BlockhashNotFound"})
_TOO_LITTLE_SOL = frozenset({"AccountNotFound", "InsufficientFundsForFee", "InsufficientFundsForRent"})


class UnreadableError(Exception):
    """The JSON is not an error of a transaction. The message repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class TransactionError:
    """Why a transaction failed.

    Attributes:
        name: The error's name; ``Custom`` for a program's own code.
        instruction: The instruction's index; None if the error is not one of an instruction.
        program: The instruction's program.
        code: The program's own code.
    """

    name: str
    instruction: int | None = None
    program: Pubkey | None = None
    code: int | None = None

    @property
    def limits_too_low(self) -> bool:
        """Whether higher limits of compute or loaded bytes may help."""
        return self.name in _LIMITS_TOO_LOW

    @property
    def same_bytes_may_land(self) -> bool:
        """Whether it says nothing about the transaction itself: the same bytes may land, or have landed."""
        return self.instruction is None and self.name in _SAME_BYTES_AGAIN

    def __str__(self) -> str:
        """Return what an operator looks for: where it failed and with what."""
        what = self.name if self.code is None else f"error {self.code}"
        where = "" if self.instruction is None else f" of {self.program}, instruction {self.instruction}"
        return what + where


def read_error(error: object, programs: Sequence[Pubkey]) -> TransactionError:
    """Read a node's JSON of an error.

    Args:
        error: The JSON, not null.
        programs: The programs of the transaction's instructions, in their sequence.

    Raises:
        UnreadableError: It is not an error of this transaction.
    """
    match error:
        case str():
            return TransactionError(_name(error))
        case {"InstructionError": [int(index), inner]} if 0 <= index < len(programs):
            return _instruction_error(inner, index, programs[index])
        case Mapping() if len(error) == 1 and _INSTRUCTION not in error:
            # Such as {"InsufficientFundsForRent": {"account_index": 0}}.
            return TransactionError(_name(next(iter(error))))
    raise UnreadableError("not a transaction's error")


def _instruction_error(inner: Any, index: int, program: Pubkey) -> TransactionError:
    match inner:
        case str():
            return TransactionError(_name(inner), index, program)
        case {"Custom": int(code)} if 0 <= code <= _U32_MAX:
            return TransactionError(_CUSTOM, index, program, code)
        case Mapping() if len(inner) == 1 and _CUSTOM not in inner:
            return TransactionError(_name(next(iter(inner))), index, program)
    raise UnreadableError("not an instruction's error")


def _name(value: object) -> str:
    """Return an error's name: it goes into an order's history, so no other text of a node is accepted."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise UnreadableError("not an error's name")


def failure_of(error: TransactionError, ids: ProgramIds, *, sells_sol: bool = True) -> Failure:
    """Return the failure that an error of a transaction which cannot land any more means for its order.

    An error that is not known counts as permanent: every attempt on a chain costs a fee.

    Args:
        error: The error.
        ids: The programs of the cluster.
        sells_sol: Whether the transaction sells SOL. Otherwise the system program takes it only for rent.
    """
    if error.program == SYSTEM_PROGRAM and error.code in _TRANSFER_CODES and not sells_sol:
        code = FailureCode.INSUFFICIENT_SOL
    elif error.code is not None:
        code = _codes(error, ids).get(error.code, FailureCode.TRANSACTION_REJECTED)
    elif error.limits_too_low or error.same_bytes_may_land:
        code = FailureCode.TRANSACTION_FAILED
    elif error.instruction is None and error.name in _TOO_LITTLE_SOL:
        code = FailureCode.INSUFFICIENT_SOL
    else:
        code = FailureCode.TRANSACTION_REJECTED
    return Failure(code, f"{Failure.of(code).detail} ({error})")


def _codes(error: TransactionError, ids: ProgramIds) -> Mapping[int, FailureCode]:
    if error.program == ids.raydium_amm_v4:
        return _AMM_V4_CODES
    if error.program == ASSOCIATED_TOKEN_PROGRAM:
        return _ASSOCIATED_TOKEN_CODES
    own = {
        ids.raydium_cpmm: _CPMM_CODES,
        ids.meteora_dlmm: _DLMM_CODES,
        ids.meteora_damm_v2: _DAMM_V2_CODES,
    }
    callers = {SYSTEM_PROGRAM, TOKEN_PROGRAM, TOKEN_2022_PROGRAM}
    if error.program in own and error.code is not None and error.code >= _FIRST_ANCHOR_CODE:
        return own[error.program]
    return _TRANSFER_CODES if error.program in own or error.program in callers else {}
