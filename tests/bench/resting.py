"""The cost of a hundred thousand resting orders in the whole service: ``python -m tests.bench.resting``.

The service runs as users run it, in a process of its own, on the embedded servers with fsync on; all of it,
and the client, share this machine's processors. The orders rest over six pairs, one of them of a token that
is listed for the purpose, whose pool nobody trades back. Times are PostgreSQL's own where they can be.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import orjson
from psycopg2.extensions import connection

from service.clock import Clock
from service.domain.limit_price import limit_out
from service.domain.tokens import TOKENS
from service.store import journal
from tests.support.judge import wait_until
from tests.support.kills import Client
from tests.support.orders import Json
from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.resting_judge import migrate_and_witness
from tests.support.servers import TestCluster, TestServers

NEW, NEW_DECIMALS, NEW_PRICE = "FRESH", 6, 2_000
PAIRS = (("SOL", NEW), ("SOL", "USDC"), ("USDC", "SOL"), ("SOL", "JUP"), ("USDC", "BONK"), ("RAY", "SOL"))

SETTINGS = {**NO_DELAYS, "WORKER_CONCURRENCY": "200", "PAPER_SEED": "1"}

_CROSSED = 100
_ROWS_A_STATEMENT = 1_000
_MARKET_MOVE_SOL = 50
_PATIENCE_S = 120
_SETTLING_S = 3.0
_LASTING_S = 5.0
_BEGAN = re.compile(r"(\S+ \S+) .*watching for (\d+) orders, read in (\d+\.\d) s")

_REBUILD_S, _RSS_BYTES, _CHANGE_MS, _CROSSING_MS, _TAKEOVER_S = 10.0, 2_000.0, 5.0, 150.0, 10.0
_SHARE_OF_MARKET = 0.5


@dataclass(frozen=True, slots=True)
class Start:
    """A start's duration, and the process's memory afterwards."""

    watching_s: float
    read_s: float
    rss_bytes: int
    peak_bytes: int


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--posts", type=int, default=3_000)
    options = parser.parse_args()
    cluster = TestCluster(durable=True)
    try:
        _measure(cluster.new(), options.orders, options.rounds, options.posts)
    finally:
        cluster.stop()


def _measure(servers: TestServers, orders: int, rounds: int, posts: int) -> None:
    migrate_and_witness(servers)
    print(f"{'median of ' + str(rounds):58} {'measured':>10} {'':5} {'bar':>7}")
    with _spawn(servers).wait_until_ready() as service:
        _list_pool(service)
        prices = {pair: _price(service, *pair) for pair in PAIRS}
        _stop(service)
    # A restarted process, so that both have done the same work.
    with _spawn(servers) as service:
        empty = _start(servers, service, 0)
        idle_ms = _cpu_ms_per_change(servers, service, rounds)
        _stop(service)
    _fill(servers, orders, prices)
    _measure_starts(servers, orders, rounds, empty)
    with _spawn(servers) as service:
        _start(servers, service, orders)
        busy_ms = _cpu_ms_per_change(servers, service, rounds)
        extra = f"{busy_ms:.1f} with them, {idle_ms:.1f} without"
        _say("CPU of a market change that crosses none", busy_ms - idle_ms, "ms", _CHANGE_MS, extra)
        _measure_crossing(servers, service, rounds)
        _measure_accepting(servers, service, rounds, posts)
        _say("how often it read all of them", len(_BEGAN.findall(service.output)), "", 1)
        _stop(service)
    _measure_takeover(servers)


def _spawn(servers: TestServers) -> ServiceProcess:
    return ServiceProcess({**servers.environment, **SETTINGS})


def _stop(service: ServiceProcess) -> None:
    if service.stop():
        raise RuntimeError(service.output)


def _say(what: str, value: float, unit: str, bar: float | None = None, extra: str = "") -> None:
    digits = 2 if value < 10 else 0
    shown = "-" if bar is None else f"{bar:g}"
    print(f"{what:58} {value:10.{digits}f} {unit:5} {shown:>7}   {extra}", flush=True)


# The market and the orders.


def _list_pool(service: ServiceProcess) -> None:
    _ask(
        service,
        "POST",
        "/api/paper/pools",
        {
            "program": "raydium_cpmm",
            "tokenA": NEW,
            "tokenB": "SOL",
            "amountA": "1000000",
            "amountB": str(1_000_000 // NEW_PRICE),
            "decimals": NEW_DECIMALS,
        },
    )


def _price(service: ServiceProcess, token_in: str, token_out: str) -> Decimal:
    """Return the current output for one unit."""
    path = f"/api/quotes?tokenIn={token_in}&tokenOut={token_out}&amountIn=1"
    return Decimal(_ask(service, "GET", path)["amountOut"])


def _ask(service: ServiceProcess, method: str, path: str, body: Json | None = None) -> Json:
    client = Client(service)
    answer = client.ask(method, path, body)
    client.close()
    if answer.status not in {200, 201}:
        raise RuntimeError(f"{method} {path}: {answer}")
    return answer.body


def _decimals(token: str) -> int:
    return NEW_DECIMALS if token == NEW else TOKENS[token].decimals


def _rows(orders: int, prices: dict[tuple[str, str], Decimal]) -> Iterator[Json]:
    """Yield orders of all sizes whose limits are 10 to 25 % above the market, beyond its range."""
    clock, draw = Clock(), random.Random(2)
    for number in range(orders):
        token_in, token_out = pair = PAIRS[number % len(PAIRS)]
        amount = int(10 ** draw.uniform(-2, 4) * 10 ** _decimals(token_in))
        price = f"{prices[pair] * draw.randint(1_100, 1_250) / 1_000:.12f}"
        yield {
            "id": clock.new_order_id(),
            "account": "default",
            "order_type": "limit",
            "token_in": token_in,
            "token_out": token_out,
            "swap_mode": "exactIn",
            "amount": amount,
            "amount_text": f"{Decimal(amount).scaleb(-_decimals(token_in)):f}",
            "slippage_bps": 100,
            "time_in_force": "GTC",
            "limit_price": price,
            "limit_out": limit_out(amount, price, _decimals(token_in), _decimals(token_out)),
            "rests": True,
            "write_id": "bench",
        }


def _fill(servers: TestServers, orders: int, prices: dict[tuple[str, str], Decimal]) -> None:
    """Store the orders with the service's own statement."""
    rows = list(_rows(orders, prices))
    began = time.monotonic()
    with servers.connect() as link, link.cursor() as cursor:
        for first in range(0, orders, _ROWS_A_STATEMENT):
            some = orjson.dumps(rows[first : first + _ROWS_A_STATEMENT]).decode()
            cursor.execute(journal._INSERT.sql, {"rows": some, "wake_after_ms": 5_000})
        cursor.execute("VACUUM ANALYZE")
    print(f"{orders} orders stored in {time.monotonic() - began:.1f} s", file=sys.stderr)


