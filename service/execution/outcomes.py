"""Sends transactions, and queries the venue by signature until their outcome is known."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from service import crash_points
from service.chains.venue import Execution, VenueUnavailableError
from service.clock import Clock
from service.domain.transaction import Seen, SignedTransaction, TransactionState, TransactionStatus
from service.events.bus import OnSeen
from service.postgres.database import UnavailableError
from service.store.orders import Orders

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 3.0
_PAUSE_WHILE_PENDING_S = 1.0
# How long a query waits for an outcome before it says where the transaction is seen now.
_WAIT_S = 1.0

_UNKNOWN = TransactionStatus(TransactionState.UNKNOWN)


@dataclass(slots=True)
class FollowedTransaction:
    """An order's transaction that was sent, or may have been, and its state as last reported.

    Attributes:
        order_id: The order.
        version: Its version since the transaction was submitted.
        transaction: None: the order's latest, which has not been read yet.
        known_at: When the venue last said that it has the transaction, or before that, when it was sent.
        known: Whether it said so at the last query. The answer to a submission does not count, unless it says
            where the transaction was seen: a node accepts what may be lost on the way.
        seen: Where it was seen at the last query that was answered.
        told: Whether watchers were told that: of a transaction that another process sent, it is not known.
        status: The state; UNKNOWN also if the last query was not answered.
        answered: Whether it was.
        unknown: Whether the outcome is unknown: for longer than the time-out the venue has not had the
            transaction, or not answered.
    """

    order_id: str
    version: int
    transaction: SignedTransaction | None
    known_at: float
    known: bool = False
    seen: Seen | None = None
    told: bool = True
    status: TransactionStatus = _UNKNOWN
    answered: bool = False
    unknown: bool = False


class Outcomes:
    """Sends transactions and queries their outcomes.

    Args:
        orders: Reads transactions that another process prepared.
        venue: The venue that executes them.
        clock: Times the queries.
        timeout_s: How long a worker waits for an outcome, and how long the venue may know nothing of a
            transaction until its outcome counts as unknown.
    """

    def __init__(self, orders: Orders, venue: Execution, clock: Clock, *, timeout_s: float) -> None:
        self._orders = orders
        self._venue = venue
        self._clock = clock
        self._timeout_s = timeout_s
        self.on_seen: OnSeen | None = None

    def of(self, order_id: str, version: int, transaction: SignedTransaction | None) -> FollowedTransaction:
        """Return an order's transaction that is about to be sent; None: its latest, which may have been."""
        told = transaction is not None
        return FollowedTransaction(order_id, version, transaction, self._clock.monotonic(), told=told)

    async def send(self, sent: FollowedTransaction) -> None:
        """Send a transaction, and wait for its outcome up to the time-out, unless the venue's take long."""
        try:
            transaction = await self._read(sent)
            crash_points.reach("before submit")
            status = await self._venue.submit(transaction)
            crash_points.reach("after submit")
            wait = not (status.final or self._venue.outcomes_take_long)
            if wait:
                status = await self._venue.outcome(transaction, self._timeout_s)
        except (VenueUnavailableError, UnavailableError) as error:
            self._note_no_answer(sent)
            log.warning(
                "order %s: the venue is unavailable (%s)", sent.order_id, error, extra={"fault": "venue"}
            )
        else:
            self._note(sent, status, queried=wait, asked=wait)

    async def follow(self, sent: FollowedTransaction, on_state: Callable[[], None]) -> TransactionStatus:
        """Query a transaction until its state is final, and return it.

        Args:
            sent: The transaction.
            on_state: Called at once, and after each query that was not final.
        """
        pause_s = _FIRST_PAUSE_S
        while not sent.status.final:
            sent.unknown = self._is_unknown(sent)
            on_state()
            await self._clock.sleep(pause_s)
            await self._query(sent)
            if self._can_wait(sent):
                # The next query itself waits.
                pause_s = _FIRST_PAUSE_S
            else:
                # If the venue responds, only the outcome is pending.
                pause_s = min(2 * pause_s, _PAUSE_WHILE_PENDING_S if sent.answered else _LONGEST_PAUSE_S)
        return sent.status

    async def _query(self, sent: FollowedTransaction) -> None:
        try:
            transaction = await self._read(sent)
            if self._can_wait(sent):
                status = await self._venue.outcome(transaction, _WAIT_S)
            else:
                status = await self._venue.status(transaction)
            has_it = status.state is not TransactionState.UNKNOWN
            if not has_it:
                # It can still land, so the same bytes are sent again; the venue executes them once.
                status = await self._venue.submit(transaction)
        except (VenueUnavailableError, UnavailableError) as error:
            self._note_no_answer(sent)
            log.warning(
                "order %s: outcome still unknown (%s)", sent.order_id, error, extra={"fault": "venue"}
            )
        else:
            self._note(sent, status, queried=has_it)

    def _can_wait(self, sent: FollowedTransaction) -> bool:
        """Whether the venue is to be waited for: no worker did, so most outcomes are learned here."""
        return sent.status.state is TransactionState.PENDING and self._venue.outcomes_take_long

    async def _read(self, sent: FollowedTransaction) -> SignedTransaction:
        if sent.transaction is None:
            sent.transaction = await self._orders.latest_transaction(sent.order_id)
        if sent.transaction is None:
            raise RuntimeError("a submitted order without a transaction")
        return sent.transaction

    def _note(
        self, sent: FollowedTransaction, status: TransactionStatus, *, queried: bool, asked: bool = True
    ) -> None:
        """Note the answer to a query, or to a submission; ``asked``: where it is seen was asked for, too."""
        pending = status.state is TransactionState.PENDING
        sent.known = pending and (queried or status.seen is not None)
        if sent.known:
            sent.known_at = self._clock.monotonic()
        if not status.final and (status.seen != sent.seen or (asked and not sent.told)):
            self._tell(sent, status.seen)
        sent.status, sent.seen, sent.answered = status, status.seen, True

    def _tell(self, sent: FollowedTransaction, seen: Seen | None) -> None:
        sent.told = True
        if seen is not None:
            log.info("order %s: seen in slot %d, %s", sent.order_id, seen.slot, seen.commitment)
        elif sent.seen is not None:
            log.warning("order %s: its transaction was seen, and has vanished", sent.order_id)
        if self.on_seen is not None:
            self.on_seen(sent.order_id, sent.version, seen)

    def _note_no_answer(self, sent: FollowedTransaction) -> None:
        sent.status, sent.answered, sent.known = _UNKNOWN, False, False

    def _is_unknown(self, sent: FollowedTransaction) -> bool:
        return not sent.known and self._clock.monotonic() - sent.known_at >= self._timeout_s
