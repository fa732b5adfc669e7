"""The limits of an API key, and whether an order keeps those that can be decided from the order alone.

Those on all orders together are budgets, see ``budgets``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.domain.amounts import U64_MAX, format_amount
from service.domain.conditions import USD_DECIMALS
from service.domain.order import OrderRequest, OrderType
from service.domain.quote import SwapMode

MOST_SLIPPAGE_BPS = 10_000
MOST_PRICE_IMPACT_BPS = 10_000
MOST_REQUESTS_PER_SECOND = 1_000_000
MOST_SOCKETS = 1_000_000
# The open orders of a key are counted whenever it places one.
MOST_OPEN_ORDERS = 10_000

_MOST_DECIMALS = 64
_MEMBERS = {
    "tokens",
    "orderTypes",
    "maxSlippageBps",
    "maxPriceImpactBps",
    "maxAmount",
    "requestsPerSecond",
    "maxSockets",
    "requiresApproval",
    "maxAmountPerDay",
    "maxUsdPerOrder",
    "maxUsdPerDay",
    "maxOpenOrders",
}


class InvalidLimitsError(ValueError):
    """Stored limits that this version does not know; the message says what."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that an order does not keep.

    ``rule`` is the limit's name in the API, ``limit`` its value in the form of the API, and ``detail`` says
    it to people. ``left`` is what is left of a budget, in the same form.
    """

    rule: str
    limit: object
    detail: str
    left: object = None


@dataclass(frozen=True, slots=True)
class LargestAmount:
    """The largest amount of a token: base units, and the decimals that the token had when it was set."""

    amount: int
    decimals: int

    def allows(self, amount: int, decimals: int | None) -> bool:
        """Return whether an amount is not larger; without decimals it cannot be compared."""
        # A token that was removed may have been listed again with other decimals.
        return decimals is not None and amount * 10**self.decimals <= self.amount * 10**decimals

    def in_units(self, decimals: int) -> int:
        """Return it in base units of a token with these decimals, rounded down."""
        amount: int = self.amount * 10**decimals // 10**self.decimals
        return amount

    def __str__(self) -> str:
        """Return the amount in display units."""
        return format_amount(self.amount, self.decimals)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What an API key may do; None: no limit.

    Attributes:
        tokens: Symbols of the tokens that it may trade; both sides of a swap must be among them.
        order_types: The types of the orders that it may place.
        max_slippage_bps: The largest slippage of an order.
        max_price_impact_bps: The highest price impact of a route on which its orders are submitted; it is
            known only when they are executed.
        max_amount: The largest amount of one order by the symbol of the token whose amount the order fixes.
        requests_per_second: How many requests it may send.
        max_sockets: How many WebSockets it may have open on one instance.
        requires_approval: Whether an admin key must approve each order that it places or amends.
        max_amount_per_day: The largest amount of all its orders in 24 hours, by the same token.
        max_usd_per_order: The largest value of one order, in millionths of a dollar.
        max_usd_per_day: The largest value of all its orders in 24 hours, in millionths of a dollar.
        max_open_orders: How many of its orders may be open.
    """

    tokens: frozenset[str] | None = None
    order_types: frozenset[OrderType] | None = None
    max_slippage_bps: int | None = None
    max_price_impact_bps: int | None = None
    max_amount: Mapping[str, LargestAmount] = field(default_factory=dict, hash=False)
    requests_per_second: int | None = None
    max_sockets: int | None = None
    requires_approval: bool = False
    max_amount_per_day: Mapping[str, LargestAmount] = field(default_factory=dict, hash=False)
    max_usd_per_order: int | None = None
    max_usd_per_day: int | None = None
    max_open_orders: int | None = None

    @property
    def has_budgets(self) -> bool:
        """Whether an order must be compared with more than the limits of ``breach_of``."""
        values = self.max_usd_per_order, self.max_usd_per_day, self.max_open_orders
        return bool(self.max_amount_per_day) or values != (None, None, None)

    def breach_of(self, order: OrderRequest) -> Breach | None:
        """Return the first limit that an order does not keep; None if it keeps all of them."""
        if self.tokens is not None and not self.tokens >= {order.token_in, order.token_out}:
            tokens = sorted(self.tokens)
            return Breach("tokens", tokens, f"The API key may trade only these tokens: {_joined(tokens)}.")
        if self.order_types is not None and order.order_type not in self.order_types:
            types = _ordered(self.order_types)
            return Breach(
                "orderTypes", types, f"The API key may place only orders of these types: {_joined(types)}."
            )
        most = self.max_slippage_bps
        if most is not None and order.terms.slippage_bps > most:
            return Breach("maxSlippageBps", most, f"The API key allows at most {most} slippageBps.")
        return breach_of_amount(order, self.max_amount, "maxAmount", "The API key")

    def as_stored(self) -> dict[str, object]:
        """Return the limits as JSON to be stored; what has no limit is left out."""
        stored = {
            **self.as_shown(),
            "maxAmount": _stored(self.max_amount),
            "maxAmountPerDay": _stored(self.max_amount_per_day),
            "maxUsdPerOrder": self.max_usd_per_order,
            "maxUsdPerDay": self.max_usd_per_day,
        }
        return {name: value for name, value in stored.items() if value is not None and value is not False}

    def as_shown(self) -> dict[str, object]:
        """Return the limits in the form of the API: amounts in display units, null without a limit."""
        return {
            "tokens": None if self.tokens is None else sorted(self.tokens),
            "orderTypes": None if self.order_types is None else _ordered(self.order_types),
            "maxSlippageBps": self.max_slippage_bps,
            "maxPriceImpactBps": self.max_price_impact_bps,
            "maxAmount": _shown(self.max_amount),
            "requestsPerSecond": self.requests_per_second,
            "maxSockets": self.max_sockets,
            "requiresApproval": self.requires_approval,
            "maxAmountPerDay": _shown(self.max_amount_per_day),
            "maxUsdPerOrder": _in_usd(self.max_usd_per_order),
            "maxUsdPerDay": _in_usd(self.max_usd_per_day),
            "maxOpenOrders": self.max_open_orders,
        }