# Start, memory, CPU.


def _start(servers: TestServers, service: ServiceProcess, orders: int) -> Start:
    """Wait until a newly spawned process leads the triggers and is idle."""
    began = time.time()
    service.wait_until_ready()

    def lines() -> list[tuple[str, str, str]]:
        return _BEGAN.findall(service.output)

    wait_until(lambda: bool(lines()), _PATIENCE_S)
    [(at, found, read_s)] = lines()
    if int(found) != orders:
        raise RuntimeError(f"watches for {found} orders, not {orders}")
    time.sleep(_SETTLING_S)
    return Start(_epoch(at) - began, float(read_s), _memory(service, "VmRSS"), _memory(service, "VmHWM"))


def _memory(service: ServiceProcess, name: str) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1])  # type: ignore[index]


def _measure_starts(servers: TestServers, orders: int, rounds: int, empty: Start) -> None:
    starts = []
    for _ in range(rounds):
        with _spawn(servers) as service:
            starts.append(_start(servers, service, orders))
            _stop(service)
    watching_s = statistics.median(start.watching_s for start in starts)
    read_s = statistics.median(start.read_s for start in starts)
    extra = f"{read_s:.1f} s of it reading; {empty.watching_s:.1f} s in all without orders"
    _say("start until all orders are watched", watching_s, "s", _REBUILD_S, extra)
    rss = statistics.median(start.rss_bytes for start in starts)
    peak = statistics.median(start.peak_bytes for start in starts)
    extra = f"{empty.rss_bytes / 1e6:.0f} MB without, {rss / 1e6:.0f} with"
    _say("memory for each order", (rss - empty.rss_bytes) / orders, "B", _RSS_BYTES, extra)
    extra = f"{peak / 1e6:.0f} MB at most while it reads"
    _say("memory for each order, at the peak", (peak - empty.peak_bytes) / orders, "B", None, extra)


