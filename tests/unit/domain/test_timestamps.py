"""Times as clients write them."""

from datetime import UTC, datetime

import pytest

from service.domain.timestamps import InvalidTimestampError, format_timestamp, parse_timestamp


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00.000000Z"),
        ("2030-01-31T12:00:00.5+02:00", "2030-01-31T10:00:00.500000Z"),
        ("2030-01-31T23:59:59.1234567-01:30", "2030-02-01T01:29:59.123456Z"),
    ],
)
def test_a_time_is_parsed_into_utc(text: str, utc: str) -> None:
    at = parse_timestamp(text)
    assert at.tzinfo is UTC
    assert format_timestamp(at) == utc
    assert parse_timestamp(utc) == at


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2030-01-31",
        "2030-01-31T12:00:00",  # without an offset
        "2030-01-31 12:00:00Z",
        "2030-01-31t12:00:00z",
        "2030-02-30T12:00:00Z",
        "2030-01-31T25:00:00Z",
        "2030-01-31T12:00:00Z\n",
        "0001-01-01T00:00:00+01:00",  # before the first year, in UTC
        "２０３０-01-31T12:00:00Z",  # noqa: RUF001 - digits to Python, not to RFC 3339
    ],
)
def test_an_invalid_time_is_rejected(text: str) -> None:
    with pytest.raises(InvalidTimestampError):
        parse_timestamp(text)


def test_a_time_is_formatted_to_the_microsecond() -> None:
    assert format_timestamp(datetime(2030, 1, 31, 12, tzinfo=UTC)) == "2030-01-31T12:00:00.000000Z"
