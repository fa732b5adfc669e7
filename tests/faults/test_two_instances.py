"""Two instances on one database: one is stopped and continued, or dies without a message."""

import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from psycopg2.extensions import connection

from tests.support import report
from tests.support.forks import RunningCommand
from tests.support.judge import audit, judge, wait_until, wait_until_none_is_open
from tests.support.load import place_many
from tests.support.process import ServiceFork, ServiceProcess
from tests.support.servers import TestCluster, TestServers
from tests.support.venues import PAPER, JudgedVenue, solana_chain

_LIMIT_S = 1.0

SETTINGS = {
    "QUEUE_RATE_LIMIT": "0",
    # Fewer than are placed at once, so that no instance can claim them all.
    "WORKER_CONCURRENCY": "15",
    "QUOTE_DELAY_MS": "100-300",
    "EXECUTION_DELAY_MS": "200-600",
    "LOG_LEVEL": "WARNING",
}

_TAKEN_OVER_WITHIN_S = 10.0
_RESTARTED_WITHIN_S = 5.0

# Each instance logs in with its own role, so that PostgreSQL records which one wrote what.
_STOPPED, _LIVE = "stopped", "live"
_WITNESS = """
DO $$ BEGIN
    CREATE ROLE stopped SUPERUSER LOGIN;
    CREATE ROLE live SUPERUSER LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
CREATE TABLE witness (
    place bigserial, txid bigint DEFAULT txid_current(), role text DEFAULT session_user, what text,
    order_id uuid, instance uuid
);
CREATE INDEX ON witness (order_id, place);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'instances' THEN
        INSERT INTO witness (what, instance) VALUES (TG_OP, coalesce(NEW.id, OLD.id));
    ELSIF TG_TABLE_NAME = 'open_orders' THEN
        INSERT INTO witness (what, order_id, instance) VALUES ('claim', NEW.order_id, NEW.owner);
    ELSIF TG_TABLE_NAME = 'transactions' THEN
        INSERT INTO witness (what, order_id) VALUES ('attempt', NEW.order_id);
    ELSE
        INSERT INTO witness (what, order_id) VALUES ('step', NEW.id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR DELETE ON instances FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER UPDATE ON open_orders FOR EACH ROW
    WHEN (NEW.owner IS NOT NULL AND NEW.owner IS DISTINCT FROM OLD.owner) EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER INSERT ON transactions FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION note();
"""


# Writes of a role whose instance was removed and that had not registered again yet.
_BY_THE_DEAD = """
SELECT s.what, s.order_id::text, s.role
FROM witness AS s
WHERE s.what IN ('step', 'attempt') AND 'DELETE' = (
    SELECT i.what
    FROM witness AS i
    WHERE i.instance IN (SELECT instance FROM witness WHERE what = 'INSERT' AND role = s.role)
        AND i.what IN ('INSERT', 'DELETE')
        AND i.place < s.place
    ORDER BY i.place DESC
    LIMIT 1
)
"""

# Writes on an order that another role had claimed since. (A claim and its step are one transaction.)
_STALE = """
SELECT s.what, s.order_id::text, s.role
FROM witness AS s
WHERE s.what IN ('step', 'attempt') AND s.role IS DISTINCT FROM (
    SELECT c.role
    FROM witness AS c
    WHERE c.order_id = s.order_id AND c.what = 'claim' AND (c.place < s.place OR c.txid = s.txid)
    ORDER BY c.place DESC
    LIMIT 1
)
"""

_TAKEN_FOR_DEAD = """
SELECT d.instance
FROM witness AS d
JOIN witness AS i ON i.what = 'INSERT' AND i.instance = d.instance
WHERE d.what = 'DELETE' AND i.role = 'stopped' AND d.role = 'live'
"""

_ATTEMPTS_OF_BOTH = "SELECT role, count(*) FROM witness WHERE what = 'attempt' GROUP BY role"


def _spawn(servers: TestServers, role: str | None = None, **changes: str) -> ServiceProcess:
    if role is not None:
        servers = replace(servers, database_url=servers.database_url.replace("user=postgres", f"user={role}"))
    return ServiceFork({**SETTINGS, **servers.environment, **changes})


def _rows(link: connection, sql: str) -> list[tuple[Any, ...]]:
    with link.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def _migrate(servers: TestServers) -> None:
    """Create the tables before the instances start."""
    with ServiceFork(servers.environment, ("migrate",)) as migration:
        assert migration.process.wait(30) == 0, migration.output


def _owned_by(link: connection, instance: str) -> int:
    with link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM open_orders WHERE owner = %s", (instance,))
        [(count,)] = cursor.fetchall()
    return int(count)


def _wait_until_it_owns(link: connection, instance: str) -> None:
    wait_until(lambda: _owned_by(link, instance) > 0)


