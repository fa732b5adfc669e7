"""PostgreSQL's clock jumps by an hour, ahead and back: no order is executed twice, and none waits an hour."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.support.faked_time import MovedServers, moved_servers
from tests.support.judge import audit, open_orders, wait_until
from tests.support.own_servers import Load
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.report import Row, add
from tests.support.servers import TestServers

# So that orders wait for a retry, and are at the venue, when the clock jumps.
BUSY = {
    **NO_DELAYS,
    "LOG_LEVEL": "WARNING",
    "EXECUTION_DELAY_MS": "200-600",
    "WORKER_CONCURRENCY": "100",
    "PAPER_FAILURE_RATE": "transient=0.2",
    "RETRY_BASE_DELAY_MS": "500",
}
AN_HOUR_S = 3_600
RECOVERY_S = 10.0
"""As after the death of an instance: one whose lease or heartbeat seems to be over is taken for dead."""


@pytest.fixture(scope="module")
def moved() -> Iterator[MovedServers]:
    with moved_servers() as servers:
        yield servers


def request(service: ServiceProcess, method: str, path: str, body: object = None) -> dict[str, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)) as link:
        link.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer: dict[str, Any] = json.loads(link.getresponse().read())
        return answer


def rest(service: ServiceProcess, limit_price: str, **terms: Any) -> str:
    """Place a limit order; return its id."""
    order = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1", "orderType": "limit"}
    placed = request(service, "POST", "/api/orders/execute", {**order, "limitPrice": limit_price, **terms})
    return str(placed["orderId"])


def status_of(service: ServiceProcess, order_id: str) -> object:
    return request(service, "GET", f"/api/orders/{order_id}").get("status")


def in_minutes(minutes: int) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def jump(moved: MovedServers, servers: TestServers, loads: list[Load], seconds: int) -> float:
    """Move the clock; return how long it takes until new market orders end, and those that were open then."""
    wait_for_more(loads)
    moved.move(seconds)
    before, began = open_market_orders(servers), time.monotonic()
    wait_for_more(loads)
    wait_until(lambda: before.isdisjoint(open_market_orders(servers)), RECOVERY_S)
    return time.monotonic() - began


def wait_for_more(loads: list[Load]) -> None:
    for load in loads:
        load.wait_for_more(partial(len, load.accepted), 5, RECOVERY_S)


def open_market_orders(servers: TestServers) -> set[str]:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT order_id::text FROM open_orders WHERE NOT resting")
        return {order_id for (order_id,) in cursor.fetchall()}


def check_each_ended_once(servers: TestServers, promised: list[str]) -> int:
    """Check that every market order has ended, and has landed at most once; return their number."""
    audit(servers, None, "--strict")
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT o.id::text, o.status, count(t.signature) FILTER (WHERE t.status = 'landed')"
            " FROM orders AS o LEFT JOIN paper_transactions AS t ON t.order_id = o.id"
            " WHERE o.order_type = 'market' GROUP BY o.id"
        )
        orders = {order_id: (status, landed) for order_id, status, landed in cursor.fetchall()}
    assert not set(promised) - set(orders)
    assert set(orders.values()) <= {("confirmed", 1), ("failed", 0)}
    return len(orders)


@pytest.mark.long
def test_orders_survive_jumps_of_the_clock(moved: MovedServers) -> None:
    moved.move(0)
    servers = moved.new()
    jumps = (AN_HOUR_S, 0) * 10
    row = Row("PostgreSQL's clock jumps by an hour", len(jumps))
    settings = {**servers.environment, **BUSY}
    with (
        ServiceFork(settings).wait_until_ready() as here,
        ServiceFork(settings).wait_until_ready() as there,
    ):
        soon = rest(here, "1000000", expiresAt=in_minutes(30))
        late, never = rest(here, "1000000", expiresAt=in_minutes(180)), rest(here, "1000000")
        with Load(here, clients=2, pause_s=0.1) as first, Load(there, clients=2, pause_s=0.1) as second:
            for seconds in jumps:
                took_s = jump(moved, servers, [first, second], seconds)
                row.slowest_recovery_s = max(row.slowest_recovery_s or 0, took_s)
        for load in (first, second):
            assert not load.wrong, load.wrong[:3]
        # An order expires by PostgreSQL's clock, whichever way that got there, and for good.
        assert [status_of(here, order_id) for order_id in (soon, late, never)] == ["expired", "open", "open"]
        for order_id in (late, never):
            request(here, "DELETE", f"/api/orders/{order_id}")
        wait_until(lambda: not open_orders(servers))
        for service in (here, there):
            assert "Traceback" not in service.output, service.output[-5_000:]
    row.orders = check_each_ended_once(servers, [*first.accepted, *second.accepted])
    add(row)


def test_an_instance_that_died_before_the_clock_jumped_back_is_replaced(moved: MovedServers) -> None:
    """Its heartbeat and its leases are an hour in the future, and so are the due times of its orders."""
    moved.move(0)
    servers = moved.new()
    settings = {**servers.environment, **BUSY}
    with (
        ServiceFork(settings).wait_until_ready() as dying,
        ServiceFork(settings).wait_until_ready() as living,
    ):
        with Load(dying, clients=8, pause_s=0.01) as load:
            load.wait_for_more(lambda: len(load.accepted), 30)
            dying.kill()
            moved.move(-AN_HOUR_S)
        began = time.monotonic()
        assert open_orders(servers)
        # The lease of the triggers is free too.
        fired = rest(living, "1")
        wait_until(lambda: not open_orders(servers), RECOVERY_S)
        took_s = time.monotonic() - began
        assert status_of(living, fired) == "confirmed"
        assert "Traceback" not in living.output, living.output[-5_000:]
    row = Row("killed, then PostgreSQL's clock jumps back", 1, slowest_recovery_s=took_s)
    row.orders = check_each_ended_once(servers, load.accepted)
    add(row)
