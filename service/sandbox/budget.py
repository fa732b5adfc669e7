"""What a transaction may use and what it pays: LiteSVM neither enforces nor charges it for version 1.

Version 1 has its limits in the message, as SIMD-0385 says: a limit that is not set is zero there, and the
priority fee is a total in lamports. In older versions instructions of the compute budget program set them,
with defaults, and the price is in micro-lamports for each compute unit.
"""

import struct
from dataclasses import dataclass

from solders.message import MessageV1
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.amm.integers import ceil_div
from service.chains.solana.builder import LAMPORTS_PER_SIGNATURE, MAX_COMPUTE_UNITS, MAX_LOADED_BYTES

COMPUTE_BUDGET_PROGRAM = Pubkey.from_string("ComputeBudget111111111111111111111111111111")

BUILTIN_UNITS = 150
"""Compute units of an instruction of the system program or of the compute budget program."""

_DEFAULT_UNITS, _DEFAULT_BUILTIN_UNITS = 200_000, 3_000
_BUILTINS = frozenset({COMPUTE_BUDGET_PROGRAM, Pubkey.default()})
_HEAP, _UNIT_LIMIT, _UNIT_PRICE, _LOADED_LIMIT = 1, 2, 3, 4
_ARGUMENTS = {_HEAP: "<I", _UNIT_LIMIT: "<I", _UNIT_PRICE: "<Q", _LOADED_LIMIT: "<I"}
_MICRO = 1_000_000


class InvalidBudgetError(Exception):
    """An instruction of the compute budget program is malformed, or given twice.

    Attributes:
        index: The instruction.
        name: The error: of the instruction, or ``DuplicateInstruction``, which is one of the transaction.
    """

    def __init__(self, index: int, name: str) -> None:
        super().__init__(f"instruction {index}: {name}")
        self.index = index
        self.name = name


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a transaction, and its fee.

    Attributes:
        units: Compute units.
        loaded_bytes: Bytes of its accounts and programs together.
        fee: Lamports in all.
        priority_fee: Lamports of it.
    """

    units: int
    loaded_bytes: int
    fee: int
    priority_fee: int

    @property
    def micro_lamports_per_unit(self) -> int:
        """The priority fee by the compute unit, in millionths of a lamport."""
        return self.priority_fee * _MICRO // max(self.units, 1)


def budget_of(transaction: VersionedTransaction) -> Budget:
    """Return the budget of a transaction.

    Raises:
        InvalidBudgetError: Its instructions do not give one.
    """
    message = transaction.message
    base = LAMPORTS_PER_SIGNATURE * message.header.num_required_signatures
    if isinstance(message, MessageV1):
        config = message.config
        priority = config.priority_fee or 0
        units = min(config.compute_unit_limit or 0, MAX_COMPUTE_UNITS)
        loaded = min(config.loaded_accounts_data_size_limit or 0, MAX_LOADED_BYTES)
        return Budget(units, loaded, base + priority, priority)
    settings, default_units = _older_settings(transaction)
    units = min(settings.get(_UNIT_LIMIT, default_units), MAX_COMPUTE_UNITS)
    loaded = min(settings.get(_LOADED_LIMIT, MAX_LOADED_BYTES), MAX_LOADED_BYTES)
    priority = ceil_div(settings.get(_UNIT_PRICE, 0) * units, _MICRO)
    return Budget(units, loaded, base + priority, priority)


def _older_settings(transaction: VersionedTransaction) -> tuple[dict[int, int], int]:
    """Return the values that instructions set, by their tags, and the default limit of compute units."""
    message = transaction.message
    keys = message.account_keys
    settings: dict[int, int] = {}
    default_units = 0
    for index, each in enumerate(message.instructions):
        program = keys[each.program_id_index]
        default_units += _DEFAULT_BUILTIN_UNITS if program in _BUILTINS else _DEFAULT_UNITS
        if program != COMPUTE_BUDGET_PROGRAM:
            continue
        tag = each.data[0] if each.data else -1
        form = _ARGUMENTS.get(tag)
        if form is None or len(each.data) != 1 + struct.calcsize(form):
            raise InvalidBudgetError(index, "InvalidInstructionData")
        if tag in settings:
            raise InvalidBudgetError(index, "DuplicateInstruction")
        [settings[tag]] = struct.unpack_from(form, each.data, 1)
    return settings, default_units
