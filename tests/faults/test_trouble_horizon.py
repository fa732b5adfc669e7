"""A reader that stays idle in its transaction: PostgreSQL can vacuum nothing that has ended since it began.

``HORIZON_MINUTES`` says how long it stays.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg2
import pytest
from psycopg2.extensions import cursor

from tests.support.judge import audit, wait_until, wait_until_none_is_open
from tests.support.own_servers import Load, OwnServers
from tests.support.process import NO_DELAYS, ServiceFork
from tests.support.report import Row, add
from tests.support.servers import TestServers

MINUTES = float(os.environ.get("HORIZON_MINUTES", "10"))
WINDOW_S = 30.0
# Together about 80 orders a second: half of what two cores do, with the client and fsync on them.
CLIENTS, PAUSE_S = 4, 0.05
RECOVERY_S = 120.0
"""Autovacuum begins within ``autovacuum_naptime``."""

_RATE = """
    SELECT count(*), coalesce(extract(
        epoch FROM percentile_cont(0.99) WITHIN GROUP (ORDER BY updated_at - created_at)
    ), 0)::float8
    FROM orders
    WHERE status = 'confirmed' AND created_at > now() - %s * interval '1 second'
"""
_DEAD = "SELECT sum(n_dead_tup)::bigint FROM pg_stat_user_tables"


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    servers = OwnServers()
    yield servers
    servers.stop()


@dataclass(frozen=True)
class Window:
    """What was measured in one window: confirmed orders a second, and their p99 in seconds."""

    orders_per_s: float
    p99_s: float

    def __str__(self) -> str:
        return f"{self.orders_per_s:.0f}/s, p99 {self.p99_s * 1000:.0f} ms"


def measure(reader: cursor) -> Window:
    """Let a window pass, and return what was confirmed in it."""
    until = time.monotonic() + WINDOW_S
    wait_until(lambda: time.monotonic() > until, WINDOW_S + 10)
    reader.execute(_RATE, (WINDOW_S,))
    [(orders, p99_s)] = reader.fetchall()
    return Window(orders / WINDOW_S, p99_s)


def dead_rows(reader: cursor) -> int:
    reader.execute(_DEAD)
    [(count,)] = reader.fetchall()
    return int(count)


def hold_the_horizon(servers: TestServers) -> "psycopg2.extensions.connection":
    """Begin a transaction with a snapshot, and leave it idle."""
    link = psycopg2.connect(servers.database_url)
    link.set_session(isolation_level="REPEATABLE READ")
    with link.cursor() as idle:
        idle.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        idle.execute("SELECT count(*) FROM orders")
    return link


@pytest.mark.long
def test_orders_are_as_fast_while_a_reader_holds_the_horizon_back(own: OwnServers) -> None:
    servers = own.new()
    with ServiceFork({**servers.environment, **NO_DELAYS, "LOG_LEVEL": "WARNING"}) as service:
        service.wait_until_ready()
        with (
            servers.connect() as link,
            link.cursor() as reader,
            Load(service, clients=CLIENTS, pause_s=PAUSE_S) as load,
        ):
            before = measure(reader)
            holder = hold_the_horizon(servers)
            try:
                released = time.monotonic() + 60 * MINUTES - WINDOW_S
                wait_until(lambda: time.monotonic() > released, 60 * MINUTES + 10)
                during, dead = measure(reader), dead_rows(reader)
            finally:
                holder.close()
            wait_until(lambda: dead_rows(reader) < dead / 4, RECOVERY_S)
            after = measure(reader)
        assert not load.wrong, load.wrong[:3]
        wait_until_none_is_open(servers, within_s=30)
        audit(servers, None, "--strict")
    note = f"before {before}; during {during}, {dead:,} dead rows; after {after}"
    add(Row(f"the horizon held back for {MINUTES:g} minutes", 1, len(load.accepted), note=note))
    for window in (during, after):
        assert window.orders_per_s > 0.8 * before.orders_per_s, note
        assert window.p99_s < 1.2 * before.p99_s, note
