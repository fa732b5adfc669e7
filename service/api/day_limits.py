"""Refuses an order that is to be executed at once, and would sell more than is left of a day's limit.

This is advice and counts nothing: the statement that submits an order decides. An order that rests, or must
be approved, may be submitted on another day, and is not compared.
"""

from dataclasses import dataclass

from service.api.problems import ForbiddenError
from service.domain.order import NewOrder
from service.domain.quote import SwapMode
from service.domain.service_limits import ServiceLimits, breach_of_day
from service.store.day_sales import DaySales


@dataclass(frozen=True, slots=True)
class DayLimitCheck:
    """Compares new orders with ``limits`` and what was sold."""

    limits: ServiceLimits
    sales: DaySales

    async def examine(self, order: NewOrder) -> ForbiddenError | None:
        """Return why an order cannot be submitted today; None if it can, or if that is not known.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        token, decimals = order.token_in, order.decimals_in
        most = self.limits.max_day.get(token)
        # What an exact-out order will sell is known when it is quoted.
        if most is None or order.opens or order.swap_mode is not SwapMode.EXACT_IN:
            return None
        sold = await self.sales.sold(token)
        if most.allows(sold + order.amount, decimals):
            return None
        return ForbiddenError.of(breach_of_day(token, most, sold, decimals))
