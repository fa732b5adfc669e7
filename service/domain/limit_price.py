"""Limit prices: decimal strings in the API, base units and exact integer arithmetic internally.

A limit price is the minimum tokenOut for one tokenIn, in display units and net of fees. An order's minimum
output is its amount times that price, rounded up, so that rounding never lowers the price.
"""

from typing import NamedTuple

from service.domain.amounts import U64_MAX, InvalidAmountError, split_decimal

KEY_BITS = 64
"""Fractional bits of a price key."""


class PlainNumber(NamedTuple):
    """An exact decimal number: digits / 10**scale. The scale is minimal, so equal values are equal."""

    digits: int
    scale: int

    def is_below(self, numerator: int, denominator: int) -> bool:
        """Whether it is less than numerator / denominator; the denominator is positive."""
        return self.digits * denominator < numerator * _power_of_ten(self.scale)

    def is_above(self, numerator: int, denominator: int) -> bool:
        """Whether it is greater than numerator / denominator; the denominator is positive."""
        return self.digits * denominator > numerator * _power_of_ten(self.scale)


def parse_number(text: str) -> PlainNumber:
    """Parse a positive decimal number in the form of an amount, with any number of decimals.

    Raises:
        InvalidAmountError: Not a plain decimal number, zero, or too long.
    """
    whole, fraction = split_decimal(text)
    number = PlainNumber(int(whole + fraction), len(fraction))
    if not number.digits:
        raise InvalidAmountError("must be greater than zero")
    return number


def limit_out(amount_in: int, price_text: str, decimals_in: int, decimals_out: int) -> int:
    """Return the minimum output for an order's whole amount.

    Args:
        amount_in: Base units of tokenIn, greater than zero.
        price_text: tokenOut for one tokenIn, in display units.
        decimals_in: Decimal places of tokenIn.
        decimals_out: Decimal places of tokenOut.

    Returns:
        Base units of tokenOut, from 1 to 2**64 - 1: amount times price, rounded up.

    Raises:
        InvalidAmountError: The price is not a plain decimal number, is zero, or makes the output larger than
            a token account can hold; the message says why, for the client.
    """
    price = parse_number(price_text)
    numerator = amount_in * price.digits * _power_of_ten(decimals_out)
    out = -(-numerator // _power_of_ten(price.scale + decimals_in))
    if out > U64_MAX:
        raise InvalidAmountError("asks for more than a token account can hold")
    return out


def price_key(out: int, per: int) -> int:
    """Return a price as an integer sort key: floor(out * 2**64 / per).

    The key is monotonic: a higher price never has a lower key.

    Args:
        out: Base units of tokenOut, not negative.
        per: Base units of tokenIn, greater than zero.
    """
    return (out << KEY_BITS) // per


def _power_of_ten(exponent: int) -> int:
    # Type checkers infer Any here, since a negative exponent gives a float.
    power: int = 10**exponent
    return power
