"""Validates the terms of orders, new and amended."""

from dataclasses import replace
from datetime import datetime

from marshmallow import ValidationError

from service.api.fields import camel_case, not_a_look_alike
from service.api.problems import FieldError, InvalidError
from service.api.requests import SentOrder, SentTerms
from service.domain.amounts import InvalidAmountError
from service.domain.condition_parser import ConditionError, parse_conditions, refuse_impossible
from service.domain.limit_price import limit_out, parse_number
from service.domain.order import TERM_OWNERS, JsonObject, Order, OrderType, Terms, TimeInForce
from service.domain.timestamps import InvalidTimestampError, format_timestamp, parse_timestamp
from service.domain.tokens import TOKENS


def read_terms(sent: SentOrder, now: datetime | None) -> Terms:
    """Return the terms of a new order, whose members the schema has validated one by one.

    Args:
        sent: The order.
        now: PostgreSQL's time; None: the order was accepted earlier, so changes since then are ignored:
            it may have expired, or its token may have been listed.

    Raises:
        InvalidError: The terms are not valid together.
    """
    terms = Terms(sent["slippage_bps"], limit_price=sent["limit_price"])
    if sent["order_type"] is OrderType.SNIPER:
        if now is not None:
            _refuse_look_alike(sent["token_out"])
        terms = _with_own_expiry(terms, sent["expires_at"], now)
        return _with_conditions(terms, sent["sniper_conditions"], sent["token_in"], sent["token_out"], now)
    if sent["limit_price"] is not None:  # every limit order has it, and no other order
        terms = replace(terms, time_in_force=sent["time_in_force"])
        terms = _with_expiry(terms, sent["expires_at"], now)
        decimals = TOKENS[sent["token_in"]].decimals, TOKENS[sent["token_out"]].decimals
        return _with_limit(terms, sent["limit_price"], sent["amount"], *decimals)
    return _with_own_expiry(terms, sent["expires_at"], now)


def amend_terms(order: Order, sent: SentTerms, now: datetime | None) -> Terms:
    """Return an order's terms after an amendment.

    Raises:
        InvalidError: The order's type has no such term, or its value is not valid.
    """
    wrong = [name for name, owner in TERM_OWNERS.items() if name in sent and order.order_type is not owner]
    if wrong:
        raise InvalidError.at_each(
            FieldError((camel_case(name),), f"Only {TERM_OWNERS[name]} orders have it.") for name in wrong
        )
    terms = replace(order.terms, slippage_bps=sent.get("slippage_bps", order.terms.slippage_bps))
    if "limit_price" in sent:
        if order.decimals_out is None:
            raise ValueError(f"limit order {order.id} has no decimals")
        terms = _with_limit(terms, sent["limit_price"], order.amount, order.decimals_in, order.decimals_out)
    if order.order_type is OrderType.SNIPER:
        return _unless_equal(order.terms, _amend_sniper(order, terms, sent, now))
    if "expires_at" in sent and order.order_type is OrderType.MARKET:
        terms = _with_own_expiry(terms, sent["expires_at"], now)
    elif "expires_at" in sent:
        # It determines the time in force, except of IOC and FOK: those can be amended before their approval.
        in_force = None if order.rests else terms.time_in_force
        terms = _with_expiry(replace(terms, time_in_force=in_force), sent["expires_at"], now)
    return _unless_equal(order.terms, terms)


def _amend_sniper(order: Order, terms: Terms, sent: SentTerms, now: datetime | None) -> Terms:
    """Change a sniper order's expiry and conditions."""
    if "expires_at" in sent:
        terms = _with_own_expiry(terms, sent["expires_at"], now)
        if "sniper_conditions" not in sent and _window_ends(terms):
            raise InvalidError.at(
                ("expiresAt",), "The order expires at its timeWindow.notAfter; change that."
            )
    if "sniper_conditions" in sent:
        if "expires_at" not in sent and _window_ends(terms):
            terms = replace(terms, expires_at=None)  # it came from the time window
        terms = _with_conditions(terms, sent["sniper_conditions"], order.token_in, order.token_out, now)
    return terms


