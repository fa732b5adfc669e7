"""Places orders: from a request's JSON to a durable order, or to the response if it repeats one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from service.api.budgets import BudgetCheck
from service.api.day_limits import DayLimitCheck
from service.api.funds import FundsCheck
from service.api.idempotency import check_same_request
from service.api.messages import FetchTokens, validate
from service.api.problems import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    ProblemError,
    ServiceUnavailableError,
)
from service.api.requests import NEW_ORDER, SentOrder
from service.api.responses import ORDER
from service.api.terms import read_terms, values
from service.api.views import OrderAt
from service.clock import Clock
from service.domain.api_key import Caller
from service.domain.budgets import breach_of_budget
from service.domain.idempotency import IdempotencyKey
from service.domain.key_limits import Breach
from service.domain.mode import TradingMode
from service.domain.order import NewOrder, Order, first_terms, submission_time_s
from service.domain.service_limits import ServiceLimits
from service.domain.timestamps import format_timestamp
from service.domain.tokens import TOKENS
from service.execution.order_queue import OrderQueue
from service.postgres.batch import QueueFullError
from service.postgres.database import UnavailableError
from service.store.budgets import OverBudgetError
from service.store.halt import HaltedError
from service.store.idempotency import IdempotencyKeys
from service.store.journal import Journal, RepeatedOrderError
from service.store.orders import Orders


def trading_is_halted(reason: str) -> ServiceUnavailableError:
    """Return the problem of an order that is placed while trading is halted."""
    return ServiceUnavailableError(f"Trading is halted: {reason}")


@dataclass(frozen=True, slots=True)
class Placed:
    """The response to an order: its status, the order, and whether it is a replay of an earlier response."""

    status: HTTPStatus
    order: Mapping[str, object]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Placer:
    """Places orders.

    ``fetch_tokens`` fetches unknown tokens that a request names, ``queue`` wakes workers for new orders,
    ``budgets`` compares them with their keys' budgets, ``funds`` with the wallet, ``day_limits`` with what
    all orders may sell in a day; ``mode`` is whether they trade real money; ``insert_timeout_s`` is how long
    a client waits for PostgreSQL; ``market_order_age_s`` is the maximum age at which a market order is
    submitted, 0: no limit; ``limits`` are those of all orders; ``approval_timeout_s`` is within how many
    seconds an order must be approved, if its key requires that.
    """

    journal: Journal
    orders: Orders
    clock: Clock
    fetch_tokens: FetchTokens
    queue: OrderQueue
    idempotency: IdempotencyKeys
    budgets: BudgetCheck
    funds: FundsCheck
    day_limits: DayLimitCheck
    mode: TradingMode
    insert_timeout_s: float
    limits: ServiceLimits
    approval_timeout_s: int
    market_order_age_s: int = 0

    async def place(self, caller: Caller, body: object, key: IdempotencyKey | None = None) -> Placed:
        """Place an order; it is durable when this returns.

        Raises:
            ProblemError: It was not placed; if the problem has an ``orderId``, that is unknown.
        """
        prepared = await self.prepare(caller, body, key)
        return await self.store(prepared) if isinstance(prepared, NewOrder) else prepared

    async def prepare(
        self, caller: Caller, body: object, key: IdempotencyKey | None = None
    ) -> NewOrder | Placed:
        """Return a request's order, or the response if it repeats one that would not be accepted any more.

        Raises:
            ProblemError: The request is not valid, or a limit does not allow the order.
        """
        order = await self.read(caller, body, key)
        if isinstance(order, Placed):
            return order
        refusal, budget = self.refusal_of(caller, order), None
        if refusal is None:
            budget = await self.budgets.examine(caller, order)
        if isinstance(budget, Breach):
            refusal, budget = ForbiddenError.of(budget), None
        if refusal is not None:
            # A limit may have been set since the order was placed.
            replay = await self._replay(caller.account, key)
            return replay or await self._refuse_unless_repeated(order, refusal)
        return replace(order, idempotency=key, key_id=caller.key_id, budget=budget)

    async def read(
        self, caller: Caller, body: object, key: IdempotencyKey | None = None
    ) -> NewOrder | Placed:
        """Return a request's order, whether or not a limit allows it; otherwise like ``prepare``.

        Raises:
            ProblemError: The request is not valid.
        """
        await self.fetch_tokens(body)
        try:
            sent = validate(body, NEW_ORDER)
        except InvalidError:
            # A token may have been removed since the order was placed.
            if (replay := await self._replay(caller.account, key)) is not None:
                return replay
            raise
        try:
            return self._new_order(caller, sent, datetime.fromtimestamp(self.clock.database_time(), UTC))
        except InvalidError as refusal:
            replay = await self._replay(caller.account, key)
            return replay or await self._reject_unless_repeated(caller, sent, refusal)

    def refusal_of(self, caller: Caller, order: NewOrder) -> ForbiddenError | None:
        """Return why a limit of the service or of the caller's key does not allow an order."""
        breach = self.limits.breach_of(order) or caller.limits.breach_of(order)
        return None if breach is None else ForbiddenError.of(breach)

    async def find_repeated(self, order: NewOrder) -> Placed | None:
        """Return the response to an order whose client order id names the same order; None: it is new.

        Raises:
            ConflictError: The client order id names another order.
        """
        if order.client_order_id is None:
            return None
        stored = await self.orders.find_by_client_id(order.account, order.client_order_id)
        if stored is None:
            return None
        if not stored.is_same_swap(order) or values(first_terms(stored)) != values(order.terms):
            raise ConflictError("This clientOrderId names another order.")
        return Placed(HTTPStatus.OK, ORDER.dump(OrderAt(stored)))

    async def store(self, order: NewOrder) -> Placed:
        """Store an order, unless it repeats one, and have it executed.

        Raises:
            ProblemError: It was not stored; if the problem has an ``orderId``, that is unknown.
        """
        account, key = order.account, order.idempotency
        # Here and not in ``prepare``: the orders of a batch are stored at once, and so share a read.
        refused = await self.funds.examine(order) or await self.day_limits.examine(order)
        if refused is not None:
            return await self._replay(account, key) or await self._refuse_unless_repeated(order, refused)
        try:
            created_at = await self.journal.insert(order, self.insert_timeout_s)
        except RepeatedOrderError:
            return await self._replay(account, key) or await self._answer_repeated(order)
        except HaltedError as halt:
            refusal = trading_is_halted(str(halt))
            return await self._replay(account, key) or await self._refuse_unless_repeated(order, refusal)
        except OverBudgetError as over:
            if order.budget is None:
                raise
            raise ForbiddenError.of(breach_of_budget(order.budget, over.rule, over.used)) from over
        except QueueFullError:
            raise ServiceUnavailableError("Too many orders are waiting to be stored; try again.") from None
        except UnavailableError as error:
            if not error.unknown:
                raise
            raise ServiceUnavailableError(
                "It is unknown whether the order was stored: look it up by its id.", orderId=order.id
            ) from error
        if not order.opens:
            await self.queue.enqueue([order.id])
        return Placed(HTTPStatus.CREATED, ORDER.dump(OrderAt(Order.accepted(order, created_at))))

    async def _replay(self, account: str, key: IdempotencyKey | None) -> Placed | None:
        """Return the response that was sent under an idempotency key; None if there was none.

        Raises:
            InvalidError: The key was used for another request.
        """
        stored = None if key is None else await self.idempotency.find(account, key.key)
        if key is None or stored is None:
            return None
        check_same_request(key, stored)
        order = None if stored.order_id is None else await self.orders.get(stored.order_id)
        if order is None:
            # The client order id was taken: the response follows from that, each time.
            return None
        view = OrderAt(order, order.accepted_version)
        return Placed(HTTPStatus.CREATED, ORDER.dump(view), replayed=True)

    def _new_order(self, caller: Caller, sent: SentOrder, now: datetime | None) -> NewOrder:
        """Build the order from a request, with its terms in stored form; see ``read_terms``."""
        bought = TOKENS.get(sent["token_out"])
        order = NewOrder(
            id=self.clock.new_order_id(),
            account=caller.account,
            mode=self.mode,
            client_order_id=sent["client_order_id"],
            label=sent["label"],
            order_type=sent["order_type"],
            token_in=sent["token_in"],
            token_out=sent["token_out"],
            swap_mode=sent["swap_mode"],
            amount=sent["amount"],
            amount_text=sent["amount_text"],
            terms=read_terms(sent, now),
            decimals_in=TOKENS[sent["token_in"]].decimals,
            decimals_out=None if bought is None else bought.decimals,
            max_price_impact_bps=caller.limits.max_price_impact_bps,
            approve_within_s=self.approval_timeout_s if caller.limits.requires_approval else None,
        )
        within_s = submission_time_s(order, self.market_order_age_s)
        # Of an order that must be approved, this time begins with the approval.
        if now is None or within_s is None or order.approve_within_s is not None:
            return order
        # Counted from here: if PostgreSQL is unavailable, the order may be stored much later.
        return replace(order, submit_by=format_timestamp(now + timedelta(seconds=within_s)))

    async def _refuse_unless_repeated(self, order: NewOrder, refusal: ProblemError) -> Placed:
        """Refuse an order, unless it repeats one that was placed before."""
        repeated = await self.find_repeated(order)
        if repeated is None:
            raise refusal
        return repeated

    async def _reject_unless_repeated(self, caller: Caller, sent: SentOrder, refusal: InvalidError) -> Placed:
        """Reject an invalid order, unless it repeats one that was placed while its terms were still valid."""
        if sent["client_order_id"] is None:
            raise refusal
        try:
            order = self._new_order(caller, sent, None)
        except InvalidError:
            raise refusal from None
        return await self._refuse_unless_repeated(order, refusal)

    async def _answer_repeated(self, order: NewOrder) -> Placed:
        """Answer a repeated client order id: with the stored order, if the request is the same."""
        repeated = await self.find_repeated(order)
        if repeated is None:
            # A halt has refused it, which ended before it could be read.
            raise ServiceUnavailableError("The order was not stored; try again.")
        return repeated
