"""The messages of the stream of all orders: as their schema says, and as the order shows the same."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator

from service.api.asyncapi import asyncapi_document
from service.api.event_messages import EventWriter
from service.api.responses import ORDER
from service.api.routes import ROUTES
from service.api.views import OrderAt
from service.domain.history import HistoryEntry, StoredEntry
from service.domain.order import Order
from service.domain.quote import SwapMode
from service.domain.transaction import Fill
from service.store.order_events import OrderEvent
from tests.unit.api.test_openapi import CONFIRMED, FAILED, ORDER_ID, an_order

FILL = Fill(1_500_000_001, 225_500_000, "5sig")
SHARED = (
    *("orderId", "account", "clientOrderId", "label", "orderType", "tokenIn", "tokenOut"),
    *("amountIn", "amountOut", "status"),
)


def events_of(order: Order) -> Iterator[OrderEvent]:
    """Return the events of an order, as they are read when the whole order is stored."""
    for number, entry in enumerate(order.history, 1):
        stored: StoredEntry = {**entry, "writeId": "0123456789abcdef"}
        yield OrderEvent(
            id=number,
            order_id=order.id,
            account=order.account,
            client_order_id=order.client_order_id,
            label=order.label,
            order_type=order.order_type,
            token_in=order.token_in,
            token_out=order.token_out,
            swap_mode=order.swap_mode,
            amount_text=order.amount_text,
            decimals_in=order.decimals_in,
            decimals_out=order.decimals_out,
            amount_in=None if order.fill is None else order.fill.amount_in,
            amount_out=None if order.fill is None else order.fill.amount_out,
            entry=stored,
        )


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    """Return a validator of the messages, by the AsyncAPI document."""
    document = json.loads(asyncapi_document(ROUTES))
    reference = {"$ref": "#/components/schemas/OrderEvents"}
    return Draft7Validator({**reference, "components": document["components"]})


def written(order: Order) -> dict[str, Any]:
    """Return a message with all events of an order."""
    writer = EventWriter()
    texts = [writer.event(event) for event in events_of(order)]
    message: dict[str, Any] = json.loads(writer.message(texts, "a-position"))
    return message


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize("history", [FAILED, CONFIRMED], ids=["failed", "confirmed"])
def test_an_event_is_an_entry_and_shows_the_order_as_of_it(
    schema: Draft7Validator, history: tuple[HistoryEntry, ...], mode: SwapMode
) -> None:
    order = an_order(history, mode=mode, fill=FILL if history is CONFIRMED else None)
    message = written(order)
    assert [error.message for error in schema.iter_errors(message)] == []
    assert (message["type"], message["position"]) == ("order_events", "a-position")
    for sequence, event in enumerate(message["events"], 1):
        whole = ORDER.dump(OrderAt(order, sequence))
        assert {name: event[name] for name in SHARED} == {name: whole[name] for name in SHARED}
        assert {name: event[name] for name in event if name not in SHARED or name == "status"} == (
            history[sequence - 1]
        )


def test_a_message_may_have_no_events(schema: Draft7Validator) -> None:
    message = json.loads(EventWriter().message([], "a-position"))
    assert message == {"type": "order_events", "position": "a-position", "events": []}
    assert schema.is_valid(message)


@pytest.mark.parametrize("member", ["type", "position", "events"])
def test_a_message_without_one_of_its_members_violates_the_document(
    schema: Draft7Validator, member: str
) -> None:
    message = written(an_order())
    assert not schema.is_valid({**message, member: None})
    del message[member]
    assert not schema.is_valid(message)


@pytest.mark.parametrize(
    "member", ["orderId", "account", "label", "amountIn", "sequence", "status", "timestamp"]
)
def test_an_event_without_one_of_its_members_violates_the_document(
    schema: Draft7Validator, member: str
) -> None:
    message = written(an_order())
    assert message["events"][0]["orderId"] == ORDER_ID
    del message["events"][0][member]
    assert not schema.is_valid(message)
