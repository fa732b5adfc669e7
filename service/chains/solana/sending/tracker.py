"""Follows all transactions in flight until their end is certain.

What nodes say becomes a state:

    not known                     UNKNOWN: sent again, until it is in a block or can land in none any more
    processed or confirmed        PENDING: a fork may still take it back, also a failure
    finalized                     LANDED or FAILED, as its receipt says; PENDING until a node gives that
    finalized, failed at no cost  FAILED, once it is proved that it cannot be executed later
    proof of expiry               EXPIRED

Short of these it stays as it is, and nodes are asked without end. Everything that is kept here can be found
out again after a restart, from the stored transaction alone.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from service import crash_points
from service.background import Background
from service.chains.solana.feed.slots import MOST_AHEAD
from service.chains.solana.programs.registry import AmmPrograms
from service.chains.solana.receipt import Receipt
from service.chains.solana.rpc.answers import Answer, reading
from service.chains.solana.rpc.endpoints import QUOTE_LAG_SLOTS, Endpoints
from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.flight import Flight, SentTransaction, TrackedStatus
from service.chains.solana.sending.looks import WINDOW_SLOTS, RecentStatuses, look, recent_statuses
from service.chains.solana.sending.receipts import find_receipt
from service.chains.solana.sending.sender import Sender
from service.chains.solana.statuses import (
    MOST_SIGNATURES,
    ConfirmationStatus,
    MalformedStatusError,
    SignatureStatus,
    read_statuses,
)
from service.chains.venue import VenueUnavailableError
from service.clock import Clock
from service.domain.transaction import TransactionState

log = logging.getLogger(__name__)

SEND_AGAIN_AFTER_S = 1.5
"""How long a transaction that no node knows waits before it is sent again."""

_POLL_SLOTS = 2
_KEPT_ENDS = 10_000
_RECEIPTS_AT_ONCE = 16


class Tracker:
    """All transactions in flight of this process.

    Args:
        endpoints: Those of the cluster.
        programs: The cluster's programs.
        clock: Times polls and repeated sends.
        slot_s: Returns the measured length of a slot, in seconds.
    """

    def __init__(
        self, endpoints: Endpoints, programs: AmmPrograms, clock: Clock, slot_s: Callable[[], float]
    ) -> None:
        self._endpoints = endpoints
        self._programs = programs
        self._clock = clock
        self._slot_s = slot_s
        self._sender = Sender(endpoints)
        self._flights: dict[str, Flight] = {}
        self._ends: dict[str, TrackedStatus] = {}
        self._has_flights = asyncio.Event()
        self._slot = 0
        self._answered = True
        self._polling = asyncio.Lock()
        self._polls_begun = 0
        self._polls = Background("solana tracker", self._poll_forever, clock)
        self._sends = Background("solana sender", self._send_forever, clock)

    async def start(self) -> None:
        """Start following."""
        self._polls.start()
        self._sends.start()

    async def stop(self) -> None:
        """Stop following; what is in flight stays there."""
        await self._sends.stop()
        await self._polls.stop()

    @property
    def in_flight(self) -> int:
        """How many transactions have not ended for certain."""
        return len(self._flights)

    def not_in_block(self, slot: int) -> list[SentTransaction]:
        """Return the transactions in flight that no confirmed block up to a slot is known to have."""
        return [flight.sent for flight in self._flights.values() if not flight.is_in_block(slot)]

    def status(self, sent: SentTransaction) -> TrackedStatus:
        """Return what is known of a transaction, and follow it from now on."""
        end = self._ends.get(sent.signature)
        return self._flight(sent).status if end is None else end

    async def ask(self, sent: SentTransaction) -> TrackedStatus:
        """Return what nodes say of a transaction, and follow it; one that is new here is asked for now.

        Raises:
            VenueUnavailableError: No node says anything.
        """
        status = self.status(sent)
        if not status.final and not self._flight(sent).answered:
            begun = self._polls_begun
            # All that are asked for now share the call; after a restart these may be many.
            await asyncio.sleep(0)
            async with self._polling:
                # One that has begun meanwhile has asked for it, answered or not.
                if self._polls_begun == begun:
                    await self._poll()
            status = self.status(sent)
        if not status.final and not (self._answered and self._flight(sent).answered):
            raise VenueUnavailableError("no node says what became of the transaction")
        return status

    async def send(self, sent: SentTransaction) -> TrackedStatus:
        """Send a transaction, and again until it is seen; return what is known of it.

        While that is going on, a further call sends nothing. One that is in a block, or can land in none any
        more, is not sent either.
        """
        if not self.status(sent).final:
            flight = self._flight(sent)
            now = self._clock.monotonic()
            if flight.next_send_at is None or flight.next_send_at <= now:
                again = flight.next_send_at is not None
                flight.next_send_at = now + SEND_AGAIN_AFTER_S
                if flight.may_be_sent:
                    await self._sender.send(sent.signature, sent.raw, again=again)
        return self.status(sent)

    async def end(self, sent: SentTransaction, timeout_s: float) -> TrackedStatus:
        """Wait until a transaction has ended or the time is over, and return what is known of it."""
        if not self.status(sent).final:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._flight(sent).ended.wait()
        return self.status(sent)

    async def poll(self) -> None:
        """Ask once for all transactions in flight; what is not answered is asked again at the next poll."""
        async with self._polling:
            await self._poll()

    async def _poll(self) -> None:
        self._polls_begun += 1
        flights = list(self._flights.values())
        for start in range(0, len(flights), MOST_SIGNATURES):
            await self._ask_statuses(flights[start : start + MOST_SIGNATURES])
        if self._slot:
            await self._look([flight for flight in flights if flight.looks.is_over(self._slot)])
        await self._read_receipts(flights)
        for flight in flights:
            if flight.has_expired:
                self._finish(flight, TrackedStatus(TransactionState.EXPIRED))

    async def send_again(self) -> None:
        """Send the transactions again that are due."""
        now = self._clock.monotonic()
        due = [
            flight
            for flight in self._flights.values()
            if flight.may_be_sent and flight.next_send_at is not None and flight.next_send_at <= now
        ]
        for flight in due:
            flight.next_send_at = now + SEND_AGAIN_AFTER_S
        await asyncio.gather(
            *(self._sender.send(each.sent.signature, each.sent.raw, again=True) for each in due)
        )

    def _flight(self, sent: SentTransaction) -> Flight:
        flight = self._flights.get(sent.signature)
        if flight is None:
            flight = self._flights[sent.signature] = Flight(sent, len(self._endpoints.readers))
            self._has_flights.set()
        return flight

    async def _ask_statuses(self, flights: Sequence[Flight]) -> None:
        """Ask the best endpoint for statuses; it knows the last few minutes, a look searches further back."""
        signatures = [flight.sent.signature for flight in flights]
        try:
            answer = await self._endpoints.read(
                "getSignatureStatuses",
                [signatures, {"searchTransactionHistory": False}],
                parse=reading(lambda answer: _statuses(answer, len(signatures)), MalformedStatusError),
            )
        except (RpcError, VenueUnavailableError) as error:
            if self._answered:
                log.warning("no node says what became of %d transactions: %s", len(flights), error)
            self._answered = False
            return
        if not self._answered:
            log.warning("nodes say again what became of transactions")
        self._answered = True
        slot = answer.slot or 0
        if slot > self._slot or slot < self._slot - MOST_AHEAD:
            # No endpoint that lags so far is read from: what was answered before was wrong.
            self._slot = slot
        doubtful = []
        for flight, status in zip(flights, answer.result, strict=True):
            flight.answered = True
            if status is None and flight.must_ask_others(slot):
                doubtful.append(flight)
            else:
                flight.note(status, slot)
        if doubtful:
            await self._ask_others(doubtful, answer.endpoint, slot)

    async def _ask_others(self, flights: Sequence[Flight], denied_by: str, slot: int) -> None:
        """Ask the other endpoints for what one does not know: if any of them does, it counts."""
        signatures = [flight.sent.signature for flight in flights]
        others = [
            each
            for each in self._endpoints.readers
            if each.name != denied_by and not each.foreign and each.lag <= QUOTE_LAG_SLOTS
        ]
        known = await asyncio.gather(*(recent_statuses(each, signatures) for each in others))
        for flight in flights:
            found = [each for each in known if each.statuses.get(flight.sent.signature) is not None]
            if found:
                newest = max(found, key=_slot)
                flight.note(newest.statuses[flight.sent.signature], newest.slot)
            else:
                flight.note(None, slot)
                flight.doubts.wait(slot)

    async def _look(self, flights: Sequence[Flight]) -> None:
        """Ask every endpoint about transactions that may have ended."""
        for group in _groups(flights):
            validities = {flight.sent.signature: flight.sent.validity for flight in group}
            looks = await asyncio.gather(*(look(each, validities) for each in self._endpoints.readers))
            for flight in group:
                flight.add(looks, self._slot)

    async def _read_receipts(self, flights: Sequence[Flight]) -> None:
        due = [flight for flight in flights if flight.wants_receipt(self._slot) is not None]
        for start in range(0, len(due), _RECEIPTS_AT_ONCE):
            await asyncio.gather(*map(self._read_receipt, due[start : start + _RECEIPTS_AT_ONCE]))

    async def _read_receipt(self, flight: Flight) -> None:
        """Read what a transaction did, and end it if that is final."""
        commitment = flight.wants_receipt(self._slot)
        if commitment is None:
            return
        proved = flight.proof.has_failed_for_good
        crash_points.reach("before receipt")
        receipt = await find_receipt(self._endpoints, self._programs, flight.sent, commitment)
        crash_points.reach("after receipt")
        flight.receipts.wait(self._slot)
        if receipt is None:
            return
        if commitment is not ConfirmationStatus.FINALIZED:
            flight.note_confirmed(receipt)
        elif proved or not _was_not_executed(receipt):
            state = TransactionState.LANDED if receipt.error is None else TransactionState.FAILED
            self._finish(flight, TrackedStatus(state, receipt=receipt))

    def _finish(self, flight: Flight, end: TrackedStatus) -> None:
        signature = flight.sent.signature
        self._flights.pop(signature, None)
        if not self._flights:
            self._has_flights.clear()
        self._ends[signature] = end
        if len(self._ends) > _KEPT_ENDS:
            # It is followed anew if it is asked for again.
            del self._ends[next(iter(self._ends))]
        flight.ended.set()
        log.info("transaction %s: %s", signature, end.state.name.lower())
        for difference in end.receipt.differences if end.receipt else ():
            log.warning("transaction %s: %s", signature, difference)

    async def _poll_forever(self) -> None:
        while True:
            await self._has_flights.wait()
            await self._clock.sleep(_POLL_SLOTS * self._slot_s())
            await self.poll()

    async def _send_forever(self) -> None:
        while True:
            await self._has_flights.wait()
            await self._clock.sleep(SEND_AGAIN_AFTER_S / 3)
            await self.send_again()


def _statuses(answer: Answer, count: int) -> list[SignatureStatus | None]:
    if answer.slot is None:
        raise MalformedStatusError("statuses without their slot")
    return read_statuses(answer.result, count, answer.slot)


def _groups(flights: Sequence[Flight]) -> list[list[Flight]]:
    """Divide flights so that the slots of the blockhashes of each group are close together."""
    groups: list[list[Flight]] = []
    for flight in sorted(flights, key=_blockhash_slot):
        if not groups or _blockhash_slot(flight) - _blockhash_slot(groups[-1][0]) > WINDOW_SLOTS:
            groups.append([])
        groups[-1].append(flight)
    return groups


def _slot(statuses: RecentStatuses) -> int:
    return statuses.slot


def _blockhash_slot(flight: Flight) -> int:
    return flight.sent.validity.blockhash_slot


def _was_not_executed(receipt: Receipt) -> bool:
    """Whether it could not pay its fee and was not executed: its bytes may execute in a later block."""
    return receipt.error is not None and receipt.network_fee == 0
