"""The API's view of an order, at one entry of its history."""

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from service.domain.amounts import format_amount, format_price, format_shortfall
from service.domain.history import HistoryEntry, ResidueAmount, awaits_approval, total_cost
from service.domain.lifecycle import Status
from service.domain.order import Order, Terms, apply_amendment, terms_at
from service.domain.quote import SwapMode
from service.domain.routing_record import NoQuoteJson, PoolQuoteJson, RouteJson, RoutingRecord
from service.domain.transaction import Fill


@dataclass(slots=True)
class StateAt:
    """State accumulated from a history, entry by entry, so that no view scans it again."""

    terms: Terms
    attempts: int = 0
    venue: str | None = None
    routing: RoutingRecord | None = None
    awaiting_approval: bool = False
    network_cost: str | None = None

    @classmethod
    def of(cls, order: Order, sequence: int) -> "StateAt":
        """Return the state after the entry with this sequence."""
        state = cls(terms_at(order, sequence))
        for entry in order.history[:sequence]:
            state._apply(entry, order.routing.get(entry["sequence"]))
        return state

    def after(self, entry: HistoryEntry, routing: RoutingRecord | None) -> "StateAt":
        """Return the state after the next entry, which may have a routing record."""
        terms = apply_amendment(self.terms, entry, "to")
        following = StateAt(
            terms, self.attempts, self.venue, self.routing, self.awaiting_approval, self.network_cost
        )
        following._apply(entry, routing)
        return following

    def _apply(self, entry: HistoryEntry, routing: RoutingRecord | None) -> None:
        if entry["status"] == Status.ROUTING:
            self.attempts += 1
        self.awaiting_approval = awaits_approval(entry, before=self.awaiting_approval)
        self.venue = entry.get("venue", self.venue)
        self.routing = routing or self.routing
        self.network_cost = total_cost(self.network_cost, entry)


class SeenExecution(NamedTuple):
    """Where a transaction was seen before that is final, as the API shows it."""

    slot: int
    commitment: str
    amount_in: str | None
    amount_out: str | None


class OrderAt:
    """An order with its history cut after ``sequence``; the attributes are the API's fields.

    The only presenter of an ``Order``: it formats amounts and prices for JSON. Members that are set later
    are still missing: quotes and the venue appear with ``building``, the fill with ``confirmed``, the reason
    with ``failed``.
    """

    def __init__(self, order: Order, sequence: int | None = None, state: StateAt | None = None) -> None:
        self.order = self  # a message contains the order at its entry
        self.sequence = order.version if sequence is None else sequence
        self.status_history: tuple[HistoryEntry, ...] | orjson.Fragment = order.history[: self.sequence]
        state = state or StateAt.of(order, self.sequence)
        last = order.history[self.sequence - 1]
        self.id = self.order_id = order.id
        self.account = order.account
        self.mode = order.mode
        self.client_order_id = order.client_order_id
        self.label = order.label
        self.token_in = order.token_in
        self.token_out = order.token_out
        self.swap_mode = order.swap_mode
        exact_in = order.swap_mode is SwapMode.EXACT_IN
        self.amount_in = order.amount_text if exact_in else None
        self.amount_out = None if exact_in else order.amount_text
        self.order_type = order.order_type
        terms = state.terms
        self.slippage_bps = terms.slippage_bps
        self.time_in_force = terms.time_in_force
        self.limit_price = terms.limit_price
        self.sniper_conditions = terms.sniper_conditions
        self.expires_at = terms.expires_at
        self.status: str = last["status"]
        self.awaiting_approval = state.awaiting_approval
        self.created_at = order.created_at
        self.updated_at: str = last["timestamp"]
        self.attempts = state.attempts
        self.venue = state.venue
        self.quotes: list[PoolQuoteJson | NoQuoteJson] | orjson.Fragment | None = None
        self.route: RouteJson | orjson.Fragment | None = None
        if state.routing is not None:
            self.quotes, self.route = state.routing.quotes, state.routing.route
        self.executed_price: str | None = None
        self.realised_slippage: str | None = None
        self.tx_hash: str | None = None
        self.network_cost = state.network_cost
        self.residue: list[ResidueAmount] | None = None
        self.execution: SeenExecution | None = None
        if sequence is None and self.status == Status.SUBMITTED:
            # Not as of an entry: it belongs to none.
            self.execution = execution_of(order)
        if self.status == Status.CONFIRMED:
            self._fill(order)
            self.residue = last.get("residue", [])
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
        self.realised_slippage = _slippage(order, fill)
        self.tx_hash = fill.tx_hash


def execution_of(order: Order) -> SeenExecution | None:
    """Return where an order's transaction is seen before that is final, with amounts; None: nowhere."""
    seen = order.seen
    if seen is None:
        return None
    amount_in = amount_out = None
    if seen.fill is not None and order.decimals_out is not None:
        amount_in = format_amount(seen.fill.amount_in, order.decimals_in)
        amount_out = format_amount(seen.fill.amount_out, order.decimals_out)
    return SeenExecution(seen.slot, seen.commitment, amount_in, amount_out)


def _slippage(order: Order, fill: Fill) -> str | None:
    """Return the slippage of the fill against its transaction's quote."""
    if order.quoted is None:
        return None
    if order.swap_mode is SwapMode.EXACT_IN:
        quoted = order.quoted.amount_out
        return format_shortfall(quoted - fill.amount_out, quoted)
    quoted = order.quoted.amount_in
    return format_shortfall(fill.amount_in - quoted, quoted)
