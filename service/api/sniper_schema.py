"""The JSON schema of a sniper order's conditions, for the documents; ``condition_parser`` checks them."""

from typing import Any

from service.api.fields import AMOUNT
from service.domain.amounts import LONGEST_NUMBER
from service.domain.conditions import LONGEST_VOLUME_S, Kind, LiquidityUnit
from service.domain.quote import Dex

_Json = dict[str, Any]

_NUMBER: _Json = {"type": ["string", "null"], "maxLength": LONGEST_NUMBER, **AMOUNT}
_TIME: _Json = {"type": ["string", "null"], "format": "date-time"}


def _required(schema: _Json) -> _Json:
    return {**schema, "type": "string"}


def _object(description: str, members: _Json) -> _Json:
    """Return the schema of an optional object: a member whose type is not null is required."""
    required = [name for name, schema in members.items() if "null" not in schema["type"]]
    return {
        "type": ["object", "null"],
        "description": description,
        "properties": members,
        "additionalProperties": False,
        **({"required": required} if required else {"minProperties": 1}),
    }


CONDITIONS: _Json = {
    "type": "object",
    "description": "Sniper orders only: all that are given must hold.",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        Kind.POOL_CREATED.value: _object(
            "A pool of the two tokens has opened since the order was placed.",
            {"venue": {"type": "string", "enum": [*Dex, "any"]}},
        ),
        Kind.MIN_LIQUIDITY.value: _object(
            "The pools of the two tokens together hold this much.",
            {
                "amount": _required(_NUMBER),
                "unit": {"type": ["string", "null"], "enum": [*LiquidityUnit, None]},
            },
        ),
        Kind.PRICE.value: _object(
            "The best marginal price, tokenOut for one tokenIn after fees, is in this range.",
            {"above": _NUMBER, "below": _NUMBER},
        ),
        Kind.VOLUME.value: _object(
            "This much tokenOut was traded in these pools in this many seconds.",
            {
                "amount": _required(_NUMBER),
                "seconds": {"type": "integer", "minimum": 1, "maximum": LONGEST_VOLUME_S},
            },
        ),
        Kind.TIME_WINDOW.value: _object(
            "The time is in this window.", {"notBefore": _TIME, "notAfter": _TIME}
        ),
    },
}
"""The schema of ``sniperConditions``."""
