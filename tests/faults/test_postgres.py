"""PostgreSQL restarts, ends sessions, cancels statements, has no free connection: clients get a 503."""

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import psycopg2
import pytest
from psycopg2.extensions import connection

from tests.support.judge import wait_until
from tests.support.own_servers import (
    Load,
    OwnServers,
    judge_after_recovery,
    share_of_a_core,
    wait_until_it_works,
)
from tests.support.process import NO_DELAYS, ServiceFork
from tests.support.report import Row, add
from tests.support.servers import TestServers
from tests.support.venues import PAPER, JudgedVenue, solana_chain

# A client that waits for PostgreSQL for half a second gets a 503.
QUIET = {**NO_DELAYS, "LOG_LEVEL": "WARNING", "INSERT_TIMEOUT_MS": "500"}
# Long enough that orders are at the venue when PostgreSQL goes down.
AT_THE_VENUE = {"EXECUTION_DELAY_MS": "300", "WORKER_CONCURRENCY": "200"}
RECOVERY_S = 5.0
END = "SELECT {}(pid) FROM pg_stat_activity WHERE application_name = 'order-execution-engine'"
STATEMENT_TIMEOUT_S = 3.0


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    servers = OwnServers()
    yield servers
    servers.stop()


def restart_at_once(own: OwnServers, load: Load, _servers: TestServers) -> int:
    return restart(own, load, signal.SIGQUIT)


def restart_fast(own: OwnServers, load: Load, _servers: TestServers) -> int:
    return restart(own, load, signal.SIGINT)


def restart(own: OwnServers, load: Load, how: signal.Signals) -> int:
    own.end(own.postgres, how)
    load.wait_for_more(lambda: load.unavailable, 3)
    own.start_again()
    return 1


def terminate(own: OwnServers, load: Load, _servers: TestServers) -> int:
    return storm(own, load, "pg_terminate_backend")


def cancel(own: OwnServers, load: Load, _servers: TestServers) -> int:
    return storm(own, load, "pg_cancel_backend")


def storm(own: OwnServers, load: Load, weapon: str) -> int:
    """Terminate the service's sessions, or cancel their statements, until a few were hit."""
    hits = 0
    with own.admin() as admin, admin.cursor() as cursor:
        while hits < 10:
            # Active sessions first: an idle one has no statement to cancel.
            cursor.execute(END.format(weapon))
            hits += cursor.rowcount
            load.wait_for_more(lambda: len(load.accepted) + load.unavailable, 2)
    return hits


def time_out(_own: OwnServers, load: Load, servers: TestServers) -> int:
    """Lock a table for longer than the statement time-out."""
    with servers.connect() as link, link.cursor() as cursor:
        link.autocommit = False
        cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        until = time.monotonic() + STATEMENT_TIMEOUT_S + 0.7
        wait_until(lambda: time.monotonic() > until)
        assert load.unavailable
        link.rollback()
    return 1


def take_all_connections(own: OwnServers, load: Load, _servers: TestServers) -> int:
    with own.admin() as admin, contextlib.ExitStack() as taken, admin.cursor() as cursor:

        def none_is_left() -> bool:
            with contextlib.suppress(psycopg2.OperationalError):
                while True:
                    taken.enter_context(contextlib.closing(connect(own)))
            cursor.execute(END.format("pg_terminate_backend"))
            return load.unavailable >= wanted

        wanted = load.unavailable + 3
        wait_until(none_is_left)
    return 1


def connect(own: OwnServers) -> connection:
    assert own._embedded.database_url is not None
    return psycopg2.connect(own._embedded.database_url)


EVENTS = (restart_at_once, restart_fast, terminate, cancel, take_all_connections, time_out)


@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.long)])
def test_orders_survive_failures_of_postgresql_under_load(own: OwnServers, rounds: int) -> None:
    _run(own, EVENTS * rounds, PAPER)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])
def test_orders_on_a_chain_survive_failures_of_postgresql(own: OwnServers, rounds: int) -> None:
    with solana_chain() as venue:
        _run(own, (restart_at_once, terminate) if rounds == 1 else EVENTS * rounds, venue)


Event = Callable[[OwnServers, Load, TestServers], int]


