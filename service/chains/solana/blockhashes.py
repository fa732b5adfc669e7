"""Recent blockhashes, and the one that ends a transaction's validity in time. Pure.

A transaction has no clock in it. It names a recent blockhash and may land for the next 150 blocks. So when it
may land last is bounded by naming an older blockhash, whose blocks run out earlier. Blocks may come more
slowly than they did, so each is counted as one and a half times as long. On a chain that is slower still, it
may land later.
"""

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from solders.hash import Hash, ParseHashError

from service.chains.venue import SwapTooLateError

MAX_AGE = 150
"""How many blocks a blockhash stays recent."""

MIN_BLOCKS_LEFT = 20
"""A transaction with fewer blocks left has little chance to land."""

MAX_SIGNING_BLOCKS = 30
"""If signing took more blocks than these, the transaction is signed again with a younger blockhash."""

# A node counts a blockhash's age from a block's parent: a transaction may land one block after the last valid
# height that nodes answer.
_ONE_MORE = 1
# How many slots without a block there may be in the time of a ring.
_MOST_SKIPPED = 150
_SLOWER = 1.5


class MalformedBlockhashError(Exception):
    """The node's answer is no blockhash."""


@dataclass(frozen=True, slots=True)
class RecentBlockhash:
    """A blockhash as a node gave it.

    Attributes:
        blockhash: The hash.
        last_valid_height: The block height up to which transactions with it are valid.
        slot: The slot that the node read it at.
    """

    blockhash: Hash
    last_valid_height: int
    slot: int


def read_blockhash(value: Any, slot: int) -> RecentBlockhash:
    """Read a node's answer to getLatestBlockhash.

    Args:
        value: The answer's value.
        slot: The slot of its context.

    Raises:
        MalformedBlockhashError: The answer has another form.
    """
    match value:
        # There are no more blocks than slots.
        case {"blockhash": str(text), "lastValidBlockHeight": int(height)} if 0 <= height <= slot + MAX_AGE:
            with suppress(ParseHashError):
                return RecentBlockhash(Hash.from_string(text), height, slot)
    raise MalformedBlockhashError(f"no blockhash: {type(value).__name__}")


def must_sign_again(signing_s: float, block_s: float) -> bool:
    """Whether signing took so long that the transaction should name a younger blockhash; nothing was sent."""
    return signing_s > MAX_SIGNING_BLOCKS * block_s


class BlockhashRing:
    """The recent blockhashes that nodes have given.

    A transaction keeps the numbers of its blockhash, and with wrong ones its end could never be proved. So
    the first answer counts only once another one fits it.
    """

    def __init__(self) -> None:
        self._seen: deque[RecentBlockhash] = deque()
        self._alone: RecentBlockhash | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is none yet that another answer fits."""
        return not self._seen

    @property
    def has_one_alone(self) -> bool:
        """Whether the last answer is not believed until another one fits it."""
        return self._alone is not None

    def add(self, found: RecentBlockhash) -> None:
        """Add a blockhash; those of a lagging node, too old to be used, are left out.

        One whose height or slot contradicts most of the others is left out as well. If the next one
        contradicts them too and fits it, these two replace the others: so contradictions end, whichever side
        is wrong.
        """
        if any(each.blockhash == found.blockhash for each in self._seen):
            self._alone = None
            return
        fitting = [each for each in self._seen if _fit(each, found)]
        if not fitting or 2 * len(fitting) < len(self._seen):
            alone, self._alone = self._alone, found
            if alone is None or not _fit(alone, found):
                return
            fitting = [] if alone.blockhash == found.blockhash else [alone]
        self._alone = None
        self._seen = deque([*fitting, found])
        newest = self._newest()
        self._seen = deque(each for each in self._seen if _blocks_left(each, newest) >= MIN_BLOCKS_LEFT)

    def choose(self, seconds_left: float | None, block_s: float) -> RecentBlockhash:
        """Return the youngest blockhash whose blocks are over in time.

        Add the newest one first: the age of all others is counted from it.

        Args:
            seconds_left: How long the transaction may be able to land; None: as long as possible.
            block_s: The measured time between blocks.

        Raises:
            SwapTooLateError: None leaves the transaction enough blocks.
            LookupError: No blockhash has been added.
        """
        newest = self._newest()
        if seconds_left is None:
            return newest
        in_time = [
            each for each in self._seen if _blocks_left(each, newest) * block_s * _SLOWER <= seconds_left
        ]
        if not in_time:
            raise SwapTooLateError
        return max(in_time, key=_last_valid_height)

    def _newest(self) -> RecentBlockhash:
        if not self._seen:
            raise LookupError("no blockhash is known yet")
        return max(self._seen, key=_last_valid_height)


def _blocks_left(each: RecentBlockhash, newest: RecentBlockhash) -> int:
    """Return how many of the next blocks may take a transaction with a blockhash."""
    return each.last_valid_height - newest.last_valid_height + MAX_AGE + _ONE_MORE


def _fit(one: RecentBlockhash, other: RecentBlockhash) -> bool:
    """Whether two blockhashes can be of one chain: heights grow with slots, never faster nor far slower."""
    older, newer = sorted((one, other), key=_slot)
    blocks, slots = newer.last_valid_height - older.last_valid_height, newer.slot - older.slot
    return 0 <= blocks <= slots <= blocks + _MOST_SKIPPED


def _slot(each: RecentBlockhash) -> int:
    return each.slot


def _last_valid_height(each: RecentBlockhash) -> int:
    return each.last_valid_height