def _window_ends(terms: Terms) -> bool:
    """Return whether a sniper order's conditions define its expiry."""
    return parse_conditions(terms.sniper_conditions, None).expires_at is not None


def values(terms: Terms) -> dict[str, object]:
    """Return the values of terms by name; values that differ only in notation are equal.

    Notations differ in trailing zeros of prices and amounts, offsets of times, the order of conditions,
    nulls, and defaults given or omitted.
    """
    return {
        "slippage_bps": terms.slippage_bps,
        "time_in_force": terms.time_in_force,
        "limit_price": None if terms.limit_price is None else parse_number(terms.limit_price),
        "sniper_conditions": (
            None if terms.sniper_conditions is None else parse_conditions(terms.sniper_conditions, None)
        ),
        "expires_at": None if terms.expires_at is None else parse_timestamp(terms.expires_at),
    }


def _unless_equal(before: Terms, after: Terms) -> Terms:
    """Return the new terms, in the previous notation where the value has not changed."""
    old, new = values(before), values(after)
    return replace(after, **{name: getattr(before, name) for name in new if new[name] == old[name]})


def _with_limit(terms: Terms, price: str, amount_in: int, decimals_in: int, decimals_out: int) -> Terms:
    try:
        out = limit_out(amount_in, price, decimals_in, decimals_out)
    except InvalidAmountError as error:
        raise InvalidError.at(("limitPrice",), f"The price {error}.") from None
    return replace(terms, limit_price=price, limit_out=out)


def _with_expiry(terms: Terms, text: str | None, now: datetime | None) -> Terms:
    """Set the expiry of a limit order; it determines the time in force if that is not given."""
    in_force = terms.time_in_force or (TimeInForce.GTC if text is None else TimeInForce.GTD)
    if in_force == TimeInForce.GTD and text is None:
        raise InvalidError.at(("expiresAt",), "Missing data for required field of GTD orders.")
    if in_force != TimeInForce.GTD and text is not None:
        raise InvalidError.at(("expiresAt",), "Only GTD orders have it.")
    at = None if text is None else _future(text, now, "expiresAt")
    return replace(terms, time_in_force=in_force, expires_at=at)


def _with_own_expiry(terms: Terms, text: str | None, now: datetime | None) -> Terms:
    """Set the expiry of a market or sniper order."""
    return replace(terms, expires_at=None if text is None else _future(text, now, "expiresAt"))


def _with_conditions(
    terms: Terms, conditions: JsonObject | None, token_in: str, token_out: str, now: datetime | None
) -> Terms:
    """Set a sniper order's conditions; its expiry is their time window's, or ``expires_at``."""
    listed = TOKENS.get(token_out)
    try:
        parsed = parse_conditions(conditions, now)
        if now is not None:
            decimals_out = None if listed is None else listed.decimals
            refuse_impossible(parsed, TOKENS[token_in].decimals, decimals_out)
    except ConditionError as error:
        raise InvalidError.at(("sniperConditions", *error.path), error.detail) from None
    terms = replace(terms, sniper_conditions=conditions)
    if parsed.expires_at is None:
        return terms
    if terms.expires_at is not None:
        raise InvalidError.at(("expiresAt",), "Give it, or timeWindow.notAfter, not both.")
    return replace(terms, expires_at=format_timestamp(parsed.expires_at))


def _refuse_look_alike(token_out: str) -> None:
    try:
        not_a_look_alike(token_out)
    except ValidationError as error:
        raise InvalidError.of(ValidationError(error.messages, "tokenOut")) from None


def _future(text: str, now: datetime | None, name: str) -> str:
    try:
        at = parse_timestamp(text)
    except InvalidTimestampError as error:
        raise InvalidError.at((name,), f"The time {error}.") from None
    if now is not None and at <= now:
        raise InvalidError.at((name,), "Must be in the future.")
    return format_timestamp(at)
