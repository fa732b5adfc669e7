"""``kill -9`` is a normal way to stop: every accepted order is still executed exactly once."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.judge import judge, wait_for_the_end, wait_until
from tests.support.load import place_many
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.servers import TestServers
from tests.support.venues import solana_chain

Spawn = Callable[..., ServiceProcess]

IN_FLIGHT = {"WORKER_CONCURRENCY": "200", "QUEUE_RATE_LIMIT": "0"}


def test_a_kill_loses_none_of_two_hundred_orders_in_execution(spawn: Spawn, servers: TestServers) -> None:
    service = spawn(**IN_FLIGHT)
    promised = place_many(service, 200)
    assert len(promised) == 200
    service.kill()
    assert len(judge(servers).unfinished) > 0
    service = spawn(**IN_FLIGHT)
    verdict, _took_s = wait_for_the_end(servers, promised, within_s=40)
    assert verdict.clean, verdict
    assert verdict.statuses == {"confirmed": 200}


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])
def test_kills_lose_no_order_that_is_in_flight_on_a_chain(
    spawn: Spawn, servers: TestServers, rounds: int
) -> None:
    promised: list[str] = []
    with solana_chain(endpoints=1) as venue, ThreadPoolExecutor(1) as pool:
        # Half of the transactions stay in flight until the last block that may take them.
        venue.process.arm("late", times=None, rate_ppm=500_000)
        for number in range(rounds):
            service = spawn(**venue.settings, **IN_FLIGHT)
            placing = pool.submit(place_many, service, 24, clients=4)
            wanted = number % 8 + 1
            wait_until(lambda: _submitted(servers) >= wanted)  # noqa: B023 - called in this round
            service.kill()
            promised += placing.result()
        spawn(**venue.settings, **IN_FLIGHT)
        verdict, _took_s = wait_for_the_end(servers, promised, within_s=90, judged=venue.judge)
    assert verdict.clean, verdict
    assert verdict.statuses["confirmed"] > 0


def _submitted(servers: TestServers) -> int:
    return _count(servers, "SELECT count(*) FROM orders WHERE status = 'submitted'")


def _stored(servers: TestServers) -> int:
    return _count(servers, "SELECT count(*) FROM orders")


def _count(servers: TestServers, query: str) -> int:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(query)
        [(count,)] = cursor.fetchall()
    return int(count)


def test_a_kill_under_load_loses_nothing_and_executes_nothing_twice(
    spawn: Spawn, servers: TestServers
) -> None:
    promised: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        for number in range(3):
            service = spawn(**NO_DELAYS)
            placing = pool.submit(place_many, service, 2_000)
            wanted = 50 * (number + 1)
            wait_until(lambda: _stored(servers) >= wanted)  # noqa: B023 - called in this round
            service.kill()
            promised += placing.result()
    spawn(**NO_DELAYS)
    verdict, _took_s = wait_for_the_end(servers, promised, within_s=30)
    assert verdict.clean, verdict
    assert len(promised) > 100


def test_a_stop_leaves_unfinished_orders_to_the_next_start(spawn: Spawn, servers: TestServers) -> None:
    service = spawn(**IN_FLIGHT, SHUTDOWN_GRACE_S="0")
    promised = place_many(service, 50)
    assert service.stop() == 0, service.output
    service = spawn(**NO_DELAYS)
    verdict, took_s = wait_for_the_end(servers, promised, within_s=30)
    assert verdict.clean, verdict
    # It deregistered, so the next start did not have to wait for its heartbeat time-out.
    assert took_s < 8


def test_a_stop_finishes_orders_in_execution(spawn: Spawn, servers: TestServers) -> None:
    service = spawn(**IN_FLIGHT)
    promised = place_many(service, 20)
    wait_until(lambda: judge(servers).statuses["pending"] == 0)
    assert service.stop() == 0, service.output
    verdict = judge(servers, promised)
    assert verdict.statuses["confirmed"] == 20, verdict


def test_sigint_stops_the_service(spawn: Spawn) -> None:
    service = spawn()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(20) == 0, service.output
