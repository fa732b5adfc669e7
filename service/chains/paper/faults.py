"""A venue with faults on demand, like those of real networks and nodes.

``PAPER_FAULTS=lost_answer=0.2,late=0.05`` enables them, for tests and for users who want to see how their
client handles them. Under every fault the engine must execute each order at most once.
"""

from collections.abc import Awaitable, Mapping, Sequence
from enum import StrEnum

from service.chains.paper.settings import PaperSettings
from service.chains.paper.venue import PaperVenue
from service.chains.venue import PoolRef, Snapshot, Swap, VenueRefusedError, VenueUnavailableError
from service.clock import Clock
from service.domain.failures import Failure, FailureCode
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.postgres.database import Database
from service.postgres.deployment import Deployment
from service.redis.link import RedisLink
from service.settings import PPM

_SLOW_S = 1.0
_LATE_S = 3.0


class Fault(StrEnum):
    """A fault of one call."""

    LOST_ANSWER = "lost_answer"  # executed, but the response is lost
    LATE = "late"  # submitted after a delay, and the response is lost
    NEVER = "never"  # accepted and lost: it never executes
    REFUSE = "refuse"  # rejected for good, and recorded as such
    SLOW = "slow"  # answered after a delay
    DOWN = "down"  # no connection
    UNSIGNED = "unsigned"  # the signer does not sign


class FaultyVenue(PaperVenue):
    """A paper venue whose calls fail now and then.

    Args:
        database: As for ``PaperVenue``, like the next four.
        clock: Also times delays, and draws which calls fail.
        link: The connection to Redis.
        deployment: The deployment whose instances share the market.
        settings: The market's settings.
        rates_ppm: How many of a million calls have each fault.
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
        """Return the state of a DEX's pools, or fail."""
        if self._draw() is Fault.DOWN:
            raise VenueUnavailableError("down, on demand")
        return super().snapshot(pools)

    async def prepare(self, swap: Swap) -> SignedTransaction:
        """Sign a swap, or fail to."""
        if self._draw() is Fault.UNSIGNED:
            raise VenueRefusedError(Failure.of(FailureCode.SIGNER_UNAVAILABLE))
        return await super().prepare(swap)

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        """Send a transaction, possibly with a fault."""
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
            raise VenueUnavailableError("the response was lost, on demand")
        return status

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        """Return a transaction's state, possibly with a fault."""
        return await self._answer(super().status(transaction))

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait for a transaction's outcome, possibly with a fault."""
        return await self._answer(super().outcome(transaction, timeout_s))

    async def _answer(self, answer: Awaitable[TransactionStatus]) -> TransactionStatus:
        fault = self._draw()
        status = await answer
        if fault in {Fault.DOWN, Fault.LOST_ANSWER}:
            raise VenueUnavailableError("the response was lost, on demand")
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
