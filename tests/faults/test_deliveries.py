"""Every job delivered two to five times, in any order, to two processes concurrently."""

import random
import time
from contextlib import ExitStack

import pytest
from redis import Redis

from tests.support import report
from tests.support.judge import audit, judge, wait_until, wait_until_none_is_open
from tests.support.load import place_many
from tests.support.process import ServiceFork
from tests.support.servers import TestCluster, TestServers

SETTINGS = {
    "QUEUE_RATE_LIMIT": "0",
    "INSTANCE_TIMEOUT_MS": "500",
    "LOG_LEVEL": "WARNING",
}
# One slow order at a time, so that the wake-ups of the others remain in the stream.
SLOW = {"WORKER_CONCURRENCY": "1", "QUOTE_DELAY_MS": "1500"}
# Long enough that copies of a wake-up arrive while the order is being executed.
FAST = {"WORKER_CONCURRENCY": "200", "QUOTE_DELAY_MS": "0-20", "EXECUTION_DELAY_MS": "0-60"}


def _multiply(servers: TestServers, rng: random.Random) -> int:
    """Add copies of every wake-up to the stream, so that each occurs 2 to 5 times, in any order."""
    stream = servers.wake_ups
    with Redis.from_url(servers.redis_url) as redis, servers.connect() as link, link.cursor() as cursor:

        def each_waits_in_the_stream() -> bool:
            # The slow worker begins one now and then, so the orders are counted first.
            cursor.execute("SELECT count(*) FROM open_orders WHERE NOT started")
            [(waiting,)] = cursor.fetchall()
            return bool(redis.xlen(stream) >= waiting - 1)

        wait_until(each_waits_in_the_stream)
        entries = [fields for _entry_id, fields in redis.xrange(stream)]
        # Each is already there once, in order of arrival; the copies are shuffled.
        copies = [fields for fields in entries for _ in range(rng.randint(1, 4))]
        rng.shuffle(copies)
        pipeline = redis.pipeline(transaction=False)
        for fields in copies:
            pipeline.xadd(stream, fields)
        pipeline.execute()
    return len(entries) + len(copies)


def _length(servers: TestServers) -> int:
    with Redis.from_url(servers.redis_url) as redis:
        length: int = redis.xlen(servers.wake_ups)
        return length


def _deliver_many_times(cluster: TestCluster, rounds: int, orders: int, *, within_s: float) -> None:
    rng, servers = random.Random(orders), cluster.new()
    environment = {**SETTINGS, **servers.environment}
    promised: list[str] = []
    deliveries, slowest = 0, 0.0
    for _ in range(rounds):
        with ServiceFork({**environment, **SLOW}) as service:
            service.wait_until_ready()
            placed = place_many(service, orders)
            assert len(placed) == orders
            promised += placed
            deliveries += _multiply(servers, rng)
        with ExitStack() as both:
            services = [both.enter_context(ServiceFork({**environment, **FAST})) for _ in range(2)]
            for service in services:
                service.wait_until_ready()
            began = time.monotonic()
            wait_until_none_is_open(servers, within_s=within_s)
            slowest = max(slowest, time.monotonic() - began)
            # All copies were delivered, including those after the end of their order.
            wait_until(lambda: _length(servers) == 0, within_s)
            assert all(service.process.poll() is None for service in services)
            assert not any("Traceback" in service.output for service in services)
    verdict = judge(servers, promised)
    assert verdict.clean, verdict
    assert verdict.statuses == {"confirmed": rounds * orders}
    assert audit(servers)["landed"] == rounds * orders
    assert deliveries >= 2 * (rounds * orders - 5 * rounds)
    report.add(
        report.Row("each job delivered 2 to 5 times", deliveries, verdict.orders, slowest_recovery_s=slowest)
    )


def test_five_hundred_orders_delivered_several_times(cluster: TestCluster) -> None:
    _deliver_many_times(cluster, 1, 500, within_s=30)


@pytest.mark.long
def test_fifty_thousand_orders_delivered_several_times(cluster: TestCluster) -> None:
    _deliver_many_times(cluster, 10, 5_000, within_s=120)
