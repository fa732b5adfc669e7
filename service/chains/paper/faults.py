"""Faults of a venue, on demand: what networks and nodes do to those who submit transactions.

``PAPER_FAULTS=lost_answer=0.2,late=0.05`` switches them on, for tests and for users who want to see what
their client makes of them. The engine must come through each with every order executed at most once.
"""

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from service.chains.paper.venue import PaperVenue
from service.chains.venue import (
    OnMarketChange,
    PoolRef,
    PoolView,
    Snapshot,
    Swap,
    Traded,
    VenueUnavailableError,
)
from service.clock import Clock
from service.domain.tokens import Token
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.settings import PPM

_SLOW_S = 1.0
_LATE_S = 3.0


class Fault(StrEnum):
    """What may befall one call."""

    LOST_ANSWER = "lost_answer"  # it is done, and the answer does not arrive
    LATE = "late"  # taken, answered as unknown, and submitted a while later
    NEVER = "never"  # taken, and lost on the way: it never executes
    REFUSE = "refuse"  # refused for good, and so noted
    SLOW = "slow"  # answered after a while
    DOWN = "down"  # not even a connection


class FaultyVenue:
    """A venue whose calls fail now and then. Fits ``service.chains.venue.Venue``.

    Args:
        venue: The venue behind.
        clock: Waits, and draws which call fails.
        rates_ppm: How many of a million calls meet each fault.
    """

    def __init__(self, venue: PaperVenue, clock: Clock, rates_ppm: Mapping[Fault, int]) -> None:
        self._venue = venue
        self._clock = clock
        self._rates_ppm = rates_ppm

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        """Return the venue's pools."""
        return self._venue.pools(token_in, token_out)

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        """Return the state of a DEX's pools, unless it is down."""
        if self._draw() is Fault.DOWN:
            raise VenueUnavailableError("down, on demand")
        return self._venue.snapshot(pools)

    def known(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        """Return pools as they are known here."""
        return self._venue.known(pools)

    async def refresh(self) -> bool:
        """Learn what was not heard of."""
        return await self._venue.refresh()

    def on_change(self, callback: OnMarketChange) -> None:
        """Call back whenever the market has changed."""
        self._venue.on_change(callback)

    async def traded_since(self, seconds: int) -> Sequence[Traded]:
        """Return what was traded lately."""
        return await self._venue.traded_since(seconds)

    def survey(self) -> tuple[int, Iterable[PoolView]]:
        """Return every pool."""
        return self._venue.survey()

    def views(self, pools: Sequence[PoolRef]) -> Sequence[PoolView]:
        """Return pools as they are shown."""
        return self._venue.views(pools)

    def tokens(self) -> Sequence[Token]:
        """Return the tokens that some pool trades."""
        return self._venue.tokens()

    async def learn(self, names: Collection[str]) -> None:
        """Learn what tokens there are of these names."""
        await self._venue.learn(names)

    async def prepare(self, swap: Swap) -> SignedTransaction:
        """Sign as the venue does: that takes no network."""
        return await self._venue.prepare(swap)

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        """Send a transaction, or meet a fault."""
        fault = self._draw()
        match fault:
            case Fault.DOWN:
                raise VenueUnavailableError("down, on demand")
            case Fault.NEVER:
                return TransactionStatus(TransactionState.UNKNOWN)
            case Fault.REFUSE:
                return await self._venue.refuse(transaction)
            case Fault.LATE:
                await self._clock.sleep(_LATE_S)
            case Fault.SLOW:
                await self._clock.sleep(_SLOW_S)
        status = await self._venue.submit(transaction)
        if fault in {Fault.LOST_ANSWER, Fault.LATE}:
            raise VenueUnavailableError("the answer was lost, on demand")
        return status

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        """Ask after a transaction, or meet a fault."""
        return await self._answer(self._venue.status(transaction))

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait for a transaction's outcome, or meet a fault."""
        return await self._answer(self._venue.outcome(transaction, timeout_s))

    async def _answer(self, answer: Awaitable[TransactionStatus]) -> TransactionStatus:
        fault = self._draw()
        status = await answer
        if fault in {Fault.DOWN, Fault.LOST_ANSWER}:
            raise VenueUnavailableError("the answer was lost, on demand")
        if fault is Fault.SLOW:
            await self._clock.sleep(_SLOW_S)
        return status

    def _draw(self) -> Fault | None:
        luck = self._clock.between(0, PPM - 1)
        for fault, rate_ppm in self._rates_ppm.items():
            if luck < rate_ppm:
                return fault
            luck -= rate_ppm
        return None
