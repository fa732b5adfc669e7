"""What responses about orders contain. The OpenAPI and the AsyncAPI document are generated from it."""

from marshmallow import fields, validate

from service.api.execution_schemas import SeenExecutionSchema
from service.api.fields import AMOUNT, Cursor, ResponseSchema, Stored, ViewSchema
from service.api.history_schemas import HistoryEntrySchema, ResidueSchema
from service.api.problem_schemas import ProblemSchema
from service.api.routing_schemas import OfferSchema, RouteSchema
from service.domain.lifecycle import Status
from service.domain.mode import TradingMode
from service.domain.order import OrderType, TimeInForce
from service.domain.quote import SwapMode


class OrderSchema(ViewSchema):
    """An order."""

    id = fields.String(required=True, metadata={"format": "uuid"})
    order_id = fields.String(required=True, metadata={"format": "uuid", "description": "The same as id."})
    account = fields.String(required=True, metadata={"description": "The account that owns the order."})
    mode = fields.String(
        required=True,
        validate=validate.OneOf(list(TradingMode)),
        metadata={
            "description": "Whether it trades real money (live) or not (paper), or is simulated (simulate)."
        },
    )
    client_order_id = fields.String(required=True, allow_none=True)
    label = fields.String(required=True, allow_none=True)
    token_in = fields.String(required=True)
    token_out = fields.String(required=True)
    swap_mode = fields.String(required=True, validate=validate.OneOf(list(SwapMode)))
    amount_in = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "As sent; if amountOut was sent, null until confirmed.", **AMOUNT},
    )
    order_type = fields.String(required=True, validate=validate.OneOf(list(OrderType)))
    slippage_bps = fields.Integer(required=True)
    time_in_force = fields.String(required=True, allow_none=True, validate=validate.OneOf(list(TimeInForce)))
    limit_price = fields.String(required=True, allow_none=True, metadata=AMOUNT)
    sniper_conditions = fields.Raw(
        required=True, allow_none=True, metadata={"type": "object", "description": "As sent."}
    )
    expires_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    awaiting_approval = fields.Boolean(
        required=True,
        metadata={"description": "It is open, and not executed before it is approved; see approveOrder."},
    )
    status_history = Stored(HistoryEntrySchema, many=True, required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    updated_at = fields.String(required=True, metadata={"format": "date-time"})
    attempts = fields.Integer(required=True, metadata={"description": "Attempts begun."})
    quotes = Stored(OfferSchema, many=True, required=True, allow_none=True)
    route = Stored(RouteSchema, required=True, allow_none=True)
    venue = fields.String(required=True, allow_none=True)
    amount_out = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The output once confirmed; before that, as sent, or null.", **AMOUNT},
    )
    executed_price = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "amountOut / amountIn, 18 significant digits, rounded down.", **AMOUNT},
    )
    realised_slippage = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "How much worse than its last quote the fill was, as a fraction, rounded up; "
            "negative when it was better.",
            "pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$",
        },
    )
    tx_hash = fields.String(required=True, allow_none=True)
    execution = fields.Nested(SeenExecutionSchema, required=True, allow_none=True)
    network_cost = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "What its transactions have cost beside the swap, failed ones too, in SOL; null "
            "if it is not known, or if there are no such costs.",
            **AMOUNT,
        },
    )
    residue = Stored(
        ResidueSchema,
        many=True,
        required=True,
        allow_none=True,
        metadata={"description": "What the fill left in the wallet of tokens between its legs."},
    )
    failure_reason = fields.String(required=True, allow_none=True)
    failure_detail = fields.String(required=True, allow_none=True)


class CancelledOrderSchema(OrderSchema):
    """An order whose cancellation was requested."""

    cancel_requested = fields.Boolean(
        required=True,
        metadata={"description": "It was submitted: it is cancelled unless its transaction lands."},
    )


class CancelledSchema(ResponseSchema):
    """The result for the orders that matched a filter."""

    cancelled = fields.Integer(required=True)
    cancel_requested = fields.Integer(
        required=True, metadata={"description": "Submitted: cancelled unless their transactions land."}
    )


class OrderListSchema(ResponseSchema):
    """A page of orders, newest first."""

    orders = fields.List(fields.Nested(OrderSchema), required=True)
    next_cursor = Cursor(required=True, allow_none=True, metadata={"type": "string"})


class StatusUpdateSchema(ViewSchema):
    """A WebSocket message: one entry of the history, and the order as of that entry."""

    type = fields.Constant(
        "status_update", required=True, metadata={"type": "string", "enum": ["status_update"]}
    )
    order_id = fields.String(required=True, metadata={"format": "uuid"})
    sequence = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    timestamp = fields.String(required=True, attribute="updated_at", metadata={"format": "date-time"})
    order = fields.Nested(OrderSchema, required=True)


class CancelTimerSchema(ResponseSchema):
    """When all open orders of the account are cancelled; null: never."""

    cancels_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


class OrderResultSchema(ResponseSchema):
    """The result of one order of a batch: the order, or the problem."""

    status = fields.Integer(required=True, metadata={"description": "As if the order had been sent alone."})
    order = fields.Nested(OrderSchema, required=True, allow_none=True)
    problem = fields.Nested(ProblemSchema, required=True, allow_none=True)


class BatchResultSchema(ResponseSchema):
    """The results of a batch, in the order of its orders."""

    results = fields.List(fields.Nested(OrderResultSchema), required=True)


# Created once, since creating a schema costs more than using it.
ORDER = OrderSchema()
ORDER_LIST = OrderListSchema()
CANCELLED = CancelledSchema()
STATUS_UPDATE = StatusUpdateSchema()
CANCEL_TIMER = CancelTimerSchema()
