"""IOC, FOK and expiring orders in the second in which the service is killed and restarted."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.support import report
from tests.support.judge import wait_until_none_is_open
from tests.support.kills import Client, let_leases_run_out
from tests.support.orders import Json
from tests.support.process import ServiceFork, ServiceProcess
from tests.support.resting import rfc3339
from tests.support.resting_judge import Books, judge_resting, migrate_and_witness
from tests.support.servers import TestCluster, TestServers

_SLOT_MS = 100
_LONGEST_DELAY_MS = 500

SETTINGS = {
    # Two slow workers: when the process dies, some orders are in execution and others wait.
    "WORKER_CONCURRENCY": "2",
    "QUOTE_DELAY_MS": "0-150",
    "EXECUTION_DELAY_MS": f"0-{_LONGEST_DELAY_MS}",
    "QUEUE_RATE_LIMIT": "0",
    "SLOT_MS": str(_SLOT_MS),
    "OUTCOME_TIMEOUT_MS": "0",
    "INSTANCE_TIMEOUT_MS": "500",
    "PRICE_VARIANCE": "0",
    "LOG_LEVEL": "WARNING",
}

_EACH = 5
_ALL_END_WITHIN_S = 20


def _orders(rng: random.Random) -> list[Json]:
    """Return orders that all end, most of them within the next seconds."""
    swap = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "0.01", "slippageBps": 2_000}
    paid, unpaid = {"orderType": "limit", "limitPrice": "50"}, {"orderType": "limit", "limitPrice": "9000"}
    kinds: list[Json] = [
        {**paid, "timeInForce": "IOC"},
        {**paid, "timeInForce": "FOK"},
        {**unpaid, "timeInForce": "IOC"},
        {"orderType": "market"},
    ]
    timed: list[Json] = [
        paid,
        unpaid,
        {"orderType": "market"},
        {"orderType": "sniper", "sniperConditions": {"price": {"above": "50"}}},
        {"orderType": "sniper", "sniperConditions": {"price": {"above": "9000"}}},
    ]
    orders = [{**swap, **kind} for kind in kinds * _EACH]
    orders += [{**swap, **kind, "expiresAt": rfc3339(rng.uniform(0.3, 3))} for kind in timed * _EACH]
    rng.shuffle(orders)
    return orders


def _place(service: ServiceProcess, orders: list[Json]) -> int:
    """Place orders until the service dies; return how many it accepted."""
    client = Client(service)
    try:
        return sum(client.ask("POST", "/api/orders/execute", order).status == 201 for order in orders)
    finally:
        client.close()


def _kill_and_restart(servers: TestServers, rng: random.Random) -> int:
    """Kill a service while such orders are open, start another, and wait until all have ended."""
    environment = {**SETTINGS, **servers.environment}
    with ServiceFork(environment) as service, ThreadPoolExecutor(2) as pool:
        service.wait_until_ready()
        orders = _orders(rng)
        placing = [pool.submit(partial(_place, service, orders[half::2])) for half in (0, 1)]
        time.sleep(rng.uniform(0.3, 1.5))
        service.kill()
        placed = sum(each.result() for each in placing)
    let_leases_run_out(servers)
    with ServiceFork(environment) as service:
        service.wait_until_ready()
        wait_until_none_is_open(servers, within_s=_ALL_END_WITHIN_S)
        assert "Traceback" not in service.output, service.output
    return placed


def _run(cluster: TestCluster, rounds: int, seed: int) -> Books:
    servers = cluster.new()
    migrate_and_witness(servers)
    rng = random.Random(seed)
    assert sum(_kill_and_restart(servers, rng) for _ in range(rounds)) > 10 * rounds
    books = judge_resting(servers, slot_ms=_SLOT_MS, longest_delay_ms=_LONGEST_DELAY_MS)
    assert not books.wrong, "\n".join(books.wrong)
    assert set(books.statuses) <= {"confirmed", "expired"}, books.statuses
    told = ", ".join(f"{count:,} {status}" for status, count in sorted(books.statuses.items()))
    report.add(
        report.Row(
            "for now or never, and expiry, in the second of a restart", rounds, books.orders, note=told
        )
    )
    return books


def test_during_a_restart_nothing_is_submitted_late_and_nothing_expires_early(
    cluster: TestCluster,
) -> None:
    assert _run(cluster, 1, seed=3).statuses["expired"] > 0


@pytest.mark.long
def test_during_forty_restarts_nothing_is_submitted_late_and_nothing_expires_early(
    cluster: TestCluster,
) -> None:
    books = _run(cluster, 40, seed=4)
    assert min(books.statuses["expired"], books.statuses["confirmed"]) > 100