def _latest_instance(link: connection, role: str) -> str:
    with link.cursor() as cursor:
        cursor.execute(
            "SELECT instance::text FROM witness WHERE what = 'INSERT' AND role = %s"
            " ORDER BY place DESC LIMIT 1",
            (role,),
        )
        [(instance,)] = cursor.fetchall()
    return str(instance)


def _is_registered(link: connection, instance: str) -> bool:
    with link.cursor() as cursor:
        cursor.execute("SELECT FROM instances WHERE id = %s", (instance,))
        return cursor.rowcount == 1


def _stop_for_a_while(link: connection, stopped: RunningCommand, rng: random.Random) -> float:
    """Stop an instance for three time-outs; return how long it took until the other had its orders."""
    instance = _latest_instance(link, _STOPPED)
    _wait_until_it_owns(link, instance)
    # At any step of the orders that it has claimed.
    time.sleep(rng.uniform(0, 0.4))
    stopped.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    wait_until(lambda: not _is_registered(link, instance) and not _owned_by(link, instance))
    took_s = time.monotonic() - began
    time.sleep(max(0, 3 * _LIMIT_S - took_s))
    stopped.send_signal(signal.SIGCONT)
    wait_until(lambda: _latest_instance(link, _STOPPED) != instance)
    return took_s


def _stop_and_go_on(
    cluster: TestCluster, cycles: int, venue: JudgedVenue, *, workers: int = 15, orders: int = 30
) -> None:
    """Stop one of two instances again and again.

    Args:
        cluster: Where to make the database.
        cycles: How often.
        venue: What they trade on.
        workers: How many orders an instance executes at once.
        orders: How many are placed on each instance before a stop: so many that none can claim them all.
    """
    servers, rng = cluster.new(), random.Random(cycles)
    limit = {
        **venue.settings,
        "INSTANCE_TIMEOUT_MS": f"{_LIMIT_S * 1000:.0f}",
        "WORKER_CONCURRENCY": str(workers),
    }
    _migrate(servers)
    promised: list[str] = []
    slowest = 0.0
    with servers.connect() as link, _spawn(servers, _STOPPED, **limit) as stopped:
        _rows(link, _WITNESS)
        with _spawn(servers, _LIVE, **limit) as live:
            stopped.wait_until_ready()
            live.wait_until_ready()
            for _ in range(cycles):
                promised += place_many(stopped, orders) + place_many(live, orders)
                slowest = max(slowest, _stop_for_a_while(link, stopped.process, rng))
            # The continued instance keeps working, under its new id.
            promised += place_many(stopped, orders)
            _wait_until_it_owns(link, _latest_instance(link, _STOPPED))
            wait_until_none_is_open(servers, within_s=30 + 6 * venue.order_s)
            for service in (stopped, live):
                assert service.process.poll() is None, service.output
                assert "Traceback" not in service.output, service.output
            assert len(_rows(link, _TAKEN_FOR_DEAD)) == cycles
            assert dict(_rows(link, _ATTEMPTS_OF_BOTH)).keys() == {_STOPPED, _LIVE}
            stale, by_the_dead = _rows(link, _STALE), _rows(link, _BY_THE_DEAD)
    verdict = venue.judge(servers, promised)
    assert verdict.clean, verdict
    assert len(promised) == verdict.orders == (2 * cycles + 1) * orders
    assert stale == []
    assert by_the_dead == []
    audit(servers, venue.settings)
    note = "0 stale writes accepted, 0 transactions by the one taken for dead"
    report.add(
        report.Row(
            f"{venue.name}: one of two stopped for 3 limits",
            cycles,
            verdict.orders,
            slowest_recovery_s=slowest,
            note=note,
        )
    )


def test_a_stopped_instance_does_not_change_orders_that_were_taken_over(cluster: TestCluster) -> None:
    _stop_and_go_on(cluster, 1, PAPER)


@pytest.mark.parametrize("cycles", [1, pytest.param(20, marks=pytest.mark.long)])
def test_a_stopped_instance_executes_nothing_twice_on_a_chain(cluster: TestCluster, cycles: int) -> None:
    """What it had sent before it was stopped is sent by the other one too: the same bytes."""
    with solana_chain() as venue:
        for endpoint in ("/", "/2"):
            # A worker's time, and that of a transaction in flight: so each instance has some of the orders.
            slow = {"method": "simulateTransaction", "delay_ms": 200}
            venue.process.arm("slow", endpoint, times=None, **slow)
            venue.process.arm("late", endpoint, times=None, rate_ppm=300_000)
        _stop_and_go_on(cluster, cycles, venue, workers=2, orders=12)


