"""The order: a client's request, the terms that can be amended, and the order with its history."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from service.domain.history import Committed, HistoryEntry, accepted, awaits_approval, opened
from service.domain.idempotency import IdempotencyKey
from service.domain.lifecycle import TERMINAL, Status
from service.domain.mode import TradingMode
from service.domain.quote import Amounts, SwapMode
from service.domain.routing_record import RoutingRecord
from service.domain.transaction import Fill, Seen

DEFAULT_SLIPPAGE_BPS = 100
DEFAULT_ACCOUNT = "default"
"""The account of anonymous callers."""


class OrderType(StrEnum):
    """What starts an order's execution. The values are the API's."""

    MARKET = "market"
    LIMIT = "limit"
    SNIPER = "sniper"


class TimeInForce(StrEnum):
    """How long a limit order is in force. There are no partial fills, so the last two are equivalent."""

    GTC = "GTC"  # good till cancelled
    GTD = "GTD"  # good till a date
    IOC = "IOC"  # immediate or cancel
    FOK = "FOK"  # fill or kill

    @property
    def rests(self) -> bool:
        """Whether the order waits for its price."""
        return self in {TimeInForce.GTC, TimeInForce.GTD}


IMMEDIATE_S = 1.5
"""An IOC or FOK order is submitted within this many seconds, or not at all."""


JsonObject = Mapping[str, object]
"""An object as a client sent it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """An order's terms, in the form of the API: what can be amended while it is open.

    ``slippage_bps`` is 0 to 10000. A limit order has ``time_in_force``, ``limit_price`` as the client wrote
    it, and ``limit_out``, the minimum output for the whole amount in base units. ``sniper_conditions`` are
    JSON as sent. ``expires_at`` is RFC 3339.
    """

    slippage_bps: int
    time_in_force: str | None = None
    limit_price: str | None = None
    limit_out: int | None = field(default=None, compare=False)  # follows from the price
    sniper_conditions: JsonObject | None = None
    expires_at: str | None = None

    def by_name(self) -> dict[str, object]:
        """Return the terms that can be amended, by their names in the API."""
        return {name: getattr(self, field) for name, field in AMENDABLE.items()}


TERM_OWNERS = {
    "limit_price": OrderType.LIMIT,
    "time_in_force": OrderType.LIMIT,
    "sniper_conditions": OrderType.SNIPER,
}
"""The terms that only one type of order has."""

AMENDABLE = {
    "slippageBps": "slippage_bps",
    "timeInForce": "time_in_force",
    "limitPrice": "limit_price",
    "sniperConditions": "sniper_conditions",
    "expiresAt": "expires_at",
}
"""The terms that can be amended: their names in the API and in history entries, and their fields here."""


