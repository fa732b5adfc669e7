"""Transactions that have been sent and have not landed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from solders.hash import Hash
from solders.transaction import VersionedTransaction

MAX_AGE = 150
"""The oldest recent blockhash, in blocks before the last one."""

_UNKNOWN_HASH_BLOCKS = 300
_MOST_PENDING = 10_000


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction that has not landed.

    Attributes:
        transaction: The transaction.
        raw: Its bytes.
        not_before: The height of the first block that may take it.
        since: The height when it was sent.
    """

    transaction: VersionedTransaction
    raw: bytes
    not_before: int
    since: int


class Mempool:
    """What the next blocks may take, in the sequence in which it was sent.

    Args:
        height_of: Returns the height of a blockhash on the current fork, or None.
    """

    def __init__(self, height_of: Callable[[Hash], int | None]) -> None:
        self._height_of = height_of
        self._pending: dict[str, Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, transaction: VersionedTransaction, raw: bytes, tip: int, *, late: bool) -> None:
        """Add a transaction; the same one again changes nothing, and one too many is dropped.

        Args:
            transaction: The transaction.
            raw: Its bytes.
            tip: The height of the last block.
            late: Let it wait for the last block that may take it.
        """
        height = self._height_of(transaction.message.recent_blockhash)
        last = tip if height is None else height + MAX_AGE + 1
        pending = Pending(transaction, raw, last if late else 0, tip)
        if len(self._pending) < _MOST_PENDING:
            self._pending.setdefault(str(transaction.signatures[0]), pending)

    def remove(self, signature: str) -> None:
        """Remove a transaction that has landed."""
        self._pending.pop(signature, None)

    def due(self, parent: int) -> Iterator[tuple[str, Pending]]:
        """Yield what the block after one of this height may take; what no block ever can is dropped."""
        for signature, pending in list(self._pending.items()):
            height = self._height_of(pending.transaction.message.recent_blockhash)
            if height is None:
                # The fork that knows it may be elsewhere.
                if parent - pending.since > _UNKNOWN_HASH_BLOCKS:
                    del self._pending[signature]
            elif parent - height > MAX_AGE:
                del self._pending[signature]
            elif parent + 1 >= pending.not_before:
                yield signature, pending
