"""What a venue is to the engine: pools that quote, and a ledger that takes signed transactions.

Quoting is pure: a pool's state and an amount give a quote. Executing is prepare, submit, ask:
``prepare`` signs, ``submit`` sends (again and again, if need be: it is idempotent by the attempt's id),
and ``status`` tells what became of it.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.attempt import Attempt, AttemptStatus
from service.domain.failures import FailureCode
from service.domain.quote import Dex, Quote


class VenueUnavailableError(Exception):
    """The venue did not answer. What was sent may or may not have arrived: ask again by its id."""


class QuoteRefusedError(Exception):
    """A pool cannot quote the amount, and asking again for it now will not help."""

    def __init__(self, code: FailureCode) -> None:
        super().__init__(code)
        self.code = code


class PoolState(Protocol):
    """A pool at one moment."""

    def quote(self, token_in: str, amount_in: int) -> Quote:
        """Return what the pool would pay, net of fees, for ``amount_in`` base units.

        Raises:
            QuoteRefusedError: nothing would be paid, or the pool cannot take so much.
        """
        ...


@dataclass(frozen=True, slots=True)
class PoolRef:
    """A pool that trades a pair."""

    id: str
    dex: Dex


@dataclass(frozen=True, slots=True)
class Swap:
    """One swap for an order. Amounts are base units; ``attempt`` numbers the order's tries."""

    order_id: str
    attempt: int
    dex: Dex
    pool_id: str
    token_in: str
    token_out: str
    amount_in: int
    minimum_out: int


class Venue(Protocol):
    """A venue: paper, or a chain."""

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the pools that trade a pair, in a fixed order."""
        ...

    def snapshot(self, pool: PoolRef) -> PoolState | Awaitable[PoolState]:
        """Return a pool's state: at once where it is at hand, else an awaitable.

        Raises:
            VenueUnavailableError: also from the awaitable.
        """
        ...

    async def prepare(self, swap: Swap) -> Attempt:
        """Sign a transaction; nothing is sent.

        Raises:
            VenueUnavailableError: nothing was signed.
        """
        ...

    async def submit(self, attempt: Attempt) -> AttemptStatus:
        """Send an attempt; sending it again changes nothing.

        Raises:
            VenueUnavailableError: it may have arrived.
        """
        ...

    async def status(self, attempt: Attempt) -> AttemptStatus:
        """Return what the venue knows of an attempt.

        Raises:
            VenueUnavailableError: nothing was learned.
        """
        ...

    async def outcome(self, attempt: Attempt, timeout_s: float) -> AttemptStatus:
        """Wait until an attempt's status is final or the time is over, and return it.

        Raises:
            VenueUnavailableError: nothing was learned.
        """
        ...
