"""The market's messages: as the AsyncAPI document describes them, and each state serialised once."""

import json
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator

from service.amm import Ratio
from service.api.asyncapi import asyncapi_document
from service.api.market_messages import MarketMessages, MessageType
from service.api.routes import ROUTES
from service.domain.failures import FailureCode
from service.events.market_feed import PairState, QuotedPair
from tests.support.clock import START_S
from tests.unit.api.test_openapi import a_choice

DOCUMENT: dict[str, Any] = orjson.loads(asyncapi_document(ROUTES))
SELL_SOL = QuotedPair("SOL", "USDC", 1_500_000_001)
QUOTED = PairState(SELL_SOL, 3, Ratio(151, 1_000), a_choice().route, None, 7, START_S)
NOT_QUOTED = PairState(SELL_SOL, 4, None, None, FailureCode.NO_ROUTE, 8, START_S)


def written(kind: MessageType, *states: PairState) -> Any:
    return json.loads(MarketMessages().message(kind, states))


@pytest.mark.parametrize("kind", ["market_state", "market_update"])
def test_a_message_matches_the_document(kind: MessageType) -> None:
    validator = Draft7Validator(
        {"$ref": "#/components/schemas/MarketUpdate", "components": DOCUMENT["components"]}
    )
    message = written(kind, QUOTED, NOT_QUOTED)
    assert [error.message for error in validator.iter_errors(message)] == []
    assert not validator.is_valid({**message, "type": "status_update"})
    for member in message["pairs"][0]:
        [pair, _other] = message["pairs"]
        left = {name: value for name, value in pair.items() if name != member}
        assert not validator.is_valid({**message, "pairs": [left]})


def test_a_message_shows_the_price_and_the_quote() -> None:
    assert written("market_state", QUOTED) == {
        "type": "market_state",
        "pairs": [
            {
                "pair": "SOL-USDC",
                "tokenIn": "SOL",
                "tokenOut": "USDC",
                "sequence": 3,
                "slot": 7,
                "timestamp": "2027-01-15T08:00:00.000000Z",
                "price": "151",
                "quote": {
                    "amountIn": "1.5",
                    "amountOut": "225.5",
                    "price": "150.333333333333333",
                    "priceImpact": "0.002",
                    "venue": "multiple",
                    "poolIds": ["raydium:1", "meteora:2", "meteora:3"],
                },
                "reason": None,
            }
        ],
    }


def test_a_pair_without_a_route_has_a_reason() -> None:
    [pair] = written("market_update", NOT_QUOTED)["pairs"]
    assert (pair["price"], pair["quote"], pair["reason"]) == (None, None, "no_route")


def test_a_state_is_serialised_once_for_all_watchers() -> None:
    messages = MarketMessages()
    messages.message("market_state", [QUOTED])
    [once] = messages._written.values()
    messages.message("market_update", [QUOTED, NOT_QUOTED])
    assert messages._written[QUOTED] is once
