"""Schemas of requests about the market: quotes, pools, and a pool to list."""

from typing import TypedDict

from marshmallow import ValidationError, fields, post_load, validate

from service.api.fields import AMOUNT, QueryInteger, Request, StrictInteger, TokenName, not_a_look_alike
from service.api.swap_request import SwapRequest, parse_amount_of, required_token
from service.chains.paper.listing import NewPool, token_of
from service.chains.paper.pool_json import PROGRAMS
from service.domain.order import DEFAULT_SLIPPAGE_BPS
from service.domain.quote import Dex, SwapMode
from service.domain.tokens import TOKENS


class QuoteQuery(TypedDict):
    """A swap to quote; ``amount`` is in base units of the token whose amount is fixed."""

    token_in: str
    token_out: str
    swap_mode: SwapMode
    amount: int
    amount_text: str
    slippage_bps: int


class QuoteQuerySchema(SwapRequest[QuoteQuery]):
    """The query of GET /api/quotes."""

    has_nulls = False

    slippage_bps = QueryInteger(
        load_default=DEFAULT_SLIPPAGE_BPS,
        validate=validate.Range(0, 10_000),
        metadata={"description": "The maximum slippage from the quote, in basis points."},
    )


class PoolQuery(TypedDict):
    """A filter of pools; None matches any."""

    venue: Dex | None
    token: str | None


class PoolQuerySchema(Request[PoolQuery]):
    """The query of GET /api/pools."""

    has_nulls = False

    venue = fields.Enum(Dex, by_value=True, load_default=None)
    token = TokenName("Only pools that trade this token, named by symbol or mint address.", load_default=None)


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
    amount_a = fields.String(required=True, metadata=AMOUNT)
    amount_b = fields.String(required=True, metadata=AMOUNT)
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


# Building a schema costs more than using it.
QUOTE_QUERY = QuoteQuerySchema()
POOL_QUERY = PoolQuerySchema()
NEW_POOL = NewPoolSchema()
