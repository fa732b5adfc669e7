"""What an order uses of its key's budgets, and the refusals that need no insert."""

from typing import Any, cast

import pytest

from service.api.budgets import BudgetCheck
from service.domain.api_key import Caller, Scope
from service.domain.budgets import Usage
from service.domain.key_limits import NO_LIMITS, Breach, KeyLimits, LargestAmount
from service.domain.order import BudgetUse
from service.routing.dollars import ReferencePrices
from service.store.budgets import Budgets
from tests.unit.domain.test_key_limits import BUYING, SOL, USDC, order

VALUES = {"SOL": 150 * USDC, "USDC": USDC}
PER_DAY = {"SOL": LargestAmount(10 * SOL, 9)}


class Prices:
    """Knows the dollars of a whole SOL and a whole USDC."""

    def value(self, token: str, amount: int) -> int | None:
        units = {"SOL": SOL, "USDC": USDC}
        return amount * VALUES[token] // units[token] if token in VALUES else None


class Stored:
    """What is used of the key's budgets."""

    async def usage(self, key_id: str) -> Usage:
        assert key_id == "key"
        return Usage({"SOL": 9 * SOL}, 40 * USDC, 1)


async def examine(limits: KeyLimits, key_id: str | None = "key", **changes: Any) -> BudgetUse | Breach | None:
    check = BudgetCheck(cast("ReferencePrices", Prices()), cast("Budgets", Stored()))
    return await check.examine(Caller("desk", Scope.TRADE, key_id, limits), order(**changes))


@pytest.mark.parametrize(
    ("limits", "changes", "expected"),
    [
        (NO_LIMITS, {}, None),
        (KeyLimits(max_amount={"SOL": LargestAmount(1, 9)}), {}, None),
        (KeyLimits(max_amount_per_day=PER_DAY), {}, BudgetUse("SOL", 9, 2 * SOL, 10 * SOL)),
        # The decimals that the token had when the limit was set.
        (
            KeyLimits(max_amount_per_day={"SOL": LargestAmount(10, 0)}),
            {},
            BudgetUse("SOL", 9, 2 * SOL, 10 * SOL),
        ),
        # Another token's limit, and none of both together.
        (KeyLimits(max_amount_per_day={"USDC": LargestAmount(1, 6)}), {}, None),
        (
            KeyLimits(max_amount_per_day={"USDC": LargestAmount(USDC, 6)}),
            BUYING,
            BudgetUse("USDC", 6, 300 * USDC, USDC),
        ),
        (KeyLimits(max_usd_per_day=1), {}, BudgetUse("SOL", 9, usd=300 * USDC, most_usd=1)),
        (KeyLimits(max_usd_per_day=1), BUYING, BudgetUse("USDC", 6, usd=300 * USDC, most_usd=1)),
        (KeyLimits(max_usd_per_order=300 * USDC), {}, None),
        (KeyLimits(max_open_orders=0), {"token_in": "GEM"}, BudgetUse("GEM", 9, most_open=0)),
        (
            KeyLimits(
                max_amount_per_day=PER_DAY,
                max_usd_per_order=300 * USDC,
                max_usd_per_day=2**64 - 1,
                max_open_orders=5,
            ),
            {},
            BudgetUse("SOL", 9, 2 * SOL, 10 * SOL, 300 * USDC, 2**64 - 1, 5),
        ),
    ],
)
async def test_what_an_order_uses(
    limits: KeyLimits, changes: dict[str, Any], expected: BudgetUse | None
) -> None:
    assert await examine(limits, **changes) == expected
    assert await examine(limits, None, **changes) is None


@pytest.mark.parametrize(
    ("limits", "changes", "rule", "limit", "left", "told"),
    [
        (
            KeyLimits(max_usd_per_order=300 * USDC - 1),
            {},
            "maxUsdPerOrder",
            "299.999999",
            None,
            "worth 300 USD",
        ),
        (KeyLimits(max_usd_per_order=USDC), BUYING, "maxUsdPerOrder", "1", None, "worth 300 USD"),
        (
            KeyLimits(max_usd_per_order=USDC, max_usd_per_day=2 * USDC),
            {"token_in": "GEM"},
            "maxUsdPerOrder",
            "1",
            None,
            "no price of GEM in USDC",
        ),
        (
            KeyLimits(max_usd_per_day=100 * USDC),
            {"token_in": "GEM"},
            "maxUsdPerDay",
            "100",
            "60",
            "no price of GEM in USDC",
        ),
        (KeyLimits(max_amount_per_day=PER_DAY), BUYING, "maxAmountPerDay", "10", "1", "send amountIn"),
    ],
)
async def test_what_refuses_an_order_before_it_is_inserted(
    limits: KeyLimits, changes: dict[str, Any], rule: str, limit: str, left: str | None, told: str
) -> None:
    breach = await examine(limits, **changes)
    assert isinstance(breach, Breach)
    assert (breach.rule, breach.limit, breach.left) == (rule, limit, left)
    assert told in breach.detail
