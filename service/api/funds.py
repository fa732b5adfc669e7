"""Refuses an order that the wallet cannot pay now, before it is stored.

This is advice and reserves nothing: orders that were accepted and not yet submitted do not count, and what
the wallet holds when the order executes decides. If the venue does not tell the balance in time, the order
is accepted.
"""

import asyncio
import logging
from dataclasses import dataclass

from service.api.problems import FieldError, InsufficientBalanceError
from service.chains.venue import Balance, VenueUnavailableError, Wallet
from service.domain.amounts import format_amount
from service.domain.order import NewOrder
from service.domain.quote import SwapMode

log = logging.getLogger(__name__)

# A third of the time within which an IOC or FOK order has to be submitted.
_PATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class FundsCheck:
    """Compares new orders with what the wallet holds."""

    wallet: Wallet

    async def examine(self, order: NewOrder) -> InsufficientBalanceError | None:
        """Return why the wallet cannot pay an order now; None if it can, or if that is not known.

        Concurrent calls share a read; an order that is not compared needs none.
        """
        if not self._compares(order):
            return None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                balance = await self.wallet.balance(order.token_in)
        except (VenueUnavailableError, TimeoutError) as error:
            log.debug("order %s is accepted without knowing the wallet's balance (%s)", order.id, error)
            return None
        return self.refusal_of(order, balance)

    def refusal_of(self, order: NewOrder, balance: Balance) -> InsufficientBalanceError | None:
        """Return why the wallet, with this balance of the order's token, cannot pay it; None if it can."""
        # What an exact-out order will pay is known when it is quoted; it is at least something.
        exact_in = order.swap_mode is SwapMode.EXACT_IN
        if not self._compares(order) or balance.free >= (order.amount if exact_in else 1):
            return None
        free = format_amount(balance.free, order.decimals_in)
        field = "amountIn" if exact_in else "amountOut"
        return InsufficientBalanceError(
            "The wallet cannot pay the order now.",
            errors=[FieldError((field,), f"{free} {order.token_in} is free in the wallet.")],
            free=free,
        )

    def _compares(self, order: NewOrder) -> bool:
        """Return whether an order is executed at once, with a token of which the wallet has not plenty."""
        return not order.opens and not self.wallet.is_unlimited(order.token_in)
