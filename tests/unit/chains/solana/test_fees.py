"""What a transaction offers to be preferred, and what it may cost."""

from typing import Any

import pytest

from service.chains.solana.fees import (
    FeeTooHighError,
    FixedFee,
    MalformedFeesError,
    Percentile,
    check_fee,
    priority_fee,
    read_priority,
    read_recent_fees,
    unit_price,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p75", Percentile(75)),
        ("p1", Percentile(1)),
        ("p100", Percentile(100)),
        ("fixed:0", FixedFee(0)),
        ("fixed:12345", FixedFee(12_345)),
        ("none", FixedFee(0)),
    ],
)
def test_the_setting_is_a_percentile_a_fee_or_none(text: str, expected: object) -> None:
    assert read_priority(text) == expected


@pytest.mark.parametrize(
    "text", ["", "75", "p0", "p101", "p075", "p7.5", "fixed:", "fixed:-1", "fixed:1e9", "None"]
)
def test_another_setting_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be p1 to p100, fixed:LAMPORTS or none"):
        read_priority(text)


def test_recent_fees_are_read_from_the_answer() -> None:
    answer = [{"slot": 1, "prioritizationFee": 0}, {"slot": 2, "prioritizationFee": 7}]
    assert read_recent_fees(answer) == [0, 7]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        "x",
        [1],
        [{}],
        [{"prioritizationFee": "7"}],
        [{"prioritizationFee": -1}],
        [{"prioritizationFee": True}],
    ],
)
def test_another_answer_is_refused(answer: Any) -> None:
    with pytest.raises(MalformedFeesError):
        read_recent_fees(answer)


@pytest.mark.parametrize(
    ("percent", "price"), [(1, 10), (25, 10), (26, 20), (50, 20), (75, 30), (76, 40), (100, 40)]
)
def test_the_percentile_is_what_so_many_blocks_did_not_exceed(percent: int, price: int) -> None:
    assert unit_price([[40, 10, 30, 20]], percent) == price


def test_the_busiest_account_counts() -> None:
    assert unit_price([[1, 1, 1], [0, 0, 9], [2, 2, 2]], 50) == 2


def test_without_recent_blocks_the_price_is_zero() -> None:
    assert unit_price([[]], 75) == unit_price([], 75) == 0


def test_the_fee_is_of_the_limit_in_lamports_and_rounded_up() -> None:
    assert priority_fee(Percentile(75), 1_000, 200_000, 0) == 200
    assert priority_fee(Percentile(75), 1, 200_000, 0) == 1
    assert priority_fee(Percentile(75), 0, 200_000, 0) == 0
    assert priority_fee(FixedFee(777), 10**9, 200_000, 0) == 777


def test_each_expired_try_raises_the_fee_by_half() -> None:
    assert [priority_fee(FixedFee(1_000), 0, 1, tries) for tries in range(4)] == [1_000, 1_500, 2_250, 3_375]
    # Rounded once, not at each step.
    assert [priority_fee(FixedFee(1), 0, 1, tries) for tries in range(4)] == [1, 2, 3, 4]
    assert priority_fee(Percentile(75), 1_000, 1_000_000, 2) == 2_250
    assert priority_fee(FixedFee(0), 0, 1, 9) == 0


def test_a_fee_up_to_the_maximum_is_allowed_and_a_higher_one_refused() -> None:
    assert check_fee(5_000, 900, 100, 6_000) == 6_000
    with pytest.raises(FeeTooHighError, match="6001 lamports, at most 6000") as refused:
        check_fee(5_000, 901, 100, 6_000)
    assert (refused.value.lamports, refused.value.maximum) == (6_001, 6_000)