def _cpu_ms_per_change(servers: TestServers, service: ServiceProcess, rounds: int) -> float:
    """Return the CPU time that the service uses between two commits of the market."""
    figures = []
    with servers.connect() as link:
        for _ in range(rounds):
            changes, cpu = _changes(link), _cpu_ms(service)
            time.sleep(10)
            figures.append((_cpu_ms(service) - cpu) / (_changes(link) - changes))
    return statistics.median(figures)


def _cpu_ms(service: ServiceProcess) -> float:
    # In nanoseconds, where /proc/pid/stat counts hundredths of a second.
    tasks = Path(f"/proc/{service.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def _changes(link: connection) -> int:
    with link.cursor() as cursor:
        cursor.execute("SELECT sequence FROM paper_leader")
        [(sequence,)] = cursor.fetchall()
    return int(sequence)


# Crossing.

_TIMES = """
WITH moved AS (SELECT max(settled_at) AS at FROM paper_transactions WHERE token_in = %(new)s),
fired AS (SELECT max(fired_at) AS at FROM fire_witness),
claimed AS (
    SELECT max((entry ->> 'timestamp')::timestamptz) AS at
    FROM orders, jsonb_array_elements(status_history) AS entry
    WHERE id = ANY(%(ids)s::uuid[]) AND entry ->> 'status' = 'routing'
),
confirmed AS (SELECT max(updated_at) AS at FROM orders WHERE id = ANY(%(ids)s::uuid[]))
SELECT
    1000 * extract(epoch FROM fired.at - moved.at)::float8,
    1000 * extract(epoch FROM claimed.at - moved.at)::float8,
    1000 * extract(epoch FROM confirmed.at - moved.at)::float8
FROM moved, fired, claimed, confirmed
"""


def _measure_crossing(servers: TestServers, service: ServiceProcess, rounds: int) -> None:
    fired, claimed, confirmed = [], [], []
    for _ in range(rounds):
        times = _cross(servers, service)
        fired.append(times[0])
        claimed.append(times[1])
        confirmed.append(times[2])
    extra = f"each: {', '.join(f'{each:.0f}' for each in fired)}"
    _say(f"a change that crosses {_CROSSED}: all fired", statistics.median(fired), "ms", _CROSSING_MS, extra)
    _say("the same: all claimed by a worker", statistics.median(claimed), "ms")
    _say("the same: all confirmed", statistics.median(confirmed), "ms")


def _cross(servers: TestServers, service: ServiceProcess) -> tuple[float, float, float]:
    """Push the price down, let orders rest, let it recover; return ms until all fired, claimed, confirmed."""
    high = _price(service, "SOL", NEW)
    bought = _trade(servers, service, "SOL", NEW, str(_MARKET_MOVE_SOL))
    low = _price(service, "SOL", NEW)
    draw = random.Random(3)
    ids = []
    client = Client(service)
    for _ in range(_CROSSED):
        part = Decimal(draw.randint(10, 80)) / 100
        order = {
            "orderType": "limit",
            "tokenIn": "SOL",
            "tokenOut": NEW,
            "amountIn": f"0.0{draw.randint(10, 99)}",
            "limitPrice": f"{low + (high - low) * part:.6f}",
        }
        answer = client.ask("POST", "/api/orders/execute", order)
        ids.append(answer.body["orderId"])
    client.close()
    # Wait until they rest in the book, before the market moves.
    time.sleep(1)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("TRUNCATE fire_witness")
        _trade(servers, service, NEW, "SOL", bought)
        wait_until(lambda: _confirmed(link, ids) == _CROSSED, _PATIENCE_S)
        cursor.execute(_TIMES, {"new": NEW, "ids": ids})
        [(fired_ms, claimed_ms, confirmed_ms)] = cursor.fetchall()
        cursor.execute("SELECT count(*) FROM fire_witness")
        assert cursor.fetchall() == [(_CROSSED,)]
    return fired_ms, claimed_ms, confirmed_ms


def _confirmed(link: connection, ids: Sequence[str]) -> int:
    with link.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM orders WHERE id = ANY(%s::uuid[]) AND status = 'confirmed'", (list(ids),)
        )
        [(count,)] = cursor.fetchall()
    return int(count)


