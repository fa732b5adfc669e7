"""Schemas of requests and responses about API keys and the kill switch."""

import re
from typing import TypedDict

from marshmallow import ValidationError, fields, validate

from service.api.fields import AMOUNT, Request, ResponseSchema, Stored
from service.domain.api_key import Scope
from service.domain.mode import TradingMode
from service.domain.order import OrderType

REASON = {"pattern": r"^[^\x00-\x1f\x7f-\x9f]{1,200}$"}
"""The texts that ``is_reason`` accepts, as a JSON schema."""


def is_reason(text: str) -> None:
    """Check a short text for people.

    Raises:
        ValidationError: It is empty, too long, or has control characters.
    """
    if not re.fullmatch(REASON["pattern"].strip("^$"), text):
        raise ValidationError("Must be 1 to 200 characters, none of them a control character.")


class HaltRequest(TypedDict):
    """Why trading is halted, for everyone who is refused."""

    reason: str


class HaltSchema(Request[HaltRequest]):
    """The body of POST /api/admin/halt."""

    reason = fields.String(
        required=True,
        validate=is_reason,
        metadata={"description": "Shown to clients.", **REASON},
    )


def _amounts(description: str) -> fields.Dict:
    return fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata=AMOUNT),
        required=True,
        allow_none=True,
        metadata={"description": description},
    )


def _dollars(description: str) -> fields.String:
    return fields.String(required=True, allow_none=True, metadata={"description": description, **AMOUNT})


class KeyLimitsSchema(ResponseSchema):
    """The limits of an API key; null: no limit."""

    tokens = fields.List(
        fields.String(),
        required=True,
        allow_none=True,
        metadata={"description": "The tokens that it may trade."},
    )
    order_types = fields.List(
        fields.String(validate=validate.OneOf(list(OrderType))), required=True, allow_none=True
    )
    max_slippage_bps = fields.Integer(required=True, allow_none=True)
    max_price_impact_bps = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "The highest price impact of a route on which its orders are submitted."},
    )
    max_amount = _amounts("By token: the largest amount that one order may fix, in display units.")
    requests_per_second = fields.Integer(required=True, allow_none=True)
    max_sockets = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "The most WebSockets open at once on one instance."},
    )
    requires_approval = fields.Boolean(
        required=True,
        metadata={"description": "Whether an admin key must approve each order that it places or amends."},
    )
    max_amount_per_day = _amounts(
        "By token: the largest amount that all its orders of 24 hours may fix, in display units."
    )
    max_usd_per_order = _dollars("The largest value of one order, in US dollars.")
    max_usd_per_day = _dollars("The largest value of all its orders of 24 hours, in US dollars.")
    max_open_orders = fields.Integer(
        required=True, allow_none=True, metadata={"description": "The most orders that are open at once."}
    )


class KeyUsageSchema(ResponseSchema):
    """What the orders of an API key use of its limits on all orders together; null: no such limit."""

    max_amount_per_day = _amounts("By token: the amount of the last 24 hours, in display units.")
    max_usd_per_day = _dollars("The value of the last 24 hours, in US dollars.")
    max_open_orders = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Its orders that have not ended."}
    )


class KeySchema(ResponseSchema):
    """The caller's API key; of an anonymous caller only the account and the scope."""

    key_id = fields.String(required=True, allow_none=True)
    name = fields.String(required=True, allow_none=True)
    account = fields.String(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(list(Scope)))
    created_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    expires_at = fields.String(required=True, allow_none=True, metadata={"format": "date-time"})
    mode = fields.String(
        required=True,
        validate=validate.OneOf(list(TradingMode)),
        metadata={
            "description": "Whether orders trade real money (live) or not (paper), or are simulated "
            "(simulate)."
        },
    )
    limits = Stored(KeyLimitsSchema, required=True)
    used = Stored(KeyUsageSchema, required=True)


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
