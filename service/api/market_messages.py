"""The messages of the market's WebSocket. A pair's state is serialised once for all watchers."""

from collections.abc import Iterable
from typing import Literal
from weakref import WeakKeyDictionary

import orjson
from marshmallow import fields, validate

from service.api.fields import AMOUNT, ResponseSchema
from service.domain.amounts import format_amount, format_price
from service.domain.failures import FailureCode
from service.domain.quote import MULTIPLE, Dex, Route
from service.domain.timestamps import format_epoch
from service.domain.tokens import TOKENS
from service.events.market_feed import PairState

MessageType = Literal["market_state", "market_update"]
"""The first message of a socket, and each later one."""


class PairQuoteSchema(ResponseSchema):
    """The best quote for the amount that is watched."""

    amount_in = fields.String(required=True, metadata=AMOUNT)
    amount_out = fields.String(required=True, metadata=AMOUNT)
    price = fields.String(
        required=True,
        metadata={"description": "amountOut / amountIn, 18 significant digits, rounded down.", **AMOUNT},
    )
    price_impact = fields.String(
        required=True, metadata={"description": "A fraction: 0.01 is 1 %.", **AMOUNT}
    )
    venue = fields.String(required=True, validate=validate.OneOf([*Dex, MULTIPLE]))
    pool_ids = fields.List(
        fields.String(), required=True, metadata={"description": "The pools of the route, path by path."}
    )


class PairStateSchema(ResponseSchema):
    """A pair's price and best quote at one moment."""

    pair = fields.String(required=True, metadata={"description": "tokenIn-tokenOut, by their symbols."})
    token_in = fields.String(required=True)
    token_out = fields.String(required=True)
    sequence = fields.Integer(
        required=True,
        metadata={
            "description": "Counts the pair's states on this instance. It grows within one connection; where "
            "a number is missing, states were skipped for newer ones."
        },
    )
    slot = fields.Integer(required=True, metadata={"description": "The slot for which it was quoted."})
    timestamp = fields.String(
        required=True, metadata={"description": "When it was quoted.", "format": "date-time"}
    )
    price = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The best marginal price, tokenOut for one tokenIn, net of fees; null if no pool "
            "trades the pair.",
            **AMOUNT,
        },
    )
    quote = fields.Nested(PairQuoteSchema, required=True, allow_none=True)
    reason = fields.String(
        required=True,
        allow_none=True,
        validate=validate.OneOf(list(FailureCode)),
        metadata={"description": "Why there is no quote; null if there is one."},
    )


class MarketUpdateSchema(ResponseSchema):
    """A WebSocket message: the pairs that have changed; in the first one, `market_state`, all of them."""

    type = fields.String(required=True, validate=validate.OneOf(["market_state", "market_update"]))
    pairs = fields.List(fields.Nested(PairStateSchema), required=True)


# Created once, since creating a schema costs more than using it.
_PAIR_STATE = PairStateSchema()


class MarketMessages:
    """Writes the messages."""

    def __init__(self) -> None:
        self._written: WeakKeyDictionary[PairState, orjson.Fragment] = WeakKeyDictionary()

    def message(self, kind: MessageType, states: Iterable[PairState]) -> bytes:
        """Return the message with some pairs' states."""
        return orjson.dumps({"type": kind, "pairs": [self._write(state) for state in states]})

    def _write(self, state: PairState) -> orjson.Fragment:
        written = self._written.get(state)
        if written is None:
            written = self._written[state] = orjson.Fragment(orjson.dumps(_PAIR_STATE.dump(_as_shown(state))))
        return written


def _as_shown(state: PairState) -> dict[str, object]:
    """Return a pair's state in the form that its schema dumps."""
    token_in, token_out, _amount = state.quoted
    decimals_in, decimals_out = TOKENS[token_in].decimals, TOKENS[token_out].decimals
    price = state.price
    return {
        "pair": f"{token_in}-{token_out}",
        "token_in": token_in,
        "token_out": token_out,
        "sequence": state.sequence,
        "slot": state.slot,
        "timestamp": format_epoch(state.at),
        "price": price and format_price(price.out, decimals_out, price.per, decimals_in),
        "quote": state.route and _quote(state.route, decimals_in, decimals_out),
        "reason": state.reason,
    }


def _quote(route: Route, decimals_in: int, decimals_out: int) -> dict[str, object]:
    return {
        "amount_in": format_amount(route.amount_in, decimals_in),
        "amount_out": format_amount(route.amount_out, decimals_out),
        "price": format_price(route.amount_out, decimals_out, route.amount_in, decimals_in),
        "price_impact": format_amount(route.price_impact_ppm, 6),
        "venue": route.dex,
        "pool_ids": [leg.pool_id for leg in route.legs],
    }
