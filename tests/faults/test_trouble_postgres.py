"""PostgreSQL cannot write: its disk is full, or it is read-only. Clients get a 503, and it recovers."""

import contextlib
import http.client
import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from tests.support.judge import audit, wait_until
from tests.support.own_servers import Load, OwnServers, judge_after_recovery, wait_until_it_works
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.report import Row, add
from tests.support.servers import TestServers
from tests.support.small_disk import SmallDisk, small_disk

QUIET = {**NO_DELAYS, "LOG_LEVEL": "WARNING", "INSERT_TIMEOUT_MS": "500"}
RECOVERY_S = 6.0


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    servers = OwnServers()
    yield servers
    servers.stop()


@pytest.fixture(scope="module")
def disk() -> Iterator[SmallDisk]:
    with small_disk() as mounted:
        yield mounted


@pytest.fixture(scope="module")
def on_disk(disk: SmallDisk) -> Iterator[OwnServers]:
    servers = OwnServers(disk.folder)
    yield servers
    servers.stop()


def health(service: ServiceProcess) -> tuple[int, dict[str, Any]]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)) as link:
        link.request("GET", "/health")
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())


def wait_for_health(service: ServiceProcess, status: str, error: str | None = None) -> None:
    """Wait until the health check answers this status, and names this error of the database."""

    def reached() -> bool:
        code, body = health(service)
        assert code in {200, 503}, body
        return bool(body["status"] == status and body["databaseError"] == error)

    wait_until(reached)


def end(servers: TestServers, service: ServiceProcess, load: Load, promised: list[str], row: Row) -> None:
    """Check that every accepted order ended once, and that none was stored that was said not to be."""
    assert not load.wrong, load.wrong[:3]
    promised += load.accepted
    verdict, took_s = judge_after_recovery(servers, promised, time.monotonic(), within_s=RECOVERY_S)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT client_order_id FROM client_orders WHERE client_order_id = ANY(%s)", (load.refused,)
        )
        assert cursor.fetchall() == []
    assert "Traceback" not in service.output, service.output[-5_000:]
    audit(servers, None, "--strict")
    row.orders = verdict.orders
    row.slowest_recovery_s = max(row.slowest_recovery_s or 0, took_s)
    row.note = f"503: {len(load.refused)} not stored, {len(load.unknown)} unknown"
    add(row)


def without_room_for_data(_own: OwnServers, disk: SmallDisk, load: Load, service: ServiceProcess) -> None:
    """Tables cannot grow; what fits into their pages is still written."""
    disk.fill()
    load.wait_for_more(lambda: load.unavailable, 5)
    wait_for_health(service, "degraded", "PostgreSQL's disk is full")


def without_room_for_the_log(own: OwnServers, disk: SmallDisk, load: Load, _service: ServiceProcess) -> None:
    """PostgreSQL panics when its log needs the next file; it starts again only if it finds one to reuse."""
    with contextlib.suppress(psycopg2.Error), own.admin() as admin, admin.cursor() as cursor:
        while True:
            disk.fill()
            cursor.execute("SELECT pg_switch_wal()")
    load.wait_for_more(lambda: load.unavailable, 5)


def make_room(own: OwnServers, disk: SmallDisk) -> None:
    """Clear the disk, and start PostgreSQL if it has ended or is about to."""
    disk.clear()

    def up() -> bool:
        own.start_again()
        with contextlib.suppress(psycopg2.Error), own.admin() as admin, admin.cursor() as cursor:
            cursor.execute("SELECT pg_is_in_recovery()")
            return cursor.fetchall() == [(False,)]
        return False

    wait_until(up)


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.long)])
def test_orders_survive_a_full_disk(on_disk: OwnServers, disk: SmallDisk, rounds: int) -> None:
    servers = on_disk.new()
    promised: list[str] = []
    events: tuple[Callable[..., None], ...] = (without_room_for_data, without_room_for_the_log)
    row = Row("PostgreSQL's disk is full", rounds * len(events))
    with ServiceFork({**servers.environment, **QUIET}).wait_until_ready() as service:
        with Load(service) as load:
            for event in events * rounds:
                event(on_disk, disk, load, service)
                make_room(on_disk, disk)
                took_s = wait_until_it_works(service, time.monotonic(), promised)
                assert took_s < RECOVERY_S, (event.__name__, service.output[-5_000:])
                row.slowest_recovery_s = max(row.slowest_recovery_s or 0, took_s)
                wait_for_health(service, "ok")
        end(servers, service, load, promised, row)


@contextlib.contextmanager
def by_setting(own: OwnServers) -> Iterator[None]:
    set_read_only(own, "on")
    yield
    set_read_only(own, "off")


@contextlib.contextmanager
def as_standby(own: OwnServers) -> Iterator[None]:
    """As after a fail-over: the server comes back as a standby, and is promoted later."""
    own.end(own.postgres, signal.SIGINT)
    (own.postgres.folder / "standby.signal").touch()
    own.start_again()
    yield
    with own.admin() as admin, admin.cursor() as cursor:
        cursor.execute("SELECT pg_promote()")


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])
def test_orders_survive_a_read_only_database(own: OwnServers, rounds: int) -> None:
    servers = own.new()
    promised: list[str] = []
    kinds = (by_setting, as_standby)
    row = Row("PostgreSQL is read-only", rounds * len(kinds))
    with ServiceFork({**servers.environment, **QUIET}).wait_until_ready() as service:
        with Load(service) as load:
            for read_only in kinds * rounds:
                with read_only(own):
                    load.wait_for_more(lambda: load.unavailable, 5)
                    wait_for_health(service, "degraded", "PostgreSQL is read-only")
                took_s = wait_until_it_works(service, time.monotonic(), promised)
                assert took_s < RECOVERY_S, (read_only.__name__, service.output[-5_000:])
                row.slowest_recovery_s = max(row.slowest_recovery_s or 0, took_s)
                wait_for_health(service, "ok")
        end(servers, service, load, promised, row)


def set_read_only(own: OwnServers, value: str) -> None:
    with own.admin() as admin, admin.cursor() as cursor:
        # This session must be able to change it back.
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        cursor.execute("SELECT pg_reload_conf()")
