"""Schemas of dry runs: the query that asks for one, and the response."""

from typing import TypedDict

from marshmallow import fields

from service.api.fields import AMOUNT, Request, ResponseSchema, Stored
from service.api.market_schemas import QuoteSchema
from service.api.problem_schemas import ProblemSchema
from service.api.responses import OrderSchema
from service.api.routing_schemas import FeeSchema


class ExecuteQuery(TypedDict):
    """Whether the order is only checked."""

    dry_run: bool


class ExecuteQuerySchema(Request[ExecuteQuery]):
    """The query of POST /api/orders/execute."""

    has_nulls = False

    dry_run = fields.Boolean(
        truthy={"true"},
        falsy={"false"},
        load_default=False,
        metadata={"description": "true: answer what the order would do, and place none."},
    )


class DryRunOrderSchema(OrderSchema):
    """An order that is not stored, and so has no id; one that was placed before has."""

    id = fields.String(required=True, allow_none=True, metadata={"format": "uuid"})
    order_id = fields.String(
        required=True, allow_none=True, metadata={"format": "uuid", "description": "The same as id."}
    )


class DryRunSchema(ResponseSchema):
    """What placing an order would do. Nothing was stored."""

    dry_run = fields.Constant(constant=True, required=True, metadata={"type": "boolean", "enum": [True]})
    accepted = fields.Boolean(required=True, metadata={"description": "Whether nothing would refuse it."})
    refusals = Stored(
        ProblemSchema,
        many=True,
        required=True,
        metadata={
            "description": "What would refuse it. One with a `reason` would not keep it from being placed, "
            "but an attempt now would fail for it."
        },
    )
    repeats = fields.Boolean(
        required=True,
        metadata={"description": "Its clientOrderId names the same order, which would be returned again."},
    )
    rests = fields.Boolean(
        required=True,
        allow_none=True,
        metadata={"description": "Whether it would wait for its price or its conditions."},
    )
    order = Stored(DryRunOrderSchema, required=True, allow_none=True)
    balance = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The wallet's balance of tokenIn; null: not known.", **AMOUNT},
    )
    fees = Stored(
        FeeSchema,
        many=True,
        required=True,
        allow_none=True,
        metadata={"description": "The fees of the quoted route by token."},
    )
    quote = Stored(QuoteSchema, required=True, allow_none=True)


# Created once, since creating a schema costs more than using it.
EXECUTE_QUERY = ExecuteQuerySchema()
DRY_RUN = DryRunSchema()