def apply_amendment(terms: Terms, entry: HistoryEntry, side: Literal["from", "to"]) -> Terms:
    """Return terms with an entry's amendment applied (``to``) or undone (``from``)."""
    changes = entry.get("amended")
    if not changes:
        return terms
    return replace(terms, **{AMENDABLE[name]: change[side] for name, change in changes.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """A client's request: the members that a new order and a stored one share.

    ``account`` owns the order: only its API keys see it. ``amount`` is in base units of ``token_in``, or of
    ``token_out`` if the mode is exact-out;
    ``amount_text`` is the amount as the client wrote it, and as responses repeat it. ``decimals_in`` and
    ``decimals_out`` are the tokens' decimals; None while tokenOut is not listed. ``label`` is the client's
    free text. ``mode`` is whether it trades real money.
    """

    id: str
    account: str
    mode: TradingMode
    client_order_id: str | None
    order_type: OrderType
    token_in: str
    token_out: str
    swap_mode: SwapMode
    amount: int
    amount_text: str
    terms: Terms
    decimals_in: int
    decimals_out: int | None
    label: str | None = None

    @property
    def rests(self) -> bool:
        """Whether the order waits for a price or conditions instead of being executed at once."""
        if self.terms.time_in_force is not None:
            return TimeInForce(self.terms.time_in_force).rests
        return self.order_type is OrderType.SNIPER

    def is_same_swap(self, other: "OrderRequest") -> bool:
        """Return whether two requests are the same swap, ignoring their terms and the amount's notation."""
        return (
            (self.order_type, self.label) == (other.order_type, other.label)
            and (self.token_in, self.token_out) == (other.token_in, other.token_out)
            and (self.swap_mode, self.amount) == (other.swap_mode, other.amount)
        )


def submission_time_s(order: OrderRequest, market_order_age_s: int) -> float | None:
    """Return within how many seconds of its acceptance an order must be submitted; None: no limit.

    Args:
        order: The order.
        market_order_age_s: The limit for market orders; 0: none.
    """
    if order.terms.time_in_force is not None and not order.rests:
        return IMMEDIATE_S
    if order.order_type is OrderType.MARKET and market_order_age_s:
        return market_order_age_s
    return None


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What an order uses of its API key's budgets, and what all orders of the key may use; None: no limit.

    Attributes:
        token: The token whose amount the order fixes.
        decimals: The token's decimals.
        amount: Base units that the order uses in 24 hours.
        most_amount: Base units that all orders may use in 24 hours.
        usd: The order's value, in millionths of a dollar, that it uses in 24 hours.
        most_usd: The value that all orders may use in 24 hours.
        most_open: How many orders may be open.
    """

    token: str
    decimals: int
    amount: int | None = None
    most_amount: int | None = None
    usd: int | None = None
    most_usd: int | None = None
    most_open: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder(OrderRequest):
    """A validated order that is not stored yet, without a history.

    ``submit_by`` (RFC 3339) is the deadline for its submission, if it has one besides its expiry.
    ``max_price_impact_bps`` is the highest price impact of its route that the caller's API key allows; None:
    any. ``idempotency`` is the key under which the client may send the request again. ``approve_within_s`` is
    within how many seconds it must be approved; None: it needs no approval. ``key_id`` is the API key that
    places it, and ``budget`` what it uses of the key's budgets, if there are any.
    """

    submit_by: str | None = None
    max_price_impact_bps: int | None = None
    idempotency: IdempotencyKey | None = None
    approve_within_s: int | None = None
    key_id: str | None = None
    budget: BudgetUse | None = None

    @property
    def opens(self) -> bool:
        """Whether the order is open as soon as it is accepted: it rests, or awaits approval."""
        return self.rests or self.approve_within_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(OrderRequest):
    """A stored order with its history.

    Its terms are the current ones. Times are RFC 3339 in UTC. ``routing`` maps the sequence of a history
    entry to its quotes and chosen route, for the last attempt or for all; ``quoted`` are the amounts quoted
    for the last signed transaction. ``seen`` is where the transaction of a submitted order was seen before
    that is final; it is not stored.
    """

    history: tuple[HistoryEntry, ...]
    created_at: str
    quoted: Amounts | None
    fill: Fill | None
    routing: dict[int, RoutingRecord]
    seen: Seen | None = None

    @classmethod
    def accepted(cls, new: NewOrder, created_at: str) -> "Order":
        """Return a new order as the response shows it: with its first entry, or while it awaits approval."""
        history: tuple[HistoryEntry, ...] = (accepted(created_at),)
        if new.approve_within_s is not None:
            history = (*history, opened(created_at, awaiting_approval=True))
        return cls(
            id=new.id,
            account=new.account,
            mode=new.mode,
            client_order_id=new.client_order_id,
            label=new.label,
            order_type=new.order_type,
            token_in=new.token_in,
            token_out=new.token_out,
            swap_mode=new.swap_mode,
            amount=new.amount,
            amount_text=new.amount_text,
            terms=new.terms,
            decimals_in=new.decimals_in,
            decimals_out=new.decimals_out,
            history=history,
            created_at=created_at,
            quoted=None,
            fill=None,
            routing={},
        )

    @property
    def version(self) -> int:
        """The length of the history, which is the sequence of its last entry."""
        return len(self.history)

    @property
    def status(self) -> Status:
        """The status of the last entry."""
        return Status(self.history[-1]["status"])

    @property
    def ended(self) -> bool:
        """Whether no further entry can follow."""
        return self.status in TERMINAL

    @property
    def accepted_version(self) -> int:
        """The version that the response to its request showed."""
        return 2 if len(self.history) > 1 and "awaitingApproval" in self.history[1] else 1

    @property
    def awaits_approval(self) -> bool:
        """Whether the order must be approved before it can be executed."""
        awaits = False
        for entry in self.history:
            awaits = awaits_approval(entry, before=awaits)
        return awaits

    def after(self, step: Committed) -> "Order":
        """Return the order after its next step, ``step``."""
        if step.sequence != self.version + 1:
            raise ValueError(f"step {step.sequence} does not follow version {self.version}")
        routing = self.routing
        if step.routing is not None:
            routing = {**routing, step.sequence: step.routing}
        return replace(
            self,
            terms=apply_amendment(self.terms, step.entry, "to"),
            history=(*self.history, step.entry),
            decimals_out=step.decimals_out if self.decimals_out is None else self.decimals_out,
            quoted=step.quoted or self.quoted,
            fill=step.fill or self.fill,
            routing=routing,
            seen=None,
        )


def first_terms(order: Order) -> Terms:
    """Return the terms with which an order was placed."""
    return terms_at(order, 1)


def terms_at(order: Order, sequence: int) -> Terms:
    """Return an order's terms at an entry of its history."""
    terms = order.terms
    for entry in order.history[: sequence - 1 : -1]:
        terms = apply_amendment(terms, entry, "from")
    return terms
