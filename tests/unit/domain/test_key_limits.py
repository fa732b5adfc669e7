"""The limits of a key: which orders keep them, and how they are stored and shown."""

import json
from dataclasses import replace
from typing import Any

import pytest

from service.domain.amounts import U64_MAX
from service.domain.key_limits import (
    NO_LIMITS,
    NO_ORDERS,
    InvalidLimitsError,
    KeyLimits,
    LargestAmount,
    parse_limits,
)
from service.domain.mode import TradingMode
from service.domain.order import NewOrder, OrderType, Terms
from service.domain.quote import SwapMode

SOL, USDC = 10**9, 10**6
ALL = KeyLimits(
    tokens=frozenset({"USDC", "SOL"}),
    order_types=frozenset({OrderType.LIMIT, OrderType.MARKET}),
    max_slippage_bps=0,
    max_price_impact_bps=10_000,
    max_amount={"SOL": LargestAmount(U64_MAX, 9), "USDC": LargestAmount(5_000 * USDC + 1, 6)},
    requests_per_second=50,
    max_sockets=0,
    requires_approval=True,
    max_amount_per_day={"SOL": LargestAmount(20 * SOL, 9)},
    max_usd_per_order=U64_MAX,
    max_usd_per_day=10_000_500_000,
    max_open_orders=10_000,
)


def order(**changes: Any) -> NewOrder:
    """Return a market order that sells 2 SOL for USDC, with changes."""
    members: dict[str, Any] = {
        "id": "01900000-0000-7000-8000-000000000000",
        "account": "desk",
        "mode": TradingMode.PAPER,
        "client_order_id": None,
        "order_type": OrderType.MARKET,
        "token_in": "SOL",
        "token_out": "USDC",
        "swap_mode": SwapMode.EXACT_IN,
        "amount": 2 * SOL,
        "amount_text": "2",
        "terms": Terms(100),
        "decimals_in": 9,
        "decimals_out": 6,
        **changes,
    }
    return NewOrder(**members)


BUYING = {"swap_mode": SwapMode.EXACT_OUT, "amount": 300 * USDC}


@pytest.mark.parametrize(
    ("limits", "changes"),
    [
        (NO_LIMITS, {}),
        (NO_LIMITS, BUYING),
        (KeyLimits(tokens=frozenset({"SOL", "USDC", "JUP"})), {}),
        (KeyLimits(tokens=frozenset({"SOL", "NEW"})), {"token_out": "NEW", "decimals_out": None}),
        (KeyLimits(order_types=frozenset({OrderType.MARKET})), {}),
        (KeyLimits(max_slippage_bps=100), {}),
        (KeyLimits(max_slippage_bps=0), {"terms": Terms(0)}),
        (KeyLimits(max_amount={"SOL": LargestAmount(2 * SOL, 9)}), {}),
        # Only the token whose amount the order fixes counts.
        (KeyLimits(max_amount={"USDC": LargestAmount(1, 6)}), {}),
        (KeyLimits(max_amount={"USDC": LargestAmount(300 * USDC, 6)}), BUYING),
        # The same amount, of a token that was listed again with other decimals.
        (KeyLimits(max_amount={"SOL": LargestAmount(20, 1)}), {}),
        (KeyLimits(requests_per_second=1, max_sockets=0), {}),
        # Known only when the order is executed.
        (KeyLimits(max_price_impact_bps=0), {}),
        # It is accepted, and awaits its approval.
        (KeyLimits(requires_approval=True), {}),
    ],
)
def test_an_order_keeps_its_key_s_limits(limits: KeyLimits, changes: dict[str, Any]) -> None:
    assert limits.breach_of(order(**changes)) is None


@pytest.mark.parametrize(
    ("limits", "changes", "rule", "limit", "told"),
    [
        (KeyLimits(tokens=frozenset({"USDC", "JUP"})), {}, "tokens", ["JUP", "USDC"], "JUP, USDC."),
        (KeyLimits(tokens=frozenset({"SOL"})), {}, "tokens", ["SOL"], "only these tokens: SOL."),
        (KeyLimits(tokens=frozenset({"SOL", "new"})), {"token_out": "NEW"}, "tokens", ["SOL", "new"], "new"),
        (NO_ORDERS, {}, "tokens", [], "none"),
        (
            KeyLimits(order_types=frozenset({OrderType.SNIPER, OrderType.LIMIT})),
            {},
            "orderTypes",
            ["limit", "sniper"],
            "limit, sniper.",
        ),
        (KeyLimits(max_slippage_bps=99), {}, "maxSlippageBps", 99, "at most 99 slippageBps"),
        (
            KeyLimits(max_amount={"SOL": LargestAmount(2 * SOL - 1, 9)}),
            {},
            "maxAmount",
            "1.999999999",
            "at most 1.999999999 SOL per order",
        ),
        (
            KeyLimits(max_amount={"USDC": LargestAmount(300 * USDC - 1, 6)}),
            BUYING,
            "maxAmount",
            "299.999999",
            "at most 299.999999 USDC per order",
        ),
        (KeyLimits(max_amount={"SOL": LargestAmount(SOL, 9)}), BUYING, "maxAmount", "1", "send amountIn"),
        (KeyLimits(max_amount={"SOL": LargestAmount(19, 1)}), {}, "maxAmount", "1.9", "1.9 SOL"),
        (
            KeyLimits(max_amount={"NEW": LargestAmount(U64_MAX, 0)}),
            {**BUYING, "token_out": "NEW", "decimals_out": None},
            "maxAmount",
            None,
            "NEW per order",
        ),
    ],
)
def test_a_breach_names_the_rule_and_the_limit(
    limits: KeyLimits, changes: dict[str, Any], rule: str, limit: object, told: str
) -> None:
    breach = limits.breach_of(order(**changes))
    assert breach is not None
    assert breach.rule == rule
    assert breach.rule in limits.as_shown()
    assert limit is None or breach.limit == limit
    assert told in breach.detail


