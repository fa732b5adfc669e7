"""The lifecycle of one order, from top to bottom: claim, route, build, submit, conclude.

Every step is durable before the next begins, so the process may die anywhere and another continues from
the last step: in ``routing`` it quotes again, in ``building`` it quotes and prepares again, in
``submitted`` it queries the venue. A transaction is durable before it is sent. An order whose outcome is
unknown stays ``submitted`` until the venue reports it: it is never assumed to have failed.
"""

import logging
from dataclasses import dataclass, field, replace

from service import crash_points
from service.chains.venue import (
    Execution,
    Swap,
    SwapTooLateError,
    VenueRefusedError,
    VenueUnavailableError,
)
from service.clock import Clock
from service.domain import history
from service.domain.failures import Failure, FailureCode
from service.domain.history import Details
from service.domain.lifecycle import Event, Status, next_status
from service.domain.quote import Choice, Route
from service.domain.routing_record import RoutingRecord, in_words, record_choice
from service.domain.service_limits import ServiceLimits
from service.domain.tokens import TOKENS
from service.domain.transaction import SignedTransaction, SimulatedSwap, TransactionState, TransactionStatus
from service.events.bus import OnSeen
from service.execution.best_quote import AttemptFailedError, TooLateError, best_quote, check_payment
from service.execution.order_queue import OrderQueue
from service.execution.outcomes import FollowedTransaction, Outcomes
from service.execution.retry import RetryPolicy
from service.execution.running import RunningOrders
from service.routing.quoting import Quoter
from service.store.claims import Claimed, Claims, Deferred
from service.store.day_sales import OverLimitError
from service.store.halt import HaltedError
from service.store.journal import Journal, SupersededError
from service.store.orders import Orders
from service.store.transitions import QuotedTransaction, Transition

log = logging.getLogger(__name__)

_BEFORE = {status: f"before {status}" for status in Status}
_AFTER = {status: f"after {status}" for status in Status}

# An expired order has ended within this time, if PostgreSQL is available.
_ENDED_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """How orders are executed; times in milliseconds.

    ``max_price_impact_bps`` is the highest price impact of a route, for all orders; None: no limit.
    ``limits`` are those of all orders.
    """

    retry: RetryPolicy
    outcome_timeout_ms: int
    max_price_impact_bps: int | None = None
    limits: ServiceLimits = field(default_factory=ServiceLimits)


@dataclass(slots=True)
class _Run:
    """An order that this process is executing: the claim, and the status and version reached since."""

    order: Claimed
    status: Status
    version: int


