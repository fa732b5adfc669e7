"""The programs' unsigned, fixed-width integers, and division with explicit rounding."""

from service.amm.errors import AmountTooSmallError, ArithmeticOverflowError

U64_MAX = (1 << 64) - 1
U128_MAX = (1 << 128) - 1


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide two non-negative integers, rounding up. The denominator is positive."""
    return -(-numerator // denominator)


def fit_u64(value: int) -> int:
    """Return the value if it fits an unsigned 64-bit integer.

    Raises:
        ArithmeticOverflowError: It does not.
    """
    if 0 <= value <= U64_MAX:
        return value
    raise ArithmeticOverflowError(f"{value} does not fit u64")


def check_amount(amount: int) -> None:
    """Check the amount of a quote request, in base units.

    Raises:
        AmountTooSmallError: It is not positive; every program rejects a swap of zero.
        ArithmeticOverflowError: It does not fit u64.
    """
    if amount < 1:
        raise AmountTooSmallError(f"an amount of {amount} cannot be swapped")
    if amount > U64_MAX:
        raise ArithmeticOverflowError(f"{amount} does not fit u64")
