"""Errors of transactions, in the JSON that a node answers, and errors of the JSON-RPC interface."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from solders.transaction_metadata import FailedTransactionMetadata

_INSTRUCTION, _CUSTOM = "InstructionError", "Custom"


class TransactionRefusedError(Exception):
    """The transaction cannot be part of a block; it has no status and pays nothing.

    Attributes:
        error: The error as a node reports it.
    """

    def __init__(self, error: Any) -> None:
        super().__init__(f"refused: {error}")
        self.error = error


class CallRefusedError(Exception):
    """An error answer of JSON-RPC.

    Attributes:
        code: The error's number.
        message: For people.
        data: What clients read; None if there is nothing.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, Any]:
        """Return the ``error`` of an answer."""
        error = {"code": self.code, "message": self.message}
        return error if self.data is None else {**error, "data": self.data}


def invalid_params(message: str) -> CallRefusedError:
    """Return the error for wrong parameters of a method."""
    return CallRefusedError(-32602, message)


def instruction_error(index: int, reason: int | str) -> dict[str, Any]:
    """Return the error of an instruction: a program's own code, or a name."""
    return {_INSTRUCTION: [index, {_CUSTOM: reason} if isinstance(reason, int) else reason]}


def error_json(
    failed: FailedTransactionMetadata, origins: Sequence[int], codes: Mapping[int, Mapping[int, int]]
) -> Any:
    """Return LiteSVM's error in a node's JSON, with the original instruction's index and code.

    Args:
        failed: LiteSVM's answer.
        origins: The index of the original instruction of each of LiteSVM's.
        codes: Codes that are others in the original, by the position of the instruction in LiteSVM.
    """
    error = json.loads(failed.to_json())["err"]
    if not isinstance(error, dict) or _INSTRUCTION not in error:
        return error
    position, inner = error[_INSTRUCTION]
    if isinstance(inner, dict) and _CUSTOM in inner:
        code = inner[_CUSTOM]
        return instruction_error(origins[position], codes.get(position, {}).get(code, code))
    return {_INSTRUCTION: [origins[position], inner]}


_TEXTS = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
}


def error_text(error: Any) -> str:
    """Return an error as nodes write it in the message of a failed preflight."""
    match error:
        case {"InstructionError": [index, {"Custom": code}]}:
            return f"Error processing Instruction {index}: custom program error: {code:#x}"
        case {"InstructionError": [index, inner]}:
            return f"Error processing Instruction {index}: {inner}"
        case str():
            return _TEXTS.get(error, error)
    return json.dumps(error)
