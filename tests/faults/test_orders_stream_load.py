"""Many clients of the stream of all orders, at many events a second: each sees every event once."""

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.judge import wait_until
from tests.support.orders import MARKET_ORDER
from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.report import Row, add
from tests.support.servers import TestServers

EVENTS_PER_ORDER = 5
BATCHES_PER_S = 10


@contextlib.contextmanager
def watching(service: ServiceProcess, watchers: int) -> Iterator[Callable[[], Any]]:
    """Run watchers in another process; yield a function that ends it and returns what they have seen."""
    command = [sys.executable, "-m", "tests.support.watchers"]
    process = subprocess.Popen(
        [*command, f"--port={service.port}", f"--watchers={watchers}"],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield lambda: json.loads(process.communicate("stop\n", timeout=60)[0])
        finally:
            process.kill()


def place_at_rate(service: ServiceProcess, orders_per_s: int, seconds: float) -> int:
    """Place orders at a rate; return how many."""
    link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    body = json.dumps({"orders": [MARKET_ORDER] * (orders_per_s // BATCHES_PER_S)})
    placed, began = 0, time.monotonic()
    with contextlib.closing(link):
        for number in range(round(seconds * BATCHES_PER_S)):
            time.sleep(max(0.0, began + number / BATCHES_PER_S - time.monotonic()))
            link.request("POST", "/api/orders/batch", body, {"Content-Type": "application/json"})
            answer = link.getresponse()
            results = json.loads(answer.read())["results"]
            assert {result["status"] for result in results} == {201}
            placed += len(results)
    return placed


@pytest.mark.parametrize(
    ("watchers", "events_per_s", "seconds"),
    [(50, 100, 2.0), pytest.param(1_000, 500, 60.0, marks=pytest.mark.long)],
)
def test_every_client_sees_every_event_once(
    spawn: Callable[..., ServiceProcess],
    servers: TestServers,
    watchers: int,
    events_per_s: int,
    seconds: float,
) -> None:
    service = spawn(**NO_DELAYS, WORKER_CONCURRENCY="50", LOG_LEVEL="INFO")
    with watching(service, watchers) as end:
        cpu_s, began = service.cpu_s(), time.monotonic()
        placed = place_at_rate(service, events_per_s // EVENTS_PER_ORDER, seconds)
        took_s = time.monotonic() - began
        share = (service.cpu_s() - cpu_s) / took_s
        with servers.connect() as link, link.cursor() as cursor:

            def all_ended() -> bool:
                cursor.execute("SELECT count(*) FROM finished_orders")
                return cursor.fetchall() == [(placed,)]

            wait_until(all_ended, 30)
            cursor.execute("SELECT id::text, version FROM orders")
            versions = dict(cursor.fetchall())
        # The last events are on their way for less than that.
        time.sleep(2)
        result = end()
    assert result["closed"] == []
    assert sum(clients for _seen, clients in result["seen"]) == watchers
    for seen, _clients in result["seen"]:
        of_order: dict[str, list[int]] = {}
        for order_id, sequence in seen:
            of_order.setdefault(order_id, []).append(sequence)
        assert of_order == {order_id: list(range(1, last + 1)) for order_id, last in versions.items()}
    events, ages_ms = sum(versions.values()), result["ages_ms"]
    rate = events / took_s
    # In the short form other tests run beside it.
    assert rate > 0.9 * events_per_s or seconds < 10
    p99_ms = ages_ms[int(len(ages_ms) * 0.99)]
    note = (
        f"{rate:.0f} events/s, each once to each; p99 {p99_ms:.0f} ms; the service used {share:.0%} of a core"
    )
    add(Row(f"{watchers:,} clients of the stream of all orders", events, placed, note=note))
