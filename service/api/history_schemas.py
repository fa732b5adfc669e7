"""The schema of an entry of an order's history. Entries are stored in this form."""

from marshmallow import fields, validate

from service.api.fields import AMOUNT, ResponseSchema
from service.domain.failures import FailureCode
from service.domain.lifecycle import Status
from service.domain.quote import MULTIPLE, Dex


class ResidueSchema(ResponseSchema):
    """What a fill left in the wallet of a token between its legs."""

    token = fields.String(required=True)
    amount = fields.String(required=True, metadata=AMOUNT)


class SimulatedSchema(ResponseSchema):
    """Of an attempt with the reason `simulated`: what its transaction would have done."""

    amountIn = fields.String(metadata=AMOUNT)  # noqa: N815 - entries are stored in the wire's form
    amountOut = fields.String(metadata=AMOUNT)  # noqa: N815
    networkCost = fields.String(  # noqa: N815
        required=True, metadata={"description": "Fees and rent, in SOL.", **AMOUNT}
    )


class HistoryEntrySchema(ResponseSchema):
    """One step of an order."""

    sequence = fields.Integer(required=True, metadata={"description": "From 1, without gaps."})
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    timestamp = fields.String(required=True, metadata={"format": "date-time"})
    attempt = fields.Integer(metadata={"description": "The number of the attempt."})
    venue = fields.String(validate=validate.OneOf([*Dex, MULTIPLE]))
    txHash = fields.String()  # noqa: N815 - entries are stored in the wire's form
    landedSlot = fields.Integer(  # noqa: N815
        metadata={"description": "Of `confirmed`: the slot in which the transaction landed."}
    )
    landedAt = fields.String(  # noqa: N815
        metadata={
            "description": "Of `confirmed`: when it landed, which is before it was recorded. "
            "Never after the order's expiresAt.",
            "format": "date-time",
        }
    )
    networkCost = fields.String(  # noqa: N815
        metadata={"description": "What the attempt's transaction cost, in SOL.", **AMOUNT}
    )
    residue = fields.List(
        fields.Nested(ResidueSchema), metadata={"description": "Of `confirmed`, if there is any."}
    )
    simulated = fields.Nested(SimulatedSchema)
    reason = fields.String(validate=validate.OneOf(list(FailureCode)))
    detail = fields.String()
    quotedIn = fields.String(metadata=AMOUNT)  # noqa: N815
    quotedOut = fields.String(metadata=AMOUNT)  # noqa: N815
    maximumIn = fields.String(metadata=AMOUNT)  # noqa: N815
    minimumOut = fields.String(metadata=AMOUNT)  # noqa: N815
    triggeredBy = fields.Raw(  # noqa: N815
        metadata={"type": "object", "description": "The market data that fired a resting order."}
    )
    amended = fields.Raw(metadata={"type": "object", "description": "Each changed term: `from` and `to`."})
    nextTryAt = fields.String(metadata={"format": "date-time"})  # noqa: N815
    awaitingApproval = fields.Boolean(  # noqa: N815
        metadata={"description": "True: from this entry on the order awaits approval."}
    )
    approvedBy = fields.String(  # noqa: N815
        metadata={"description": "The id of the API key that approved the order."}
    )
    refusedBy = fields.String(  # noqa: N815
        metadata={"description": "The id of the API key that refused the order."}
    )
