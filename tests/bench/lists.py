"""How fast orders are read and listed while millions are stored: p50 and p99 over REST.

The orders are made by SQL: a few accounts, frequent and rare types, pairs, statuses, DEXs and labels, spread
over sixty days. The service runs as users run it, in a process of its own, on the embedded servers.
"""

import argparse
import http.client
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

from service.domain.api_key import Scope
from service.store.api_keys import NewKey
from tests.support.keys import create_keys
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.servers import TestCluster, TestServers

_AT_ONCE = 100_000

_FILL = Path(__file__).with_name("fill_orders.sql").read_text()

LISTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("all", {}),
    ("a frequent status", {"status": "confirmed"}),
    ("a rare status", {"status": "expired"}),
    ("several statuses", {"status": "failed,cancelled,expired"}),
    ("a status that none has", {"status": "open"}),
    ("a frequent type", {"orderType": "market"}),
    ("a rare type", {"orderType": "sniper"}),
    ("a pair", {"tokenIn": "SOL", "tokenOut": "USDC"}),
    ("a token", {"tokenOut": "BONK"}),
    ("a DEX", {"venue": "meteora"}),
    ("a label", {"label": "grid 7"}),
    ("a label that none has", {"label": "nothing"}),
    ("a prefix of many ids", {"clientOrderIdPrefix": "bot-3"}),
    ("a prefix of some ids", {"clientOrderIdPrefix": "bot-3-12"}),
    ("a prefix of one id", {"clientOrderIdPrefix": "bot-3-123456"}),
    ("a prefix that none has", {"clientOrderIdPrefix": "bot-9"}),
    ("status and type, none", {"status": "expired", "orderType": "sniper"}),
    ("status, type and DEX", {"status": "failed", "orderType": "limit", "venue": "multiple"}),
    ("pair and DEX, none", {"tokenIn": "JUP", "tokenOut": "BONK", "venue": "raydium"}),
    ("label and status", {"label": "grid 7", "status": "failed"}),
)


def fill(servers: TestServers, orders: int) -> None:
    """Store ended orders."""
    with servers.connect() as link:
        link.autocommit = True
        with link.cursor() as cursor:
            # Neither foreign keys nor triggers: the rows fit together.
            cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
            for first in range(1, orders + 1, _AT_ONCE):
                last = min(orders, first + _AT_ONCE - 1)
                cursor.execute(_FILL, {"first": first, "last": last, "orders": orders})
                print(f"{last} of {orders} orders", file=sys.stderr)
            cursor.execute("VACUUM (ANALYZE)")


class ListReader:
    """A client that measures its requests."""

    def __init__(self, service: ServiceProcess, token: str, rounds: int) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        self._header = {"Authorization": f"Bearer {token}"}
        self._rounds = rounds

    def get(self, path: str) -> dict[str, object]:
        """Read a response."""
        self._link.request("GET", path, headers=self._header)
        answer = self._link.getresponse()
        body: dict[str, object] = json.loads(answer.read())
        assert answer.status == 200, body
        return body

    def measure(self, name: str, paths: Iterator[str]) -> None:
        """Print the percentiles of one kind of request."""
        took_ms, found = [], 0
        for path in itertools.islice(paths, self._rounds):
            began = time.perf_counter()
            body = self.get(path)
            took_ms.append(1_000 * (time.perf_counter() - began))
            listed = body.get("orders")
            found = len(listed) if isinstance(listed, list) else 1
        p99 = statistics.quantiles(took_ms, n=100)[98]
        print(f"{name:36} {statistics.median(took_ms):8.1f} {p99:8.1f} {found:8}", flush=True)


def _page(filters: dict[str, str], limit: int) -> str:
    return f"/api/orders?{urlencode({**filters, 'limit': str(limit)})}"


def _times(servers: TestServers) -> list[str]:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT rfc3339(min(created_at) + share * (max(created_at) - min(created_at)))"
            " FROM orders, generate_series(0.05, 0.95, 0.01) AS share GROUP BY share"
        )
        return [time for (time,) in cursor.fetchall()]


def _ids(servers: TestServers) -> list[str]:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT id::text FROM orders TABLESAMPLE SYSTEM (2) WHERE account = 'default' LIMIT 5000"
        )
        return [order_id for (order_id,) in cursor.fetchall()]


def measure(servers: TestServers, reader: ListReader, limit: int) -> None:
    """Print every figure."""
    chance = random.Random(1)
    ids, times = _ids(servers), _times(servers)

    def repeated(make: Callable[[], str]) -> Iterator[str]:
        while True:
            yield make()

    print(f"{'':36} {'p50 ms':>8} {'p99 ms':>8} {'orders':>8}")
    reader.measure("get", repeated(lambda: f"/api/orders/{chance.choice(ids)}"))
    for name, filters in LISTS:
        reader.measure(name, repeated(lambda filters=filters: _page(filters, limit)))  # type: ignore[misc]
    for name, filters in LISTS[:1] + LISTS[5:6] + LISTS[7:8] + LISTS[9:10]:
        since = repeated(
            lambda filters=filters: _page({**filters, "createdTo": chance.choice(times)}, limit)  # type: ignore[misc]
        )
        reader.measure(f"{name}, before a time", since)
        first = reader.get(_page({**filters, "createdTo": times[len(times) // 2]}, limit))
        middle = {**filters, "createdTo": times[len(times) // 2], "cursor": str(first["nextCursor"])}
        reader.measure(f"{name}, a page in the middle", repeated(lambda middle=middle: _page(middle, limit)))  # type: ignore[misc]


def main() -> None:
    """Fill a database, and print a table for a trader and one for an admin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--limit", type=int, default=20, help="orders per page")
    options = parser.parse_args()
    cluster = TestCluster(durable=True)
    try:
        servers = cluster.new()
        tokens = create_keys(
            servers, NewKey("default", "trader", Scope.READ), NewKey("default", "admin", Scope.ADMIN)
        )
        fill(servers, options.orders)
        with ServiceProcess({**servers.environment, **NO_DELAYS}) as service:
            service.wait_until_ready()
            for name, token in zip(("of one account", "of all accounts"), tokens, strict=True):
                print(f"\n{options.orders} orders; pages of {options.limit}, {name}")
                measure(servers, ListReader(service, token, options.rounds), options.limit)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
