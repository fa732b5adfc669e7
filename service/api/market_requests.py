"""Schemas of requests about the market: quotes, pools, a pool to list, and pairs to watch."""

from typing import TypedDict

from marshmallow import ValidationError, fields, post_load, validate

from service.api.fields import (
    AMOUNT,
    PAIR_PATTERN,
    QueryInteger,
    Request,
    StrictInteger,
    TokenName,
    not_a_look_alike,
    unknown_token,
)
from service.api.swap_request import SwapRequest, parse_amount_of, required_token
from service.chains.paper.listing import NewPool, token_of
from service.chains.paper.pool_json import PROGRAMS
from service.domain.amounts import LONGEST_NUMBER, InvalidAmountError, parse_amount
from service.domain.order import DEFAULT_SLIPPAGE_BPS
from service.domain.quote import Dex, SwapMode
from service.domain.tokens import TOKENS, find_token
from service.events.market_feed import QuotedPair

MOST_PAIRS = 20
"""How many pairs a WebSocket may watch."""

_WHOLE_UNIT = "1"


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


class PairList(fields.Field[list[QuotedPair]]):
    """Pairs, separated by commas: ``SOL-USDC``, or with the amount to quote ``SOL-USDC:2.5``."""

    def _deserialize(self, value: str, *_where: object, **_options: object) -> list[QuotedPair]:
        texts = value.split(",")
        if len(texts) > MOST_PAIRS:
            raise ValidationError(f"Must be {MOST_PAIRS} pairs at most.")
        pairs: list[QuotedPair] = []
        for number, text in enumerate(texts):
            try:
                pair = _quoted_pair(text)
            except ValidationError as error:
                raise ValidationError({number: error.messages}) from None
            if any(pair[:2] == other[:2] for other in pairs):
                raise ValidationError({number: ["Given more than once."]})
            pairs.append(pair)
        return pairs


def _quoted_pair(text: str) -> QuotedPair:
    names, _, amount = text.partition(":")
    parts = names.split("-")
    if len(parts) != 2:
        raise ValidationError("Must be two tokens, such as SOL-USDC, or with an amount SOL-USDC:2.5.")
    sold, bought = (find_token(name) for name in parts)
    if sold is None or bought is None:
        raise unknown_token(parts[0] if sold is None else parts[1])
    if sold is bought:
        raise ValidationError("Must be two different tokens.")
    try:
        in_base_units = parse_amount(amount if ":" in text else _WHOLE_UNIT, sold.decimals)
    except InvalidAmountError as error:
        raise ValidationError(f"The amount {error}.") from None
    return QuotedPair(sold.symbol, bought.symbol, in_base_units)


class MarketStreamQuery(TypedDict):
    """What a WebSocket of the market watches."""

    pairs: list[QuotedPair]


class MarketStreamQuerySchema(Request[MarketStreamQuery]):
    """The query of GET /api/market/ws."""

    has_nulls = False

    pairs = PairList(
        required=True,
        metadata={
            "type": "string",
            "description": f"1 to {MOST_PAIRS} pairs, separated by commas: tokenIn-tokenOut, each named by "
            "symbol or mint address. A colon and the amountIn to quote, in display units, may follow; 1 if "
            "omitted.",
            "pattern": f"^{PAIR_PATTERN}(,{PAIR_PATTERN}){{0,{MOST_PAIRS - 1}}}$",
        },
    )


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


# Building a schema costs more than using it.
QUOTE_QUERY = QuoteQuerySchema()
POOL_QUERY = PoolQuerySchema()
MARKET_STREAM_QUERY = MarketStreamQuerySchema()
NEW_POOL = NewPoolSchema()
