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


def read_statuses(value: Any, count: int) -> list[SignatureStatus | None]:
    """Return the status of each signature, None for one that the node does not know.

    Args:
        value: The answer's value.
        count: How many signatures were asked for.

    Raises:
        MalformedStatusError: The answer has another form.
    """
    if not isinstance(value, list) or len(value) != count:
        raise MalformedStatusError(f"not the statuses of {count} signatures")
    return [None if each is None else _status(each) for each in value]


def _status(value: Any) -> SignatureStatus:
    match value:
        case {"slot": int(slot), "err": error, "confirmationStatus": str(commitment)}:
            with suppress(ValueError):
                return SignatureStatus(slot, ConfirmationStatus(commitment), error is not None)
    raise MalformedStatusError("not the status of a signature")
