"""Approving and refusing orders over REST."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from service.api.access import CALLER
from service.api.approval_schema import DECISION, Decision
from service.api.messages import json_response, load_optional_body
from service.api.placing import trading_is_halted
from service.api.problems import ConflictError, ForbiddenError, NotFoundError
from service.api.responses import ORDER
from service.api.views import OrderAt
from service.domain.api_key import Caller
from service.domain.history import Committed
from service.domain.key_limits import Breach
from service.domain.order import Order
from service.execution.order_queue import OrderQueue
from service.postgres.database import UnavailableError
from service.store.approvals import Approvals
from service.store.halt import HaltedError
from service.store.orders import Orders

_ANONYMOUS = "anonymous"
"""Who decides while there is no API key."""

_MUST_BE_APPROVED = Breach(
    "requiresApproval", limit=True, detail="The API key's own orders need approval, so it cannot approve any."
)
_HAS_CHANGED = "The order was changed after entry {}; read it again."
_CHANGES = "The order was changed, cancelled or has expired concurrently; read it again."

Decide = Callable[[Order, str, str | None], Awaitable[Committed | None]]
"""Approves or refuses an order: the order, by which key, and the reason."""


@dataclass(frozen=True, slots=True)
class ApprovalRoutes:
    """The handlers that decide about orders that await approval; ``queue`` executes those that are due."""

    orders: Orders
    approvals: Approvals
    queue: OrderQueue

    async def approve(self, request: web.Request) -> web.Response:
        """POST /api/orders/{orderId}/approve: let an order that awaits approval be executed."""
        if request[CALLER].limits.requires_approval:
            raise ForbiddenError.of(_MUST_BE_APPROVED)
        try:
            order = await self._decide(request, self.approvals.approve)
        except HaltedError as halt:
            raise trading_is_halted(str(halt)) from None
        except UnavailableError as error:
            if error.unknown:
                # It may be due by now without a wake-up.
                self.queue.enqueue_all_due()
            raise
        if not order.rests:
            await self.queue.enqueue([order.id])
        return json_response(ORDER.dump(OrderAt(order)))

    async def refuse(self, request: web.Request) -> web.Response:
        """POST /api/orders/{orderId}/refuse: cancel an order that awaits approval."""
        order = await self._decide(request, self.approvals.refuse)
        return json_response(ORDER.dump(OrderAt(order)))

    async def _decide(self, request: web.Request, decide: Decide) -> Order:
        """Decide about an order as it stands, and return it as it is then.

        It is not tried again with the terms of a concurrent amendment, which the caller has not seen.
        """
        sent = await load_optional_body(request, DECISION)
        caller = request[CALLER]
        order = await self._awaiting(request.match_info["order_id"].lower(), caller, sent)
        step = await decide(order, caller.key_id or _ANONYMOUS, sent["reason"])
        if step is None:
            await self._awaiting(order.id, caller, sent)
            raise ConflictError(_CHANGES)
        return order.after(step)

    async def _awaiting(self, order_id: str, caller: Caller, sent: Decision) -> Order:
        """Return an order that awaits approval.

        Raises:
            NotFoundError: There is no such order.
            ConflictError: It awaits none, or is not the one that the caller has seen.
        """
        order = await self.orders.get(order_id)
        if order is None or not caller.may_see(order.account):
            raise NotFoundError("There is no such order.")
        if not order.awaits_approval:
            raise ConflictError(_awaits_none(order))
        if sent["sequence"] not in {None, order.version}:
            raise ConflictError(_HAS_CHANGED.format(sent["sequence"]))
        return order


def _awaits_none(order: Order) -> str:
    approvals = [entry["approvedBy"] for entry in order.history if "approvedBy" in entry]
    approved = f" It was approved by {approvals[-1]}." if approvals else ""
    return f"The order awaits no approval: it is {order.status}.{approved}"
