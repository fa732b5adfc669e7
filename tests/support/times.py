"""Expiry times of orders, and how late orders expire."""

from datetime import UTC, datetime, timedelta

from service.domain.timestamps import format_timestamp
from tests.support.gem_market import rows
from tests.support.orders import Json
from tests.support.servers import TestServers


def after(seconds: float) -> str:
    """Return a time from now."""
    return format_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


def lateness(servers: TestServers, order: Json) -> float:
    """Return how long after its expiry an order ended, in seconds."""
    [(late_s,)] = rows(
        servers,
        "SELECT extract(epoch FROM %s::timestamptz - %s::timestamptz)::float8",
        order["updatedAt"],
        order["expiresAt"],
    )
    return float(late_s)
