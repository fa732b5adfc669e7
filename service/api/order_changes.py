"""Changes of orders over REST: cancel one, cancel many, amend an open one."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus

from aiohttp import web

from service.api.access import CALLER, visible_filter
from service.api.budgets import BudgetCheck
from service.api.messages import FetchTokens, json_response, load_body
from service.api.problems import ConflictError, ForbiddenError, NotFoundError
from service.api.requests import AMENDMENT, CANCEL, CANCEL_AFTER
from service.api.responses import CANCEL_TIMER, CANCELLED, ORDER
from service.api.terms import amend_terms
from service.api.views import OrderAt
from service.clock import Clock
from service.domain.api_key import Caller, Scope
from service.domain.history import amended
from service.domain.key_limits import KeyLimits
from service.domain.lifecycle import Status
from service.domain.order import Order, Terms
from service.domain.service_limits import ServiceLimits
from service.store.endings import Endings
from service.store.orders import Orders
from service.store.resting import Amendment, Resting

_MAX_ATTEMPTS = 3
_HISTORY_FULL = (
    "The order's history has {} entries, the maximum for an amendment; the order rests unchanged."
    " Cancel it and place another."
)
_NOT_OPEN = "Only an open order can be amended; this one is {}."
_IS_DUE = "The order is approved and about to be executed; it cannot be amended any more."


@dataclass(frozen=True, slots=True)
class ChangeRoutes:
    """The handlers that change orders.

    ``limits`` are those of all orders; ``budgets`` compares an order's value with its key's limit;
    ``max_history_entries`` is the limit from which none is amended; ``approval_timeout_s`` is within how many
    seconds an amendment must be approved, if its key requires that.
    """

    orders: Orders
    endings: Endings
    resting: Resting
    clock: Clock
    limits: ServiceLimits
    budgets: BudgetCheck
    max_history_entries: int
    approval_timeout_s: int
    fetch_tokens: FetchTokens

    async def cancel(self, request: web.Request) -> web.Response:
        """DELETE /api/orders/{orderId}: 200: cancelled; 202: submitted, cancelled unless it lands."""
        order_id = request.match_info["order_id"].lower()
        caller = request[CALLER]
        await self.endings.cancel(order_id, None if caller.scope is Scope.ADMIN else caller.account)
        order = await self._get(order_id, caller)
        view = ORDER.dump(OrderAt(order))
        if order.status is Status.CANCELLED:
            return json_response({**view, "cancelRequested": False})
        if not order.ended:
            return json_response({**view, "cancelRequested": True}, HTTPStatus.ACCEPTED)
        raise ConflictError(f"The order has ended: it is {order.status}.")

    async def cancel_many(self, request: web.Request) -> web.Response:
        """POST /api/orders/cancel: all open orders, or those that match a filter."""
        sent = await load_body(request, CANCEL, self.fetch_tokens)
        caller = request[CALLER]
        wanted = visible_filter(caller, sent)
        if wanted.account is None:
            # An admin names the account whose orders it cancels, if not its own.
            wanted = replace(wanted, account=caller.account)
        cancelled, requested = await self.endings.cancel_matching(wanted)
        return json_response(CANCELLED.dump({"cancelled": cancelled, "cancel_requested": requested}))

    async def cancel_after(self, request: web.Request) -> web.Response:
        """POST /api/orders/cancel-after: cancel all open orders of the account, unless this is sent again."""
        sent = await load_body(request, CANCEL_AFTER)
        cancels_at = await self.endings.set_timer(request[CALLER].account, sent["timeout_ms"])
        return json_response(CANCEL_TIMER.dump({"cancels_at": cancels_at}))

    async def amend(self, request: web.Request) -> web.Response:
        """PATCH /api/orders/{orderId}: amend an open order."""
        sent = await load_body(request, AMENDMENT)
        order_id = request.match_info["order_id"].lower()
        for _ in range(_MAX_ATTEMPTS):
            order = await self._get(order_id, request[CALLER])
            if order.status is not Status.OPEN:
                raise ConflictError(_NOT_OPEN.format(order.status))
            if not (order.rests or order.awaits_approval):
                raise ConflictError(_IS_DUE)
            terms = amend_terms(order, sent, datetime.fromtimestamp(self.clock.database_time(), UTC))
            amendment = self._amendment(order, terms, request[CALLER])
            if not amendment.detail["amended"]:
                return json_response(ORDER.dump(OrderAt(order)))
            self._check(request[CALLER].limits, replace(order, terms=terms))
            if order.version >= self.max_history_entries:
                raise ConflictError(_HISTORY_FULL.format(order.version))
            step = await self.resting.amend(amendment)
            if step is not None:
                return json_response(ORDER.dump(OrderAt(order.after(step))))
        raise ConflictError("The order was changed or triggered concurrently; read it again.")

    async def _get(self, order_id: str, caller: Caller) -> Order:
        order = await self.orders.get(order_id)
        if order is None or not caller.may_see(order.account):
            raise NotFoundError("There is no such order.")
        return order

    def _check(self, limits: KeyLimits, amended_order: Order) -> None:
        """Raise a ``ForbiddenError`` if an amended order does not keep a limit; the budgets stay the same."""
        breach = (
            self.limits.breach_of(amended_order)
            or limits.breach_of(amended_order)
            or self.budgets.breach_of(limits, amended_order)
        )
        if breach is not None:
            raise ForbiddenError.of(breach)

    def _amendment(self, order: Order, terms: Terms, caller: Caller) -> Amendment:
        # The terms that were approved are not the new ones.
        must_be_approved = caller.limits.requires_approval
        return Amendment(
            order.id,
            order.version,
            terms,
            amended(order.terms.by_name(), terms.by_name(), needs_approval=must_be_approved),
            max_price_impact_bps=caller.limits.max_price_impact_bps,
            approve_within_s=self.approval_timeout_s if must_be_approved else None,
        )
