"""Sends transactions, and queries the venue by signature until their outcome is known."""

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
    """Sends transactions and queries their outcomes.

    Args:
        orders: Reads transactions that another process prepared.
        venue: The venue that executes them.
        clock: Times the queries.
    """

    def __init__(self, orders: Orders, venue: Execution, clock: Clock) -> None:
        self._orders = orders
        self._venue = venue
        self._clock = clock

    async def send(
        self, order_id: str, transaction: SignedTransaction | None, timeout_s: float
    ) -> TransactionStatus:
        """Send a transaction and wait a limited time for its outcome.

        Args:
            order_id: The transaction's order.
            transaction: None: the order's latest, which may have been sent before.
            timeout_s: Maximum wait, in seconds.

        Returns:
            Its status; UNKNOWN also if the venue or PostgreSQL is unavailable.
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
            log.warning("order %s: the venue is unavailable (%s)", order_id, error, extra={"fault": "venue"})
            return TransactionStatus(TransactionState.UNKNOWN)
        return status

    async def wait_until_final(
        self, order_id: str, transaction: SignedTransaction | None
    ) -> TransactionStatus:
        """Query a transaction (None: the order's latest) until its status is final, and return it."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                transaction = transaction or await self._latest(order_id)
                status = await self._query(transaction)
            except (VenueUnavailableError, UnavailableError) as error:
                log.warning("order %s: outcome still unknown (%s)", order_id, error, extra={"fault": "venue"})
                continue
            if status.final:
                return status
            # The venue responds; only the outcome is pending.
            pause_s = min(pause_s, _PAUSE_WHILE_PENDING_S)

    async def _latest(self, order_id: str) -> SignedTransaction:
        transaction = await self._orders.latest_transaction(order_id)
        if transaction is None:
            raise RuntimeError("a submitted order without a transaction")
        return transaction

    async def _query(self, transaction: SignedTransaction) -> TransactionStatus:
        status = await self._venue.status(transaction)
        if status.state is TransactionState.UNKNOWN:
            # It can still land, so the same bytes are sent again; the venue executes them once.
            status = await self._venue.submit(transaction)
        return status
