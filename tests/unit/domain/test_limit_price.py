"""Limit prices: exact, rounded up, and in order."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.amounts import U64_MAX, InvalidAmountError
from service.domain.limit_price import limit_out, parse_number, price_key

u64s = st.integers(1, U64_MAX)
decimals = st.integers(0, 12)
prices = st.builds(
    lambda digits, scale: f"{digits // 10**scale}.{digits % 10**scale:0{scale}d}" if scale else str(digits),
    st.integers(1, 10**24),
    st.integers(0, 24),
)


@pytest.mark.parametrize(
    ("amount_in", "price", "decimals_in", "decimals_out", "expected"),
    [
        (10**9, "150.25", 9, 6, 150_250_000),
        (1, "1", 0, 0, 1),
        (3, "0.1", 0, 0, 1),  # rounded up: 0.3
        (10**9, "0.0000000001", 9, 6, 1),
        (10**5, "0.000021", 5, 6, 21),
        (10**5, "0.0000210000001", 5, 6, 22),
        (U64_MAX, "1", 6, 6, U64_MAX),
        (U64_MAX, "1.000", 0, 0, U64_MAX),
        (1, "18446744073709551615", 0, 0, U64_MAX),
    ],
)
def test_a_limit_is_rounded_up(
    amount_in: int, price: str, decimals_in: int, decimals_out: int, expected: int
) -> None:
    assert limit_out(amount_in, price, decimals_in, decimals_out) == expected


@given(u64s, prices, decimals, decimals)
def test_a_limit_is_the_least_amount_that_pays_the_price(
    amount_in: int, price: str, decimals_in: int, decimals_out: int
) -> None:
    wanted = Fraction(price) * Fraction(amount_in, 10**decimals_in) * 10**decimals_out
    try:
        out = limit_out(amount_in, price, decimals_in, decimals_out)
    except InvalidAmountError:
        assert wanted > U64_MAX
        return
    assert out - 1 < wanted <= out
    assert 1 <= out <= U64_MAX


@pytest.mark.parametrize(
    ("price", "why"),
    [
        ("0", "greater than zero"),
        ("0.000", "greater than zero"),
        ("-1", "plain decimal"),
        ("+1", "plain decimal"),
        ("1e3", "plain decimal"),
        (".5", "plain decimal"),
        ("1.", "plain decimal"),
        ("01", "plain decimal"),
        ("", "plain decimal"),
        (" 1", "plain decimal"),
        ("1\n", "plain decimal"),
        ("NaN", "plain decimal"),
        ("Infinity", "plain decimal"),
        ("1_0", "plain decimal"),
        ("\u0661", "plain decimal"),
        ("1" * 65, "longer than 64"),
        ("1" * 64, "more than a token account"),
        ("18446744073709551616", "more than a token account"),
    ],
)
def test_an_invalid_price_is_rejected_with_a_reason(price: str, why: str) -> None:
    with pytest.raises(InvalidAmountError, match=why):
        limit_out(1, price, 0, 0)


def test_a_long_price_is_valid_if_the_result_fits() -> None:
    assert limit_out(10**9, "0." + "0" * 40 + "1" * 22, 9, 6) == 1


@given(u64s, u64s, u64s, u64s)
def test_keys_sort_like_prices(out: int, per: int, other_out: int, other_per: int) -> None:
    key, other = price_key(out, per), price_key(other_out, other_per)
    assert key <= Fraction(out, per) * 2**64 < key + 1
    if Fraction(out, per) >= Fraction(other_out, other_per):
        assert key >= other


@given(prices, u64s, u64s)
def test_numbers_compare_exactly(text: str, numerator: int, denominator: int) -> None:
    number = parse_number(text)
    assert Fraction(number.digits, 10**number.scale) == Fraction(text)
    assert number.is_below(numerator, denominator) == (Fraction(text) < Fraction(numerator, denominator))
    assert number.is_above(numerator, denominator) == (Fraction(text) > Fraction(numerator, denominator))
    same = Fraction(text)
    assert not number.is_below(same.numerator, same.denominator)
    assert not number.is_above(same.numerator, same.denominator)
