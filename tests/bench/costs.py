"""What an order costs: ``python -m tests.bench.costs``. The figures of docs/scaling.md.

Processor time of the service, PostgreSQL and Valkey, the log and the rows that PostgreSQL writes, and what
goes over the network: per market order, from its request to ``confirmed``, with group commit at full load and
nobody watching. The servers are the embedded ones with fsync on, as users run them.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from redis import Redis

from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess
from tests.support.proxy import Proxy
from tests.support.servers import TestCluster, TestServers

_WARM_UP = 500
_PATIENCE_S = 300
_TICKS = os.sysconf("SC_CLK_TCK")

_TABLES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
"""
# The embedded PostgreSQL is 18.
_LOG = """
SELECT wal_bytes::float8, wal_records::float8, wal_fpi::float8,
    (SELECT sum(fsyncs)::float8 FROM pg_stat_io WHERE object = 'wal'),
    (SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = current_database())
FROM pg_stat_wal
"""


class CountingProxy(Proxy):
    """A proxy that counts the bytes it carries, in both directions."""

    carried = 0

    async def _deliver(self, link: object, data: bytes, writer: object) -> None:
        self.carried += len(data)
        await super()._deliver(link, data, writer)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Counters:
    """What has been used since the servers were started: times in ms, sizes in bytes."""

    service_cpu: float
    postgres_cpu: float
    redis_cpu: float
    log_bytes: float
    log_records: float
    log_page_images: float
    log_syncs: float
    commits: float
    postgres_network: float
    redis_commands: float
    redis_network: float

    def since(self, before: "Counters", orders: int) -> "Counters":
        """Return the use per order."""
        names = [field.name for field in fields(self)]
        return Counters(*((getattr(self, name) - getattr(before, name)) / orders for name in names))


def _cpu_ms(*pids: int) -> float:
    """Return the processor time of processes, with their ended children."""
    used = 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += sum(map(int, stat[11:15]))
    return 1_000 * used / _TICKS


def _with_children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False
    )
    return [pid, *map(int, found.stdout.split())]


class Meter:
    """Reads the counters of a service and of its servers."""

    def __init__(self, servers: TestServers, service: ServiceProcess, proxy: CountingProxy) -> None:
        self._servers, self._service, self._proxy = servers, service, proxy
        self._redis = Redis.from_url(servers.redis_url)
        with servers.connect() as link:
            stat = Path(f"/proc/{link.info.backend_pid}/stat").read_text()
            self._postmaster = int(stat.rpartition(")")[2].split()[1])

    def read(self) -> Counters:
        """Read all counters."""
        time.sleep(1.5)  # PostgreSQL's sessions report their statistics within a second
        redis = self._redis.info()
        with self._servers.connect() as link, link.cursor() as cursor:
            cursor.execute(_LOG)
            [(written, records, page_images, syncs, commits)] = cursor.fetchall()
        return Counters(
            1_000 * self._service.cpu_s(),
            _cpu_ms(*_with_children(self._postmaster)),
            _cpu_ms(int(redis["process_id"])),
            written,
            records,
            page_images,
            syncs,
            commits,
            self._proxy.carried,
            redis["total_commands_processed"],
            redis["total_net_input_bytes"] + redis["total_net_output_bytes"],
        )

    def table_sizes(self) -> dict[str, int]:
        """Return the size of each table with its indexes, in bytes."""
        with self._servers.connect() as link, link.cursor() as cursor:
            cursor.execute(_TABLES)
            return dict(cursor.fetchall())

    def place(self, orders: int) -> float:
        """Place orders, and wait until all are confirmed; return how many per second."""
        options = [f"--port={self._service.port}", f"--orders={orders}"]
        command = [sys.executable, "-m", "tests.bench.load", *options]
        began, wanted = time.monotonic(), self._confirmed() + orders
        subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, timeout=_PATIENCE_S)
        while self._confirmed() < wanted:
            if time.monotonic() > began + _PATIENCE_S:
                raise TimeoutError(self._service.output[-2_000:])
            time.sleep(0.02)
        return orders / (time.monotonic() - began)

    def _confirmed(self) -> int:
        with self._servers.connect() as link, link.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM finished_orders WHERE status = 'confirmed'")
            [(count,)] = cursor.fetchall()
            return int(count)


@contextmanager
def _metered(cluster: TestCluster) -> Iterator[Meter]:
    servers = cluster.new()
    database = urlsplit(servers.database_url)
    socket = f"{parse_qs(database.query)['host'][0]}/.s.PGSQL.{database.port or 5432}"
    with CountingProxy(socket) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}{database.path}"
        settings = {**NO_DELAYS, **servers.environment, "DATABASE_URL": url, "WORKER_CONCURRENCY": "50"}
        with ServiceProcess(settings) as service:
            service.wait_until_ready()
            yield Meter(servers, service, proxy)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    orders = parser.parse_args().orders
    cluster = TestCluster(durable=True)
    try:
        with _metered(cluster) as meter:
            meter.place(_WARM_UP)
            sizes, before = meter.table_sizes(), meter.read()
            rate = meter.place(orders)
            used = meter.read().since(before, orders)
            grown = {name: size - sizes[name] for name, size in meter.table_sizes().items()}
    finally:
        cluster.stop()
    print(f"{orders} orders, {rate:.0f} a second; of each order:")
    for field in fields(used):
        print(f"{field.name.replace('_', ' '):20} {getattr(used, field.name):10.2f}")
    stored = sum(grown.values()) / orders
    print(f"{'stored bytes':20} {stored:10.0f}")
    for name, size in sorted(grown.items(), key=lambda each: -each[1]):
        if size / orders >= 1:
            print(f"  {name:18} {size / orders:10.0f}")


if __name__ == "__main__":
    main()
