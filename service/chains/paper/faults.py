"""Faults of a venue, on demand: what networks and nodes do to those who submit transactions.

``PAPER_FAULTS=lost_answer=0.2,late=0.05`` switches them on, for tests and for users who want to see what
their client makes of them. The engine must come through each with every order executed at most once.
"""

from collections.abc import Awaitable, Mapping, Sequence
from enum import StrEnum

from service.chains.paper.venue import PaperSettings, PaperVenue
from service.chains.venue import PoolRef, Snapshot, VenueUnavailableError
from service.clock import Clock
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.postgres.database import Database
from service.postgres.deployment import Deployment
from service.redis.link import RedisLink
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


class FaultyVenue(PaperVenue):
    """A paper venue whose calls fail now and then.

    Args:
        database: See ``PaperVenue``, as for the next four.
        clock: Also waits, and draws which call fails.
        link: To the other instances.
        deployment: Whose instances share the market.
        settings: How the market behaves.
        rates_ppm: How many of a million calls meet each fault.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        link: RedisLink,
        deployment: Deployment,
        settings: PaperSettings,
        *,
        rates_ppm: Mapping[Fault, int],
    ) -> None:
        super().__init__(database, clock, link, deployment, settings)
        self._rates_ppm = rates_ppm

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]:
        """Return the state of a DEX's pools, unless it is down."""
        if self._draw() is Fault.DOWN:
            raise VenueUnavailableError("down, on demand")
        return super().snapshot(pools)

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        """Send a transaction, or meet a fault."""
        fault = self._draw()
        match fault:
            case Fault.DOWN:
                raise VenueUnavailableError("down, on demand")
            case Fault.NEVER:
                return TransactionStatus(TransactionState.UNKNOWN)
            case Fault.REFUSE:
                return await self.refuse(transaction)
            case Fault.LATE:
                await self._clock.sleep(_LATE_S)
            case Fault.SLOW:
                await self._clock.sleep(_SLOW_S)
        status = await super().submit(transaction)
        if fault in {Fault.LOST_ANSWER, Fault.LATE}:
            raise VenueUnavailableError("the answer was lost, on demand")
        return status

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        """Ask after a transaction, or meet a fault."""
        return await self._answer(super().status(transaction))

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait for a transaction's outcome, or meet a fault."""
        return await self._answer(super().outcome(transaction, timeout_s))

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