@pytest.mark.parametrize("limits", [NO_LIMITS, NO_ORDERS, ALL, KeyLimits(order_types=frozenset())])
def test_what_is_stored_is_read_back(limits: KeyLimits) -> None:
    assert parse_limits(json.loads(json.dumps(limits.as_stored()))) == limits


@pytest.mark.parametrize(
    "limits",
    [
        KeyLimits(max_amount_per_day={"SOL": LargestAmount(SOL, 9)}),
        KeyLimits(max_usd_per_order=0),
        KeyLimits(max_usd_per_day=1),
        KeyLimits(max_open_orders=0),
    ],
)
def test_some_limits_need_more_than_the_order(limits: KeyLimits) -> None:
    assert limits.has_budgets
    assert limits.breach_of(order()) is None
    others = replace(
        ALL, max_amount_per_day={}, max_usd_per_order=None, max_usd_per_day=None, max_open_orders=None
    )
    assert not others.has_budgets


@pytest.mark.parametrize(
    ("largest", "decimals", "amount"),
    [
        (LargestAmount(3 * SOL, 9), 9, 3 * SOL),
        (LargestAmount(3, 0), 9, 3 * SOL),
        (LargestAmount(U64_MAX, 0), 9, U64_MAX * 10**9),
        (LargestAmount(1_999, 3), 0, 1),
    ],
)
def test_a_largest_amount_in_base_units(largest: LargestAmount, decimals: int, amount: int) -> None:
    assert largest.in_units(decimals) == amount


def test_limits_are_stored_in_base_units_and_shown_in_display_units() -> None:
    assert NO_LIMITS.as_stored() == {}
    assert set(NO_LIMITS.as_shown().values()) == {None, False}
    assert ALL.as_stored()["maxAmount"] == {
        "SOL": {"amount": U64_MAX, "decimals": 9},
        "USDC": {"amount": 5_000_000_001, "decimals": 6},
    }
    assert ALL.as_stored()["maxAmountPerDay"] == {"SOL": {"amount": 20 * SOL, "decimals": 9}}
    assert (ALL.as_stored()["maxUsdPerOrder"], ALL.as_stored()["maxUsdPerDay"]) == (U64_MAX, 10_000_500_000)
    assert ALL.as_shown() == {
        "tokens": ["SOL", "USDC"],
        "orderTypes": ["market", "limit"],
        "maxSlippageBps": 0,
        "maxPriceImpactBps": 10_000,
        "maxAmount": {"SOL": "18446744073.709551615", "USDC": "5000.000001"},
        "requestsPerSecond": 50,
        "maxSockets": 0,
        "requiresApproval": True,
        "maxAmountPerDay": {"SOL": "20"},
        "maxUsdPerOrder": "18446744073709.551615",
        "maxUsdPerDay": "10000.5",
        "maxOpenOrders": 10_000,
    }


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"maxPerDay": 1},
        {"tokens": "SOL"},
        {"tokens": [1]},
        {"orderTypes": ["iceberg"]},
        {"maxSlippageBps": "100"},
        {"maxSlippageBps": True},
        {"maxSlippageBps": 10_001},
        {"maxSlippageBps": -1},
        {"maxPriceImpactBps": 10_001},
        {"requestsPerSecond": 0},
        {"maxSockets": 1.5},
        {"requiresApproval": 1},
        {"requiresApproval": None},
        {"maxAmount": []},
        {"maxAmount": {"SOL": 1}},
        {"maxAmount": {"SOL": {"amount": 1}}},
        {"maxAmount": {"SOL": {"amount": U64_MAX + 1, "decimals": 9}}},
        {"maxAmount": {"SOL": {"amount": 1, "decimals": 9, "usd": 1}}},
        {"maxAmountPerDay": {"SOL": "1"}},
        {"maxUsdPerOrder": "100"},
        {"maxUsdPerDay": U64_MAX + 1},
        {"maxUsdPerDay": 0.5},
        {"maxOpenOrders": 10_001},
        {"maxOpenOrders": True},
    ],
)
def test_what_is_not_understood_is_no_limit_of_nothing(stored: object) -> None:
    with pytest.raises(InvalidLimitsError):
        parse_limits(stored)
