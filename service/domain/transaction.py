"""A signed transaction for an order, and its outcome."""

from dataclasses import dataclass
from enum import Enum, auto

from service.domain.failures import Failure


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A signed transaction, durable before its first byte is sent.

    ``id`` is the transaction's signature. The transaction is atomic: it pays at most ``maximum_in`` base
    units and receives at least ``minimum_out``, or does not land. ``last_valid_slot`` is the last slot in
    which it can land. ``dex`` is its route's, or ``multiple``; the API and the tables call it venue.
    """

    id: str
    dex: str
    raw: bytes
    maximum_in: int
    minimum_out: int
    last_valid_slot: int


@dataclass(frozen=True, slots=True)
class Fill:
    """An order's fill: base units paid and received, and the transaction."""

    amount_in: int
    amount_out: int
    tx_hash: str


@dataclass(frozen=True, slots=True)
class Landing:
    """When a transaction landed: in which slot, and at what time (RFC 3339, UTC)."""

    slot: int
    at: str


class TransactionState(Enum):
    """A transaction's state at its venue."""

    UNKNOWN = auto()  # not seen, but it may still land: the same bytes may be sent again
    PENDING = auto()
    LANDED = auto()  # final
    FAILED = auto()  # final: it did not trade, and never will
    EXPIRED = auto()  # final: it did not land before its last valid slot passed


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """A transaction's state at its venue, with details.

    ``fill`` and ``landing`` are set if it landed, ``failure`` if it failed. ``landing`` is None if the
    venue no longer has it.
    """

    state: TransactionState
    fill: Fill | None = None
    failure: Failure | None = None
    landing: Landing | None = None

    @property
    def final(self) -> bool:
        """Whether the state can never change again."""
        return self.state not in {TransactionState.UNKNOWN, TransactionState.PENDING}
