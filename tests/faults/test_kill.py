"""``kill -9`` is a normal way to stop: every accepted order is still executed exactly once."""

import signal
import threading
from collections.abc import Callable

from tests.support.judge import judge, wait_for_the_end, wait_until
from tests.support.load import place_many
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.servers import TestServers

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


def test_a_kill_under_load_loses_nothing_and_executes_nothing_twice(
    spawn: Spawn, servers: TestServers
) -> None:
    promised: list[str] = []
    for _ in range(3):
        service = spawn(**NO_DELAYS)
        killer = threading.Timer(0.4, service.kill)
        killer.start()
        promised += place_many(service, 2_000)
        killer.join()
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
