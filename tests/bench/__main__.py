"""Orders per second, CPU and commits per order, compared with a baseline that writes row by row.

The service runs as users run it, in a process of its own, on the embedded servers with fsync on; all of
it, and the client, share this machine's processors. Completion is read from the store.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from psycopg2.extensions import connection

from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.api_key import Scope
from service.domain.key_limits import MOST_OPEN_ORDERS, KeyLimits, LargestAmount
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.api_keys import ApiKeys, NewKey
from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.servers import TestCluster, TestServers

_WARM_UP = 300
_PATIENCE_S = 120
# Of every kind, and never exhausted.
_BUDGETS = KeyLimits(
    max_amount_per_day={token: LargestAmount(U64_MAX, 0) for token in ("SOL", "USDC", "JUP", "RAY")},
    max_usd_per_order=U64_MAX,
    max_usd_per_day=U64_MAX,
    max_open_orders=MOST_OPEN_ORDERS,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """The results of one run."""

    orders_per_s: float
    cpu_ms_per_order: float
    commits_per_order: float
    complete: int


class LoadedService:
    """A service under load."""

    def __init__(self, servers: TestServers, service: ServiceProcess, token: str = "") -> None:
        self._servers = servers
        self._service = service
        self._token = token

    @property
    def port(self) -> int:
        """The service's port."""
        return self._service.port

    def connect(self) -> AbstractContextManager[connection]:
        """Open a connection to the service's database."""
        return self._servers.connect()

    def run(self, orders: int, *, watch: bool) -> Figures:
        """Place orders and wait until all are confirmed."""
        before = self._counts()
        cpu, began = self._service.cpu_s(), time.monotonic()
        complete = self._load(orders, watch=watch)
        self._wait_for(before["confirmed"] + orders)
        seconds, cpu = time.monotonic() - began, self._service.cpu_s() - cpu
        # Each PostgreSQL backend reports its statistics within a second.
        time.sleep(1.2)
        commits = self._counts()["commits"] - before["commits"]
        return Figures(orders / seconds, 1000 * cpu / orders, commits / orders, complete)

    def _load(self, orders: int, *, watch: bool) -> int:
        command = [sys.executable, "-m", "tests.bench.load", f"--port={self._service.port}"]
        command += [f"--orders={orders}", f"--token={self._token}", *(["--watch"] if watch else [])]
        output = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=_PATIENCE_S
        ).stdout
        return int(json.loads(output)["complete"])

    def _wait_for(self, confirmed: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self._counts()["confirmed"] < confirmed:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all orders were confirmed:\n{self._service.output[-4000:]}")
            time.sleep(0.02)

    def _counts(self) -> dict[str, int]:
        with self._servers.connect() as link, link.cursor() as cursor:
            cursor.execute(
                "SELECT (SELECT count(*) FROM finished_orders WHERE status = 'confirmed'),"
                " (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())"
            )
            confirmed, commits = cursor.fetchone() or (0, 0)
        return {"confirmed": confirmed, "commits": commits}


@contextmanager
def metered_service(
    cluster: TestCluster, *, keyed: bool = False, **environment: str
) -> Iterator[LoadedService]:
    """Start a service without delays, warmed up; with a key that has limits of every kind."""
    servers = cluster.new()
    token = asyncio.run(_create_key(servers)) if keyed else ""
    settings = {**servers.environment, **NO_DELAYS, "WORKER_CONCURRENCY": "50", **environment}
    with ServiceProcess(settings) as service:
        service.wait_until_ready()
        rig = LoadedService(servers, service, token)
        rig.run(_WARM_UP, watch=False)
        yield rig


async def _create_key(servers: TestServers) -> str:
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    new = NewKey("bench", "bench", Scope.TRADE, limits=_BUDGETS)
    _key_id, token = await ApiKeys(database, Clock()).create(new)
    await database.close()
    return token


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=5_000)
    parser.add_argument("--watched", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cluster = TestCluster(durable=True)
    runs: dict[str, list[Figures]] = {}
    try:
        with (
            metered_service(cluster) as engine,
            metered_service(cluster, keyed=True) as keyed,
            metered_service(cluster, WRITE_GROUP_LIMIT="1") as baseline,
        ):
            for _ in range(options.rounds):
                for name, rig, orders, watch in (
                    ("group commit", engine, options.orders, False),
                    ("with key, budget, Idempotency-Key", keyed, options.orders, False),
                    ("row by row", baseline, options.orders // 5, False),
                    ("group commit, each order watched", engine, options.watched, True),
                ):
                    runs.setdefault(name, []).append(rig.run(orders, watch=watch))
                    print(name, runs[name][-1], file=sys.stderr)
    finally:
        cluster.stop()
    print(f"{'median of ' + str(options.rounds):34} orders/s   CPU ms/order   commits/order")
    for name, figures in runs.items():
        print(
            f"{name:34} {statistics.median(f.orders_per_s for f in figures):8.0f}"
            f"   {statistics.median(f.cpu_ms_per_order for f in figures):12.2f}"
            f"   {statistics.median(f.commits_per_order for f in figures):13.2f}"
        )
    incomplete = options.rounds * options.watched - sum(
        f.complete for f in runs["group commit, each order watched"]
    )
    print(f"watchers that did not see every status exactly once: {incomplete}")


if __name__ == "__main__":
    main()
