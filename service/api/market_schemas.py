"""What responses about the market contain."""

from marshmallow import fields, validate

from service.api.fields import AMOUNT, ResponseSchema, Stored
from service.api.routing_schemas import FRACTION, OfferSchema, RouteSchema
from service.domain.quote import MULTIPLE, Dex, SwapMode


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
    price_impact = fields.String(required=True, metadata=FRACTION)
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


# Created once, since creating a schema costs more than using it.
QUOTE = QuoteSchema()
TOKEN = TokenSchema()
POOL = PoolSchema()
