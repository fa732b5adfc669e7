"""Response schemas. The OpenAPI and the AsyncAPI document are generated from them."""

from marshmallow import Schema, fields, validate

from service.api.execution_schemas import SeenExecutionSchema
from service.api.fields import AMOUNT, Cursor, ResponseSchema, Stored
from service.api.history_schemas import HistoryEntrySchema, ResidueSchema
from service.domain.failures import FailureCode
from service.domain.lifecycle import Status
from service.domain.mode import TradingMode
from service.domain.order import OrderType, TimeInForce
from service.domain.quote import MULTIPLE, Dex, SwapMode

_FRACTION = {"description": "A fraction: 0.01 is 1 %.", **AMOUNT}


class FeeSchema(ResponseSchema):
    """A fee, contained in amountIn or already deducted from amountOut."""

    token = fields.String(required=True)
    amount = fields.String(required=True, metadata=AMOUNT)


class _SwapSchema(ResponseSchema):
    """A swap as quoted. Such objects are stored in the API's form."""

    venue = fields.String(required=True, validate=validate.OneOf(list(Dex)))
    poolId = fields.String(required=True)  # noqa: N815
    amountIn = fields.String(metadata=AMOUNT)  # noqa: N815
    amountOut = fields.String(metadata=AMOUNT)  # noqa: N815
    fees = fields.List(fields.Nested(FeeSchema))
    priceImpact = fields.String(metadata=_FRACTION)  # noqa: N815


class OfferSchema(_SwapSchema):
    """One pool's quote for the whole amount, or the reason for no quote."""

    chosen = fields.Boolean(metadata={"description": "Whether the route goes through this pool."})
    reason = fields.String(validate=validate.OneOf(list(FailureCode)))


class LegSchema(_SwapSchema):
    """One swap in one pool."""

    tokenIn = fields.String(required=True)  # noqa: N815
    tokenOut = fields.String(required=True)  # noqa: N815


class PathSchema(ResponseSchema):
    """Legs in sequence: the first leg's whole output is the second's input."""

    amountIn = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    amountOut = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    legs = fields.List(fields.Nested(LegSchema), required=True)


class BeatenSchema(ResponseSchema):
    """The best simpler route that was not chosen, and its amounts."""

    venue = fields.String(required=True, validate=validate.OneOf([*Dex, MULTIPLE]))
    poolIds = fields.List(fields.String(), required=True)  # noqa: N815
    amountIn = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    amountOut = fields.String(required=True, metadata=AMOUNT)  # noqa: N815


class RouteSchema(ResponseSchema):
    """Parallel paths, executed atomically in one transaction."""

    venue = fields.String(required=True, validate=validate.OneOf([*Dex, MULTIPLE]))
    amountIn = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    amountOut = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    priceImpact = fields.String(required=True, metadata=_FRACTION)  # noqa: N815
    paths = fields.List(fields.Nested(PathSchema), required=True)
    beat = fields.Nested(BeatenSchema, required=True, allow_none=True)


