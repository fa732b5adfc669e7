"""Blocks of the sandbox chain, and the transactions in them."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from service.chains.solana.addresses import TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from service.chains.solana.tokens import TOKEN_ACCOUNT_BYTES, token_amount
from service.sandbox.accounts import StoredAccount
from service.sandbox.machine import ExecutionResult

_DECIMALS_AT = 44


class TokenBalance(NamedTuple):
    """A token account's balance; ``place`` is the account's among the transaction's."""

    place: int
    mint: Pubkey
    owner: Pubkey
    program: Pubkey
    amount: int
    decimals: int


class Balances(NamedTuple):
    """What a transaction's accounts hold: lamports in their sequence, and tokens."""

    lamports: tuple[int, ...]
    tokens: tuple[TokenBalance, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Landed:
    """A transaction in a block."""

    transaction: VersionedTransaction
    raw: bytes
    signature: str
    slot: int
    time_s: int
    execution: ExecutionResult
    before: Balances
    after: Balances


@dataclass(frozen=True, slots=True)
class Block:
    """A block.

    Attributes:
        slot: Its slot; slots without a block are skipped.
        height: How many blocks were before it.
        blockhash: What transactions name as recent.
        parent_slot: The block's before it.
        time_s: Unix time.
        landed: Its transactions, in their sequence.
        changed: The accounts that it wrote.
    """

    slot: int
    height: int
    blockhash: Hash
    parent_slot: int
    time_s: int
    landed: tuple[Landed, ...] = ()
    changed: frozenset[Pubkey] = frozenset()


class BlockList:
    """The blocks of a chain's current fork, the oldest first; there is at least one, except at the start."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._heights: dict[Hash, int] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def first(self) -> Block:
        """The oldest block."""
        return self._blocks[0]

    @property
    def last(self) -> Block:
        """The last block."""
        return self._blocks[-1]

    def by(self, slot: int) -> Block:
        """Return the last block up to a slot; the oldest one if there is none."""
        return self._blocks[max(0, bisect_right(self._blocks, slot, key=_slot) - 1)]

    def before_last(self, count: int) -> Block:
        """Return the block before the last ones."""
        return self._blocks[-count - 1]

    def after(self, slot: int, last_slot: int) -> list[Block]:
        """Return the blocks after a slot, up to another one."""
        start = bisect_right(self._blocks, slot, key=_slot)
        return self._blocks[start : bisect_right(self._blocks, last_slot, key=_slot)]

    def height_of(self, blockhash: Hash) -> int | None:
        """Return the height of a block; None: there is none with this hash."""
        return self._heights.get(blockhash)

    def append(self, block: Block) -> None:
        """Add a block after all others."""
        self._blocks.append(block)
        self._heights[block.blockhash] = block.height

    def remove_last(self, count: int) -> list[Block]:
        """Remove the last blocks, and return them."""
        return self._remove(len(self._blocks) - count, len(self._blocks))

    def remove_first(self, count: int) -> list[Block]:
        """Remove the oldest blocks, and return them."""
        return self._remove(0, count)

    def clear(self) -> None:
        """Remove all blocks."""
        self._remove(0, len(self._blocks))

    def _remove(self, start: int, end: int) -> list[Block]:
        removed = self._blocks[start:end]
        del self._blocks[start:end]
        for block in removed:
            del self._heights[block.blockhash]
        return removed


def _slot(block: Block) -> int:
    return block.slot


class LandedIndex:
    """The transactions of a chain's current fork, by signature and by address."""

    def __init__(self) -> None:
        self._by_signature: dict[str, Landed] = {}
        self._by_address: defaultdict[Pubkey, list[Landed]] = defaultdict(list)

    def get(self, signature: str) -> Landed | None:
        """Return a transaction."""
        return self._by_signature.get(signature)

    def of(self, address: Pubkey) -> list[Landed]:
        """Return the transactions that name an address, the oldest first."""
        return self._by_address.get(address, [])

    def add(self, landed: Landed) -> None:
        """Add a transaction that landed after all others."""
        self._by_signature[landed.signature] = landed
        for key in landed.transaction.message.account_keys:
            self._by_address[key].append(landed)

    def remove(self, landed: Landed) -> None:
        """Remove a transaction."""
        del self._by_signature[landed.signature]
        for key in landed.transaction.message.account_keys:
            others = self._by_address[key]
            others.remove(landed)
            if not others:
                del self._by_address[key]


def balances(transaction: VersionedTransaction, read: Callable[[Pubkey], StoredAccount | None]) -> Balances:
    """Return what the accounts of a transaction hold."""
    lamports, tokens = [], []
    for place, key in enumerate(transaction.message.account_keys):
        account = read(key)
        lamports.append(0 if account is None else account.lamports)
        if account is None or account.owner not in (TOKEN_PROGRAM, TOKEN_2022_PROGRAM):
            continue
        if len(account.data) < TOKEN_ACCOUNT_BYTES or account.executable:
            continue
        mint = Pubkey.from_bytes(account.data[:32])
        found = read(mint)
        if found is not None:
            owner = Pubkey.from_bytes(account.data[32:64])
            amount = token_amount(account.data)
            tokens.append(TokenBalance(place, mint, owner, account.owner, amount, found.data[_DECIMALS_AT]))
    return Balances(tuple(lamports), tuple(tokens))
