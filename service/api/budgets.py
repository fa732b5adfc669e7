"""Compares a new order with its API key's budgets, as far as that can be done before it is inserted."""

from dataclasses import dataclass

from service.domain.api_key import Caller
from service.domain.budgets import Rule, breach_of_budget, exceeded_budget, fixed_side
from service.domain.key_limits import Breach, KeyLimits, format_usd
from service.domain.order import BudgetUse, NewOrder, OrderRequest
from service.domain.quote import SwapMode
from service.routing.dollars import ReferencePrices
from service.store.budgets import Budgets

_NO_PRICE = "The API key has a limit in USD, and there is no price of {} in USDC."


@dataclass(frozen=True, slots=True)
class BudgetCheck:
    """Finds what an order uses of its key's budgets.

    ``prices`` tells what it is worth, and ``budgets`` what other orders use.
    """

    prices: ReferencePrices
    budgets: Budgets

    async def examine(self, caller: Caller, order: NewOrder) -> BudgetUse | Breach | None:
        """Return what an order uses of budgets, or the limit that refuses it; None: there is neither.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        limits, key_id = caller.limits, caller.key_id
        if key_id is None or not limits.has_budgets:
            return None
        if order.swap_mode is SwapMode.EXACT_OUT and order.token_in in limits.max_amount_per_day:
            return await self._refuse_unknown_amount(key_id, limits, order)
        token, decimals = fixed_side(order)
        usd = None
        if limits.max_usd_per_order is not None or limits.max_usd_per_day is not None:
            usd = self.prices.value(token, order.amount)
            if (breach := _breach_of_value(limits, token, usd)) is not None:
                return breach
            if usd is None:
                return await self._refuse_unknown_value(key_id, limits, token, decimals)
        return _budget(limits, token, decimals, order.amount, usd)

    def breach_of(self, limits: KeyLimits, order: OrderRequest) -> Breach | None:
        """Return the limit in dollars that an order, new or amended, does not keep by itself."""
        if limits.max_usd_per_order is None:
            return None
        token, _decimals = fixed_side(order)
        return _breach_of_value(limits, token, self.prices.value(token, order.amount))

    async def breach_now(self, caller: Caller, order: NewOrder) -> Breach | None:
        """Return the limit that would refuse an order now. It is not what decides when the order is placed.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        budget = await self.examine(caller, order)
        if isinstance(budget, BudgetUse) and caller.key_id is not None:
            return exceeded_budget(budget, await self.budgets.usage(caller.key_id))
        return budget if isinstance(budget, Breach) else None

    async def _refuse_unknown_amount(self, key_id: str, limits: KeyLimits, order: NewOrder) -> Breach:
        limit = limits.max_amount_per_day[order.token_in]
        why = (
            f"The API key's orders may use {limit} {order.token_in} in 24 hours, and an order with an"
            " amountOut may pay any amount; send amountIn."
        )
        budget = BudgetUse(order.token_in, order.decimals_in, most_amount=limit.in_units(order.decimals_in))
        return await self._refuse(key_id, budget, Rule.AMOUNT_PER_DAY, why)

    async def _refuse_unknown_value(
        self, key_id: str, limits: KeyLimits, token: str, decimals: int
    ) -> Breach:
        budget = BudgetUse(token, decimals, most_usd=limits.max_usd_per_day)
        return await self._refuse(key_id, budget, Rule.USD_PER_DAY, _NO_PRICE.format(token))

    async def _refuse(self, key_id: str, budget: BudgetUse, rule: Rule, why: str) -> Breach:
        usage = await self.budgets.usage(key_id)
        return breach_of_budget(budget, rule, usage.of(rule, budget.token), why)


def _breach_of_value(limits: KeyLimits, token: str, usd: int | None) -> Breach | None:
    most = limits.max_usd_per_order
    if most is None or (usd is not None and usd <= most):
        return None
    limit = format_usd(most)
    if usd is None:
        return Breach("maxUsdPerOrder", limit, _NO_PRICE.format(token))
    detail = f"The API key allows at most {limit} USD per order; this one is worth {format_usd(usd)} USD."
    return Breach("maxUsdPerOrder", limit, detail)


def _budget(limits: KeyLimits, token: str, decimals: int, amount: int, usd: int | None) -> BudgetUse | None:
    largest = limits.max_amount_per_day.get(token)
    if largest is None and limits.max_usd_per_day is None and limits.max_open_orders is None:
        return None
    return BudgetUse(
        token,
        decimals,
        amount=None if largest is None else amount,
        most_amount=None if largest is None else largest.in_units(decimals),
        usd=None if limits.max_usd_per_day is None else usd,
        most_usd=limits.max_usd_per_day,
        most_open=limits.max_open_orders,
    )