class Engine:
    """Executes orders; no order runs twice at the same time.

    Args:
        journal: Writes the steps.
        claims: Claims orders for this process.
        orders: Reads transactions that another process prepared.
        venue: The venue that executes the transactions.
        quoter: Finds the routes.
        clock: Provides pauses, write ids and jitter.
        settings: Time-outs and the retry policy.
        queue: Schedules checks for due orders.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        claims: Claims,
        orders: Orders,
        venue: Execution,
        quoter: Quoter,
        clock: Clock,
        settings: ExecutionSettings,
        queue: OrderQueue,
    ) -> None:
        self._journal = journal
        self._claims = claims
        self._venue = venue
        self._outcomes = Outcomes(orders, venue, clock, timeout_s=settings.outcome_timeout_ms / 1000)
        self._quoter = quoter
        self._clock = clock
        self._settings = settings
        self._queue = queue
        self._running = RunningOrders(queue.requeue)

    @property
    def running(self) -> list[str]:
        """The ids of the orders that this process is executing."""
        return self._running.ids

    @property
    def unknown_outcomes(self) -> int:
        """The number of orders whose transaction was sent, and of which the venue reports nothing."""
        return self._running.unknown_outcomes

    def on_seen(self, callback: OnSeen) -> None:
        """Set the callback for transactions that are seen before they are final."""
        self._outcomes.on_seen = callback

    async def execute(self, order_id: str) -> None:
        """Claim an order, if it is due, and execute it as far as possible.

        Returns when the order has ended, waits for its next attempt, or waits for an outcome from the venue
        (which a background task then queries). If the claim was cancelled or failed, the order is requeued.
        """
        if not self._running.begin(order_id):
            return
        unclaimed = True
        try:
            claim = await self._claims.claim(order_id)
            unclaimed = claim == Deferred(0)
            if isinstance(claim, Deferred):
                self._queue.check_after(claim.wait_ms)
            elif claim is not None:
                await self._execute_steps(_Run(claim, claim.status, claim.version))
        finally:
            if unclaimed:
                self._queue.requeue(order_id)
            self._running.end(order_id)

    async def cancel_running(self) -> None:
        """Cancel all execution: this process no longer owns the orders, or is about to release them.

        Each order is at a durable step, from which the next claim continues.
        """
        await self._running.cancel()

    async def _execute_steps(self, run: _Run) -> None:
        try:
            route = transaction = None
            if run.status is Status.ROUTING:
                route = await self._route(run)
            if run.status is Status.BUILDING:
                transaction = await self._build(run, route)
            if run.status is Status.SUBMITTED:
                await self._settle(run, transaction)
        except AttemptFailedError as end:
            await self._end_attempt(run, end.failure, routing=end.routing, simulated=end.simulated)
        except TooLateError:
            self._running.continue_in_background(run.order.order_id, self._wait_for_expiry(run.order))
        except HaltedError as halt:
            log.warning("order %s is not submitted: trading is halted: %s", run.order.order_id, halt)
            # Afterwards the sweep finds it without a task, and it continues from its last step.
            self._running.continue_in_background(run.order.order_id, self._journal.wait_until_resumed())
        except SupersededError:
            log.warning("order %s is no longer this process's", run.order.order_id)
        except Exception:
            log.exception("order %s: internal error in %s", run.order.order_id, run.status)
            if run.status is Status.SUBMITTED:
                # The transaction may have been sent and may land: only the venue knows.
                self._follow(run, self._outcomes.of(run.order.order_id, run.version, None))
            else:
                await self._end_attempt(run, Failure.of(FailureCode.INTERNAL_ERROR))

    async def _route(self, run: _Run) -> Route:
        """Quote the order on every pool, and record the quotes and the chosen route."""
        choice = await self._quote(run.order)
        log.info("order %s: %s", run.order.order_id, in_words(choice))
        detail, record = history.routed(choice.route), record_choice(choice)
        await self._move(run, Event.QUOTED, detail=detail, routing=record)
        return choice.route

    async def _quote(self, order: Claimed) -> Choice:
        return await best_quote(order, self._quoter, self._clock, self._settings.max_price_impact_bps)

    async def _build(self, run: _Run, route: Route | None) -> SignedTransaction:
        """Sign a transaction for the chosen route, and make it durable."""
        order = run.order
        if route is None:
            route = (await self._quote(order)).route
        # Never below the limit, nor further below the quote than the client's slippage allows.
        maximum_in, minimum_out = route.limits(order.slippage_bps, order.limit_out)
        check_payment(self._settings.limits, route.token_in, maximum_in)
        swap = Swap(
            order.order_id,
            order.attempts,
            route,
            maximum_in,
            minimum_out,
            valid_until=order.expires_at,
            submit_by=order.submit_by,
            expired_attempts=order.expired_attempts,
        )
        try:
            transaction = await self._venue.prepare(swap)
        except VenueUnavailableError as error:
            raise AttemptFailedError(Failure.of(FailureCode.QUOTES_UNAVAILABLE)) from error
        except VenueRefusedError as refusal:
            raise AttemptFailedError(refusal.failure, simulated=refusal.simulated) from refusal
        except SwapTooLateError as error:
            raise TooLateError from error
        detail = history.signed(transaction, route)
        quoted = QuotedTransaction(transaction, route.amounts)
        try:
            await self._move(run, Event.PREPARED, detail=detail, transaction=quoted)
        except OverLimitError as over:
            raise AttemptFailedError(over.failure) from over
        return transaction

    async def _settle(self, run: _Run, transaction: SignedTransaction | None) -> None:
        """Send the transaction and conclude, or follow it in the background until its outcome is known.

        Without a transaction the order is being recovered: a dead process may have sent its latest one.
        """
        sent = self._outcomes.of(run.order.order_id, run.version, transaction)
        await self._outcomes.send(sent)
        if sent.status.final:
            await self._conclude(run, sent.status)
        else:
            self._follow(run, sent)

    async def _conclude(self, run: _Run, status: TransactionStatus) -> None:
        """Record a transaction's outcome."""
        if status.fill is not None:
            detail = history.landed(status.fill, status.landing, status.cost, status.residue)
            await self._move(run, Event.LANDED, detail=detail, outcome=status)
            log.info("order %s: confirmed by %s", run.order.order_id, status.fill.tx_hash)
            return
        expired = status.state is TransactionState.EXPIRED
        code = FailureCode.ATTEMPT_EXPIRED if expired else FailureCode.TRANSACTION_FAILED
        failure = status.failure or Failure.of(code)
        await self._end_attempt(run, failure, outcome=replace(status, failure=failure))

    def _follow(self, run: _Run, sent: FollowedTransaction) -> None:
        """Query a transaction's outcome in the background until it is known, without occupying a worker."""
        self._running.continue_in_background(run.order.order_id, self._reconcile(run, sent))

    async def _wait_for_expiry(self, order: Claimed) -> None:
        """Hold an order that can no longer land in time, until it has expired.

        It may not have expired yet: there may only be no whole slot left in which to land. PostgreSQL decides
        when it expires (``Endings.end_expired``).
        """
        left_s = 0.0 if order.submit_by is None else order.submit_by - self._clock.database_time()
        await self._clock.sleep(max(0.0, left_s) + _ENDED_WITHIN_S)

    async def _reconcile(self, run: _Run, sent: FollowedTransaction) -> None:
        order_id = run.order.order_id

        def count() -> None:
            if self._running.set_unknown(order_id, unknown=sent.unknown) and sent.unknown:
                log.warning(
                    "order %s: outcome unknown, querying the venue until it is known",
                    order_id,
                    extra={"fault": "outcome"},
                )

        try:
            await self._conclude(run, await self._outcomes.follow(sent, count))
        except SupersededError:
            log.warning("order %s is no longer this process's", order_id)
        except Exception:
            # The order stays submitted and no task executes it: the sweep releases it.
            log.exception("order %s: querying its outcome failed", order_id)

    async def _end_attempt(
        self,
        run: _Run,
        failure: Failure,
        *,
        routing: RoutingRecord | None = None,
        outcome: TransactionStatus | None = None,
        simulated: SimulatedSwap | None = None,
    ) -> None:
        """End the order, return it to pending until its next attempt, or let it rest again."""
        order, policy = run.order, self._settings.retry
        next_step = policy.after(order, failure, run.version)
        failure, delay_ms = next_step.failure, next_step.delay_ms
        if delay_ms is not None:
            delay_ms += self._clock.between(0, policy.jitter_ms())
        cost = None if outcome is None else outcome.cost
        detail = history.attempt_failed(order.attempts, failure, cost, simulated)
        try:
            await self._move(
                run, next_step.event, detail=detail, routing=routing, outcome=outcome, retry_in_ms=delay_ms
            )
        except SupersededError:
            log.warning("order %s is no longer this process's", order.order_id)
            return
        log.info("order %s: attempt %d: %s; now %s", order.order_id, order.attempts, failure.code, run.status)
        if delay_ms is not None:
            self._queue.check_after(delay_ms)

    async def _move(
        self,
        run: _Run,
        event: Event,
        *,
        detail: Details,
        routing: RoutingRecord | None = None,
        transaction: QuotedTransaction | None = None,
        outcome: TransactionStatus | None = None,
        retry_in_ms: int | None = None,
    ) -> None:
        """Append the order's next step, and return when it is durable.

        Raises:
            SupersededError: This process no longer owns the order.
        """
        status = next_status(run.status, event)
        crash_points.reach(_BEFORE[status])
        # Quoted or filled, so the token is listed; it may not have been when a sniper order was placed.
        filled = outcome is not None and outcome.fill is not None
        bought = TOKENS.get(run.order.token_out) if routing or filled else None
        step = await self._journal.append(
            Transition(
                order_id=run.order.order_id,
                version=run.version,
                owner=run.order.owner,
                status=status,
                write_id=self._clock.new_write_id(),
                detail=detail,
                routing=routing,
                transaction=transaction,
                outcome=outcome,
                retry_in_ms=retry_in_ms,
                decimals_out=None if bought is None else bought.decimals,
            )
        )
        crash_points.reach(_AFTER[status])
        # May differ from the requested status: an order that would wait ends if it was cancelled meanwhile.
        run.status, run.version = Status(step.entry["status"]), step.sequence
