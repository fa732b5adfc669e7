"""Amounts: every text is parsed exactly or rejected, and formatted without loss."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.amounts import (
    U64_MAX,
    InvalidAmountError,
    format_amount,
    format_price,
    format_shortfall,
    maximum_in,
    minimum_out,
    parse_amount,
)

MODEST = settings(max_examples=100, deadline=None)

AMOUNT = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")

amounts = st.integers(1, U64_MAX)
decimals = st.integers(0, 19)


@pytest.mark.parametrize(
    ("text", "token_decimals", "base_units"),
    [
        ("1", 0, 1),
        ("100", 9, 100 * 10**9),
        ("1.5", 6, 1_500_000),
        ("1.50", 6, 1_500_000),
        ("0.000000001", 9, 1),
        ("18446744073709551615", 0, U64_MAX),
        ("18446744073.709551615", 9, U64_MAX),
    ],
)
def test_a_plain_decimal_number_is_parsed_exactly(text: str, token_decimals: int, base_units: int) -> None:
    assert parse_amount(text, token_decimals) == base_units


@pytest.mark.parametrize(
    "text",
    [
        *("abc", "-1", "NaN", "Infinity", "1e400", "1e-400", "", " ", "null", "true"),
        *("0x10", "1_000", "1,000", "1'000", " 1", "1 ", "1\n", "\n1", "1\0", "+1", "01", "00", ".5", "1."),
        *(
            ".",
            "1.2.3",
            "1..2",
            "-0",
            "1e3",
            "\uff11\uff12",
            "1\uff12",
            "1.\uff12",
            "\u0661\u0662",
            "²",
            "1\uff0e5",
            "½",
        ),
    ],
)
def test_other_texts_are_rejected(text: str) -> None:
    with pytest.raises(InvalidAmountError, match="plain decimal number"):
        parse_amount(text, 9)


@pytest.mark.parametrize("text", ["0", "0.0", "0.000000"])
def test_zero_is_rejected(text: str) -> None:
    with pytest.raises(InvalidAmountError, match="greater than zero"):
        parse_amount(text, 6)


@pytest.mark.parametrize(
    ("text", "token_decimals"), [("0.1234567", 6), ("1.00000010", 6), ("1.1", 0), ("0.0000000001", 9)]
)
def test_more_decimals_than_the_token_has_are_rejected(text: str, token_decimals: int) -> None:
    with pytest.raises(InvalidAmountError, match=f"the token's {token_decimals} decimals"):
        parse_amount(text, token_decimals)


@pytest.mark.parametrize(
    ("text", "token_decimals", "amount"),
    [
        ("0.0470000000000000000000000000", 9, 47_000_000),
        ("1.0", 0, 1),
        ("1.0000000", 6, 1_000_000),
        ("1." + "0" * 62, 6, 1_000_000),
    ],
)
def test_trailing_zeros_past_the_tokens_decimals_are_accepted(
    text: str, token_decimals: int, amount: int
) -> None:
    assert parse_amount(text, token_decimals) == amount


@pytest.mark.parametrize(("text", "token_decimals"), [(str(U64_MAX + 1), 0), ("18446744073.709551616", 9)])
def test_more_than_a_token_account_holds_is_rejected(text: str, token_decimals: int) -> None:
    with pytest.raises(InvalidAmountError, match="token account"):
        parse_amount(text, token_decimals)


@pytest.mark.parametrize("text", ["9" * 5_000, "0" * 5_000, "1." + "0" * 5_000, "x" * 5_000])
def test_a_text_of_thousands_of_digits_is_rejected_unparsed(text: str) -> None:
    with pytest.raises(InvalidAmountError, match="longer than 64 characters"):
        parse_amount(text, 9)


@MODEST
@given(st.text("0123456789..+-_eEx,\n \uff11٣", max_size=24), decimals)
def test_exactly_the_texts_that_match_the_contract_and_fit_the_token_are_parsed(
    text: str, token_decimals: int
) -> None:
    match = AMOUNT.fullmatch(text)
    base_units = Fraction(text) * 10**token_decimals if match else Fraction(0)
    fits = match and base_units.denominator == 1 and 1 <= base_units <= U64_MAX
    try:
        assert parse_amount(text, token_decimals) == base_units
        assert fits
    except InvalidAmountError:
        assert not fits


@MODEST
@given(amounts, decimals)
def test_an_amount_survives_formatting_and_parsing(amount: int, token_decimals: int) -> None:
    text = format_amount(amount, token_decimals)
    assert parse_amount(text, token_decimals) == amount
    assert AMOUNT.fullmatch(text)
    assert not re.search(r"\.[0-9]*0$", text)


@pytest.mark.parametrize(
    ("amount", "token_decimals", "text"),
    [(0, 9, "0"), (1, 9, "0.000000001"), (1_500_000, 6, "1.5"), (10**9, 9, "1"), (120, 0, "120")],
)
def test_an_amount_is_written_without_trailing_zeros(amount: int, token_decimals: int, text: str) -> None:
    assert format_amount(amount, token_decimals) == text


def to_18_digits(value: Fraction) -> Fraction:
    """Round down to 18 significant digits, the slow way."""
    exponent = 0
    while Fraction(10) ** exponent > value:
        exponent -= 1
    while Fraction(10) ** (exponent + 1) <= value:
        exponent += 1
    unit = Fraction(10) ** (exponent - 17)
    return value // unit * unit


@MODEST
@given(amount_out=amounts, decimals_out=decimals, amount_in=amounts, decimals_in=decimals)
def test_a_price_is_exact_to_18_digits_rounded_down(
    amount_out: int, decimals_out: int, amount_in: int, decimals_in: int
) -> None:
    text = format_price(amount_out, decimals_out, amount_in, decimals_in)
    price = Fraction(amount_out, 10**decimals_out) / Fraction(amount_in, 10**decimals_in)
    assert Fraction(text) == to_18_digits(price)
    assert AMOUNT.fullmatch(text)
    assert not re.search(r"\.[0-9]*0$", text)


@pytest.mark.parametrize(
    ("amount_out", "decimals_out", "amount_in", "decimals_in", "text"),
    [
        (0, 6, 1, 9, "0"),
        (150_000_000, 6, 10**9, 9, "150"),
        (1, 0, 3, 0, "0.333333333333333333"),
        (2, 0, 3, 0, "0.666666666666666666"),
        (200, 0, 3, 0, "66.6666666666666666"),
        (1, 5, 3, 5, "0.333333333333333333"),
        (U64_MAX, 0, 1, 0, "18446744073709551600"),
        (U64_MAX, 0, 1, 19, "184467440737095516000000000000000000000"),
        (1, 19, U64_MAX, 0, "0.00000000000000000000000000000000000000542101086242752217"),
    ],
)
def test_a_price_as_text(
    amount_out: int, decimals_out: int, amount_in: int, decimals_in: int, text: str
) -> None:
    assert format_price(amount_out, decimals_out, amount_in, decimals_in) == text


@MODEST
@given(quoted=st.integers(0, U64_MAX), slippage_bps=st.integers(0, 10_000))
def test_the_minimum_out_is_the_floor_and_at_least_one(quoted: int, slippage_bps: int) -> None:
    least = minimum_out(quoted, slippage_bps)
    exact = Fraction(quoted * (10_000 - slippage_bps), 10_000)
    assert least == max(1, exact // 1)


@pytest.mark.parametrize(
    ("quoted", "slippage_bps", "least"),
    [(10_000, 100, 9_900), (999, 50, 994), (1, 100, 1), (10**9, 10_000, 1), (0, 0, 1), (7, 0, 7)],
)
def test_the_minimum_out_of_a_quote(quoted: int, slippage_bps: int, least: int) -> None:
    assert minimum_out(quoted, slippage_bps) == least


@MODEST
@given(quoted=amounts, slippage_bps=st.integers(0, 10_000))
def test_the_maximum_in_is_the_floor_and_never_less_than_the_quote(quoted: int, slippage_bps: int) -> None:
    most = maximum_in(quoted, slippage_bps)
    exact = Fraction(quoted * (10_000 + slippage_bps), 10_000)
    assert most == min(U64_MAX, exact // 1)
    assert most >= quoted


@pytest.mark.parametrize(
    ("quoted", "slippage_bps", "most"),
    [
        (10_000, 100, 10_100),
        (999, 50, 1_003),
        (1, 100, 1),
        (1, 10_000, 2),
        (7, 0, 7),
        (U64_MAX, 0, U64_MAX),
        (U64_MAX, 1, U64_MAX),
        (U64_MAX // 2, 10_000, U64_MAX - 1),
    ],
)
def test_the_maximum_in_of_a_quote(quoted: int, slippage_bps: int, most: int) -> None:
    assert maximum_in(quoted, slippage_bps) == most


@MODEST
@given(shortfall=st.integers(-U64_MAX, U64_MAX), expected=amounts)
def test_a_shortfall_is_a_fraction_rounded_up_at_eight_decimals(shortfall: int, expected: int) -> None:
    text = format_shortfall(shortfall, expected)
    above = Fraction(text) - Fraction(shortfall, expected)
    assert 0 <= above < Fraction(1, 10**8)
    assert AMOUNT.fullmatch(text.removeprefix("-"))
    assert text != "-0"


@pytest.mark.parametrize(
    ("shortfall", "expected", "text"),
    [
        (0, 1, "0"),
        (1, 100, "0.01"),
        (-1, 100, "-0.01"),
        (1, 3, "0.33333334"),
        (-1, 3, "-0.33333333"),
        (1, U64_MAX, "0.00000001"),
        (-1, U64_MAX, "0"),
        (5, 5, "1"),
        (-10, 5, "-2"),
    ],
)
def test_a_shortfall_as_text(shortfall: int, expected: int, text: str) -> None:
    assert format_shortfall(shortfall, expected) == text
