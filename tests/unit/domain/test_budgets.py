"""Budgets of a key: what is told of a breach, and what of their use."""

import pytest

from service.domain.amounts import U64_MAX
from service.domain.budgets import (
    Rule,
    Usage,
    breach_of_budget,
    exceeded_budget,
    fixed_side,
    used_of,
)
from service.domain.key_limits import NO_LIMITS, KeyLimits, LargestAmount
from service.domain.order import BudgetUse
from service.domain.quote import SwapMode
from tests.unit.domain.test_key_limits import BUYING, SOL, USDC, order

BUDGET = BudgetUse(
    "SOL",
    9,
    amount=2 * SOL,
    most_amount=10 * SOL,
    usd=300 * USDC + 1,
    most_usd=1_000 * USDC,
    most_open=3,
)


@pytest.mark.parametrize(
    ("rule", "used", "limit", "left", "told"),
    [
        (
            Rule.AMOUNT_PER_DAY,
            9 * SOL + 1,
            "10",
            "0.999999999",
            "10 SOL in 24 hours, of which 0.999999999 SOL",
        ),
        (Rule.AMOUNT_PER_DAY, 10 * SOL, "10", "0", "of which 0 SOL is left."),
        (Rule.USD_PER_DAY, 900 * USDC, "1000", "100", "100 USD is left; this order is worth 300.000001 USD."),
        (Rule.OPEN_ORDERS, 3, 3, 0, "at most 3 open orders."),
        # The limit has been lowered, or an order has been placed before it was set.
        (Rule.AMOUNT_PER_DAY, 11 * SOL, "10", "0", "of which 0 SOL is left."),
        (Rule.USD_PER_DAY, 10**30, "1000", "0", "of which 0 USD is left"),
        (Rule.OPEN_ORDERS, 5, 3, 0, "at most 3 open orders."),
    ],
)
def test_a_breach_tells_the_limit_and_what_is_left(
    rule: Rule, used: int, limit: object, left: object, told: str
) -> None:
    breach = breach_of_budget(BUDGET, rule, used)
    assert (breach.rule, breach.limit, breach.left) == (rule.value, limit, left)
    assert breach.rule in NO_LIMITS.as_shown()
    assert told in breach.detail
    other = breach_of_budget(BUDGET, rule, used, "It is so.")
    assert (other.limit, other.left) == (limit, left)
    assert other.detail == (breach.detail if rule is Rule.OPEN_ORDERS else "It is so.")


@pytest.mark.parametrize(
    ("usage", "rule"),
    [
        (Usage(), None),
        (Usage({"SOL": 8 * SOL, "USDC": 10**20}, 700 * USDC - 1, 2), None),
        (Usage({"SOL": 8 * SOL + 1}), Rule.AMOUNT_PER_DAY),
        (Usage({}, 700 * USDC), Rule.USD_PER_DAY),
        (Usage({"SOL": 9 * SOL}, 10**30, 3), Rule.OPEN_ORDERS),
    ],
)
def test_the_budget_that_an_order_would_exceed(usage: Usage, rule: Rule | None) -> None:
    breach = exceeded_budget(BUDGET, usage)
    assert breach == (None if rule is None else breach_of_budget(BUDGET, rule, usage.of(rule, "SOL")))
    assert exceeded_budget(BudgetUse("SOL", 9), usage) is None


def test_what_is_used_is_told_for_each_budget() -> None:
    nothing = {"maxAmountPerDay": None, "maxUsdPerDay": None, "maxOpenOrders": None}
    usage = Usage({"SOL": 5 * SOL // 2, "JUP": 1}, 7, 4)
    assert used_of(NO_LIMITS, usage, {}) == nothing
    assert set(nothing) == set(Rule)
    limits = KeyLimits(
        max_amount_per_day={"USDC": LargestAmount(USDC, 6), "SOL": LargestAmount(U64_MAX, 9)},
        max_usd_per_day=1,
        max_open_orders=0,
    )
    assert used_of(limits, usage, {"SOL": 9}) == {
        "maxAmountPerDay": {"SOL": "2.5", "USDC": "0"},
        "maxUsdPerDay": "0.000007",
        "maxOpenOrders": 4,
    }
    assert usage.of(Rule.AMOUNT_PER_DAY, "JUP") == 1
    assert usage.of(Rule.AMOUNT_PER_DAY, "USDC") == 0
    assert (usage.of(Rule.USD_PER_DAY, "SOL"), usage.of(Rule.OPEN_ORDERS, "SOL")) == (7, 4)


def test_the_fixed_side_is_the_one_whose_amount_was_sent() -> None:
    assert fixed_side(order()) == ("SOL", 9)
    assert fixed_side(order(**BUYING)) == ("USDC", 6)
    assert fixed_side(order(token_out="NEW", decimals_out=None)) == ("SOL", 9)
    with pytest.raises(ValueError, match="NEW"):
        fixed_side(order(token_out="NEW", decimals_out=None, swap_mode=SwapMode.EXACT_OUT))
