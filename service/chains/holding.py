"""What a wallet holds of one token, in one block."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holding:
    """What one account of the wallet holds.

    Attributes:
        mint: The token's mint.
        token: The token, as orders name it.
        account: The account: the wallet itself for SOL.
        slot: The slot of the block, which is final.
        amount: Base units; 0 if the account does not exist.
    """

    mint: str
    token: str
    account: str
    slot: int
    amount: int


ReadHoldings = Callable[[], Awaitable[Sequence[Holding]]]
"""Returns what the wallet holds of each token that can be traded, and raises ``VenueUnavailableError``."""
