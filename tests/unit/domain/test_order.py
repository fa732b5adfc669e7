"""The order: which requests are the same, which orders rest, and the first status."""

from dataclasses import fields, replace
from typing import Any, cast

import pytest

from service.domain.history import HistoryEntry
from service.domain.mode import TradingMode
from service.domain.order import (
    IMMEDIATE_S,
    TERM_OWNERS,
    NewOrder,
    Order,
    OrderRequest,
    OrderType,
    Terms,
    TimeInForce,
    submission_time_s,
)
from service.domain.quote import SwapMode

AT = "2027-01-15T12:00:00.000000Z"
MARKET = NewOrder(
    id="order",
    account="default",
    mode=TradingMode.PAPER,
    client_order_id="mine",
    order_type=OrderType.MARKET,
    token_in="SOL",
    token_out="USDC",
    swap_mode=SwapMode.EXACT_IN,
    amount=10**9,
    amount_text="1.0",
    terms=Terms(100),
    decimals_in=9,
    decimals_out=6,
    submit_by=AT,
)
SNIPER = replace(
    MARKET, order_type=OrderType.SNIPER, terms=Terms(100, sniper_conditions={"price": {"above": "1"}})
)


def entry(sequence: int, status: str, **details: Any) -> HistoryEntry:
    return cast("HistoryEntry", {"sequence": sequence, "status": status, "timestamp": AT, **details})


def limit(time_in_force: TimeInForce) -> NewOrder:
    return replace(MARKET, order_type=OrderType.LIMIT, terms=Terms(100, time_in_force, "1", 1))


def test_an_accepted_order_is_the_placed_one_at_its_first_entry() -> None:
    order = Order.accepted(MARKET, AT)
    for field in fields(OrderRequest):
        assert getattr(order, field.name) == getattr(MARKET, field.name)
    assert order.history == ({"sequence": 1, "status": "pending", "timestamp": AT},)
    assert (order.version, order.status, order.created_at) == (1, "pending", AT)
    assert (order.quoted, order.fill, order.routing, order.ended) == (None, None, {}, False)


def test_an_order_that_must_be_approved_is_accepted_as_open() -> None:
    for new in (MARKET, SNIPER, limit(TimeInForce.GTC), limit(TimeInForce.IOC)):
        must = replace(new, approve_within_s=60)
        assert (new.opens, must.opens) == (new.rests, True)
        order = Order.accepted(must, AT)
        assert [entry["status"] for entry in order.history] == ["pending", "open"]
        assert (order.status, order.version, order.accepted_version) == ("open", 2, 2)
        assert order.awaits_approval
        assert not Order.accepted(new, AT).awaits_approval
    # The response to a later repetition shows the same.
    changed = replace(order, history=(*order.history, entry(3, "open", approvedBy="a1"), entry(4, "routing")))
    assert (changed.accepted_version, changed.awaits_approval) == (2, False)
    resting = replace(order, history=(*order.history[:1], entry(2, "open"), entry(3, "open")))
    assert resting.accepted_version == Order.accepted(MARKET, AT).accepted_version == 1


def test_an_amended_order_awaits_approval_again() -> None:
    order = Order.accepted(replace(limit(TimeInForce.GTC), approve_within_s=60), AT)
    awaits = [order.awaits_approval]
    steps: list[dict[str, Any]] = [
        {"amended": {}},
        {"approvedBy": "a1"},
        {"amended": {}},
        {"awaitingApproval": True},
    ]
    for details in steps:
        order = replace(order, history=(*order.history, entry(order.version + 1, "open", **details)))
        awaits.append(order.awaits_approval)
    assert awaits == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"id": "other", "client_order_id": None, "amount_text": "1", "terms": Terms(7)}, True),
        ({"order_type": OrderType.LIMIT}, False),
        ({"token_in": "JUP"}, False),
        ({"token_out": "JUP"}, False),
        ({"swap_mode": SwapMode.EXACT_OUT}, False),
        ({"amount": 1}, False),
    ],
)
def test_requests_with_an_equal_swap_are_the_same(changes: dict[str, Any], *, same: bool) -> None:
    assert MARKET.is_same_swap(replace(MARKET, **changes)) is same


def test_an_order_that_waits_for_a_condition_rests() -> None:
    resting = {time_in_force for time_in_force in TimeInForce if limit(time_in_force).rests}
    assert resting == {TimeInForce.GTC, TimeInForce.GTD}
    assert SNIPER.rests
    assert not MARKET.rests


def test_an_ioc_or_fok_order_has_a_submission_deadline() -> None:
    for time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
        assert submission_time_s(limit(time_in_force), 0) == IMMEDIATE_S
    assert submission_time_s(MARKET, 0) is None
    assert submission_time_s(MARKET, 30) == 30
    assert submission_time_s(limit(TimeInForce.GTC), 30) is None
    assert submission_time_s(SNIPER, 30) is None


def test_the_terms_of_each_type_are_terms() -> None:
    assert set(TERM_OWNERS) <= {field.name for field in fields(Terms)}
