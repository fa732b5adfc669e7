"""The rows of the route table that decide about orders that await approval."""

from service.api.approval_schema import DecisionSchema
from service.api.responses import OrderSchema
from service.api.route import ApiResponse, ApiRoute, Idempotent
from service.domain.api_key import Scope

APPROVAL_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute(
        "POST",
        "/api/orders/{order_id}/approve",
        Scope.ADMIN,
        lambda groups: groups.approvals.approve,
        "approveOrder",
        "Approve an order that awaits approval, of any account",
        at_most=4,
        body=DecisionSchema,
        optional_body=True,
        idempotency=Idempotent.BY_RESPONSE,
        responses=(ApiResponse(200, "Approved: it is executed, or begins to rest.", OrderSchema),),
        problems=(404, 409, 503),
    ),
    ApiRoute(
        "POST",
        "/api/orders/{order_id}/refuse",
        Scope.ADMIN,
        lambda groups: groups.approvals.refuse,
        "refuseOrder",
        "Refuse an order that awaits approval, of any account: it is cancelled",
        at_most=4,
        body=DecisionSchema,
        optional_body=True,
        idempotency=Idempotent.BY_RESPONSE,
        while_stopping=True,
        responses=(ApiResponse(200, "Refused.", OrderSchema),),
        problems=(404, 409, 503),
    ),
)
