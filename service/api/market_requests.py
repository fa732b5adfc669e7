"""Schemas of requests about the market: quotes, pools, and pairs to watch."""

from typing import TypedDict

from marshmallow import ValidationError, fields, validate

from service.api.fields import PAIR_PATTERN, QueryInteger, Request, TokenName, unknown_token
from service.api.swap_request import SwapRequest
from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.order import DEFAULT_SLIPPAGE_BPS
from service.domain.quote import Dex, SwapMode
from service.domain.tokens import find_token
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


# Building a schema costs more than using it.
QUOTE_QUERY = QuoteQuerySchema()
POOL_QUERY = PoolQuerySchema()
MARKET_STREAM_QUERY = MarketStreamQuerySchema()
