"""Rewrites a transaction for LiteSVM: each swap becomes the two token transfers that its program makes.

One transaction stays one transaction, so that it is atomic, and rent and the errors of all other
instructions are LiteSVM's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.amm import ChainTime
from service.chains.solana.addresses import ASSOCIATED_TOKEN_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.programs.registry import AmmPrograms
from service.sandbox.accounts import StoredAccount
from service.sandbox.budget import BUILTIN_UNITS, COMPUTE_BUDGET_PROGRAM
from service.sandbox.doubles.double import Double
from service.sandbox.doubles.programs import doubles_of
from service.sandbox.doubles.staged import ProgramRefusedError, Staged
from service.sandbox.messages import instructions_of

_INSUFFICIENT_FUNDS = 1

# How many instructions a transaction may execute, those that others call included.
_MAX_TRACE = 64

# InitializeAccount and its two later forms: the account, then its mint.
_INITIALIZE_TAGS = (1, 16, 18)
# Create and CreateIdempotent of the associated token program: payer, account, owner, mint.
_CREATE_ACCOUNTS = 4


@dataclass(frozen=True, slots=True)
class Refusal:
    """An instruction that a double refuses, with the reason: a code, or an error's name."""

    index: int
    reason: int | str


@dataclass(slots=True)
class Rewritten:
    """A transaction for LiteSVM.

    Attributes:
        instructions: The instructions; if one is refused, those before it.
        origins: The index of the original instruction of each.
        codes: Codes of LiteSVM's that have another one here, by the position of the instruction.
        units: Compute units of the instructions that LiteSVM does not execute, by their indices.
        written: The new data of the programs' accounts.
        refusal: The first instruction that a double refuses; None if it refuses none.
    """

    instructions: list[Instruction] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    codes: dict[int, Mapping[int, int]] = field(default_factory=dict)
    units: dict[int, int] = field(default_factory=dict)
    written: dict[Pubkey, bytes] = field(default_factory=dict)
    refusal: Refusal | None = None

    def add(self, index: int, instruction: Instruction, codes: Mapping[int, int] | None = None) -> None:
        """Add an instruction that stands for the original one at an index."""
        if codes:
            self.codes[len(self.instructions)] = codes
        self.instructions.append(instruction)
        self.origins.append(index)


class Rewriter:
    """Rewrites transactions that call the programs of a cluster."""

    def __init__(self, programs: AmmPrograms) -> None:
        self._programs = programs
        self.doubles = doubles_of(programs.ids)

    def rewrite(
        self,
        transaction: VersionedTransaction,
        read: Callable[[Pubkey], StoredAccount | None],
        now: ChainTime,
    ) -> Rewritten:
        """Rewrite a transaction, up to the first instruction that a double refuses."""
        staged = Staged(read, now)
        result = Rewritten()
        trace = 0
        for index, each in enumerate(instructions_of(transaction)):
            double = self.doubles.get(each.program_id)
            trace += 1 if double is None else 1 + double.calls
            if trace > _MAX_TRACE:
                result.refusal = Refusal(index, "MaxInstructionTraceLengthExceeded")
            elif each.program_id == COMPUTE_BUDGET_PROGRAM:
                result.units[index] = BUILTIN_UNITS
            elif double is not None:
                self._swap(index, each, double, staged, result)
            else:
                _note_opened(each, staged)
                result.add(index, each)
            if result.refusal is not None:
                break
        return result

    def _swap(self, index: int, each: Instruction, double: Double, staged: Staged, result: Rewritten) -> None:
        result.units[index] = double.units
        codes = {} if double.checks_balance is None else {_INSUFFICIENT_FUNDS: double.checks_balance}
        try:
            swap = double.execute(self._programs, each.program_id, each.accounts, each.data, staged)
        except ProgramRefusedError as refused:
            if refused.paid_first is not None:
                result.add(index, refused.paid_first, codes)
            result.refusal = Refusal(index, refused.reason)
            return
        staged.apply(swap)
        result.units[index] = swap.units
        pay, receive = swap.transfers
        result.add(index, pay, codes)
        result.add(index, receive)
        result.written.update(swap.written)


def _note_opened(each: Instruction, staged: Staged) -> None:
    accounts = each.accounts
    if each.program_id in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM):
        if each.data and each.data[0] in _INITIALIZE_TAGS and len(accounts) > 1:
            staged.open(accounts[0].pubkey, accounts[1].pubkey)
    elif each.program_id == ASSOCIATED_TOKEN_PROGRAM and len(accounts) >= _CREATE_ACCOUNTS:
        staged.open(accounts[1].pubkey, accounts[3].pubkey)
