"""What a node says of a signature, from its answer to getSignatureStatuses. Pure.

Only a finalized status is final, in both directions: what failed on one fork may succeed on another, with the
same bytes.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MOST_SIGNATURES = 256
"""How many signatures a node answers at once."""

# A status that is further after its answer's own slot is absurd, and may be final.
_MOST_AHEAD = 150


class MalformedStatusError(Exception):
    """The node's answer is no list of the statuses that were asked for."""


class ConfirmationStatus(StrEnum):
    """How sure a node is of a transaction's block."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """A transaction in a block, as a node sees it.

    Attributes:
        slot: The block's slot.
        commitment: How sure the node is of the block.
        failed: Whether the transaction failed there.
    """

    slot: int
    commitment: ConfirmationStatus
    failed: bool

    @property
    def finalized(self) -> bool:
        """Whether no fork removes the block."""
        return self.commitment is ConfirmationStatus.FINALIZED


def read_statuses(value: Any, count: int, slot: int | None = None) -> list[SignatureStatus | None]:
    """Return the status of each signature, None for one that the node does not know.

    Args:
        value: The answer's value.
        count: How many signatures were asked for.
        slot: The answer's slot; None: it has none.

    Raises:
        MalformedStatusError: The answer has another form, or a status is of an absurd slot.
    """
    if not isinstance(value, list) or len(value) != count:
        raise MalformedStatusError(f"not the statuses of {count} signatures")
    statuses = [None if each is None else _status(each) for each in value]
    if slot is not None and any(each is not None and each.slot > slot + _MOST_AHEAD for each in statuses):
        raise MalformedStatusError("a status of a slot that is far after the answer's")
    return statuses


def _status(value: Any) -> SignatureStatus:
    match value:
        case {"slot": int(slot), "err": error, "confirmationStatus": str(commitment)}:
            with suppress(ValueError):
                return SignatureStatus(slot, ConfirmationStatus(commitment), error is not None)
    raise MalformedStatusError("not the status of a signature")
