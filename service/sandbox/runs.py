"""LiteSVM's answer to a rewritten transaction, in terms of the original one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey
from solders.transaction_metadata import FailedTransactionMetadata, SimulatedTransactionInfo

from service.sandbox.budget import BUILTIN_UNITS
from service.sandbox.errors import error_json, instruction_error
from service.sandbox.rewriting import Rewritten

_CONSUMED = re.compile(r"Program (\w+) consumed (\d+) of \d+ compute units")
_INVOKED = re.compile(r"Program (\w+) invoke \[1\]")
_EXCEEDED = "ComputationalBudgetExceeded"


@dataclass(frozen=True, slots=True)
class InnerCall:
    """An instruction that another one called; places are those of the transaction's accounts."""

    program: int
    accounts: tuple[int, ...]
    data: bytes
    depth: int


class Run:
    """LiteSVM's answer, in terms of the original transaction."""

    def __init__(
        self,
        answer: SimulatedTransactionInfo | FailedTransactionMetadata | None,
        rewritten: Rewritten,
        keys: Sequence[Pubkey],
    ) -> None:
        self._answer = answer
        self.rewritten = rewritten
        self._keys = keys
        self.logs: list[str] = [] if answer is None else list(answer.meta().logs())

    @property
    def accounts(self) -> list[tuple[Pubkey, Account]]:
        """The accounts afterwards."""
        answer = self._answer
        return list(answer.post_accounts()) if isinstance(answer, SimulatedTransactionInfo) else []

    def error(self, keys: Sequence[Pubkey]) -> Any:
        """Return the error with the original's index and code, or None; ``keys`` are the original's."""
        if isinstance(self._answer, FailedTransactionMetadata):
            error = error_json(self._answer, self.rewritten.origins, self.rewritten.codes)
            match error:
                case {"InsufficientFundsForRent": {"account_index": place}}:
                    return {"InsufficientFundsForRent": {"account_index": keys.index(self._keys[place])}}
            return error
        refusal = self.rewritten.refusal
        return None if refusal is None else instruction_error(refusal.index, refusal.reason)

    def units(self) -> dict[int, int]:
        """Return the compute units of each original instruction that was reached."""
        used = dict(self.rewritten.units)
        for origin, group in zip(self.rewritten.origins, self._groups(), strict=False):
            if origin not in self.rewritten.units:
                used[origin] = used.get(origin, 0) + _units_of(group)
        return used

    def _groups(self) -> list[list[str]]:
        """Return the logs of each instruction that LiteSVM reached."""
        groups: list[list[str]] = []
        for line in self.logs:
            if _INVOKED.match(line):
                groups.append([])
            if groups:
                groups[-1].append(line)
        return groups

    def inner(self, keys: Sequence[Pubkey]) -> dict[int, list[InnerCall]]:
        """Return what each original instruction called, by the places of the original's accounts."""
        if self._answer is None:
            return {}
        places = {key: place for place, key in enumerate(keys)}
        own, rewritten = self._keys, self.rewritten
        inner: dict[int, list[InnerCall]] = {}
        for origin, each, called in zip(
            rewritten.origins,
            rewritten.instructions,
            self._answer.meta().inner_instructions(),
            strict=False,
        ):
            calls = inner.setdefault(origin, [])
            if origin in rewritten.units:
                accounts = tuple(places[account.pubkey] for account in each.accounts)
                calls.append(InnerCall(places[each.program_id], accounts, each.data, 2))
            for call in called:
                compiled = call.instruction()
                accounts = tuple(places[own[place]] for place in compiled.accounts)
                program = places[own[compiled.program_id_index]]
                calls.append(InnerCall(program, accounts, compiled.data, call.stack_height() or 2))
        return {origin: calls for origin, calls in inner.items() if calls}


def _units_of(group: Sequence[str]) -> int:
    """Return the compute units of one instruction, from its logs."""
    invoked = _INVOKED.match(group[0])
    for line in reversed(group):
        found = _CONSUMED.match(line)
        if found and invoked and found[1] == invoked[1]:
            return int(found[2])
    return BUILTIN_UNITS


def verdict(run: Run, keys: Sequence[Pubkey], limit: int, instructions: int) -> tuple[Any, int]:
    """Return the error, or None, and the units used: the first instruction that fails counts.

    Args:
        run: LiteSVM's answer.
        keys: The transaction's accounts.
        limit: Its limit of compute units.
        instructions: How many it has.
    """
    error = run.error(keys)
    reached = instructions
    match error:
        case {"InstructionError": [index, _]}:
            reached = index + 1
    used, total = run.units(), 0
    for index in range(reached):
        total += used.get(index, 0)
        if total > limit:
            return instruction_error(index, _EXCEEDED), limit
    return error, total