@pytest.mark.long
def test_fifty_stops_of_instances_change_no_order_that_was_taken_over(cluster: TestCluster) -> None:
    _stop_and_go_on(cluster, 50, PAPER)


# Orders that take longer than their process lives, so that takeovers are visible.
_LASTING = {
    **SETTINGS,
    "QUOTE_DELAY_MS": "300-600",
    "EXECUTION_DELAY_MS": "800-1200",
    # Fifteen instances at once share the hundred connections of one PostgreSQL.
    "DATABASE_CONNECTIONS": "2",
}
# A single instance can claim them all at once, so that the time measured includes no queueing.
_ALONE = {"WORKER_CONCURRENCY": "20"}


def _instances(servers: TestServers) -> set[str]:
    with servers.connect() as link:
        return {instance for (instance,) in _rows(link, "SELECT id::text FROM instances")}


def _start(servers: TestServers, running: ExitStack, **changes: str) -> tuple[ServiceProcess, str]:
    """Start an instance, which ends with ``running`` at the latest; return it and its id."""
    before = _instances(servers)
    service = running.enter_context(ServiceFork({**_LASTING, **servers.environment, **changes}))
    service.wait_until_ready()
    [instance] = _instances(servers) - before
    return service, instance


def _wait_until_taken_over(link: connection, dead: str) -> float:
    """Wait until each unfinished order is owned by a live instance; return how long that took."""
    began = time.monotonic()
    left = f"SELECT order_id FROM open_orders WHERE owner IS NULL OR owner = '{dead}'"  # noqa: S608
    wait_until(lambda: not _rows(link, left))
    return time.monotonic() - began


def _die_and_leave_it_to_another(servers: TestServers, deaths: int) -> tuple[int, float]:
    """Kill one of two instances, repeatedly; no message is sent until the other has its orders."""
    promised: list[str] = []
    slowest = 0.0
    _migrate(servers)
    with ExitStack() as running, servers.connect() as link:
        living, survivor = _start(servers, running)
        for _ in range(deaths):
            dying, instance = _start(servers, running)
            promised += place_many(dying, 20, clients=2)
            # The instances shared the load, and now one of them is dead.
            _wait_until_it_owns(link, instance)
            _wait_until_it_owns(link, survivor)
            dying.kill()
            slowest = max(slowest, _wait_until_taken_over(link, instance))
        wait_until_none_is_open(servers, within_s=30)
        assert living.process.poll() is None, living.output
    verdict = judge(servers, promised)
    assert verdict.clean, verdict
    assert verdict.statuses == {"confirmed": 20 * deaths}
    return verdict.orders, slowest


def _die_and_restart(servers: TestServers, deaths: int) -> tuple[int, float]:
    """Kill the only instance, repeatedly; its next start continues its orders."""
    promised: list[str] = []
    slowest = 0.0
    _migrate(servers)
    with ExitStack() as running, servers.connect() as link:
        service, instance = _start(servers, running, **_ALONE)
        for _ in range(deaths):
            promised += place_many(service, 20, clients=2)
            _wait_until_it_owns(link, instance)
            service.kill()
            gone = instance
            service, instance = _start(servers, running, **_ALONE)
            slowest = max(slowest, _wait_until_taken_over(link, gone))
        wait_until_none_is_open(servers, within_s=30)
    verdict = judge(servers, promised)
    assert verdict.clean, verdict
    assert verdict.statuses == {"confirmed": 20 * deaths}
    return verdict.orders, slowest


def _die_in_lanes(cluster: TestCluster, lanes: int, deaths: int) -> None:
    """Run the test on several databases concurrently, since most of the time is spent waiting."""
    with ThreadPoolExecutor(2 * lanes) as pool:
        left = [pool.submit(_die_and_leave_it_to_another, cluster.new(), deaths) for _ in range(lanes)]
        alone = [pool.submit(_die_and_restart, cluster.new(), deaths) for _ in range(lanes)]
        for fault, runs, limit_s in (
            ("a worker dies, another lives", left, _TAKEN_OVER_WITHIN_S),
            ("a worker dies and starts again", alone, _RESTARTED_WITHIN_S),
        ):
            results = [run.result() for run in runs]
            orders, slowest = sum(orders for orders, _ in results), max(took_s for _, took_s in results)
            report.add(report.Row(fault, lanes * deaths, orders, slowest_recovery_s=slowest))
            assert slowest < limit_s, slowest


def test_recovery_after_the_death_of_three_workers_with_an_idle_queue(cluster: TestCluster) -> None:
    _die_in_lanes(cluster, lanes=3, deaths=1)


@pytest.mark.long
def test_recovery_after_the_death_of_fifty_workers_with_an_idle_queue(cluster: TestCluster) -> None:
    _die_in_lanes(cluster, lanes=5, deaths=10)
