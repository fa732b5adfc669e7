"""What the service answers: the wire contract's objects. The OpenAPI document is made from these."""

from marshmallow import Schema, fields, validate

from service.api.fields import AMOUNT, Cursor, ResponseSchema, Stored
from service.domain.failures import FailureCode
from service.domain.lifecycle import Status
from service.domain.order import OrderType, TimeInForce
from service.domain.quote import MULTIPLE, Dex, SwapMode

_FRACTION = {"description": "A fraction: 0.01 is 1 %.", **AMOUNT}


class HistoryEntrySchema(ResponseSchema):
    """One step of an order."""

    sequence = fields.Integer(required=True, metadata={"description": "From 1, without gaps."})
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    timestamp = fields.String(required=True, metadata={"format": "date-time"})
    attempt = fields.Integer(metadata={"description": "The number of the attempt."})
    venue = fields.String(validate=validate.OneOf([*Dex, MULTIPLE]))
    txHash = fields.String()  # noqa: N815 - entries are stored in the wire's form
    landedSlot = fields.Integer(  # noqa: N815
        metadata={"description": "Of `confirmed`: the slot in which the transaction landed."}
    )
    landedAt = fields.String(  # noqa: N815
        metadata={
            "description": "Of `confirmed`: when it landed, which is before it was written down. "
            "Never after the order's expiresAt.",
            "format": "date-time",
        }
    )
    reason = fields.String(validate=validate.OneOf(list(FailureCode)))
    detail = fields.String()
    quotedIn = fields.String(metadata=AMOUNT)  # noqa: N815
    quotedOut = fields.String(metadata=AMOUNT)  # noqa: N815
    maximumIn = fields.String(metadata=AMOUNT)  # noqa: N815
    minimumOut = fields.String(metadata=AMOUNT)  # noqa: N815
    triggeredBy = fields.Raw(  # noqa: N815
        metadata={"type": "object", "description": "What fired a resting order: what was seen then."}
    )
    amended = fields.Raw(
        metadata={"type": "object", "description": "Each term that was changed: `from` and `to`."}
    )
    nextTryAt = fields.String(metadata={"format": "date-time"})  # noqa: N815


class FeeSchema(ResponseSchema):
    """A fee, contained in amountIn or already deducted from amountOut."""

    token = fields.String(required=True)
    amount = fields.String(required=True, metadata=AMOUNT)


class _SwapSchema(ResponseSchema):
    """A swap as quoted. Objects like this are stored in the wire's form."""

    venue = fields.String(required=True, validate=validate.OneOf(list(Dex)))
    poolId = fields.String(required=True)  # noqa: N815
    amountIn = fields.String(metadata=AMOUNT)  # noqa: N815
    amountOut = fields.String(metadata=AMOUNT)  # noqa: N815
    fees = fields.List(fields.Nested(FeeSchema))
    priceImpact = fields.String(metadata=_FRACTION)  # noqa: N815


class OfferSchema(_SwapSchema):
    """What one pool answered when it was asked to quote the whole amount: a swap, or a reason why not."""

    chosen = fields.Boolean(metadata={"description": "Whether the route goes through this pool."})
    reason = fields.String(validate=validate.OneOf(list(FailureCode)))


class LegSchema(_SwapSchema):
    """One swap in one pool."""

    tokenIn = fields.String(required=True)  # noqa: N815
    tokenOut = fields.String(required=True)  # noqa: N815


class PathSchema(ResponseSchema):
    """Legs one after the other: all that the first pays goes into the second."""

    amountIn = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    amountOut = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    legs = fields.List(fields.Nested(LegSchema), required=True)


class BeatenSchema(ResponseSchema):
    """The best simpler route, and what it would have paid."""

    venue = fields.String(required=True, validate=validate.OneOf([*Dex, MULTIPLE]))
    poolIds = fields.List(fields.String(), required=True)  # noqa: N815
    amountIn = fields.String(required=True, metadata=AMOUNT)  # noqa: N815
    amountOut = fields.String(required=True, metadata=AMOUNT)  # noqa: N815


