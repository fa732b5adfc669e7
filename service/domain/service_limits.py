"""The limits of all orders, whoever places them, that can be decided from the order alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.key_limits import Breach, LargestAmount, breach_of_amount
from service.domain.order import OrderRequest
from service.domain.tokens import TOKENS


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What no order may exceed.

    ``max_amount`` is the largest amount of one order by the symbol of the token whose amount the order fixes.
    """

    max_amount: Mapping[str, LargestAmount] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, max_amounts: Mapping[str, int]) -> "ServiceLimits":
        """Return the limits of the largest amounts, in base units by token."""
        return cls(
            {token: LargestAmount(amount, TOKENS[token].decimals) for token, amount in max_amounts.items()}
        )

    def breach_of(self, order: OrderRequest) -> Breach | None:
        """Return the limit that an order does not keep; None if it keeps all of them."""
        return breach_of_amount(order, self.max_amount, "maxOrderAmounts", "This service")
