"""Schemas of requests and responses about the venue and its wallet."""

from typing import TypedDict

from marshmallow import fields, validate

from service.api.fields import AMOUNT, QueryInteger, Request, ResponseSchema, Stored
from service.api.health_schema import HaltedSchema
from service.domain.mode import TradingMode

DEFAULT_PAGE = 100
LARGEST_PAGE = 500

_CURSOR = "^[0-9A-Za-z]{1,44}$"


class BalanceQuery(TypedDict):
    """A page of balances; without a cursor, the first."""

    limit: int
    cursor: str | None


class BalanceQuerySchema(Request[BalanceQuery]):
    """The query of GET /api/balances."""

    has_nulls = False

    limit = QueryInteger(
        load_default=DEFAULT_PAGE,
        validate=validate.Range(1, LARGEST_PAGE),
        metadata={"description": "The maximum number of balances."},
    )
    cursor = fields.String(
        load_default=None,
        validate=validate.Regexp(_CURSOR.replace("$", r"\Z"), error="Not a valid cursor."),
        metadata={"description": "nextCursor of a page.", "pattern": _CURSOR},
    )


class BalanceSchema(ResponseSchema):
    """What the wallet holds of a token: the sum of `free`, `inFlight` and `reserved`."""

    token = fields.String(required=True)
    free = fields.String(required=True, metadata={"description": "What a new order can pay.", **AMOUNT})
    in_flight = fields.String(
        required=True,
        metadata={"description": "The most that submitted transactions may still take.", **AMOUNT},
    )
    reserved = fields.String(
        required=True,
        metadata={"description": "Kept for network fees: no order can pay with it.", **AMOUNT},
    )
    usd = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "What all of it is worth in US dollars, by the token's reference price; null: "
            "there is none.",
            **AMOUNT,
        },
    )


class BalanceListSchema(ResponseSchema):
    """A page of balances, by token."""

    balances = fields.List(fields.Nested(BalanceSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class VenueLimitsSchema(ResponseSchema):
    """The limits of all orders, whoever places them; null: no limit."""

    max_order_amounts = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata=AMOUNT),
        required=True,
        allow_none=True,
        metadata={
            "description": "By token: the largest amount that one order may fix, in display units. In mode "
            "`live`, a token that is not among them cannot be sold."
        },
    )
    max_day_amounts = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata=AMOUNT),
        required=True,
        allow_none=True,
        metadata={
            "description": "By token: the largest amount that all orders sell in 24 hours, in display units."
        },
    )
    max_price_impact_bps = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "The highest price impact of a route on which an order is submitted."},
    )
    max_market_order_age_s = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "After how many seconds an unsubmitted market order expires."},
    )


class VenueSchema(ResponseSchema):
    """Where orders are executed, with which wallet, and within which limits."""

    venue = fields.String(
        required=True, metadata={"description": "`paper`: the paper market; `solana`: a Solana cluster."}
    )
    mode = fields.String(
        required=True,
        validate=validate.OneOf(list(TradingMode)),
        metadata={
            "description": "Whether orders trade real money (live) or not (paper), or are simulated "
            "(simulate)."
        },
    )
    wallet = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The wallet's public address; null: it has none, as in the paper market."},
    )
    halted = Stored(HaltedSchema, required=True, allow_none=True)
    limits = fields.Nested(VenueLimitsSchema, required=True)


# Created once, since creating a schema costs more than using it.
BALANCE_QUERY = BalanceQuerySchema()
BALANCE = BalanceSchema()
VENUE = VenueSchema()
