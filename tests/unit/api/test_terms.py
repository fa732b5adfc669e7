"""The terms of limit and sniper orders: parsed, amended, and shown as of each entry."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from service.api.problems import InvalidError, respond
from service.api.requests import AMENDMENT, CANCEL, NEW_ORDER
from service.api.terms import amend_terms, read_terms, values
from service.domain import history
from service.domain.history import Committed, HistoryEntry
from service.domain.lifecycle import Status
from service.domain.mode import TradingMode
from service.domain.order import Order, Terms, apply_amendment, first_terms, terms_at
from service.domain.quote import SwapMode
from service.domain.tokens import TOKENS

NOW = datetime(2027, 1, 15, 12, tzinfo=UTC)
LIMIT: dict[str, Any] = {
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amountIn": "2",
    "orderType": "limit",
    "limitPrice": "150.25",
}
SNIPER: dict[str, Any] = {
    "tokenIn": "SOL",
    "tokenOut": "GEM",
    "amountIn": "2",
    "orderType": "sniper",
    "sniperConditions": {"price": {"above": "1.50"}},
}
CONDITIONS = "sniperConditions"
LATER = "2027-01-15T13:00:00Z"
KEPT = "2027-01-15T13:00:00.000000Z"
"""``LATER``, as the service writes it."""
WINDOWED: dict[str, Any] = {**SNIPER, "sniperConditions": {"timeWindow": {"notAfter": LATER}}}
MARKET: dict[str, Any] = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "2", "orderType": "market"}


def read(body: dict[str, Any], now: datetime = NOW) -> Terms:
    return read_terms(NEW_ORDER.load(body), now)


def pointers(error: Exception) -> list[str]:
    """Return where the response says the error is."""
    problem = InvalidError.of(error) if isinstance(error, ValidationError) else error
    assert isinstance(problem, InvalidError)
    response = respond(problem)
    assert isinstance(response.body, bytes)
    return [each["pointer"] for each in orjson.loads(response.body)["errors"]]


def refused(body: dict[str, Any]) -> list[str]:
    """Return where the error of an order is."""
    with pytest.raises((ValidationError, InvalidError)) as caught:
        read(body)
    return pointers(caught.value)


def an_order(body: dict[str, Any]) -> Order:
    """Return an order as it was stored."""
    sent = NEW_ORDER.load(body)
    at = "2027-01-15T12:00:00.000000Z"
    return Order(
        id="order",
        account="default",
        mode=TradingMode.PAPER,
        client_order_id=None,
        order_type=sent["order_type"],
        token_in=sent["token_in"],
        token_out=sent["token_out"],
        swap_mode=SwapMode.EXACT_IN,
        amount=sent["amount"],
        amount_text=sent["amount_text"],
        terms=read_terms(sent, NOW),
        decimals_in=TOKENS[sent["token_in"]].decimals,
        decimals_out=TOKENS[sent["token_out"]].decimals if sent["token_out"] in TOKENS else None,
        history=(
            {"sequence": 1, "status": Status.PENDING, "timestamp": at},
            {"sequence": 2, "status": Status.OPEN, "timestamp": at},
        ),
        created_at=at,
        quoted=None,
        fill=None,
        routing={},
    )


def test_a_limit_order_is_gtc_by_default() -> None:
    assert read(LIMIT) == Terms(100, "GTC", "150.25", 300_500_000)
    assert read(LIMIT).limit_out == 300_500_000
    for time_in_force in ("GTC", "IOC", "FOK"):
        assert read({**LIMIT, "timeInForce": time_in_force}).time_in_force == time_in_force


def test_an_expiry_makes_a_limit_order_gtd() -> None:
    for changes in ({"expiresAt": LATER}, {"expiresAt": LATER, "timeInForce": "GTD"}):
        terms = read({**LIMIT, **changes})
        assert (terms.time_in_force, terms.expires_at) == ("GTD", "2027-01-15T13:00:00.000000Z")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2027-01-15T12:00:00.000001Z", "2027-01-15T12:00:00.000001Z"),
        ("2027-01-15T14:00:01+02:00", "2027-01-15T12:00:01.000000Z"),
        ("2027-01-15T12:00:00.1234567Z", "2027-01-15T12:00:00.123456Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_a_time_is_kept_in_utc_to_the_microsecond(text: str, kept: str) -> None:
    assert read({**LIMIT, "expiresAt": text}).expires_at == kept


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"expiresAt": "2027-01-15T12:00:00Z"}, "expiresAt"),
        ({"expiresAt": "2027-01-15T13:00:00+01:00"}, "expiresAt"),
        ({"expiresAt": "2027-02-30T13:00:00Z"}, "expiresAt"),
        ({"expiresAt": "0001-01-01T00:00:00+23:59"}, "expiresAt"),
        ({"expiresAt": "tomorrow"}, "expiresAt"),
        ({"expiresAt": ""}, "expiresAt"),
        ({"timeInForce": "GTD"}, "expiresAt"),
        ({"timeInForce": "GTC", "expiresAt": LATER}, "expiresAt"),
        ({"timeInForce": "IOC", "expiresAt": LATER}, "expiresAt"),
        ({"timeInForce": "FOK", "expiresAt": LATER}, "expiresAt"),
        ({"timeInForce": "gtc"}, "timeInForce"),
        ({"limitPrice": "9223372036854.775808"}, "limitPrice"),
        ({"limitPrice": "1" * 65}, "limitPrice"),
        ({"limitPrice": "+1"}, "limitPrice"),
        ({"limitPrice": " 1"}, "limitPrice"),
        ({"limitPrice": "\N{ARABIC-INDIC DIGIT ONE}"}, "limitPrice"),
    ],
)
def test_an_invalid_limit_order_is_rejected(changes: dict[str, Any], where: str) -> None:
    assert refused({**LIMIT, **changes}) == [f"#/{where}"]


def test_the_largest_amount_is_accepted() -> None:
    assert read({**LIMIT, "amountIn": "1", "limitPrice": "18446744073709.551615"}).limit_out == 2**64 - 1
    more = {**LIMIT, "amountIn": "1", "limitPrice": "18446744073709.5516150001"}
    assert refused(more) == ["#/limitPrice"]


@given(
    amount=st.integers(1, 10**15),
    digits=st.integers(1, 10**12),
    scale=st.integers(0, 12),
    tokens=st.permutations(["SOL", "USDC", "BONK", "JUP"]),
)
def test_the_minimum_output_is_rounded_up(amount: int, digits: int, scale: int, tokens: list[str]) -> None:
    token_in, token_out = TOKENS[tokens[0]], TOKENS[tokens[1]]
    price = Fraction(digits, 10**scale)
    whole, part = divmod(digits, 10**scale)
    text = f"{whole}.{part:0{scale}}" if scale else str(whole)
    amount_text = f"{amount // 10**token_in.decimals}.{amount % 10**token_in.decimals:0{token_in.decimals}}"
    body = {**LIMIT, "tokenIn": token_in.symbol, "tokenOut": token_out.symbol, "amountIn": amount_text}
    least = math.ceil(Fraction(amount, 10**token_in.decimals) * price * 10**token_out.decimals)
    if least > 2**64 - 1:
        assert refused({**body, "limitPrice": text}) == ["#/limitPrice"]
    else:
        assert read({**body, "limitPrice": text}).limit_out == least


def test_a_sniper_expires_at_the_end_of_its_window() -> None:
    assert read(SNIPER) == Terms(100, sniper_conditions=SNIPER["sniperConditions"])
    window = {"timeWindow": {"notAfter": "2027-01-15T14:00:00.5+01:00"}}
    terms = read({**SNIPER, "sniperConditions": window, "slippageBps": 7})
    assert terms == Terms(7, sniper_conditions=window, expires_at="2027-01-15T13:00:00.500000Z")


@pytest.mark.parametrize("body", [MARKET, {**MARKET, "amountIn": ..., "amountOut": "1"}, SNIPER])
def test_market_and_sniper_orders_may_have_an_expiry(body: dict[str, Any]) -> None:
    body = {name: value for name, value in body.items() if value is not ...}
    assert read(body).expires_at is None
    terms = read({**body, "expiresAt": LATER})
    assert (terms.expires_at, terms.time_in_force) == (KEPT, None)
    for at in ("2027-01-15T12:00:00Z", "tomorrow"):
        assert refused({**body, "expiresAt": at}) == ["#/expiresAt"]


def test_a_snipers_expiry_may_be_given_only_once() -> None:
    assert refused({**WINDOWED, "expiresAt": LATER}) == ["#/expiresAt"]


@pytest.mark.parametrize(
    ("conditions", "pointer"),
    [
        ({}, ""),
        ([], ""),
        ({"price": {"above": 1}}, "/price/above"),
        ({"a/b~1c": 1}, "/a~1b~01c"),
        ({"": 1}, "/"),
        ({"timeWindow": {"notAfter": "2027-01-15T12:00:00Z"}}, "/timeWindow/notAfter"),
    ],
)
def test_an_invalid_condition_is_rejected_with_its_location(conditions: Any, pointer: str) -> None:
    assert refused({**SNIPER, "sniperConditions": conditions}) == [f"#/sniperConditions{pointer}"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({**LIMIT, "amountOut": "1", "amountIn": ...}, "amountOut"),
        ({**SNIPER, "amountOut": "1", "amountIn": ...}, "amountOut"),
        ({**LIMIT, "limitPrice": ...}, "limitPrice"),
        ({**SNIPER, "sniperConditions": ...}, "sniperConditions"),
        ({**LIMIT, "tokenOut": "GEM"}, "tokenOut"),
        ({**LIMIT, "sniperConditions": {"price": {"above": "1"}}}, "sniperConditions"),
        ({**SNIPER, "limitPrice": "1"}, "limitPrice"),
        ({**SNIPER, "timeInForce": "GTC"}, "timeInForce"),
        ({**SNIPER, "tokenIn": "GEM", "tokenOut": "SOL"}, "tokenIn"),
        ({**SNIPER, "tokenOut": "GE-M"}, "tokenOut"),
        ({**SNIPER, "tokenOut": "usdc"}, "tokenOut"),
        (
            {**SNIPER, "sniperConditions": {"minLiquidity": {"amount": "1" + "0" * 40}}},
            CONDITIONS + "/minLiquidity/amount",
        ),
        ({**SNIPER, "tokenOut": "GEM\n"}, "tokenOut"),
        ({**LIMIT, "orderType": "market"}, "limitPrice"),
        ({**LIMIT, "orderType": "LIMIT"}, "orderType"),
    ],
)
def test_an_order_rejects_the_terms_of_another_type(body: dict[str, Any], where: str) -> None:
    found = refused({name: value for name, value in body.items() if value is not ...})
    assert set(found) == {f"#/{where}"}


def amend(order: Order, **sent: Any) -> Terms:
    return amend_terms(order, AMENDMENT.load(sent), NOW)


def test_an_amendment_keeps_the_terms_it_does_not_name() -> None:
    order = an_order({**LIMIT, "expiresAt": LATER})
    before = order.terms
    assert amend(order, slippageBps=7) == Terms(7, "GTD", "150.25", None, None, before.expires_at)
    changed = amend(order, limitPrice="151")
    assert (changed.limit_price, changed.limit_out, changed.expires_at) == (
        "151",
        302_000_000,
        before.expires_at,
    )
    assert amend(order, limitPrice="150.25") == before


def test_an_expiry_is_added_and_removed_with_its_time_in_force() -> None:
    order = an_order(LIMIT)
    assert (amend(order, expiresAt=LATER).time_in_force, amend(order, expiresAt=None).time_in_force) == (
        "GTD",
        "GTC",
    )
    timed = an_order({**LIMIT, "expiresAt": LATER})
    without = amend(timed, expiresAt=None)
    assert (without.time_in_force, without.expires_at) == ("GTC", None)


def test_a_snipers_own_expiry_is_amended_and_kept() -> None:
    order = an_order(SNIPER)
    assert amend(order, expiresAt=LATER).expires_at == KEPT
    timed = an_order({**SNIPER, "expiresAt": LATER})
    other = {"price": {"above": "1"}}
    assert amend(timed, expiresAt=None).expires_at is None
    assert amend(timed, slippageBps=7).expires_at == KEPT
    assert amend(timed, sniperConditions=other).expires_at == KEPT
    # From the one to the other.
    window = WINDOWED["sniperConditions"]
    assert amend(timed, sniperConditions=window, expiresAt=None).expires_at == KEPT
    assert amend(an_order(WINDOWED), sniperConditions=other, expiresAt=LATER).expires_at == KEPT


def test_a_snipers_expiry_follows_its_window() -> None:
    order = an_order({**SNIPER, "sniperConditions": {"timeWindow": {"notAfter": LATER}}})
    assert order.terms.expires_at is not None
    assert amend(order, slippageBps=1).expires_at == order.terms.expires_at
    assert amend(order, sniperConditions={"price": {"above": "1"}}).expires_at is None


@pytest.mark.parametrize(
    ("body", "sent", "where"),
    [
        (LIMIT, {"sniperConditions": {"price": {"above": "1"}}}, "sniperConditions"),
        (SNIPER, {"limitPrice": "1"}, "limitPrice"),
        (SNIPER, {"expiresAt": "2027-01-15T12:00:00Z"}, "expiresAt"),
        (WINDOWED, {"expiresAt": LATER}, "expiresAt"),
        (WINDOWED, {"expiresAt": None}, "expiresAt"),
        (SNIPER, {"expiresAt": LATER, "sniperConditions": WINDOWED["sniperConditions"]}, "expiresAt"),
        ({**SNIPER, "expiresAt": LATER}, {"sniperConditions": WINDOWED["sniperConditions"]}, "expiresAt"),
        (LIMIT, {"expiresAt": "2027-01-15T12:00:00Z"}, "expiresAt"),
        (LIMIT, {"limitPrice": "0"}, "limitPrice"),
        (LIMIT, {"limitPrice": None}, ""),
        (LIMIT, {"slippageBps": 10_001}, "slippageBps"),
        (LIMIT, {"slippageBps": None, "sniperConditions": None}, ""),
        (LIMIT, {"timeInForce": "IOC"}, "timeInForce"),
        (LIMIT, {"tokenOut": "USDT"}, "tokenOut"),
        (LIMIT, {}, ""),
    ],
)
def test_an_invalid_amendment_is_rejected(body: dict[str, Any], sent: dict[str, Any], where: str) -> None:
    with pytest.raises((ValidationError, InvalidError)) as caught:
        amend(an_order(body), **sent)
    assert pointers(caught.value) == [f"#/{where}".rstrip("/")]


def test_a_market_order_can_be_amended_while_it_awaits_approval() -> None:
    order = an_order(MARKET)
    changed = amend(order, slippageBps=7, expiresAt=LATER)
    assert changed == Terms(7, expires_at="2027-01-15T13:00:00.000000Z")
    assert amend(replace(order, terms=changed), expiresAt=None) == Terms(7)


@pytest.mark.parametrize("time_in_force", ["IOC", "FOK"])
def test_an_amendment_keeps_an_immediate_order_immediate(time_in_force: str) -> None:
    order = an_order({**LIMIT, "timeInForce": time_in_force})
    assert amend(order, limitPrice="151").time_in_force == time_in_force
    assert amend(order, expiresAt=None) == order.terms
    with pytest.raises(InvalidError) as caught:
        amend(order, expiresAt=LATER)
    assert pointers(caught.value) == ["#/expiresAt"]


def test_each_entry_shows_the_terms_as_of_that_entry() -> None:
    order = an_order(LIMIT)
    prices = ["150.25", "150.25"]
    for number, price in enumerate(("151", "149", "152"), start=3):
        amendment = history.amended({"limitPrice": order.terms.limit_price}, {"limitPrice": price})
        entry: HistoryEntry = {
            **amendment,
            "sequence": number,
            "status": Status.OPEN,
            "timestamp": order.created_at,
        }
        order = order.after(Committed(order.id, entry))
        assert order.terms.limit_price == price
        prices.append(price)
    assert [terms_at(order, sequence).limit_price for sequence in range(1, 6)] == prices
    assert first_terms(order) == read(LIMIT)
    assert terms_at(order, 5) == order.terms


def test_an_entry_without_an_amendment_changes_no_terms() -> None:
    terms = Terms(100, "GTC", "1")
    unchanged = history.opened("2027-01-15T12:00:00.000000Z")
    assert apply_amendment(terms, unchanged, "from") is terms
    assert apply_amendment(terms, {**unchanged, "amended": {}}, "from") is terms


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"all": 1},
        {"all": 1.0},
        {"all": "true"},
        {"all": None},
        {"all": True, "tokenIn": "SOL"},
        {"all": True, "tokenIn": "So11111111111111111111111111111111111111112"},
        {"tokenIn": "So111111111111111111111111111111111111111121"},
        {"orderType": None},
        {"orderType": "stop"},
        {"tokenIn": "S OL"},
        {"tokenIn": ""},
        {"side": "buy"},
        [],
        None,
    ],
)
def test_a_cancel_filter_needs_exactly_one_criterion(body: Any) -> None:
    with pytest.raises(ValidationError):
        CANCEL.load(body)


@pytest.mark.parametrize(
    "body",
    [
        {"all": True},
        {"orderType": "limit"},
        {"tokenIn": "SOL"},
        {"tokenOut": "GEM"},
        {"all": False, "tokenOut": "GEM"},
        {"all": True, "tokenIn": None, "orderType": None},
        {"tokenIn": "SOL", "tokenOut": "GEM", "orderType": "sniper"},
    ],
)
def test_a_cancel_filter_is_parsed(body: dict[str, Any]) -> None:
    CANCEL.load(body)


WINDOW = {"notBefore": "2027-01-15T12:30:00Z", "notAfter": "2027-01-15T13:00:00Z"}
EQUAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({**LIMIT, "limitPrice": "900"}, {**LIMIT, "limitPrice": "900.0"}),
    ({**LIMIT, "limitPrice": "0.0470"}, {**LIMIT, "limitPrice": "0.047"}),
    (LIMIT, {**LIMIT, "amountIn": "2.0000000000000"}),
    (LIMIT, {**LIMIT, "timeInForce": "GTC", "slippageBps": 100}),
    (LIMIT, {**LIMIT, "timeInForce": None, "slippageBps": None, "expiresAt": None, "amountOut": None}),
    (
        {**LIMIT, "expiresAt": LATER},
        {**LIMIT, "expiresAt": "2027-01-15T15:00:00.000+02:00", "timeInForce": "GTD"},
    ),
    (LIMIT, {**LIMIT, "tokenIn": TOKENS["SOL"].mint, "tokenOut": TOKENS["USDC"].mint}),
    (
        {**SNIPER, CONDITIONS: {"price": {"above": "1.50"}, "volume": {"amount": "1", "seconds": 60}}},
        {
            **SNIPER,
            CONDITIONS: {
                "volume": {"seconds": 60, "amount": "1.0"},
                "price": {"above": "1.5", "below": None},
            },
        },
    ),
    (
        {**SNIPER, CONDITIONS: {"minLiquidity": {"amount": "5"}, "poolCreated": None}},
        {**SNIPER, CONDITIONS: {"minLiquidity": {"amount": "5.00", "unit": "tokenOut"}}},
    ),
    (
        {**SNIPER, CONDITIONS: {"timeWindow": WINDOW}},
        {**SNIPER, CONDITIONS: {"timeWindow": {"notBefore": "2027-01-15T13:30:00+01:00", "notAfter": LATER}}},
    ),
]
DIFFERENT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (LIMIT, {**LIMIT, "limitPrice": "150.250000001"}),
    (LIMIT, {**LIMIT, "slippageBps": 101}),
    (LIMIT, {**LIMIT, "timeInForce": "IOC"}),
    (LIMIT, {**LIMIT, "expiresAt": LATER}),
    ({**LIMIT, "expiresAt": LATER}, {**LIMIT, "expiresAt": "2027-01-15T13:00:00.000001Z"}),
    (SNIPER, {**SNIPER, CONDITIONS: {"price": {"below": "1.50"}}}),
    (SNIPER, {**SNIPER, CONDITIONS: {"price": {"above": "1.50", "below": "2"}}}),
]


def value_of(body: dict[str, Any]) -> object:
    """Return an order by value."""
    sent = NEW_ORDER.load(body)
    terms = values(read_terms(sent, NOW))
    return sent["token_in"], sent["token_out"], sent["swap_mode"], sent["amount"], terms


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_orders_that_differ_only_in_notation_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert value_of(one) == value_of(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_orders_with_other_terms_are_not_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert value_of(one) != value_of(other)


def test_an_amendment_to_an_equal_value_changes_nothing() -> None:
    order = an_order({**LIMIT, "expiresAt": LATER})
    same = {"limitPrice": "150.250", "expiresAt": "2027-01-15T14:00:00+01:00", "slippageBps": 100}
    assert amend(order, **same) == order.terms
    changed = amend(order, **{**same, "slippageBps": 7})
    assert (changed.limit_price, changed.slippage_bps) == ("150.25", 7)
    sniper = an_order(SNIPER)
    assert amend(sniper, sniperConditions={"price": {"above": "1.5", "below": None}}) == sniper.terms


def test_a_stored_request_is_parsed_again_although_the_market_has_changed() -> None:
    for body in (
        {**SNIPER, "tokenOut": "usdc"},
        {**SNIPER, CONDITIONS: {"minLiquidity": {"amount": "1" + "0" * 40}}},
        {**SNIPER, CONDITIONS: {"timeWindow": {"notAfter": "2027-01-15T11:00:00Z"}}},
    ):
        read_terms(NEW_ORDER.load(body), None)
