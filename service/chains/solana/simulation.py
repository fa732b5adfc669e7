"""What a simulated transaction needs, from a node's answer to simulateTransaction. Pure.

The simulation runs with the highest limits. The limits of the transaction that is sent follow from what it
used, with a margin, since the state of the pools may have changed before it lands. In version 1 a limit that
is not set is zero, so both are always set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from solders.pubkey import Pubkey

from service.amm.integers import ceil_div
from service.chains.solana.builder import MAX_COMPUTE_UNITS, MAX_LOADED_BYTES, ComputeBudget
from service.chains.solana.errors import TransactionError, UnreadableError, read_error

WIDEST = ComputeBudget(compute_units=MAX_COMPUTE_UNITS, loaded_bytes=MAX_LOADED_BYTES, priority_fee=0)
"""What a transaction is simulated with."""

# The network charges loaded bytes by such pages.
_PAGE = 32 * 1024
_UNKNOWN_LOADED_BYTES = 16 * 1024 * 1024


class MalformedSimulationError(Exception):
    """The node's answer does not tell what the transaction would do."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a transaction would have done.

    Attributes:
        error: Why it would have failed; None if it would have succeeded.
        compute_units: What it used.
        loaded_bytes: The bytes of its accounts and programs; None if the node did not say.
        answer: All that the node said, for ``receipt.read_simulated``.
    """

    error: TransactionError | None
    compute_units: int
    loaded_bytes: int | None
    answer: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def budget(self, priority_fee: int) -> ComputeBudget:
        """Return the limits of the transaction to send: what it used with a margin, and within the network's.

        Args:
            priority_fee: Lamports in all.
        """
        units = min(max(1, ceil_div(self.compute_units * 12, 10)), MAX_COMPUTE_UNITS)
        if self.loaded_bytes is None:
            return ComputeBudget(units, _UNKNOWN_LOADED_BYTES, priority_fee)
        pages = ceil_div(self.loaded_bytes * 11, 10 * _PAGE)
        return ComputeBudget(units, min(pages * _PAGE, MAX_LOADED_BYTES), priority_fee)


def read_simulation(value: Any, programs: Sequence[Pubkey]) -> Simulation:
    """Read a node's answer to simulateTransaction.

    Args:
        value: The answer's value.
        programs: The programs of the transaction's instructions, in their sequence.

    Raises:
        MalformedSimulationError: The answer does not tell what the transaction would do.
    """
    if not isinstance(value, Mapping) or "err" not in value:
        raise MalformedSimulationError("no result of a simulation")
    error = None
    if value["err"] is not None:
        try:
            error = read_error(value["err"], programs)
        except UnreadableError as unreadable:
            raise MalformedSimulationError(str(unreadable)) from unreadable
    units = _count(value.get("unitsConsumed"))
    if units is None and error is None:
        raise MalformedSimulationError("a simulation without its compute units")
    # Nodes that do not know the number leave it out or answer 0; every transaction loads something.
    return Simulation(error, units or 0, _count(value.get("loadedAccountsDataSize")) or None, value)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
