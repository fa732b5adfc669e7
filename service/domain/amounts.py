r"""Amounts: integers in base units internally, decimal strings in the API. No float, no Decimal.

An amount in the API matches ``^(0|[1-9][0-9]*)(\.[0-9]+)?$`` and is parsed with a token's decimals.
"""

import re

U64_MAX = 2**64 - 1
"""The largest amount an SPL token account can hold, in base units."""

PRICE_SIGNIFICANT_DIGITS = 18
_FRACTION_DECIMALS = 8

_DECIMAL = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?")
# Bounds the input of int(), which is slow for thousands of digits. Without redundant zeros an amount has 40
# digits at most: a u64 has 20, and no token has more than 19 decimals.
LONGEST_NUMBER = 64
"""Maximum length of a decimal number in characters, zeros included."""


class InvalidAmountError(ValueError):
    """The text is not an amount of the token; the message says why, for the client."""


def split_decimal(text: str) -> tuple[str, str]:
    """Split a plain decimal number into its integer part and its fraction without trailing zeros.

    Raises:
        InvalidAmountError: Not a plain decimal number, or too long.
    """
    if len(text) > LONGEST_NUMBER:
        raise InvalidAmountError(f"is longer than {LONGEST_NUMBER} characters")
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise InvalidAmountError('must be a plain decimal number such as "1.5"')
    return match[1], (match[2] or "").rstrip("0")


def parse_amount(text: str, decimals: int) -> int:
    """Parse a positive amount.

    Args:
        text: The decimal string, in display units.
        decimals: Decimal places of the token.

    Returns:
        The amount in base units, from 1 to 2**64 - 1.

    Raises:
        InvalidAmountError: Not a plain decimal number, zero, finer than a base unit, or over u64. Trailing
            zeros past the token's decimals are allowed.
    """
    whole, fraction = split_decimal(text)
    if len(fraction) > decimals:
        raise InvalidAmountError(f"has more than the token's {decimals} decimals")
    amount = int(whole + fraction.ljust(decimals, "0"))
    if amount == 0:
        raise InvalidAmountError("must be greater than zero")
    if amount > U64_MAX:
        raise InvalidAmountError("is more than a token account can hold")
    return amount


def format_amount(amount: int, decimals: int) -> str:
    """Format an amount of base units in display units, without trailing zeros."""
    whole, fraction = divmod(amount, 10**decimals)
    if fraction == 0:
        return str(whole)
    return f"{whole}.{fraction:0{decimals}d}".rstrip("0")


def format_price(amount_out: int, decimals_out: int, amount_in: int, decimals_in: int) -> str:
    """Format amount_out / amount_in in display units: 18 significant digits, rounded down.

    Args:
        amount_out: Base units received, not negative.
        decimals_out: Decimal places of the token received.
        amount_in: Base units paid, greater than zero.
        decimals_in: Decimal places of the token paid.
    """
    numerator = amount_out * 10**decimals_in
    denominator = amount_in * 10**decimals_out
    if numerator == 0:
        return "0"
    # 10**scale brings the quotient to 18 or 19 digits; one division then decides exactly.
    scale = PRICE_SIGNIFICANT_DIGITS - (len(str(numerator)) - len(str(denominator)))
    if scale >= 0:
        quotient = numerator * 10**scale // denominator
    else:
        quotient = numerator // (denominator * 10**-scale)
    digits = str(quotient)
    if len(digits) > PRICE_SIGNIFICANT_DIGITS:
        surplus = len(digits) - PRICE_SIGNIFICANT_DIGITS
        quotient //= 10**surplus
        scale -= surplus
    if scale <= 0:
        return str(quotient * 10**-scale)
    return format_amount(quotient, scale)


def format_shortfall(shortfall: int, expected: int) -> str:
    """Format shortfall / expected as a fraction with at most eight decimals, rounded up; it may be negative.

    Args:
        shortfall: Expected minus actual base units.
        expected: Base units, greater than zero.
    """
    scaled = -(-shortfall * 10**_FRACTION_DECIMALS // expected)
    sign = "-" if scaled < 0 else ""
    return sign + format_amount(abs(scaled), _FRACTION_DECIMALS)


def minimum_out(quoted_out: int, slippage_bps: int) -> int:
    """Return the minimum output of a swap: the quote less the slippage, rounded down; at least one.

    Not zero, because with a minimum of zero a program may execute a swap that pays nothing.
    """
    return max(1, quoted_out * (10_000 - slippage_bps) // 10_000)


def maximum_in(quoted_in: int, slippage_bps: int) -> int:
    """Return the maximum input of a swap: the quote plus the slippage, rounded down; at most a u64.

    Rounded down, so that it never exceeds what the client allowed; never less than the quote.
    """
    return min(U64_MAX, quoted_in * (10_000 + slippage_bps) // 10_000)
