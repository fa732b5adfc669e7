"""What a health check answers."""

from marshmallow import fields, validate

from service.api.fields import ResponseSchema, Stored
from service.domain.mode import TradingMode


class HaltedSchema(ResponseSchema):
    """Why trading is halted, and since when."""

    reason = fields.String(required=True)
    halted_at = fields.String(required=True, metadata={"format": "date-time"})


class HealthSchema(ResponseSchema):
    """Whether the service can do its work."""

    status = fields.String(required=True, validate=validate.OneOf(["ok", "degraded", "unavailable"]))
    database = fields.String(required=True, validate=validate.OneOf(["ok", "unwritable", "unavailable"]))
    database_error = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Why PostgreSQL rejects writes; null if it has rejected none just now."},
    )
    redis = fields.String(required=True, validate=validate.OneOf(["ok", "unavailable"]))
    redis_error = fields.String(required=True, allow_none=True)
    executing = fields.Integer(required=True, metadata={"description": "Orders that this instance executes."})
    unknown_outcomes = fields.Integer(
        required=True, metadata={"description": "Submitted transactions of which the venue reports nothing."}
    )
    anonymous = fields.Boolean(required=True, metadata={"description": "Whether clients need no API key."})
    mode = fields.String(required=True, validate=validate.OneOf(list(TradingMode)))
    halted = Stored(HaltedSchema, required=True, allow_none=True)
