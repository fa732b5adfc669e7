"""The rows of the route table that place, read, change and stream orders."""

from service.api.approval_routes import APPROVAL_ROUTES
from service.api.dry_run_schemas import DryRunSchema, ExecuteQuerySchema
from service.api.event_messages import OrderEventsSchema
from service.api.execution_schemas import ExecutionSeenSchema
from service.api.list_requests import ListQuerySchema, OrdersStreamQuerySchema
from service.api.requests import (
    AmendmentSchema,
    BatchSchema,
    CancelAfterSchema,
    CancelSchema,
    NewOrderSchema,
    NoQuerySchema,
    StreamQuerySchema,
)
from service.api.responses import (
    BatchResultSchema,
    CancelledOrderSchema,
    CancelledSchema,
    CancelTimerSchema,
    OrderListSchema,
    OrderSchema,
    StatusUpdateSchema,
)
from service.api.route import ApiLink, ApiResponse, ApiRoute, Idempotent
from service.domain.api_key import Scope

_OF_ORDER = tuple(
    ApiLink(operation_id, "orderId", "orderId")
    for operation_id in ("getOrder", "amendOrder", "cancelOrder", "streamOrder")
)

ORDER_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute(
        "POST",
        "/api/orders/execute",
        Scope.TRADE,
        lambda groups: groups.orders.execute,
        "executeOrder",
        "Place an order; it is durable once the response is 201",
        description="With `dryRun=true` nothing is placed or stored, an Idempotency-Key is ignored, and the "
        "response says what the order would do: whether something would refuse it, and its quote.",
        query=ExecuteQuerySchema,
        body=NewOrderSchema,
        idempotency=Idempotent.BY_HANDLER,
        responses=(
            ApiResponse(201, "Accepted.", OrderSchema, links=_OF_ORDER),
            ApiResponse(200, "The clientOrderId names this order; the request is the same.", OrderSchema),
            ApiResponse(200, "Of a dry run: what the order would do.", DryRunSchema),
        ),
        problems=(409, 503),
    ),
    ApiRoute(
        "POST",
        "/api/orders/batch",
        Scope.TRADE,
        lambda groups: groups.batch.execute,
        "executeOrders",
        "Place up to 100 orders, each with its own result",
        at_most=2,
        query=NoQuerySchema,
        body=BatchSchema,
        idempotency=Idempotent.BY_HANDLER,
        responses=(ApiResponse(200, "A result for each order, in their order.", BatchResultSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/orders",
        Scope.READ,
        lambda groups: groups.orders.list,
        "listOrders",
        "List orders, newest first",
        at_most=2,
        query=ListQuerySchema,
        responses=(ApiResponse(200, "A page.", OrderListSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/orders/{order_id}",
        Scope.READ,
        lambda groups: groups.orders.get,
        "getOrder",
        "Read an order",
        responses=(ApiResponse(200, "The order.", OrderSchema),),
        problems=(404, 503),
    ),
    ApiRoute(
        "PATCH",
        "/api/orders/{order_id}",
        Scope.TRADE,
        lambda groups: groups.changes.amend,
        "amendOrder",
        "Amend an open order",
        at_most=4,
        body=AmendmentSchema,
        responses=(ApiResponse(200, "The amended order.", OrderSchema),),
        problems=(404, 409, 503),
    ),
    ApiRoute(
        "DELETE",
        "/api/orders/{order_id}",
        Scope.TRADE,
        lambda groups: groups.changes.cancel,
        "cancelOrder",
        "Cancel an order",
        at_most=4,
        while_stopping=True,
        responses=(
            ApiResponse(200, "Cancelled.", CancelledOrderSchema),
            ApiResponse(202, "Already submitted: cancelled unless it lands.", CancelledOrderSchema),
        ),
        problems=(404, 409, 503),
    ),
    *APPROVAL_ROUTES,
    ApiRoute(
        "POST",
        "/api/orders/cancel",
        Scope.TRADE,
        lambda groups: groups.changes.cancel_many,
        "cancelOrders",
        "Cancel all open orders, or those of a pair, a type or a label",
        at_most=2,
        body=CancelSchema,
        idempotency=Idempotent.BY_RESPONSE,
        while_stopping=True,
        responses=(ApiResponse(200, "The number of orders.", CancelledSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "POST",
        "/api/orders/cancel-after",
        Scope.TRADE,
        lambda groups: groups.changes.cancel_after,
        "cancelOrdersAfter",
        "Cancel all open orders of the account after a time, unless it is set again",
        at_most=4,
        body=CancelAfterSchema,
        idempotency=Idempotent.BY_RESPONSE,
        responses=(ApiResponse(200, "When they are cancelled.", CancelTimerSchema),),
        problems=(503,),
    ),
    ApiRoute(
        "GET",
        "/api/orders/by-client-id/{client_order_id}",
        Scope.READ,
        lambda groups: groups.orders.get_by_client_id,
        "getOrderByClientId",
        "Read an order by its clientOrderId",
        at_most=4,
        responses=(ApiResponse(200, "The order.", OrderSchema),),
        problems=(404, 503),
    ),
    ApiRoute(
        "GET",
        "/api/orders/{order_id}/ws",
        Scope.READ,
        lambda groups: groups.stream.stream,
        "streamOrder",
        "WebSocket: every entry of the history exactly once, in order, replayed and live",
        description="Messages are StatusUpdate objects, and ExecutionSeen objects while the transaction is "
        "seen and not final. The socket closes with 1000 after the terminal StatusUpdate; after 1011, 1012, "
        "4002 or 4008 reconnect with `from`. A browser offers the subprotocols "
        "`order-engine.v1` and `ticket.<ticket>`. The AsyncAPI document lists all close codes.",
        allow_head=False,
        websocket=True,
        messages=(StatusUpdateSchema, ExecutionSeenSchema),
        query=StreamQuerySchema,
        responses=(ApiResponse(101, "Switching to WebSocket."),),
        problems=(404, 426, 503),
    ),
    ApiRoute(
        "GET",
        "/api/orders/ws",
        Scope.READ,
        lambda groups: groups.orders_stream.stream,
        "streamOrders",
        "WebSocket: the events of all orders of the account, resumable for 24 hours",
        description="Messages are OrderEvents objects; the first has no events. After 1011, 1012, 4002 or "
        "4008 reconnect with `from` set to the last position that you received; after 4010 without it.",
        allow_head=False,
        websocket=True,
        messages=(OrderEventsSchema,),
        query=OrdersStreamQuerySchema,
        responses=(ApiResponse(101, "Switching to WebSocket."),),
        problems=(426, 503),
    ),
)
