"""The messages of the stream of all orders: their schemas, and how they are written.

They are written without the schemas, which cost ten times as much: there may be hundreds of events a second.
"""

from collections.abc import Sequence

import orjson
from marshmallow import fields, validate

from service.api.fields import AMOUNT, ResponseSchema, Stored
from service.api.history_schemas import HistoryEntrySchema
from service.domain.amounts import format_amount
from service.domain.history import public
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.domain.quote import SwapMode
from service.store.order_events import OrderEvent


class OrderEventSchema(HistoryEntrySchema):
    """One entry of an order's history, and what the order is."""

    order_id = fields.String(required=True, metadata={"format": "uuid"})
    account = fields.String(required=True, metadata={"description": "The account that owns the order."})
    client_order_id = fields.String(required=True, allow_none=True)
    label = fields.String(required=True, allow_none=True)
    order_type = fields.String(required=True, validate=validate.OneOf(list(OrderType)))
    token_in = fields.String(required=True)
    token_out = fields.String(required=True)
    amount_in = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "As sent; if amountOut was sent, null until confirmed.", **AMOUNT},
    )
    amount_out = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The output once confirmed; before that, as sent, or null.", **AMOUNT},
    )


class OrderEventsSchema(ResponseSchema):
    """A message of the stream of all orders: events, and the position after them.

    The events of one order are in the order of its history.
    """

    type = fields.Constant(
        "order_events", required=True, metadata={"type": "string", "enum": ["order_events"]}
    )
    position = fields.String(
        required=True, metadata={"description": "Resume after these events with `from` set to this."}
    )
    events = Stored(OrderEventSchema, many=True, required=True)


class EventWriter:
    """Writes the messages."""

    def event(self, event: OrderEvent) -> bytes:
        """Return an event in JSON."""
        entry = public(event.entry)
        exact_in = event.swap_mode == SwapMode.EXACT_IN
        amount_in = event.amount_text if exact_in else None
        amount_out = None if exact_in else event.amount_text
        if entry["status"] == Status.CONFIRMED:
            if not exact_in:
                amount_in = _format(event.amount_in, event.decimals_in)
            amount_out = _format(event.amount_out, event.decimals_out)
        return orjson.dumps(
            {
                "orderId": event.order_id,
                "account": event.account,
                "clientOrderId": event.client_order_id,
                "label": event.label,
                "orderType": event.order_type,
                "tokenIn": event.token_in,
                "tokenOut": event.token_out,
                "amountIn": amount_in,
                "amountOut": amount_out,
                **entry,
            }
        )

    def message(self, events: Sequence[bytes], position: str) -> bytes:
        """Return a message with events, and the position after them."""
        return b'{"type":"order_events","position":"%b","events":[%b]}' % (
            position.encode(),
            b",".join(events),
        )


def _format(amount: int | None, decimals: int | None) -> str | None:
    return None if amount is None or decimals is None else format_amount(amount, decimals)