def breach_of_amount(
    order: OrderRequest, largest: Mapping[str, LargestAmount], rule: str, who: str
) -> Breach | None:
    """Return the breach if the amount that an order fixes, or may pay, is too large.

    Args:
        order: The order.
        largest: The largest amounts by the symbols of their tokens.
        rule: The limit's name in the API.
        who: What has this limit, as the subject of a sentence.
    """
    if order.swap_mode is SwapMode.EXACT_OUT:
        sold = largest.get(order.token_in)
        if sold is not None:
            return Breach(
                rule,
                str(sold),
                f"{who} allows selling at most {sold} {order.token_in} per order, and an order with an"
                " amountOut may pay more; send amountIn.",
            )
        token, decimals = order.token_out, order.decimals_out
    else:
        token, decimals = order.token_in, order.decimals_in
    most = largest.get(token)
    if most is None or most.allows(order.amount, decimals):
        return None
    return Breach(rule, str(most), f"{who} allows at most {most} {token} per order.")


NO_LIMITS = KeyLimits()
NO_ORDERS = KeyLimits(tokens=frozenset(), requires_approval=True)
"""Refuses every order."""


def format_usd(usd: int) -> str:
    """Format millionths of a dollar as dollars."""
    return format_amount(usd, USD_DECIMALS)


def parse_limits(stored: object) -> KeyLimits:
    """Parse stored limits.

    Raises:
        InvalidLimitsError: This version does not know them, or they are malformed.
    """
    if not isinstance(stored, dict) or not stored.keys() <= _MEMBERS:
        raise InvalidLimitsError(f"{stored!r} has unknown members")
    tokens, types = _texts(stored.get("tokens")), _texts(stored.get("orderTypes"))
    unknown = (types or frozenset()) - set(OrderType)
    if unknown:
        raise InvalidLimitsError(f"{sorted(unknown)} are no types of orders")
    return KeyLimits(
        tokens=tokens,
        order_types=None if types is None else frozenset(OrderType(each) for each in types),
        max_slippage_bps=_optional_integer(stored.get("maxSlippageBps"), MOST_SLIPPAGE_BPS),
        max_price_impact_bps=_optional_integer(stored.get("maxPriceImpactBps"), MOST_PRICE_IMPACT_BPS),
        max_amount=_amounts(stored.get("maxAmount", {})),
        requests_per_second=_optional_integer(
            stored.get("requestsPerSecond"), MOST_REQUESTS_PER_SECOND, least=1
        ),
        max_sockets=_optional_integer(stored.get("maxSockets"), MOST_SOCKETS),
        requires_approval=_boolean(stored.get("requiresApproval", False)),
        max_amount_per_day=_amounts(stored.get("maxAmountPerDay", {})),
        max_usd_per_order=_optional_integer(stored.get("maxUsdPerOrder"), U64_MAX),
        max_usd_per_day=_optional_integer(stored.get("maxUsdPerDay"), U64_MAX),
        max_open_orders=_optional_integer(stored.get("maxOpenOrders"), MOST_OPEN_ORDERS),
    )


def _texts(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidLimitsError(f"{value!r} is no list of texts")
    return frozenset(value)


def _amounts(value: object) -> dict[str, LargestAmount]:
    if not isinstance(value, dict):
        raise InvalidLimitsError(f"{value!r} are no amounts")
    return {token: _largest(amount) for token, amount in value.items()}


def _largest(value: object) -> LargestAmount:
    if not isinstance(value, dict) or value.keys() != {"amount", "decimals"}:
        raise InvalidLimitsError(f"{value!r} is no amount")
    return LargestAmount(_integer(value["amount"], U64_MAX), _integer(value["decimals"], _MOST_DECIMALS))


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidLimitsError(f"{value!r} is neither true nor false")
    return value


def _optional_integer(value: object, most: int, *, least: int = 0) -> int | None:
    return None if value is None else _integer(value, most, least=least)


def _integer(value: object, most: int, *, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidLimitsError(f"{value!r} is not an integer from {least} to {most}")
    return value


def _stored(amounts: Mapping[str, LargestAmount]) -> dict[str, object] | None:
    stored: dict[str, object] = {
        token: {"amount": largest.amount, "decimals": largest.decimals}
        for token, largest in sorted(amounts.items())
    }
    return stored or None


def _shown(amounts: Mapping[str, LargestAmount]) -> dict[str, str] | None:
    return {token: str(largest) for token, largest in sorted(amounts.items())} or None


def _in_usd(usd: int | None) -> str | None:
    return None if usd is None else format_usd(usd)


def _ordered(types: frozenset[OrderType]) -> list[str]:
    return [kind.value for kind in OrderType if kind in types]


def _joined(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