class OrderSchema(ResponseSchema):
    """An order."""

    id = fields.String(required=True, metadata={"format": "uuid"})
    order_id = fields.String(required=True, metadata={"format": "uuid", "description": "The same as id."})
    account = fields.String(required=True, metadata={"description": "The account that owns the order."})
    mode = fields.String(
        required=True,
        validate=validate.OneOf(list(TradingMode)),
        metadata={"description": "Whether it trades real money (live) or on the paper market."},
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


class QuoteSchema(ResponseSchema):
    """The router's current quote for an amount."""

    token_in = fields.String(required=True)
    token_out = fields.String(required=True)
    swap_mode = fields.String(required=True, validate=validate.OneOf(list(SwapMode)))
    slippage_bps = fields.Integer(required=True)
    amount_in = fields.String(required=True, metadata=AMOUNT)
    amount_out = fields.String(required=True, metadata=AMOUNT)
    maximum_in = fields.String(required=True, metadata=AMOUNT)
    minimum_out = fields.String(required=True, metadata=AMOUNT)
    price = fields.String(
        required=True,
        metadata={"description": "amountOut / amountIn, 18 significant digits, rounded down.", **AMOUNT},
    )
    price_impact = fields.String(required=True, metadata=_FRACTION)
    venue = fields.String(required=True, validate=validate.OneOf([*Dex, MULTIPLE]))
    route = Stored(RouteSchema, required=True)
    quotes = Stored(OfferSchema, many=True, required=True)
    quoted_at = fields.String(required=True, metadata={"format": "date-time"})
    expires_at = fields.String(
        required=True,
        metadata={
            "description": "When the quote is out of date. Nothing is reserved until then.",
            "format": "date-time",
        },
    )


class TokenSchema(ResponseSchema):
    """A token that can be traded."""

    symbol = fields.String(required=True)
    mint = fields.String(required=True, metadata={"description": "The mint's address, in base58."})
    decimals = fields.Integer(required=True)


class TokenListSchema(ResponseSchema):
    """Every token."""

    tokens = fields.List(fields.Nested(TokenSchema), required=True)


class PoolSchema(ResponseSchema):
    """A pool's current state."""

    id = fields.String(required=True)
    venue = fields.String(required=True, validate=validate.OneOf(list(Dex)))
    program = fields.String(required=True)
    token_a = fields.String(required=True)
    token_b = fields.String(required=True)
    amount_a = fields.String(
        required=True, metadata={"description": "The balance of the pool's tokenA account.", **AMOUNT}
    )
    amount_b = fields.String(required=True, metadata=AMOUNT)
    price = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The marginal price, tokenB for one tokenA, before fees.", **AMOUNT},
    )


class PoolListSchema(ResponseSchema):
    """Pools, and the slot of their state."""

    slot = fields.Integer(required=True)
    pools = fields.List(fields.Nested(PoolSchema), required=True)


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


class StatusUpdateSchema(ResponseSchema):
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


class HaltedSchema(ResponseSchema):
    """Why trading is halted, and since when."""

    reason = fields.String(required=True)
    halted_at = fields.String(required=True, metadata={"format": "date-time"})


class HealthSchema(ResponseSchema):
    """Whether the service can do its work."""

    status = fields.String(required=True, validate=validate.OneOf(["ok", "degraded", "unavailable"]))
    database = fields.String(required=True, validate=validate.OneOf(["ok", "unavailable"]))
    redis = fields.String(required=True, validate=validate.OneOf(["ok", "unavailable"]))
    redis_error = fields.String(required=True, allow_none=True)
    executing = fields.Integer(required=True, metadata={"description": "Orders that this instance executes."})
    unknown_outcomes = fields.Integer(
        required=True, metadata={"description": "Submitted transactions of which the venue reports nothing."}
    )
    anonymous = fields.Boolean(required=True, metadata={"description": "Whether clients need no API key."})
    mode = fields.String(required=True, validate=validate.OneOf(list(TradingMode)))
    halted = Stored(HaltedSchema, required=True, allow_none=True)


class ProblemErrorSchema(Schema):
    """One validation error and its location."""

    detail = fields.String(required=True)
    pointer = fields.String(required=True, metadata={"description": "RFC 6901, as a URI fragment."})


class ProblemSchema(Schema):
    """An error (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.List(fields.Nested(ProblemErrorSchema))
    reason = fields.String(
        validate=validate.OneOf(list(FailureCode)),
        metadata={"description": "Why a quote cannot be given, or why an order would not be filled now."},
    )
    rule = fields.String(
        metadata={
            "description": "The limit that the request does not keep: of the API key, as in getOwnKey, or "
            "`maxOrderAmounts`, a setting of the service."
        }
    )
    limit = fields.Raw(metadata={"description": "Its value, as in getOwnKey; of amounts, the token's."})
    left = fields.Raw(metadata={"description": "Of a budget: what is left of it, in the form of the limit."})
    orderId = fields.String(  # noqa: N815
        metadata={"description": "Of a 503: the id under which the order may exist."}
    )


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
CANCELLED_ORDER = CancelledOrderSchema()
CANCELLED = CancelledSchema()
STATUS_UPDATE = StatusUpdateSchema()
CANCEL_TIMER = CancelTimerSchema()
QUOTE = QuoteSchema()
TOKEN = TokenSchema()
POOL = PoolSchema()
