"""The limits of all orders, whoever places them.

Those of one order can be decided from the order alone. What all orders sell in a day is decided by the
statement that submits one of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.amounts import format_amount
from service.domain.key_limits import Breach, LargestAmount, breach_of_amount
from service.domain.order import OrderRequest
from service.domain.quote import SwapMode

_DAY_RULE = "maxDayAmounts"
_ORDER_RULE = "maxOrderAmounts"


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What no order may exceed, and all orders together.

    Attributes:
        max_amount: The largest amount of one order by the symbol of the token whose amount the order fixes.
        max_day: The largest amount that all orders together may sell in 24 hours, by the token's symbol.
        only_named: Whether a token without a largest amount may not be sold at all.
    """

    max_amount: Mapping[str, LargestAmount] = field(default_factory=dict, hash=False)
    max_day: Mapping[str, LargestAmount] = field(default_factory=dict, hash=False)
    only_named: bool = False

    def breach_of(self, order: OrderRequest) -> Breach | None:
        """Return the limit that an order cannot keep, whatever others sell; None if there is none."""
        if (unnamed := self._breach_of_token(order.token_in)) is not None:
            return unnamed
        breach = breach_of_amount(order, self.max_amount, _ORDER_RULE, "This service")
        most = self.max_day.get(order.token_in)
        if breach is not None or most is None or order.swap_mode is not SwapMode.EXACT_IN:
            return breach
        return None if most.allows(order.amount, order.decimals_in) else breach_of_day(order.token_in, most)

    def breach_of_payment(self, token: str, amount: int, decimals: int) -> Breach | None:
        """Return the limit that a transaction of one order does not keep.

        Args:
            token: The token that it sells.
            amount: The most that it may sell, in base units.
            decimals: The token's decimals.
        """
        most = self.max_amount.get(token)
        if most is None:
            return self._breach_of_token(token)
        if most.allows(amount, decimals):
            return None
        return Breach(_ORDER_RULE, str(most), f"This service allows at most {most} {token} per order.")

    def _breach_of_token(self, token: str) -> Breach | None:
        if not self.only_named or token in self.max_amount:
            return None
        tokens = sorted(self.max_amount)
        return Breach(_ORDER_RULE, tokens, f"This service sells only these tokens: {', '.join(tokens)}.")


def breach_of_day(token: str, most: LargestAmount, sold: int | None = None, decimals: int = 0) -> Breach:
    """Return the breach of the largest amount of a day.

    Args:
        token: The token.
        most: The largest amount.
        sold: What was sold in the last 24 hours, in base units; None: the order alone is larger.
        decimals: The token's decimals.
    """
    detail = f"This service sells at most {most} {token} in 24 hours"
    if sold is None:
        return Breach(_DAY_RULE, str(most), f"{detail}.")
    left = format_amount(max(0, most.in_units(decimals) - sold), decimals)
    return Breach(_DAY_RULE, str(most), f"{detail}, of which {left} {token} is left.", left)
