"""A signed transaction for an order, and its outcome."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from service.domain.failures import Failure


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A signed transaction, durable before its first byte is sent.

    It is atomic: within both limits it trades as a whole, and otherwise not at all.

    Attributes:
        id: The transaction's signature.
        dex: Its route's DEX, or ``multiple``; the API and the tables call it venue.
        raw: The signed bytes.
        maximum_in: The most that it pays, in base units.
        minimum_out: The least that it receives, in base units.
        last_valid_height: The height of the last block in which it is valid, as the venue says it: above it,
            and only there, it can have expired. In the paper market every slot has a block, so that it is a
            slot. On Solana there are fewer blocks than slots, and it can still land one block later.
        blockhash_slot: The slot of the blockhash that it names: only a node with a history back to it can
            tell that the transaction did not land. None if the venue has no blockhashes.
    """

    id: str
    dex: str
    raw: bytes
    maximum_in: int
    minimum_out: int
    last_valid_height: int
    blockhash_slot: int | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """An order's fill: base units paid and received, and the transaction."""

    amount_in: int
    amount_out: int
    tx_hash: str


@dataclass(frozen=True, slots=True)
class Landing:
    """When a transaction was executed: in which slot, and at what time (RFC 3339, UTC)."""

    slot: int
    at: str


class SeenCommitment(StrEnum):
    """How sure it is that a block stays part of the chain, before it is final. The values are Solana's."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a transaction was seen before that is final: it may still vanish, or land in another slot.

    ``fill`` are the amounts as they are now; None if they are not known, or if it failed there.
    """

    slot: int
    commitment: SeenCommitment
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a transaction cost beside the swap, in lamports: a failed one pays its fee too.

    Attributes:
        fee: What the network took: base and priority fee.
        tip: What was paid to be included.
        rent: What was put into new token accounts; it stays there until they are closed.
    """

    fee: int
    tip: int = 0
    rent: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.fee + self.tip + self.rent


@dataclass(frozen=True, slots=True)
class Residue:
    """What a path's first leg bought and its second did not sell: base units of a token, in the wallet."""

    token: str
    amount: int


@dataclass(frozen=True, slots=True)
class SimulatedSwap:
    """What a transaction would have done that a node has simulated and that is never signed.

    Attributes:
        token_in: The token that it would have sold.
        token_out: The token that it would have bought.
        cost: What it would have cost beside the swap.
        amount_in: Base units that it would have paid; None if the node did not say.
        amount_out: Base units that it would have received; None if the node did not say.
    """

    token_in: str
    token_out: str
    cost: NetworkCost
    amount_in: int | None = None
    amount_out: int | None = None


class TransactionState(Enum):
    """A transaction's state at its venue."""

    UNKNOWN = auto()  # not seen, but it may still land: the same bytes may be sent again
    PENDING = auto()  # the venue has it
    LANDED = auto()  # final: it traded
    FAILED = auto()  # final: it did not trade, and never will
    EXPIRED = auto()  # final: it did not land before its last valid block height passed


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """A transaction's state at its venue, with details.

    Attributes:
        state: The state.
        fill: Set if it landed.
        failure: Set if it failed.
        landing: When it was executed, also if it failed; None if the venue does not know, or no longer.
        seen: Where a pending one was seen; None if it was not.
        cost: What a landed or failed one cost; None if that is not known, or if the venue costs nothing.
        residue: What a landed one left of the tokens between its legs.
    """

    state: TransactionState
    fill: Fill | None = None
    failure: Failure | None = None
    landing: Landing | None = None
    seen: Seen | None = None
    cost: NetworkCost | None = None
    residue: tuple[Residue, ...] = ()

    @property
    def final(self) -> bool:
        """Whether the state can never change again."""
        return self.state not in {TransactionState.UNKNOWN, TransactionState.PENDING}
