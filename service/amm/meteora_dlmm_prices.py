"""The prices of DLMM's bins, and the amounts of swaps at a price.

A bin's price is (1 + step/10,000)^id, in units of Y per unit of X, Q64.64.

Source: MeteoraAg/dlmm-sdk commons/src/math/price_math.rs and extensions/bin.rs (get_amount_out,
get_amount_in).
"""

from functools import lru_cache

from service.amm.errors import ArithmeticOverflowError
from service.amm.fixed_point import ONE, pow_q64
from service.amm.integers import U64_MAX

BASIS_POINTS = 10_000

# One power takes as long as the swap of a bin, and pools trade around few bins.
PRICES_KEPT = 1 << 16


@lru_cache(maxsize=PRICES_KEPT)
def price_of_bin(bin_id: int, bin_step: int) -> int:
    """Return the price of a bin in Q64.64, units of Y per unit of X.

    Args:
        bin_id: The bin; 0 has the price one.
        bin_step: Basis points between two bins.

    Raises:
        ArithmeticOverflowError: The price is out of range for Q64.64.
    """
    return pow_q64(ONE + (bin_step << 64) // BASIS_POINTS, bin_id)


def amount_bought(amount_in: int, price: int, *, x_in: bool) -> int:
    """Return the output for an input at a price, rounded down.

    Raises:
        ArithmeticOverflowError: It does not fit u64.
    """
    amount = amount_in * price >> 64 if x_in else (amount_in << 64) // price
    if amount > U64_MAX:
        raise ArithmeticOverflowError(f"{amount} does not fit u64")
    return amount


def amount_needed(amount_out: int, price: int, *, x_in: bool) -> int:
    """Return the input for an output at a price, rounded up.

    Raises:
        ArithmeticOverflowError: It does not fit u64.
    """
    amount = -((-amount_out << 64) // price) if x_in else -(-amount_out * price >> 64)
    if amount > U64_MAX:
        raise ArithmeticOverflowError(f"{amount} does not fit u64")
    return amount
