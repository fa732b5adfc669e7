"""Sending transactions, and finding out what became of them: by their signature, until the venue knows."""

import logging

from service import crash_points
from service.chains.venue import Execution, VenueUnavailableError
from service.clock import Clock
from service.domain.transaction import SignedTransaction, TransactionState, TransactionStatus
from service.postgres.database import UnavailableError
from service.store.orders import Orders

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 3.0
_PAUSE_WHILE_PENDING_S = 1.0


class Outcomes:
    """Sends transactions and asks after them.

    Args:
        orders: Reads transactions that another process made.
        venue: Where they execute.
        clock: Paces the asking.
    """

    def __init__(self, orders: Orders, venue: Execution, clock: Clock) -> None:
        self._orders = orders
        self._venue = venue
        self._clock = clock

    async def send(
        self, order_id: str, transaction: SignedTransaction | None, timeout_s: float
    ) -> TransactionStatus:
        """Send a transaction and wait a while for what becomes of it.

        Args:
            order_id: Whose.
            transaction: None: the order's latest, which may have been sent before.
            timeout_s: How long to wait.

        Returns:
            Its status: UNKNOWN also when the venue, or PostgreSQL, did not answer.
        """
        try:
            if transaction is None:
                transaction = await self._latest(order_id)
            crash_points.reach("before submit")
            status = await self._venue.submit(transaction)
            crash_points.reach("after submit")
            if not status.final:
                status = await self._venue.outcome(transaction, timeout_s)
        except (VenueUnavailableError, UnavailableError) as error:
            log.warning("order %s: the venue is away (%s)", order_id, error, extra={"fault": "venue"})
            return TransactionStatus(TransactionState.UNKNOWN)
        return status

    async def learn(self, order_id: str, transaction: SignedTransaction | None) -> TransactionStatus:
        """Ask after a transaction (None: the order's latest) until its status is final, and return it."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                transaction = transaction or await self._latest(order_id)
                status = await self._ask(transaction)
            except (VenueUnavailableError, UnavailableError) as error:
                log.warning("order %s: outcome still unknown (%s)", order_id, error, extra={"fault": "venue"})
                continue
            if status.final:
                return status
            # It answers: it is only the outcome that takes its time.
            pause_s = min(pause_s, _PAUSE_WHILE_PENDING_S)

    async def _latest(self, order_id: str) -> SignedTransaction:
        transaction = await self._orders.latest_transaction(order_id)
        if transaction is None:
            raise RuntimeError("a submitted order without a transaction")
        return transaction

    async def _ask(self, transaction: SignedTransaction) -> TransactionStatus:
        status = await self._venue.status(transaction)
        if status.state is TransactionState.UNKNOWN:
            # It can still land, so the same bytes are sent again; the venue takes them once.
            status = await self._venue.submit(transaction)
        return status
