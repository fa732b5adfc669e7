"""Timestamps: RFC 3339 with any offset in requests, UTC with Z in responses."""

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


class InvalidTimestampError(ValueError):
    """The text is not a valid time; the message says why, for the client."""


def parse_timestamp(text: str) -> datetime:
    """Parse a time, to the microsecond.

    Raises:
        InvalidTimestampError: Not RFC 3339 (section 5.6) with an offset, or not an existing time.
    """
    if not _RFC3339.fullmatch(text):
        raise InvalidTimestampError('must be a time with an offset, such as "2030-01-31T12:00:00Z"')
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidTimestampError("is not a valid date and time") from error


def format_epoch(seconds: float) -> str:
    """Format seconds since the Unix epoch, like all times of the API."""
    return format_timestamp(datetime.fromtimestamp(seconds, UTC))


def format_timestamp(at: datetime) -> str:
    """Format a time in UTC, to the microsecond, like all times of the API."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
