"""A signed transaction for an order, and what became of it."""

from dataclasses import dataclass
from enum import Enum, auto

from service.domain.failures import Failure


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A signed transaction, durable before its first byte is sent.

    ``id`` is the transaction's signature. It lands whole, paying ``maximum_in`` base units at most and
    receiving ``minimum_out`` at least, or not at all. ``last_valid_slot`` is the last slot in which it
    can land.
    """

    id: str
    venue: str
    raw: bytes
    maximum_in: int
    minimum_out: int
    last_valid_slot: int


@dataclass(frozen=True, slots=True)
class Fill:
    """What an order paid and got, in base units, by which transaction."""

    amount_in: int
    amount_out: int
    tx_hash: str


@dataclass(frozen=True, slots=True)
class Landing:
    """When a transaction landed: in which slot, and at what time (RFC 3339, UTC)."""

    slot: int
    at: str


class TransactionState(Enum):
    """What a venue knows of a transaction."""

    UNKNOWN = auto()  # not seen, and it may still land: the same bytes may be sent again
    PENDING = auto()
    LANDED = auto()  # final
    FAILED = auto()  # final: it did not trade, and never will
    EXPIRED = auto()  # final: its last valid slot has passed without it


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """What a venue knows of a transaction.

    ``fill`` and ``landing`` tell of one that landed, ``failure`` of one that failed. ``landing`` is None
    where the venue no longer knows.
    """

    state: TransactionState
    fill: Fill | None = None
    failure: Failure | None = None
    landing: Landing | None = None

    @property
    def final(self) -> bool:
        """Whether the answer can never change."""
        return self.state not in {TransactionState.UNKNOWN, TransactionState.PENDING}
