"""An order as it stood at one entry of its history: what a client sees of it."""

from typing import Any

from service.domain.amounts import format_amount, format_price
from service.domain.lifecycle import Status
from service.domain.tokens import TOKENS
from service.store.journal import Entry
from service.store.orders import Order


class OrderAt:
    """An order with its history cut after ``sequence``; the attributes are the contract's fields.

    What comes later is not there yet: offers and the venue come with ``building``, the fill with
    ``confirmed``, the reason with ``failed``.
    """

    def __init__(self, order: Order, sequence: int | None = None) -> None:
        self.order = self  # a message is about the order as it stood
        self.sequence = order.version if sequence is None else sequence
        self.status_history = order.history[: self.sequence]
        last = self.status_history[-1]
        self.id = self.order_id = order.id
        self.client_order_id = order.client_order_id
        self.token_in = order.token_in
        self.token_out = order.token_out
        self.amount_in = order.amount_in_text
        self.order_type = order.order_type
        self.slippage_bps = order.slippage_bps
        self.status: str = last["status"]
        self.created_at = order.created_at
        self.updated_at: str = last["timestamp"]
        self.attempts = sum(entry["status"] == Status.ROUTING for entry in self.status_history)
        self.venue = _latest(self.status_history, "venue")
        self.quotes = self._quotes(order)
        self.amount_out: str | None = None
        self.executed_price: str | None = None
        self.tx_hash: str | None = None
        if self.status == Status.CONFIRMED:
            self._fill(order)
        failed = self.status == Status.FAILED
        self.failure_reason: str | None = last["reason"] if failed else None
        self.failure_detail: str | None = last["detail"] if failed else None

    def _quotes(self, order: Order) -> list[Entry] | None:
        made = [sequence for sequence in order.offers if sequence <= self.sequence]
        return order.offers[max(made)] if made else None

    def _fill(self, order: Order) -> None:
        fill = order.fill
        if fill is None:
            raise ValueError(f"order {order.id} is confirmed and has no fill")
        token_in, token_out = TOKENS[order.token_in], TOKENS[order.token_out]
        self.amount_out = format_amount(fill.amount_out, token_out.decimals)
        self.executed_price = format_price(
            fill.amount_out, token_out.decimals, order.amount_in, token_in.decimals
        )
        self.tx_hash = fill.tx_hash


def _latest(history: tuple[Entry, ...], key: str) -> Any:
    """Return what the last entry that has the key says."""
    return next((entry[key] for entry in reversed(history) if key in entry), None)
