"""An order as it stood at one entry of its history: what a client sees of it."""

from typing import Any

from service.domain.amounts import format_amount, format_price, format_shortfall, parse_amount
from service.domain.attempt import Fill
from service.domain.lifecycle import Status
from service.domain.quote import SwapMode
from service.store.journal import Entry
from service.store.orders import Order, terms_at


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
        self.swap_mode = order.swap_mode
        exact_in = order.swap_mode is SwapMode.EXACT_IN
        self.amount_in = order.amount_text if exact_in else None
        self.amount_out = None if exact_in else order.amount_text
        self.order_type = order.order_type
        terms = terms_at(order, self.sequence)
        self.slippage_bps = terms.slippage_bps
        self.time_in_force = terms.time_in_force
        self.limit_price = terms.limit_price
        self.sniper_conditions = terms.sniper_conditions
        self.expires_at = terms.expires_at
        self.status: str = last["status"]
        self.created_at = order.created_at
        self.updated_at: str = last["timestamp"]
        self.attempts = sum(entry["status"] == Status.ROUTING for entry in self.status_history)
        self.venue = _latest(self.status_history, "venue")
        made = [sequence for sequence in order.quoted if sequence <= self.sequence]
        quoted = order.quoted[max(made)] if made else None
        self.quotes = quoted and quoted.offers
        self.route = quoted and quoted.route
        self.executed_price: str | None = None
        self.realised_slippage: str | None = None
        self.tx_hash: str | None = None
        if self.status == Status.CONFIRMED:
            self._fill(order)
        unfilled = self.status in {Status.FAILED, Status.EXPIRED, Status.CANCELLED}
        self.failure_reason: str | None = last.get("reason") if unfilled else None
        self.failure_detail: str | None = last.get("detail") if unfilled else None

    def _fill(self, order: Order) -> None:
        fill = order.fill
        decimals_in, decimals_out = order.decimals_in, order.decimals_out
        if fill is None or decimals_out is None:
            raise ValueError(f"order {order.id} is confirmed and has no fill")
        if order.swap_mode is SwapMode.EXACT_OUT:
            self.amount_in = format_amount(fill.amount_in, decimals_in)
        self.amount_out = format_amount(fill.amount_out, decimals_out)
        self.executed_price = format_price(fill.amount_out, decimals_out, fill.amount_in, decimals_in)
        exact_in = order.swap_mode is SwapMode.EXACT_IN
        self.realised_slippage = self._slippage(order, fill, decimals_out if exact_in else decimals_in)
        self.tx_hash = fill.tx_hash

    def _slippage(self, order: Order, fill: Fill, decimals: int) -> str | None:
        """Compare the fill with what the attempt that filled it was quoted."""
        if order.swap_mode is SwapMode.EXACT_IN:
            name, got = "quotedOut", fill.amount_out
        else:
            name, got = "quotedIn", fill.amount_in
        text = _latest(self.status_history, name)
        if text is None:
            return None  # an order from before quotes were kept
        quoted = parse_amount(text, decimals)
        worse_by = quoted - got if order.swap_mode is SwapMode.EXACT_IN else got - quoted
        return format_shortfall(worse_by, quoted)


def _latest(history: tuple[Entry, ...], key: str) -> Any:
    """Return what the last entry that has the key says."""
    return next((entry[key] for entry in reversed(history) if key in entry), None)
