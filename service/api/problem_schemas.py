"""What an error looks like (RFC 9457)."""

from marshmallow import Schema, fields, validate

from service.api.fields import AMOUNT
from service.domain.failures import FailureCode


class ProblemErrorSchema(Schema):
    """One validation error and its location."""

    detail = fields.String(required=True)
    pointer = fields.String(required=True, metadata={"description": "RFC 6901, as a URI fragment."})


class ProblemSchema(Schema):
    """An error (RFC 9457)."""

    type = fields.String(
        required=True,
        metadata={
            "description": "`about:blank`, or `urn:problem-type:insufficient-balance`: the order is valid, "
            "but the wallet cannot pay it now."
        },
    )
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
            "`maxOrderAmounts` or `maxDayAmounts`, settings of the service."
        }
    )
    limit = fields.Raw(metadata={"description": "Its value, as in getOwnKey; of amounts, the token's."})
    left = fields.Raw(
        metadata={
            "description": "Of a budget, and of maxDayAmounts: what is left of it, in the form of the limit."
        }
    )
    free = fields.String(
        metadata={
            "description": "Of the type `urn:problem-type:insufficient-balance`: what a new order could pay.",
            **AMOUNT,
        }
    )
    orderId = fields.String(  # noqa: N815
        metadata={"description": "Of a 503: the id under which the order may exist."}
    )
