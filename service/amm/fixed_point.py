"""Powers of Q64.64 numbers, truncated at each multiplication exactly like the Meteora programs.

Each truncation affects the last digits of a price or a fee, so the order of the multiplications is part of
the result. Sources: MeteoraAg/dlmm-sdk
commons/src/math/u64x64_math.rs and MeteoraAg/damm-v2 programs/cp-amm/src/math/fee_math.rs.
"""

from service.amm.errors import ArithmeticOverflowError
from service.amm.integers import U128_MAX

ONE = 1 << 64
MAX_EXPONENT = 0x80000


def pow_q64(base: int, exponent: int) -> int:
    """Raise a Q64.64 number to an integer power.

    A base of one or more is inverted first and the result inverted back, so that no product needs
    more than 128 bits.

    Args:
        base: Positive, Q64.64.
        exponent: May be negative; under 2^19 in size.

    Returns:
        The power in Q64.64, rounded down at every multiplication.

    Raises:
        ArithmeticOverflowError: The exponent is too large, or the power too small for Q64.64.
    """
    if exponent == 0:
        return ONE
    remaining = abs(exponent)
    if remaining >= MAX_EXPONENT:
        raise ArithmeticOverflowError(f"exponent {exponent} is out of range")
    invert = exponent < 0
    square = base
    if square >= ONE:
        square = U128_MAX // square
        invert = not invert
    result = ONE
    while remaining:
        if remaining & 1:
            result = result * square >> 64
        square = square * square >> 64
        remaining >>= 1
    if result == 0:
        raise ArithmeticOverflowError("the power is too small for Q64.64")
    return U128_MAX // result if invert else result
