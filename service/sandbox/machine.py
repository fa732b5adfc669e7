"""Executes one transaction on given accounts: LiteSVM, with the swaps rewritten.

It keeps no state of its own: each execution reads its accounts from the caller, and returns what changes.
LiteSVM holds a copy of accounts that were read before, which is replaced if the caller's differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from solders.account import Account
from solders.litesvm import LiteSVM
from solders.message import MessageV0, MessageV1, TransactionConfig
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from service.amm import ChainTime
from service.chains.solana.addresses import (
    ASSOCIATED_TOKEN_PROGRAM,
    MEMO_PROGRAM,
    SYSTEM_PROGRAM,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
)
from service.chains.solana.builder import LAMPORTS_PER_SIGNATURE, MAX_COMPUTE_UNITS, MAX_LOADED_BYTES
from service.chains.solana.programs.registry import AmmPrograms
from service.sandbox.accounts import StoredAccount, rent_exempt
from service.sandbox.budget import (
    COMPUTE_BUDGET_PROGRAM,
    Budget,
    InvalidBudgetError,
    budget_of,
)
from service.sandbox.errors import TransactionRefusedError, instruction_error
from service.sandbox.rewriting import Rewriter, Rewritten
from service.sandbox.runs import InnerCall, Run, verdict

RENT_SYSVAR = Pubkey.from_string("SysvarRent111111111111111111111111111111111")

BROUGHT_ALONG = (
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    TOKEN_2022_PROGRAM,
    ASSOCIATED_TOKEN_PROGRAM,
    MEMO_PROGRAM,
    COMPUTE_BUDGET_PROGRAM,
    RENT_SYSVAR,
)
"""The programs and the sysvar that LiteSVM brings along."""

DOUBLED_PROGRAM_BYTES = 1 << 20
"""What a doubled program counts as loaded bytes; made up, so that a limit without room for programs fails."""

_ACCOUNT_OVERHEAD_BYTES = 64
_RENT_EPOCH = 2**64 - 1
_NO_ACCOUNT = Account(0, b"", SYSTEM_PROGRAM, executable=False, rent_epoch=0)

Read = Callable[[Pubkey], StoredAccount | None]


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """What a transaction does.

    Attributes:
        error: Why it fails, as a node reports it; None if it succeeds.
        budget: Its limits and its fee, which it pays in any case.
        units: The compute units that it uses.
        loaded_bytes: The bytes of its accounts and programs.
        logs: The programs' logs.
        changed: The accounts after it, where they differ; None for one that does not exist any more.
        inner: What each instruction called, by its index.
    """

    error: Any
    budget: Budget
    units: int
    loaded_bytes: int
    logs: list[str]
    changed: dict[Pubkey, StoredAccount | None]
    inner: dict[int, list[InnerCall]] = field(default_factory=dict)


class Machine:
    """Executes transactions."""

    def __init__(self, programs: AmmPrograms) -> None:
        self._svm = (
            LiteSVM()
            .with_sigverify(False)  # noqa: FBT003 - its parameter has no name
            .with_blockhash_check(False)  # noqa: FBT003
            .with_transaction_history(0)
            .with_log_bytes_limit(None)
        )
        self._rewriter = Rewriter(programs)
        self._held: dict[Pubkey, StoredAccount | None] = {}

    def own_account(self, key: Pubkey) -> StoredAccount | None:
        """Return an account that LiteSVM brings along: a program, or a sysvar."""
        found = self._svm.get_account(key)
        return None if found is None else _stored(found)

    def is_doubled(self, program: Pubkey) -> bool:
        """Whether a double stands for a program."""
        return program in self._rewriter.doubles

    def execute(self, transaction: VersionedTransaction, read: Read, now: ChainTime) -> ExecutionResult:
        """Execute a transaction; nothing is kept.

        Args:
            transaction: Its signatures and its blockhash are not checked here.
            read: Returns an account as it is before.
            now: The chain's time.

        Raises:
            TransactionRefusedError: It cannot be part of a block, and pays no fee.
        """
        keys = transaction.message.account_keys
        budget = _budget(transaction)
        payer = _payer(read(keys[0]), budget.fee)
        paid = StoredAccount(payer.lamports - budget.fee, payer.owner, payer.data)
        self._check_programs(transaction, read)
        loaded = self._loaded_bytes(keys, read)
        failed = {keys[0]: paid if paid.lamports else None}
        if loaded > budget.loaded_bytes:
            return ExecutionResult("MaxLoadedAccountsDataSizeExceeded", budget, 0, loaded, [], dict(failed))
        rewritten = self._rewriter.rewrite(transaction, read, now)
        run = self._run(keys, rewritten, paid, read)
        error, units = verdict(run, keys, budget.units, len(transaction.message.instructions))
        if error is not None:
            return ExecutionResult(error, budget, units, loaded, run.logs, dict(failed))
        changed = _changed(failed, rewritten, run, read)
        return ExecutionResult(None, budget, units, loaded, run.logs, changed, run.inner(keys))

    def _check_programs(self, transaction: VersionedTransaction, read: Read) -> None:
        keys = transaction.message.account_keys
        for each in transaction.message.instructions:
            program = keys[each.program_id_index]
            if self.is_doubled(program):
                continue
            found = read(program)
            if found is None:
                raise TransactionRefusedError("ProgramAccountNotFound")
            if not found.executable:
                raise TransactionRefusedError("InvalidProgramForExecution")

    def _loaded_bytes(self, keys: Sequence[Pubkey], read: Read) -> int:
        total = 0
        for key in keys:
            found = read(key)
            if found is not None:
                total += _ACCOUNT_OVERHEAD_BYTES + len(found.data)
            if self.is_doubled(key):
                total += DOUBLED_PROGRAM_BYTES
        return total

    def _run(self, keys: Sequence[Pubkey], rewritten: Rewritten, paid: StoredAccount, read: Read) -> Run:
        if not rewritten.instructions:
            return Run(None, rewritten, ())
        config = TransactionConfig(
            compute_unit_limit=MAX_COMPUTE_UNITS, loaded_accounts_data_size_limit=MAX_LOADED_BYTES
        )
        message = MessageV1.try_compile(keys[0], rewritten.instructions, self._svm.latest_blockhash(), config)
        signatures = message.header.num_required_signatures
        for key in message.account_keys:
            self._hold(key, read(key))
        # LiteSVM takes a fee for each signature, those of the programs included; it is given back beforehand.
        funded = StoredAccount(paid.lamports + LAMPORTS_PER_SIGNATURE * signatures, paid.owner, paid.data)
        self._hold(keys[0], funded)
        return Run(
            self._svm.simulate_transaction(
                VersionedTransaction.populate(message, [Signature.default()] * signatures)
            ),
            rewritten,
            message.account_keys,
        )

    def _hold(self, key: Pubkey, account: StoredAccount | None) -> None:
        """Give LiteSVM an account, unless it has it or brings it along."""
        if account is not None and account.executable:
            return
        held = self._held.get(key)
        if held is account or held == account:
            return
        if account is None:
            self._svm.set_account(key, _NO_ACCOUNT)
            del self._held[key]
            return
        self._svm.set_account(
            key,
            Account(account.lamports, account.data, account.owner, executable=False, rent_epoch=_RENT_EPOCH),
        )
        self._held[key] = account


def _changed(
    paid: dict[Pubkey, StoredAccount | None], rewritten: Rewritten, run: Run, read: Read
) -> dict[Pubkey, StoredAccount | None]:
    """Return the accounts that differ after a transaction that succeeded."""
    after: dict[Pubkey, StoredAccount | None] = {**paid}
    after |= {key: _stored(account) for key, account in run.accounts}
    for key, data in rewritten.written.items():
        before = after.get(key) or read(key)
        if before is None:
            raise AssertionError(f"account {key} is gone")
        after[key] = StoredAccount(before.lamports, before.owner, data)
    return {key: account for key, account in after.items() if account != read(key)}


def _budget(transaction: VersionedTransaction) -> Budget:
    message = transaction.message
    if isinstance(message, MessageV0) and message.address_table_lookups:
        raise TransactionRefusedError("AddressLookupTableNotFound")
    try:
        return budget_of(transaction)
    except InvalidBudgetError as invalid:
        if invalid.name == "DuplicateInstruction":
            raise TransactionRefusedError({invalid.name: invalid.index}) from None
        raise TransactionRefusedError(instruction_error(invalid.index, invalid.name)) from None


def _payer(account: StoredAccount | None, fee: int) -> StoredAccount:
    if account is None:
        raise TransactionRefusedError("AccountNotFound")
    if account.owner != SYSTEM_PROGRAM or account.data:
        raise TransactionRefusedError("InvalidAccountForFee")
    left = account.lamports - fee
    if left < 0:
        raise TransactionRefusedError("InsufficientFundsForFee")
    if 0 < left < rent_exempt(0):
        raise TransactionRefusedError({"InsufficientFundsForRent": {"account_index": 0}})
    return account


def _stored(account: Account) -> StoredAccount | None:
    if account.lamports == 0:
        return None
    return StoredAccount(account.lamports, account.owner, bytes(account.data), account.executable)
