"""The largest amounts for all orders are compared as a key's are, and told under their own name."""

from typing import Any

import pytest

from service.domain.key_limits import LargestAmount
from service.domain.quote import SwapMode
from service.domain.service_limits import ServiceLimits, breach_of_day
from service.domain.tokens import TOKENS
from tests.unit.domain.test_key_limits import BUYING, SOL, USDC, order


def largest(amounts: dict[str, int]) -> dict[str, LargestAmount]:
    return {token: LargestAmount(amount, TOKENS[token].decimals) for token, amount in amounts.items()}


@pytest.mark.parametrize(
    ("amounts", "changes"),
    [
        ({}, {}),
        ({"SOL": 2 * SOL}, {}),
        # Only the token whose amount the order fixes counts.
        ({"USDC": 1}, {}),
        ({"USDC": 300 * USDC}, BUYING),
        ({"JUP": 1}, BUYING),
    ],
)
def test_an_order_keeps_the_limits(amounts: dict[str, int], changes: dict[str, Any]) -> None:
    assert ServiceLimits(largest(amounts)).breach_of(order(**changes)) is None


@pytest.mark.parametrize(
    ("amounts", "changes", "limit", "told"),
    [
        ({"SOL": 2 * SOL - 1}, {}, "1.999999999", "This service allows at most 1.999999999 SOL per order."),
        ({"USDC": 300 * USDC - 1}, BUYING, "299.999999", "at most 299.999999 USDC per order."),
        ({"SOL": 10**6 * SOL}, BUYING, "1000000", "selling at most 1000000 SOL per order"),
    ],
)
def test_a_breach_names_the_setting_and_the_limit(
    amounts: dict[str, int], changes: dict[str, Any], limit: str, told: str
) -> None:
    breach = ServiceLimits(largest(amounts)).breach_of(order(**changes))
    assert breach is not None
    assert (breach.rule, breach.limit) == ("maxOrderAmounts", limit)
    assert told in breach.detail


def test_with_real_money_a_token_without_a_largest_amount_is_not_sold() -> None:
    limits = ServiceLimits(largest({"USDC": 1, "JUP": 1}), only_named=True)
    for breach in (limits.breach_of(order()), limits.breach_of_payment("SOL", 1, 9)):
        assert breach is not None
        assert (breach.rule, breach.limit) == ("maxOrderAmounts", ["JUP", "USDC"])
        assert breach.detail == "This service sells only these tokens: JUP, USDC."
    assert ServiceLimits(largest({"SOL": 2 * SOL}), only_named=True).breach_of(order()) is None


def test_an_order_larger_than_a_whole_day_is_refused_whatever_was_sold() -> None:
    assert ServiceLimits({}, largest({"SOL": 2 * SOL})).breach_of(order()) is None
    breach = ServiceLimits({}, largest({"SOL": 2 * SOL - 1})).breach_of(order())
    assert breach is not None
    assert (breach.rule, breach.limit, breach.left) == ("maxDayAmounts", "1.999999999", None)
    assert breach.detail == "This service sells at most 1.999999999 SOL in 24 hours."
    # What an exact-out order sells is known when it is quoted.
    assert order(**BUYING).swap_mode is SwapMode.EXACT_OUT
    assert ServiceLimits({}, largest({"SOL": 1})).breach_of(order(**BUYING)) is None


def test_what_is_left_of_a_day_is_told_in_the_tokens_own_units() -> None:
    # The limit was given as 2.5, before the token's decimals were known.
    breach = breach_of_day("SOL", LargestAmount(25, 1), 2 * SOL + 1, 9)
    assert (breach.limit, breach.left) == ("2.5", "0.499999999")
    assert breach_of_day("SOL", LargestAmount(25, 1), 3 * SOL, 9).left == "0"


def test_a_transaction_is_compared_with_what_one_order_may_sell() -> None:
    limits = ServiceLimits(largest({"SOL": SOL}))
    assert limits.breach_of_payment("SOL", SOL, 9) is None
    assert limits.breach_of_payment("USDC", 10**18, 6) is None
    breach = limits.breach_of_payment("SOL", SOL + 1, 9)
    assert breach is not None
    assert breach.detail == "This service allows at most 1 SOL per order."
