"""Routes and the quotes of single pools, as orders and quotes show them."""

from marshmallow import fields, validate

from service.api.fields import AMOUNT, ResponseSchema
from service.domain.failures import FailureCode
from service.domain.quote import MULTIPLE, Dex

FRACTION = {"description": "A fraction: 0.01 is 1 %.", **AMOUNT}
"""The form of a fraction in the OpenAPI document."""


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
    priceImpact = fields.String(metadata=FRACTION)  # noqa: N815


class OfferSchema(_SwapSchema):
    """One pool's quote for the whole amount, or the reason for no quote."""

    chosen = fields.Boolean(metadata={"description": "Whether the route goes through this pool."})
    reason = fields.String(validate=validate.OneOf(list(FailureCode)))


class LegSchema(_SwapSchema):
    """One swap in one pool."""

    tokenIn = fields.String(required=True)  # noqa: N815
    tokenOut = fields.String(required=True)  # noqa: N815


class PathSchema(ResponseSchema):
    """Legs in sequence: the second leg sells what the first is quoted to pay, less the hop margin."""

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
    priceImpact = fields.String(required=True, metadata=FRACTION)  # noqa: N815
    paths = fields.List(fields.Nested(PathSchema), required=True)
    beat = fields.Nested(BeatenSchema, required=True, allow_none=True)
