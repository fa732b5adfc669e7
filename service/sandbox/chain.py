"""The sandbox chain: slots, blocks, the blockhash window, the mempool, and forks.

Nothing moves by itself: ``advance`` makes the next blocks. Who calls it owns the clock: a test, or the loop
of ``service.sandbox.server``. The chain's own time follows from its slots, and from when they began to pass.

A blockhash is recent if it is at most 150 blocks older than the last block. Agave counts a blockhash's age
from the parent, so a transaction may still land in the block of height ``lastValidBlockHeight + 1``.
"""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from solders.hash import Hash
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.amm import ChainTime
from service.chains.solana.programs.registry import AmmPrograms
from service.sandbox.accounts import AccountHistory, StoredAccount
from service.sandbox.blocks import Balances, Block, BlockList, Landed, LandedIndex, balances
from service.sandbox.errors import TransactionRefusedError
from service.sandbox.machine import BROUGHT_ALONG, ExecutionResult, Machine
from service.sandbox.mempool import MAX_AGE, Mempool, Pending
from service.sandbox.records import Accounts, Keeper, KeptAccounts, KeptBlock, Place, Record

FIRST_SLOT, FIRST_HEIGHT = 1_000, 900

MAX_BEHIND = 500
"""How many slots behind the tip a node may read."""

KEPT_BLOCKS = 10_000
"""How many blocks are kept at least, with their transactions."""

_DROPPED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Timing:
    """The chain's pace.

    Attributes:
        slot_ms: A slot's length.
        confirmed_after: Slots after which a block is confirmed.
        finalized_after: Slots after which a block is finalized.
    """

    slot_ms: int = 200
    confirmed_after: int = 2
    finalized_after: int = 32


@dataclass(frozen=True, slots=True)
class Genesis:
    """What the chain begins with.

    Attributes:
        accounts: All accounts.
        genesis_hash: The chain's identity.
        time_s: Unix time of the first block.
        wallet: The funded wallet.
        trader: Another one, whose trades move pools.
        pools: The pools' addresses, by the ids of the paper market's.
    """

    accounts: dict[Pubkey, StoredAccount]
    genesis_hash: Hash
    time_s: int
    wallet: Keypair
    trader: Keypair
    pools: dict[str, Pubkey]


