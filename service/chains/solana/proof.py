"""When a transaction can never land any more: the proof of its expiry. Pure.

That a node does not know a signature proves nothing by itself: the transaction may land a block later, on
another fork, or the node may lag or have lost its history. An endpoint's answers are a proof only together,
and read in this sequence:

1. its finalized slot and block height, at once: the height is above the transaction's last valid one, and the
   slot not before that of its blockhash;
2. the status, searched in the whole history, at a slot that is not before that finalized slot: not known;
3. its blocks from the slot of the blockhash on: all of them, up to one above the last valid height, and at
   least 151 after the blockhash's own.

After 1 every block that could hold the transaction is final, so 2 would know it, unless 3 says that it could
not. Heights are consecutive, so 3 counts: a node that was restarted from a snapshot lacks the blocks in
between, and the oldest block that it names is still an old one. The 151 do not depend on the last valid
height: that is the word of the node that gave the blockhash, and if it is too low, the transaction can still
land.

Two endpoints must agree. Behind the address of a single one there may be several nodes, so a single one must
say so twice, 64 slots apart. An endpoint that knows the signature outweighs all that do not.

The same rules make a failure final that cost nothing: the transaction of a wallet that could not pay the fee
may be in a block without having been executed, and its bytes may still execute in a later one.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.chains.solana.blockhashes import MAX_AGE
from service.chains.solana.statuses import SignatureStatus

ENDPOINTS_NEEDED = 2
SLOTS_APART = 64
"""How many finalized slots lie between the two proofs of a single endpoint."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Where a transaction can land.

    Attributes:
        last_valid_height: The last valid block height of its blockhash, as a node answered it.
        blockhash_slot: The slot at which the node read the blockhash.
    """

    last_valid_height: int
    blockhash_slot: int


@dataclass(frozen=True, slots=True)
class FinalizedBlock:
    """The last finalized block as one endpoint sees it."""

    slot: int
    height: int

    def is_after(self, validity: Validity) -> bool:
        """Whether every block that could hold the transaction is finalized."""
        return self.height > validity.last_valid_height and self.slot >= validity.blockhash_slot


@dataclass(frozen=True, slots=True)
class KeptBlocks:
    """The finalized blocks that an endpoint lists between two slots.

    Attributes:
        parent_slot: The slot of the parent of the first one.
        first: The first one.
        last: The last one.
        slots: The slots of all that it lists, these two included, in their sequence.
    """

    parent_slot: int
    first: FinalizedBlock
    last: FinalizedBlock
    slots: Sequence[int]

    def are_all_of(self, validity: Validity) -> bool:
        """Whether they are all finalized blocks that could hold the transaction.

        None is missing between the first and the last one, the last one is above the last valid height, and
        none before the first one is after the blockhash.
        """
        return (
            len(self.slots) == self.last.height - self.first.height + 1
            and self.last.is_after(validity)
            and not self.begin_too_late_for(validity)
        )

    def outlive(self, validity: Validity) -> bool:
        """Whether so many of them are after the blockhash that it is too old for any block after them."""
        return len(self.slots) - bisect_right(self.slots, validity.blockhash_slot) > MAX_AGE

    def begin_too_late_for(self, validity: Validity) -> bool:
        """Whether a block after the blockhash is missing before the first one."""
        return self.first.slot > validity.blockhash_slot and self.parent_slot >= validity.blockhash_slot


NOTHING_FINALIZED = FinalizedBlock(slot=0, height=0)
"""What an endpoint has finalized that does not say: nothing that could prove anything."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one endpoint answered, in the sequence of the attributes.

    Attributes:
        endpoint: Its name.
        finalized: Its last finalized block.
        status_slot: The slot of the statuses; of several answers the lowest.
        statuses: What it knows of each signature that was asked for.
        kept: The blocks that it has kept around each validity, as far as it says so.
    """

    endpoint: str
    finalized: FinalizedBlock
    status_slot: int
    statuses: Mapping[str, SignatureStatus | None]
    kept: Mapping[Validity, KeptBlocks]

    def sees_all_blocks_of(self, validity: Validity) -> bool:
        """Whether it would know a transaction that is in one of the blocks which could hold it."""
        kept = self.kept.get(validity)
        return (
            self.finalized.is_after(validity)
            and self.status_slot >= self.finalized.slot
            and kept is not None
            and kept.are_all_of(validity)
        )

    def proves_the_end_of(self, validity: Validity) -> bool:
        """Whether what it does not know of a transaction can also not land any more."""
        return self.sees_all_blocks_of(validity) and self.kept[validity].outlive(validity)


class _Agreement:
    """Endpoints that have said the same, and between which finalized slots."""

    def __init__(self) -> None:
        self._slots: dict[str, tuple[int, int]] = {}

    def add(self, look: Look) -> None:
        slot = look.finalized.slot
        first, last = self._slots.get(look.endpoint, (slot, slot))
        self._slots[look.endpoint] = min(first, slot), max(last, slot)

    def clear(self) -> None:
        self._slots.clear()

    def is_enough(self, endpoints: int) -> bool:
        if endpoints >= ENDPOINTS_NEEDED:
            return len(self._slots) >= ENDPOINTS_NEEDED
        return any(last - first >= SLOTS_APART for first, last in self._slots.values())


class EndProof:
    """Collects looks until they prove that a transaction has expired, or has failed without a cost.

    Args:
        signature: The transaction's id.
        validity: Where it can land.
        endpoints: How many endpoints can be asked.
    """

    def __init__(self, signature: str, validity: Validity, endpoints: int) -> None:
        self._signature = signature
        self._validity = validity
        self._endpoints = endpoints
        self._absent = _Agreement()
        self._failed = _Agreement()
        self._is_in_final_block = False

    def see(self, status: SignatureStatus) -> None:
        """Drop what a status contradicts, whichever endpoint answered it."""
        self._absent.clear()
        self._is_in_final_block = self._is_in_final_block or status.finalized
        if not (status.finalized and status.failed):
            self._failed.clear()

    def add(self, looks: Sequence[Look]) -> None:
        """Add the looks of one time: an endpoint that knows the signature outweighs the others."""
        asked = [look for look in looks if self._signature in look.statuses]
        known = {
            look.endpoint: status for look in asked if (status := look.statuses[self._signature]) is not None
        }
        for status in known.values():
            self.see(status)
        whole = [look for look in asked if look.proves_the_end_of(self._validity)]
        if not known:
            for look in whole:
                self._absent.add(look)
        elif all(status.finalized and status.failed for status in known.values()):
            for look in whole:
                if look.endpoint in known:
                    self._failed.add(look)

    @property
    def has_expired(self) -> bool:
        """Whether it is in no block, and never will be."""
        return not self._is_in_final_block and self._absent.is_enough(self._endpoints)

    @property
    def has_failed_for_good(self) -> bool:
        """Whether it is in a block as failed, and never will be in another one."""
        return self._failed.is_enough(self._endpoints)