class RouteSchema(ResponseSchema):
    """Paths side by side, executed in one transaction: all or none."""

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
    client_order_id = fields.String(required=True, allow_none=True)
    label = fields.String(required=True, allow_none=True)
    token_in = fields.String(required=True)
    token_out = fields.String(required=True)
    swap_mode = fields.String(required=True, validate=validate.OneOf(list(SwapMode)))
    amount_in = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "As it was sent; null until confirmed, if amountOut was sent.", **AMOUNT},
    )
    order_type = fields.String(required=True, validate=validate.OneOf(list(OrderType)))
    slippage_bps = fields.Integer(required=True)
    time_in_force = fields.String(required=True, allow_none=True, validate=validate.OneOf(list(TimeInForce)))
    limit_price = fields.String(required=True, allow_none=True, metadata=AMOUNT)
    sniper_conditions = fields.Raw(
        required=True, allow_none=True, metadata={"type": "object", "description": "As they were sent."}
    )
    expires_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
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
        metadata={"description": "What was paid out; before, what was asked for, if it was.", **AMOUNT},
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
    failure_reason = fields.String(required=True, allow_none=True)
    failure_detail = fields.String(required=True, allow_none=True)


class QuoteSchema(ResponseSchema):
    """What the router sees now for an amount."""

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
            "description": "When the market will have moved on; nothing is reserved until then.",
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
    """A pool as it is now."""

    id = fields.String(required=True)
    venue = fields.String(required=True, validate=validate.OneOf(list(Dex)))
    program = fields.String(required=True)
    token_a = fields.String(required=True)
    token_b = fields.String(required=True)
    amount_a = fields.String(
        required=True, metadata={"description": "What the pool's account of tokenA holds.", **AMOUNT}
    )
    amount_b = fields.String(required=True, metadata=AMOUNT)
    price = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "tokenB for one tokenA at the margin, before fees.", **AMOUNT},
    )


class PoolListSchema(ResponseSchema):
    """Pools, and the slot as of which they are so."""

    slot = fields.Integer(required=True)
    pools = fields.List(fields.Nested(PoolSchema), required=True)


class CancelledOrderSchema(OrderSchema):
    """An order whose cancellation was requested."""

    cancel_requested = fields.Boolean(
        required=True,
        metadata={"description": "It has been submitted: it is cancelled unless its attempt lands."},
    )


class CancelledSchema(ResponseSchema):
    """What became of the orders that a filter named."""

    cancelled = fields.Integer(required=True)
    cancel_requested = fields.Integer(
        required=True, metadata={"description": "Submitted: cancelled unless their attempts land."}
    )


class OrderListSchema(ResponseSchema):
    """A page of orders, newest first."""

    orders = fields.List(fields.Nested(OrderSchema), required=True)
    next_cursor = Cursor(required=True, allow_none=True, metadata={"type": "string"})


class StatusUpdateSchema(ResponseSchema):
    """A WebSocket message: one entry of the history, and the order as it stood then."""

    type = fields.Constant("status_update", required=True)
    order_id = fields.String(required=True, metadata={"format": "uuid"})
    sequence = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    timestamp = fields.String(required=True, attribute="updated_at", metadata={"format": "date-time"})
    order = fields.Nested(OrderSchema, required=True)


class ProblemErrorSchema(Schema):
    """One thing that is not valid, and where."""

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
        metadata={"description": "Of a quote that cannot be given: why."},
    )
    orderId = fields.String(  # noqa: N815
        metadata={"description": "Of a 503: the id under which the order may exist."}
    )


# Building a schema costs more than using it.
ORDER = OrderSchema()
ORDER_LIST = OrderListSchema()
CANCELLED_ORDER = CancelledOrderSchema()
CANCELLED = CancelledSchema()
STATUS_UPDATE = StatusUpdateSchema()
QUOTE = QuoteSchema()
TOKEN = TokenSchema()
POOL = PoolSchema()