def _run(own: OwnServers, events: Sequence[Event], venue: JudgedVenue) -> None:
    servers = own.new()
    promised: list[str] = []
    hits: dict[Event, int] = dict.fromkeys(events, 0)
    slowest_s = 0.0
    within_s = RECOVERY_S + venue.order_s
    settings = {**servers.environment, **QUIET, **venue.settings}
    with ServiceFork(settings).wait_until_ready() as service:
        with Load(service, clients=venue.clients, pause_s=venue.pause_s) as load:
            for number, event in enumerate(events):
                if event is time_out and number >= 5 * len(EVENTS):
                    continue  # six seconds each: five are enough
                hits[event] += event(own, load, servers)
                took_s = wait_until_it_works(service, time.monotonic(), promised)
                assert took_s < within_s, (event.__name__, service.output[-5_000:])
                slowest_s = max(slowest_s, took_s)
        assert not load.wrong, load.wrong[:3]
        promised += load.accepted
        verdict, took_s = judge_after_recovery(
            servers, promised, time.monotonic(), within_s=within_s, venue=venue
        )
        assert_absent(servers, load.refused)
        assert "Traceback" not in service.output, service.output[-5_000:]
    note = ", ".join(f"{count} x {event.__name__.replace('_', ' ')}" for event, count in hits.items())
    answers = f"; 503: {len(load.refused)} not stored, {len(load.unknown)} unknown"
    fault = f"{venue.name}: PostgreSQL hurt under load"
    row = Row(fault, sum(hits.values()), verdict.orders, note=note + answers)
    row.slowest_recovery_s = max(slowest_s, took_s)
    add(row)


def assert_absent(servers: TestServers, client_order_ids: list[str]) -> None:
    """Check that orders rejected without an order id are not stored, not even later."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT client_order_id FROM client_orders WHERE client_order_id = ANY(%s)", (client_order_ids,)
        )
        assert cursor.fetchall() == []


def test_while_postgresql_is_unavailable_the_service_is_idle_and_logs_little(own: OwnServers) -> None:
    servers = own.new()
    promised: list[str] = []
    with ServiceFork({**servers.environment, **QUIET, **AT_THE_VENUE}).wait_until_ready() as service:
        with Load(service) as load:
            load.wait_for_more(lambda: len(load.accepted), 50)
            own.end(own.postgres, signal.SIGQUIT)
            load.wait_for_more(lambda: load.unavailable, 3)
        before, began = len(service.output.splitlines()), time.monotonic()
        share = share_of_a_core(service, 2)
        lines = service.output.splitlines()[before:]
        took_s = time.monotonic() - began
        own.start_again()
        returned = time.monotonic()
        wait_until_it_works(service, returned, promised, within_s=RECOVERY_S)
        promised += load.accepted
        verdict, recovery_s = judge_after_recovery(servers, promised, returned, within_s=RECOVERY_S)
        assert share < 0.2, share
        # Each writer logs it once a second: claims, steps, the sweep.
        assert len(lines) <= 4 * (took_s + 1), lines
        assert "Traceback" not in service.output, service.output
    note = f"{share:.0%} of a core while away"
    add(Row("PostgreSQL away", 1, verdict.orders, slowest_recovery_s=recovery_s, note=note))


def test_a_service_with_more_than_a_thousand_sockets_survives_ended_sessions(own: OwnServers) -> None:
    """aiopg uses ``select`` on a dead session, which fails for descriptors above 1023."""
    servers = own.new()
    promised: list[str] = []
    with (
        contextlib.ExitStack() as clients,
        ServiceFork({**servers.environment, **QUIET}).wait_until_ready() as service,
    ):
        for _ in range(1_100):
            clients.enter_context(socket.create_connection(("127.0.0.1", service.port)))
        slowest_s = 0.0
        with Load(service) as load:
            for _ in range(2):
                hits = terminate(own, load, servers)
                took_s = wait_until_it_works(service, time.monotonic(), promised)
                assert took_s < RECOVERY_S, service.output[-5_000:]
                slowest_s = max(slowest_s, took_s)
        assert not load.wrong, load.wrong[:3]
        promised += load.accepted
        verdict, took_s = judge_after_recovery(servers, promised, time.monotonic(), within_s=RECOVERY_S)
        assert "Traceback" not in service.output, service.output[-5_000:]
    row = Row("PostgreSQL sessions ended beside 1,100 sockets", 2 * hits, verdict.orders)
    row.slowest_recovery_s = max(slowest_s, took_s)
    add(row)
