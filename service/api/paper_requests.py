"""The schema of a request to list a pool in the paper market."""

from typing import TypedDict

from marshmallow import ValidationError, fields, post_load, validate

from service.api.fields import AMOUNT, Request, StrictInteger, not_a_look_alike
from service.api.swap_request import parse_amount_of, required_token
from service.chains.paper.listing import NewPool, token_of
from service.chains.paper.pool_json import PROGRAMS
from service.domain.amounts import LONGEST_NUMBER
from service.domain.tokens import TOKENS


class _NewPool(TypedDict):
    """The members of a new pool as sent."""

    program: str
    token_a: str
    token_b: str
    amount_a: str
    amount_b: str
    decimals: int


class NewPoolSchema(Request[NewPool]):
    """POST /api/paper/pools: at most one of the tokens may be new."""

    program = fields.String(
        required=True, validate=validate.OneOf(PROGRAMS, error="Must be one of: " + ", ".join(PROGRAMS) + ".")
    )
    token_a = required_token("A", listed=False, check=not_a_look_alike)
    token_b = required_token("B", listed=False, check=not_a_look_alike)
    amount_a = fields.String(required=True, metadata={"maxLength": LONGEST_NUMBER, **AMOUNT})
    amount_b = fields.String(required=True, metadata={"maxLength": LONGEST_NUMBER, **AMOUNT})
    decimals = StrictInteger(
        load_default=6,
        validate=validate.Range(0, 12),
        metadata={"description": "The decimals of the new token, if one is new."},
    )

    @post_load
    def read_pool(self, data: _NewPool, **_options: object) -> NewPool:
        """Convert tokens and amounts."""
        if data["token_a"] == data["token_b"]:
            raise ValidationError("Must differ from tokenA.", "tokenB")
        if not TOKENS.keys() & {data["token_a"], data["token_b"]}:
            raise ValidationError("One of the two tokens must be known already.", "tokenB")
        token_a, token_b = (
            TOKENS.get(symbol) or token_of(symbol, data["decimals"])
            for symbol in (data["token_a"], data["token_b"])
        )
        amount_a = parse_amount_of(data["amount_a"], token_a, "amountA")
        amount_b = parse_amount_of(data["amount_b"], token_b, "amountB")
        return NewPool(data["program"], token_a, token_b, amount_a, amount_b)


NEW_POOL = NewPoolSchema()
"""The schema, built once: that costs more than using it."""
