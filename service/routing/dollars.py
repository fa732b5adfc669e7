"""Reference prices: what an amount of a token is worth in dollars."""

from typing import NamedTuple

from service.amm import Ratio
from service.amm.integers import ceil_div
from service.chains.venue import MarketData
from service.clock import Clock
from service.routing.quoting import pools_for
from service.routing.routes import marginal_price

_DOLLAR = "USDC"
_KEPT_S = 1.0


class _Known(NamedTuple):
    price: Ratio
    until: float


class ReferencePrices:
    """The prices of tokens in dollars: their best marginal price in USDC, at most a second old.

    The same price as that of sniper conditions in ``usd``. It comes from local state, without I/O.

    Args:
        venue: Its pools make the prices.
        clock: Measures the age of a price.
    """

    def __init__(self, venue: MarketData, clock: Clock) -> None:
        self._venue = venue
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def value(self, token: str, amount: int) -> int | None:
        """Return what an amount is worth; None: no pool tells the token's price.

        Args:
            token: The token's symbol.
            amount: Base units.

        Returns:
            Base units of USDC, which are millionths of a dollar, rounded up.
        """
        if token == _DOLLAR:
            return amount
        price = self._price(token)
        return None if price is None else ceil_div(amount * price.out, price.per)

    def _price(self, token: str) -> Ratio | None:
        known = self._known.get(token)
        if known is not None and self._clock.monotonic() < known.until:
            return known.price
        pools = pools_for(self._venue, token, _DOLLAR)
        price = marginal_price(token, _DOLLAR, self._venue.local_snapshots(pools))
        # Only a price is kept: a token without one may be listed at any moment.
        if price is None:
            self._known.pop(token, None)
        else:
            self._known[token] = _Known(price, self._clock.monotonic() + _KEPT_S)
        return price
