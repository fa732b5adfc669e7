"""The largest amounts for all orders are compared as a key's are, and told under their own name."""

from typing import Any

import pytest

from service.domain.key_limits import LargestAmount
from service.domain.service_limits import ServiceLimits
from tests.unit.domain.test_key_limits import BUYING, SOL, USDC, order


def test_amounts_are_in_the_tokens_base_units() -> None:
    limits = ServiceLimits.of({"SOL": 2 * SOL, "USDC": 300 * USDC})
    assert limits.max_amount == {"SOL": LargestAmount(2 * SOL, 9), "USDC": LargestAmount(300 * USDC, 6)}
    assert ServiceLimits.of({}) == ServiceLimits()


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
    assert ServiceLimits.of(amounts).breach_of(order(**changes)) is None


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
    breach = ServiceLimits.of(amounts).breach_of(order(**changes))
    assert breach is not None
    assert (breach.rule, breach.limit) == ("maxOrderAmounts", limit)
    assert told in breach.detail
