"""The schemas of an execution that was seen and is not final."""

from marshmallow import fields, validate

from service.api.fields import AMOUNT, ResponseSchema, ViewSchema
from service.domain.transaction import SeenCommitment


class SeenExecutionSchema(ViewSchema):
    """Where an order's transaction was seen, before that is final: it may still vanish, or land elsewhere."""

    slot = fields.Integer(required=True)
    commitment = fields.String(required=True, validate=validate.OneOf(list(SeenCommitment)))
    amount_in = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "What it paid there; null if it failed there, or if not known.", **AMOUNT},
    )
    amount_out = fields.String(required=True, allow_none=True, metadata=AMOUNT)


class ExecutionSeenSchema(ResponseSchema):
    """A message without a sequence: where an order's transaction is seen now; null: not any more."""

    type = fields.Constant(
        "execution_seen", required=True, metadata={"type": "string", "enum": ["execution_seen"]}
    )
    order_id = fields.String(required=True, metadata={"format": "uuid"})
    execution = fields.Nested(SeenExecutionSchema, required=True, allow_none=True)


EXECUTION_SEEN = ExecutionSeenSchema()
