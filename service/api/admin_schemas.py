"""Schemas of requests and responses about API keys and the kill switch."""

import re
from typing import TypedDict

from marshmallow import ValidationError, fields, validate

from service.api.fields import Request, ResponseSchema
from service.domain.api_key import Scope


def _is_reason(text: str) -> None:
    if not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{1,200}", text):
        raise ValidationError("Must be 1 to 200 characters, none of them a control character.")


class HaltRequest(TypedDict):
    """Why trading is halted, for everyone who is refused."""

    reason: str


class HaltSchema(Request[HaltRequest]):
    """The body of POST /api/admin/halt."""

    reason = fields.String(
        required=True,
        validate=_is_reason,
        metadata={"description": "Shown to clients.", "minLength": 1, "maxLength": 200},
    )


class KeySchema(ResponseSchema):
    """The caller's API key; of an anonymous caller only the account and the scope."""

    key_id = fields.String(required=True, allow_none=True)
    name = fields.String(required=True, allow_none=True)
    account = fields.String(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(list(Scope)))
    created_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    expires_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


class TicketSchema(ResponseSchema):
    """A ticket, with which a browser opens one WebSocket."""

    ticket = fields.String(required=True)
    valid_seconds = fields.Integer(required=True)


class HaltStateSchema(ResponseSchema):
    """Whether trading is halted, why, and since when."""

    halted = fields.Boolean(required=True)
    reason = fields.String(required=True, allow_none=True)
    halted_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})


# Created once, since creating a schema costs more than using it.
HALT = HaltSchema()
HALT_STATE = HaltStateSchema()
KEY = KeySchema()
TICKET = TicketSchema()
