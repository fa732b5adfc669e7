"""A constant-product pool: x * y = k, the fee taken from what goes in.

The arithmetic is that of Raydium's constant-product program (raydium-io/raydium-cp-swap,
programs/cp-swap/src/curve): the fee rounds up, what is paid out rounds down.
"""

from dataclasses import dataclass, replace
from math import isqrt

from service.domain.amounts import U64_MAX
from service.domain.failures import FailureCode
from service.domain.quote import Dex, Quote
from service.venues.venue import QuoteRefusedError

PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class ConstantProductPool:
    """A pool's state.

    Reserves are base units. ``home_b / home_a`` is the price to which the market's own traders bring
    the pool back. ``version`` counts the changes.
    """

    id: str
    dex: Dex
    token_a: str
    token_b: str
    fee_ppm: int
    reserve_a: int
    reserve_b: int
    home_a: int
    home_b: int
    version: int

    def quote(self, token_in: str, amount_in: int) -> Quote:
        """Return what ``amount_in`` base units of one of the pool's tokens would buy.

        Raises:
            QuoteRefusedError: ``amount_too_small`` when it buys nothing, ``insufficient_liquidity``
                when the pool's account could not hold it.
        """
        reserve_in, reserve_out = self._reserves(token_in)
        if reserve_in + amount_in > U64_MAX:
            raise QuoteRefusedError(FailureCode.INSUFFICIENT_LIQUIDITY)
        fee = -(-amount_in * self.fee_ppm // PPM)
        net_in = amount_in - fee
        amount_out = net_in * reserve_out // (reserve_in + net_in)
        if amount_out == 0:
            raise QuoteRefusedError(FailureCode.AMOUNT_TOO_SMALL)
        return Quote(
            dex=self.dex,
            pool_id=self.id,
            amount_in=amount_in,
            amount_out=amount_out,
            fee=fee,
            price_impact_ppm=PPM - amount_out * reserve_in * PPM // (net_in * reserve_out),
        )

    def after(self, token_in: str, amount_in: int, amount_out: int) -> "ConstantProductPool":
        """Return the pool after a swap; the fee stays in it."""
        if token_in == self.token_a:
            reserve_a, reserve_b = self.reserve_a + amount_in, self.reserve_b - amount_out
        else:
            reserve_a, reserve_b = self.reserve_a - amount_out, self.reserve_b + amount_in
        return replace(self, reserve_a=reserve_a, reserve_b=reserve_b, version=self.version + 1)

    def restoring_trade(self) -> tuple[str, int] | None:
        """Return the token and the amount that, sold to the pool, bring its price back home.

        With gross input x, net input g*x/F (F parts in all, g after the fee), reserves a (of the
        token sold) and b, and the home price as home_a to home_b, the price is home when
        (a + x) * (a + g*x/F) = K with K = a*b*home_a/home_b: a quadratic in x, whose root is rounded
        down, so that the price never passes its home.

        Returns:
            None when it is home already, to within a base unit.
        """
        if self.reserve_b * self.home_a > self.home_b * self.reserve_a:
            token, a, b = self.token_a, self.reserve_a, self.reserve_b
            home_a, home_b = self.home_a, self.home_b
        else:
            token, a, b = self.token_b, self.reserve_b, self.reserve_a
            home_a, home_b = self.home_b, self.home_a
        g = PPM - self.fee_ppm
        linear = (PPM + g) * a
        surplus = a * b * home_a // home_b - a * a
        if surplus <= 0:
            return None
        amount = (isqrt(linear * linear + 4 * g * PPM * surplus) - linear) // (2 * g)
        return (token, amount) if amount > 0 else None

    def other(self, token: str) -> str:
        """Return the pool's other token."""
        return self.token_b if token == self.token_a else self.token_a

    def _reserves(self, token_in: str) -> tuple[int, int]:
        if token_in == self.token_a:
            return self.reserve_a, self.reserve_b
        return self.reserve_b, self.reserve_a
