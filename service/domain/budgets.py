"""Budgets of an API key: the limits on all its orders together.

An order uses the amount that it fixes, and the value of that amount when it is placed. The statement that
inserts the order decides whether so much is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.amounts import format_amount
from service.domain.conditions import USD_DECIMALS
from service.domain.key_limits import Breach, KeyLimits, format_usd
from service.domain.order import BudgetUse, OrderRequest
from service.domain.quote import SwapMode


class Rule(StrEnum):
    """The budgets. The values are the limits' names in the API."""

    AMOUNT_PER_DAY = "maxAmountPerDay"
    USD_PER_DAY = "maxUsdPerDay"
    OPEN_ORDERS = "maxOpenOrders"


@dataclass(frozen=True, slots=True)
class Usage:
    """What the orders of a key use of its budgets.

    Attributes:
        amounts: Base units in 24 hours, by token.
        usd: Millionths of a dollar in 24 hours.
        open_orders: The number of orders that have not ended.
    """

    amounts: Mapping[str, int] = field(default_factory=dict)
    usd: int = 0
    open_orders: int = 0

    def of(self, rule: Rule, token: str) -> int:
        """Return what is used of a budget; the token matters only for amounts."""
        if rule is Rule.AMOUNT_PER_DAY:
            return self.amounts.get(token, 0)
        return self.usd if rule is Rule.USD_PER_DAY else self.open_orders


def breach_of_budget(budget: BudgetUse, rule: Rule, used: int, why: str | None = None) -> Breach:
    """Return the breach of a budget.

    Args:
        budget: The budgets, and what the order uses of them.
        rule: The one that it does not keep.
        used: What the other orders use of that.
        why: Why the order is refused, if not because too little is left.
    """
    if rule is Rule.OPEN_ORDERS:
        most = budget.most_open or 0
        return Breach(rule, most, f"The API key may have at most {most} open orders.", max(0, most - used))
    if rule is Rule.USD_PER_DAY:
        most, decimals, unit = budget.most_usd or 0, USD_DECIMALS, "USD"
    else:
        most, decimals, unit = budget.most_amount or 0, budget.decimals, budget.token
    limit, left = format_amount(most, decimals), format_amount(max(0, most - used), decimals)
    detail = f"The API key's orders may use {limit} {unit} in 24 hours, of which {left} {unit} is left"
    if rule is Rule.USD_PER_DAY and budget.usd is not None:
        detail += f"; this order is worth {format_usd(budget.usd)} USD"
    return Breach(rule, limit, why or f"{detail}.", left)


def exceeded_budget(budget: BudgetUse, usage: Usage) -> Breach | None:
    """Return the first budget that an order would exceed, if no other order were placed meanwhile."""
    for rule, uses, most in (
        (Rule.OPEN_ORDERS, 1, budget.most_open),
        (Rule.AMOUNT_PER_DAY, budget.amount, budget.most_amount),
        (Rule.USD_PER_DAY, budget.usd, budget.most_usd),
    ):
        used = usage.of(rule, budget.token)
        if uses is not None and most is not None and used + uses > most:
            return breach_of_budget(budget, rule, used)
    return None


def used_of(limits: KeyLimits, usage: Usage, decimals: Mapping[str, int]) -> dict[str, object]:
    """Return what is used of each budget, in the form of the API; None where there is none.

    Args:
        limits: The key's limits.
        usage: What its orders use.
        decimals: By token; if one is missing, the decimals that it had when the limit was set are used.
    """
    amounts = {
        token: format_amount(usage.amounts.get(token, 0), decimals.get(token, largest.decimals))
        for token, largest in sorted(limits.max_amount_per_day.items())
    }
    return {
        "maxAmountPerDay": amounts or None,
        "maxUsdPerDay": None if limits.max_usd_per_day is None else format_usd(usage.usd),
        "maxOpenOrders": None if limits.max_open_orders is None else usage.open_orders,
    }


def fixed_side(order: OrderRequest) -> tuple[str, int]:
    """Return the token whose amount an order fixes, and the token's decimals.

    Raises:
        ValueError: The token is not listed.
    """
    if order.swap_mode is SwapMode.EXACT_IN:
        return order.token_in, order.decimals_in
    if order.decimals_out is None:
        raise ValueError(f"{order.token_out} is not listed")
    return order.token_out, order.decimals_out