def _trade(servers: TestServers, service: ServiceProcess, sold: str, bought: str, amount: str) -> str:
    """Swap with a market order; return its output."""
    order = {
        "orderType": "market",
        "tokenIn": sold,
        "tokenOut": bought,
        "amountIn": amount,
        "slippageBps": 5_000,
    }
    order_id = _ask(service, "POST", "/api/orders/execute", order)["orderId"]
    with servers.connect() as link:
        wait_until(lambda: _confirmed(link, [order_id]) == 1, _PATIENCE_S)
    paid: str = _ask(service, "GET", f"/api/orders/{order_id}")["amountOut"]
    return paid


# Accepting, and taking over.


def _measure_accepting(servers: TestServers, service: ServiceProcess, rounds: int, posts: int) -> None:
    market = {"orderType": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1"}
    limit = {**market, "orderType": "limit", "limitPrice": "1000"}
    rates: dict[str, list[float]] = {"market": [], "limit": []}
    for _ in range(rounds):
        for order in (market, limit):
            rates[order["orderType"]].append(posts / _post(service, order, posts))
            wait_until(lambda: _none_is_at_work(servers), _PATIENCE_S)
            time.sleep(1)
    both = {kind: statistics.median(each) for kind, each in rates.items()}
    extra = f"{both['limit']:.0f} limit orders/s, {both['market']:.0f} market orders/s"
    _say(
        "limit orders accepted for a market order",
        both["limit"] / both["market"],
        "",
        _SHARE_OF_MARKET,
        extra,
    )


def _post(service: ServiceProcess, order: Json, posts: int) -> float:
    command = [
        sys.executable,
        "-m",
        "tests.bench.resting_load",
        f"--port={service.port}",
        f"--orders={posts}",
    ]
    output = subprocess.run(
        command,
        cwd=PROJECT,
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=True,
        timeout=_PATIENCE_S,
    ).stdout
    return float(output)


def _none_is_at_work(servers: TestServers) -> bool:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT FROM open_orders WHERE NOT resting LIMIT 1")
        return cursor.rowcount == 0


def _measure_takeover(servers: TestServers) -> None:
    """Start two instances, and kill the trigger leader: the other must take over soon."""
    with _spawn(servers) as one, _spawn(servers) as two:
        both = [one, two]
        for service in both:
            service.wait_until_ready()
        began = time.time()
        wait_until(lambda: any(_has_watched(service, _LASTING_S) for service in both), _PATIENCE_S)
        watching, other = sorted(both, key=_watching_since)[::-1]
        took_s = _watching_since(watching) - began
        _say("two start at once: until one of them watches", took_s, "s", _TAKEOVER_S)
        watching.kill()
        killed_at = time.time()
        wait_until(lambda: _watching_since(other) > killed_at, _PATIENCE_S)
        took_s = _watching_since(other) - killed_at
        _say("the one that watches dies: until the other does", took_s, "s", _TAKEOVER_S)


def _has_watched(service: ServiceProcess, seconds: float) -> bool:
    since = _watching_since(service)
    return bool(since) and time.time() - since > seconds


def _watching_since(service: ServiceProcess) -> float:
    """Return since when an instance leads the triggers, by its log; 0 if it does not."""
    lines = [line for line in service.output.splitlines() if "watch" in line]
    began = _BEGAN.findall(lines[-1]) if lines else []
    return _epoch(began[0][0]) if began else 0.0


def _epoch(log_time: str) -> float:
    return datetime.strptime(log_time, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


if __name__ == "__main__":
    main()
