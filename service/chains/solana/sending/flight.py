"""What is known of one transaction that has been signed, and when to ask again."""

import asyncio
from dataclasses import dataclass

from service.chains.solana.feed.slots import MOST_AHEAD
from service.chains.solana.proof import (
    NOTHING_FINALIZED,
    SLOTS_APART,
    EndProof,
    FinalizedBlock,
    Look,
    Validity,
)
from service.chains.solana.receipt import Receipt
from service.chains.solana.statuses import ConfirmationStatus, SignatureStatus
from service.domain.transaction import TransactionState

# The height of a block exceeds that of an earlier one at most by the slots between them: no transaction can
# have expired before so many slots after its blockhash's.
_SLOTS_OF_VALIDITY = 150
# Most land sooner.
_SLOTS_TO_LAND = 20
# A pause has at most so many slots, and the slot now may fall by as many before it is taken for an error.
_LONGEST_WAIT = 2 * _SLOTS_OF_VALIDITY


@dataclass(frozen=True, slots=True)
class SentTransaction:
    """A signed transaction, as it was stored before its first byte was sent."""

    signature: str
    raw: bytes
    validity: Validity


@dataclass(frozen=True, slots=True)
class TrackedStatus:
    """What is known of a transaction.

    Attributes:
        state: Its state.
        seen: If it is in a block, which is not final before it is finalized.
        receipt: What it did and what it cost. While it is pending, what it did in the block where it was
            seen confirmed, once that is known: it may vanish with the block.
    """

    state: TransactionState
    seen: SignatureStatus | None = None
    receipt: Receipt | None = None

    @property
    def final(self) -> bool:
        """Whether it can never change again."""
        return self.state not in {TransactionState.UNKNOWN, TransactionState.PENDING}


class SlotPause:
    """When to ask again for what was not answered: after twice as many slots each time.

    It is as wrong as the slots that nodes say: a pause that begins far from the slot now is over.

    Args:
        first_slot: The first time.
    """

    _FIRST, _LONGEST = 2, SLOTS_APART

    def __init__(self, first_slot: int = 0) -> None:
        self._next_slot = first_slot
        self._pause = self._FIRST

    def is_over(self, slot: int) -> bool:
        """Whether to ask now."""
        return not self._next_slot - _LONGEST_WAIT <= slot < self._next_slot

    def wait(self, slot: int) -> None:
        """Ask again later."""
        self._next_slot = slot + self._pause
        self._pause = min(2 * self._pause, self._LONGEST)

    def wait_until(self, slot: int) -> None:
        """Ask again at a slot, and soon after it."""
        self._next_slot = slot
        self._pause = self._FIRST


