"""Limit prices: decimal strings outside, whole base units and exact integer arithmetic inside.

A limit price is the least tokenOut for one tokenIn, in display units and net of fees. What an order asks
for is that times its amount, rounded up: to the unit, it never asks for less than its price.
"""

from typing import NamedTuple

from service.domain.amounts import U64_MAX, InvalidAmountError, split_decimal

KEY_BITS = 64
"""Bits after the point of a price's key."""


class PlainNumber(NamedTuple):
    """A decimal number, exactly: digits / 10**scale, with the smallest scale: equal numbers are equal."""

    digits: int
    scale: int

    def is_below(self, numerator: int, denominator: int) -> bool:
        """Whether it is less than a quotient, whose denominator is positive."""
        return self.digits * denominator < numerator * _power_of_ten(self.scale)

    def is_above(self, numerator: int, denominator: int) -> bool:
        """Whether it is more than a quotient, whose denominator is positive."""
        return self.digits * denominator > numerator * _power_of_ten(self.scale)


def parse_number(text: str) -> PlainNumber:
    """Read a positive decimal number in the form of an amount, whatever its decimals.

    Raises:
        InvalidAmountError: Not a plain decimal number, zero, or too long.
    """
    whole, fraction = split_decimal(text)
    number = PlainNumber(int(whole + fraction), len(fraction))
    if not number.digits:
        raise InvalidAmountError("must be greater than zero")
    return number


def limit_out(amount_in: int, price_text: str, decimals_in: int, decimals_out: int) -> int:
    """Return what an order's whole amount must pay at least.

    Args:
        amount_in: Base units of tokenIn, greater than zero.
        price_text: tokenOut for one tokenIn, in display units.
        decimals_in: Decimal places of tokenIn.
        decimals_out: Decimal places of tokenOut.

    Returns:
        Base units of tokenOut, from 1 to 2**64 - 1: amount times price, rounded up.

    Raises:
        InvalidAmountError: The price is not a plain decimal number, zero, or for this amount more than a
            token account can hold; the message says why, for the client.
    """
    price = parse_number(price_text)
    numerator = amount_in * price.digits * _power_of_ten(decimals_out)
    out = -(-numerator // _power_of_ten(price.scale + decimals_in))
    if out > U64_MAX:
        raise InvalidAmountError("asks for more than a token account can hold")
    return out


def price_key(out: int, per: int) -> int:
    """Return a price as an integer to sort by: floor(out * 2**64 / per).

    Of two prices the higher has the higher key, or they have the same.

    Args:
        out: Base units of tokenOut, not negative.
        per: Base units of tokenIn, greater than zero.
    """
    return (out << KEY_BITS) // per


def _power_of_ten(exponent: int) -> int:
    # To a type checker an integer's power may be a fraction.
    power: int = 10**exponent
    return power
