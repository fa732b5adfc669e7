"""DAMM v2's two curves: liquidity within a price range, and constant product.

Square roots of prices are Q64.64, units of B per unit of A; liquidity is scaled by 2^64.

Source: MeteoraAg/damm-v2 programs/cp-amm/src/liquidity_handler: concentrated_liquidity.rs and
compounding_liquidity.rs.
"""

from math import isqrt
from typing import NamedTuple

from service.amm.errors import ArithmeticOverflowError, InsufficientLiquidityError
from service.amm.integers import U64_MAX, U128_MAX


class Range(NamedTuple):
    """Liquidity within a price range.

    Attributes:
        sqrt_price: The current price.
        liquidity: Constant over the range.
        sqrt_min_price: The lowest price a swap may reach.
        sqrt_max_price: The highest price a swap may reach.
    """

    sqrt_price: int
    liquidity: int
    sqrt_min_price: int
    sqrt_max_price: int

    def out_for(self, net_in: int, *, a_to_b: bool) -> tuple[int, int]:
        """Return the output for an input, rounded down, and the square-root price after it.

        Raises:
            InsufficientLiquidityError: The price would leave the range.
            ArithmeticOverflowError: A value does not fit its width.
        """
        price, liquidity = self.sqrt_price, self.liquidity
        if a_to_b:
            # Rounded up, so that the price does not fall further than the input pays for.
            after = -(-liquidity * price // (liquidity + net_in * price))
            self._check_range(after)
            out = liquidity * (price - after) >> 128
        else:
            after = price + (net_in << 128) // liquidity
            self._check_range(after)
            out = liquidity * (after - price) // (price * after)
        if out > U64_MAX:
            raise ArithmeticOverflowError(f"{out} does not fit u64")
        return out, after

    def in_for(self, gross_out: int, *, a_to_b: bool) -> tuple[int, int]:
        """Return the input for an output, rounded up, and the square-root price after it.

        Raises:
            InsufficientLiquidityError: The price would leave the range.
            ArithmeticOverflowError: A value does not fit its width.
        """
        price, liquidity = self.sqrt_price, self.liquidity
        if a_to_b:
            after = price - -((-gross_out << 128) // liquidity)
            self._check_range(after)
            needed = -(-liquidity * (price - after) // (after * price))
        else:
            left = liquidity - gross_out * price
            if left <= 0:
                raise InsufficientLiquidityError(f"output {gross_out} exceeds the liquidity")
            after = -(-liquidity * price // left)
            self._check_range(after)
            needed = -(-liquidity * (after - price) >> 128)
        if needed > U64_MAX:
            raise ArithmeticOverflowError(f"{needed} does not fit u64")
        return needed, after

    def reserves(self) -> tuple[int, int]:
        """Return the amounts of A and B that the range holds, rounded up.

        Raises:
            ArithmeticOverflowError: An amount does not fit u64.
        """
        price, liquidity = self.sqrt_price, self.liquidity
        above = liquidity * (self.sqrt_max_price - price)
        amount_a = -(-above // (price * self.sqrt_max_price))
        amount_b = -(-liquidity * (price - self.sqrt_min_price) >> 128)
        if not (0 <= amount_a <= U64_MAX and 0 <= amount_b <= U64_MAX):
            raise ArithmeticOverflowError("the range's reserves do not fit u64")
        return amount_a, amount_b

    def _check_range(self, after: int) -> None:
        if not self.sqrt_min_price <= after <= self.sqrt_max_price or after <= 0:
            raise InsufficientLiquidityError("the price would leave the pool's range")


class Product(NamedTuple):
    """Constant product of two reserves."""

    amount_a: int
    amount_b: int

    def out_for(self, net_in: int, *, a_to_b: bool) -> int:
        """Return the output for an input, rounded down.

        Raises:
            ArithmeticOverflowError: The reserve would not fit u64.
        """
        held_in, held_out = self if a_to_b else (self.amount_b, self.amount_a)
        if held_in + net_in > U64_MAX:
            raise ArithmeticOverflowError("the reserve does not fit u64")
        return held_out * net_in // (held_in + net_in)

    def in_for(self, gross_out: int, *, a_to_b: bool) -> int:
        """Return the input for an output, rounded up.

        Raises:
            InsufficientLiquidityError: The output is not less than the reserve.
            ArithmeticOverflowError: The cost does not fit u64.
        """
        held_in, held_out = self if a_to_b else (self.amount_b, self.amount_a)
        if gross_out >= held_out:
            raise InsufficientLiquidityError(f"output {gross_out} exceeds the reserve of {held_out}")
        needed = -(-held_in * gross_out // (held_out - gross_out))
        if needed > U64_MAX:
            raise ArithmeticOverflowError(f"{needed} does not fit u64")
        return needed

    def sqrt_price(self) -> int:
        """Return the square-root price, Q64.64, rounded down.

        Raises:
            ArithmeticOverflowError: It does not fit u128.
        """
        root = isqrt((self.amount_b << 128) // self.amount_a)
        if root > U128_MAX:
            raise ArithmeticOverflowError("the square-root price does not fit u128")
        return root