class Flight:
    """One transaction until its end is certain.

    Attributes:
        sent: The transaction.
        proof: What endpoints have said of its end.
        looks: When to look for the proof.
        doubts: When to ask other endpoints for what one does not know.
        receipts: When to ask for its receipt.
        answered: Whether a node has said what it knows of it, or that it knows nothing.
        next_send_at: When to send it again, by the monotonic clock; None: it is only followed.
        ended: Set when its end is certain.

    Args:
        sent: The transaction.
        readers: How many endpoints can be asked.
    """

    def __init__(self, sent: SentTransaction, readers: int) -> None:
        self.sent = sent
        self.proof = EndProof(sent.signature, sent.validity, readers)
        self.looks = SlotPause(sent.validity.blockhash_slot + _SLOTS_OF_VALIDITY)
        self.doubts = SlotPause(sent.validity.blockhash_slot + _SLOTS_TO_LAND)
        self.receipts = SlotPause()
        self.answered = False
        self.next_send_at: float | None = None
        self.ended = asyncio.Event()
        self._seen: SignatureStatus | None = None
        self._provisional: Receipt | None = None
        self._over = False

    @property
    def status(self) -> TrackedStatus:
        """What is known while it is in flight."""
        if self._seen is None:
            return TrackedStatus(TransactionState.UNKNOWN)
        return TrackedStatus(TransactionState.PENDING, self._seen, self._provisional)

    def is_in_block(self, slot: int) -> bool:
        """Whether a confirmed block of a slot, or one before it, has the transaction, as far as is known."""
        seen = self._seen
        return seen is not None and seen.slot <= slot and seen.commitment is not ConfirmationStatus.PROCESSED

    @property
    def is_finalized(self) -> bool:
        """Whether it is in a finalized block."""
        return self._seen is not None and self._seen.finalized

    @property
    def has_expired(self) -> bool:
        """Whether it is proved that it is in no block and never will be, and the last answer agrees."""
        return self._seen is None and self.proof.has_expired

    def wants_receipt(self, slot: int) -> ConfirmationStatus | None:
        """Return of which commitment a receipt is to be asked for now; None: of none."""
        if self._seen is None or not self.receipts.is_over(slot):
            return None
        if self._seen.commitment is ConfirmationStatus.CONFIRMED and self._provisional is None:
            return ConfirmationStatus.CONFIRMED
        return ConfirmationStatus.FINALIZED if self.is_finalized else None

    def note_confirmed(self, receipt: Receipt) -> None:
        """Note what it did in the block where it was seen confirmed."""
        if self._seen is not None and self._seen.slot == receipt.slot:
            self._provisional = receipt

    @property
    def may_be_sent(self) -> bool:
        """Whether sending it again may help: it is in no known block, and can still land in one."""
        return self._seen is None and not self._over

    def must_ask_others(self, slot: int) -> bool:
        """Whether a node's word that it does not know it is not enough: it was seen, or should have landed.

        Args:
            slot: The slot of the answer.
        """
        if self._seen is not None:
            return not self.is_finalized and slot >= self._seen.slot
        return self.doubts.is_over(slot)

    def note(self, status: SignatureStatus | None, slot: int) -> None:
        """Note what a node answered.

        Args:
            status: Its status; None if the node does not know it.
            slot: The slot of the answer. Of a node that has not reached the block, None says nothing.
        """
        if status is not None:
            self.proof.see(status)
            # What is finalized stays, unless it failed there at no cost and then was executed.
            if not self.is_finalized or status.finalized:
                self._see(status)
        elif self._seen is not None and not self.is_finalized and not self._may_be_seen_after(slot):
            # A fork took it back.
            self._see(None)

    def add(self, looks: list[Look], slot: int) -> None:
        """Add the looks of all endpoints at one time, and decide when to look again.

        Args:
            looks: The looks.
            slot: The newest slot known.
        """
        self.proof.add(looks)
        for look in looks:
            status = look.statuses.get(self.sent.signature)
            if status is not None:
                self.note(status, look.status_slot)
        finalized = [look.finalized for look in looks if look.finalized != NOTHING_FINALIZED]
        newest = max(finalized, key=_height, default=NOTHING_FINALIZED)
        if finalized:
            # Found anew, and only if all agree: one absurd height must not end its sending for good.
            self._over = all(block.is_after(self.sent.validity) for block in finalized)
        left = self.sent.validity.last_valid_height + 1 - newest.height
        if not finalized or left <= 0:
            self.looks.wait(slot)
        else:
            # Finality moves at most as fast as slots pass, if it does not catch up.
            self.looks.wait_until(slot + min(left, _SLOTS_OF_VALIDITY))

    def _may_be_seen_after(self, slot: int) -> bool:
        """Whether the block where it was seen may be one that a node at a slot has not reached yet."""
        # No endpoint that lags so far is asked: such a block was said to be in an absurd slot.
        return self._seen is not None and slot < self._seen.slot <= slot + MOST_AHEAD

    def _see(self, status: SignatureStatus | None) -> None:
        before, self._seen = self._seen, status
        if status is None or before is None or before.slot != status.slot:
            self._provisional = None
        if status is not None and (before is None or before.commitment is not status.commitment):
            self.receipts = SlotPause()


def _height(block: FinalizedBlock) -> int:
    return block.height