class SandboxChain:
    """One chain, with one current fork.

    ``on_change`` is called after every new block and every fork. ``before_landing`` is called with each
    transaction just before it executes, and returns transactions to execute first. ``keeper`` keeps what
    happens; None: nothing is kept.
    """

    def __init__(self, genesis: Genesis, programs: AmmPrograms, timing: Timing | None = None) -> None:
        self.genesis = genesis
        self.timing = timing or Timing()
        self.programs = programs
        self.machine = Machine(programs)
        self.accounts = AccountHistory()
        self._begin_with(genesis.accounts)
        first = Block(FIRST_SLOT, FIRST_HEIGHT, self._hash(FIRST_SLOT), FIRST_SLOT - 1, genesis.time_s)
        self._blocks = BlockList()
        self._blocks.append(first)
        self._next_slot = FIRST_SLOT + 1
        self._first_slot_ms = genesis.time_s * 1000
        self._finalized = first
        self._landed = LandedIndex()
        self._mempool = Mempool(self._blocks.height_of)
        self.on_change: list[Callable[[], None]] = []
        self.before_landing: Callable[[VersionedTransaction], list[bytes]] | None = None
        self.keeper: Keeper | None = None

    def _begin_with(self, accounts: Accounts) -> None:
        own = {key: self.machine.own_account(key) for key in BROUGHT_ALONG}
        for key, account in {**own, **accounts}.items():
            self.accounts.write(FIRST_SLOT, key, account)

    # --- Reading

    @property
    def tip(self) -> Block:
        """The last block."""
        return self._blocks.last

    @property
    def finalized(self) -> Block:
        """The last block that no fork removes."""
        return self._finalized

    @property
    def highest_slot(self) -> int:
        """The last slot that has passed; after a fork, later than the tip's."""
        return self._next_slot - 1

    @property
    def place(self) -> Place:
        """Where the chain is."""
        return Place(self.tip.slot, self._next_slot, self._finalized.slot)

    @property
    def first(self) -> Block:
        """The oldest block that is kept."""
        return self._blocks.first

    @property
    def waiting(self) -> int:
        """How many transactions have been submitted and neither landed nor expired."""
        return len(self._mempool)

    def block_by(self, slot: int) -> Block:
        """Return the last block up to a slot; the oldest one if there is none."""
        return self._blocks.by(slot)

    def blocks_after(self, slot: int, last_slot: int) -> list[Block]:
        """Return the blocks after a slot, up to another one."""
        return self._blocks.after(slot, last_slot)

    def is_recent(self, blockhash: Hash, block: Block) -> bool:
        """Whether a transaction with this blockhash may land after a block."""
        height = self._blocks.height_of(blockhash)
        return height is not None and 0 <= block.height - height <= MAX_AGE

    def landed(self, signature: str) -> Landed | None:
        """Return a transaction of the current fork."""
        return self._landed.get(signature)

    def landed_of(self, address: Pubkey) -> list[Landed]:
        """Return the transactions that name an address, the oldest first."""
        return self._landed.of(address)

    def time_of(self, slot: int) -> int:
        """Return the Unix time of a slot, in whole seconds as a chain's, rounded down."""
        return (self._first_slot_ms + (slot - FIRST_SLOT) * self.timing.slot_ms) // 1000

    def simulate(self, transaction: VersionedTransaction, block: Block) -> ExecutionResult:
        """Execute a transaction on the accounts after a block; nothing is kept.

        Raises:
            TransactionRefusedError: It cannot be part of a block.
        """
        return self.machine.execute(
            transaction,
            lambda key: self.accounts.at(key, block.slot),
            ChainTime(block.time_s, block.slot),
        )

    # --- Moving

    def begin(self, time_ms: int) -> None:
        """Let the last slot that has passed be that of a Unix time: slots begin to pass by a clock.

        The chain may have been built long before. Time does not go back to before its first block.
        """
        first_slot_ms = time_ms - (self.highest_slot - FIRST_SLOT) * self.timing.slot_ms
        self._first_slot_ms = max(first_slot_ms, self.genesis.time_s * 1000)

    def submit(self, transaction: VersionedTransaction, raw: bytes, *, late: bool = False) -> None:
        """Send a transaction to the leaders; the same one again changes nothing.

        Args:
            transaction: The transaction.
            raw: Its bytes.
            late: Land it in the last block that may take it.
        """
        self._mempool.add(transaction, raw, self.tip.height, late=late)

    def advance(self, slots: int = 1) -> None:
        """Make a block in each of the next slots."""
        for _ in range(slots):
            self._make_block()
            self._changed()

    def skip(self, slots: int = 1) -> None:
        """Let slots pass whose leaders make no block."""
        self._next_slot += slots

    def fork(self, depth: int, *, keep: bool = True) -> None:
        """Replace the last blocks by nothing: the chain goes on from an earlier one, in later slots.

        Args:
            depth: How many blocks vanish; those that are finalized stay.
            keep: Whether their transactions may land again; those of the trader never do.
        """
        depth = min(depth, self.tip.height - self._finalized.height)
        if depth <= 0:
            return
        if self.keeper is not None:
            self.keeper.add_place(self.place._replace(tip=self._blocks.before_last(depth).slot))
        removed = self._remove(depth)
        for landed in (each for block in removed for each in block.landed):
            if keep and landed.transaction.message.account_keys[0] != self.genesis.trader.pubkey():
                self.submit(landed.transaction, landed.raw)
        self._changed()

    def restore(self, records: Iterable[Record]) -> None:
        """Continue from what was kept, in the place of what the chain was built with."""
        self._blocks.clear()
        self.accounts = AccountHistory()
        for record in records:
            match record:
                case KeptAccounts():
                    self._begin_with(record.accounts)
                case KeptBlock():
                    self._restore_block(record)
                case Place():
                    self._remove(len(self.blocks_after(record.tip, self.tip.slot)))
                    self._next_slot = record.next_slot
                    self._finalized = self.block_by(record.finalized)

    def _restore_block(self, kept: KeptBlock) -> None:
        accounts = kept.accounts or {}
        height = self.tip.height + 1 if kept.height is None else kept.height
        parent = self.tip.slot if kept.parent_slot is None else kept.parent_slot
        block = Block(
            kept.slot, height, self._hash(kept.slot), parent, kept.time_s, kept.landed, frozenset(accounts)
        )
        self._write(block.slot, accounts)
        for landed in block.landed:
            self._landed.add(landed)
        self._next_slot = block.slot + 1
        self._append(block)

    def _remove(self, depth: int) -> list[Block]:
        removed = self._blocks.remove_last(depth)
        for block in reversed(removed):
            self._undo(block)
        return removed

    def _undo(self, block: Block) -> None:
        self.accounts.undo(block.changed, self.tip.slot)
        for landed in reversed(block.landed):
            self._landed.remove(landed)

    def _make_block(self) -> None:
        parent, slot = self.tip, self._next_slot
        self._next_slot += 1
        now = ChainTime(self.time_of(slot), slot)
        landed: list[Landed] = []
        changed: set[Pubkey] = set()
        for signature, pending in self._mempool.due(parent.height):
            if self._landed.get(signature) is not None:
                self._mempool.remove(signature)
            else:
                landed += self._land_with_others(pending, now, changed)
        height, time_s = parent.height + 1, now.timestamp_s
        block = Block(slot, height, self._hash(slot), parent.slot, time_s, tuple(landed), frozenset(changed))
        if self.keeper is not None:
            try:
                self.keeper.add_block(block, {key: self.latest(key) for key in changed})
            except OSError:
                # As if its leader had made none.
                self._undo(block)
                for each in landed:
                    self.submit(each.transaction, each.raw)
                raise
        self._append(block)

    def _append(self, block: Block) -> None:
        self._blocks.append(block)
        self._finalized = self.block_by(block.slot - self.timing.finalized_after)
        if len(self._blocks) >= KEPT_BLOCKS + _DROPPED_AT_ONCE:
            for dropped in self._blocks.remove_first(_DROPPED_AT_ONCE):
                for landed in dropped.landed:
                    self._landed.remove(landed)

    def _land_with_others(self, pending: Pending, now: ChainTime, changed: set[Pubkey]) -> list[Landed]:
        landed: list[Landed] = []
        if self.before_landing is not None:
            for raw in self.before_landing(pending.transaction):
                with suppress(TransactionRefusedError):
                    landed.append(self._land(VersionedTransaction.from_bytes(raw), raw, now, changed))
        # One that is refused, for want of lamports for its fee, is tried again until it expires.
        with suppress(TransactionRefusedError):
            landed.append(self._land(pending.transaction, pending.raw, now, changed))
            self._mempool.remove(landed[-1].signature)
        return landed

    def _land(
        self, transaction: VersionedTransaction, raw: bytes, now: ChainTime, changed: set[Pubkey]
    ) -> Landed:
        """Execute a transaction, and keep what it does.

        Raises:
            TransactionRefusedError: It cannot be part of a block.
        """
        execution = self.machine.execute(transaction, self.latest, now)
        before = balances(transaction, self.latest)
        slot = self._next_slot - 1
        self._write(slot, execution.changed)
        changed.update(execution.changed)
        after: Balances = balances(transaction, self.latest)
        signature = str(transaction.signatures[0])
        # The accounts are in their history.
        kept = replace(execution, changed={})
        landed = Landed(transaction, raw, signature, slot, now.timestamp_s, kept, before, after)
        self._landed.add(landed)
        return landed

    def _write(self, slot: int, accounts: Accounts) -> None:
        # What is torn is older than what lags, and that than what is finalized.
        oldest = slot - 2 * MAX_BEHIND - self.timing.finalized_after
        for key, account in accounts.items():
            self.accounts.write(slot, key, account, oldest_read=oldest)

    def latest(self, key: Pubkey) -> StoredAccount | None:
        """Return an account after the last transaction, also within a block that is being made."""
        return self.accounts.at(key, self._next_slot)

    def _changed(self) -> None:
        for call in list(self.on_change):
            call()

    def _hash(self, slot: int) -> Hash:
        return Hash(hashlib.sha256(bytes(self.genesis.genesis_hash) + slot.to_bytes(8, "little")).digest())
