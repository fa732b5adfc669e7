"""The schema of requests that decide about an order that awaits approval."""

from typing import TypedDict

from marshmallow import fields, validate

from service.api.admin_schemas import REASON, is_reason
from service.api.fields import Request, StrictInteger


class Decision(TypedDict):
    """What a decision may say: None if it does not."""

    reason: str | None
    sequence: int | None


class DecisionSchema(Request[Decision]):
    """The body of POST /api/orders/{orderId}/approve and refuse."""

    reason = fields.String(
        load_default=None,
        validate=is_reason,
        metadata={"description": "Why, for the order's history.", **REASON},
    )
    sequence = StrictInteger(
        load_default=None,
        validate=validate.Range(min=1),
        metadata={
            "description": "Decide only if this is still the sequence of the order's last entry: 409 if the "
            "order was amended meanwhile."
        },
    )


# Building a schema costs more than using it.
DECISION = DecisionSchema()
