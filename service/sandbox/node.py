"""One endpoint's view of the chain: commitment levels, how far behind it is, and what it has kept."""

import struct
from collections.abc import Callable
from enum import StrEnum

from solders.pubkey import Pubkey

from service.sandbox.accounts import StoredAccount, rent_exempt
from service.sandbox.blocks import Block, Landed
from service.sandbox.chain import MAX_BEHIND, SandboxChain
from service.sandbox.faults import Faults

CLOCK_SYSVAR = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
SYSVARS = Pubkey.from_string("Sysvar1111111111111111111111111111111111111")
SLOTS_PER_EPOCH = 432_000

_CLOCK = struct.Struct("<QqQQq")
_KEPT_STATUS_BLOCKS = 300


class Commitment(StrEnum):
    """How sure a node is of a block."""

    PROCESSED = "processed"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"


class Node:
    """An endpoint over the chain, with its own faults."""

    def __init__(self, chain: SandboxChain, faults: Faults) -> None:
        self.chain = chain
        self.faults = faults
        self._known_since: int | None = None
        self._hole: range | None = None

    @property
    def slots_behind(self) -> int:
        """How many slots this node is behind the chain."""
        behind = self.faults.standing("behind")
        return 0 if behind is None else min(behind.number("slots"), MAX_BEHIND)

    @property
    def first_slot(self) -> int:
        """The oldest slot that this node has kept."""
        if self.faults.standing("no_history") is None:
            self._known_since = None
            return self.chain.first.slot
        if self._known_since is None:
            self._known_since = self.chain.tip.slot
        return self._known_since

    def has_kept(self, slot: int) -> bool:
        """Whether this node has kept what is in a slot; in a hole it was restarted from a later snapshot."""
        fault = self.faults.standing("hole")
        if fault is None:
            self._hole = None
        elif self._hole is None:
            end = self.chain.tip.slot + 1
            self._hole = range(end - fault.number("slots"), end)
        return slot >= self.first_slot and (self._hole is None or slot not in self._hole)

    def block(self, commitment: Commitment) -> Block:
        """Return the last block of a commitment level."""
        tip = self.chain.tip
        if self.slots_behind:
            tip = self.chain.block_by(tip.slot - self.slots_behind)
        timing = self.chain.timing
        if commitment is Commitment.PROCESSED:
            return tip
        if commitment is Commitment.CONFIRMED:
            return self.chain.block_by(tip.slot - timing.confirmed_after)
        # It never goes back, not even after a fork.
        final = self.chain.highest_slot - self.slots_behind - timing.finalized_after
        return self.chain.block_by(min(final, self.chain.finalized.slot))

    def account(self, key: Pubkey, block: Block) -> StoredAccount | None:
        """Return an account after a block."""
        if key == CLOCK_SYSVAR:
            return self._clock(block)
        return self.chain.accounts.at(key, block.slot)

    def reader(self, block: Block) -> Callable[[Pubkey], StoredAccount | None]:
        """Return a function that returns accounts after a block."""
        return lambda key: self.account(key, block)

    def landed(self, signature: str, commitment: Commitment) -> Landed | None:
        """Return a transaction, if this node has kept it and it has this commitment.

        One with the fault ``no_transactions`` says that it knows none, although it has their blocks.
        """
        found = None if self.faults.standing("no_transactions") else self.chain.landed(signature)
        if found is None or not self.has_kept(found.slot) or found.slot > self.block(commitment).slot:
            return None
        return found

    def commitment_of(self, landed: Landed) -> Commitment:
        """Return the commitment of a transaction's block."""
        for commitment in (Commitment.FINALIZED, Commitment.CONFIRMED):
            if landed.slot <= self.block(commitment).slot:
                return commitment
        return Commitment.PROCESSED

    def is_in_status_cache(self, landed: Landed) -> bool:
        """Whether a node still has a transaction's status without looking into its history."""
        tip = self.block(Commitment.PROCESSED)
        return tip.height - self.chain.block_by(landed.slot).height <= _KEPT_STATUS_BLOCKS

    def confirmations(self, landed: Landed) -> int | None:
        """Return how many blocks are on a transaction's; None if it is finalized."""
        if self.commitment_of(landed) is Commitment.FINALIZED:
            return None
        return self.block(Commitment.PROCESSED).height - self.chain.block_by(landed.slot).height

    def _clock(self, block: Block) -> StoredAccount:
        epoch = block.slot // SLOTS_PER_EPOCH
        began = self.chain.time_of(epoch * SLOTS_PER_EPOCH)
        data = _CLOCK.pack(block.slot, began, epoch, epoch + 1, block.time_s)
        return StoredAccount(rent_exempt(len(data)), SYSVARS, data)
