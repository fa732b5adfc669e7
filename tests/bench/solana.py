"""Orders per second, CPU and calls to nodes per order on Solana: ``python -m tests.bench.solana``.

The service runs as users run it, in a process of its own, on the embedded servers with fsync on; the local
chain in another one, with slots of 200 ms. Both, and the client, share this machine's processors. All orders
are placed at once. Their rate is that of their confirmations, from the first one to the last one.

Baselines in the same run: the same orders with one worker, which shares no call with others; and on the paper
market, which has no nodes to ask. What an idle service costs is measured first, and shown apart.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.process import NO_DELAYS, PROJECT, ServiceProcess, inherited
from tests.support.servers import TestCluster, TestServers

LEAST_ORDERS_PER_S = 20.0
MOST_CPU_MS = 2.5

_WARM_UP = 20
# So little that orders which are quoted together do not move a pool beyond each other's slippage.
_AMOUNT = "0.01"
_PATIENCE_S = 300
_RESULTS = """
    WITH placed AS (
        SELECT status_history -> -1 AS last, created_at, status_history
        FROM orders WHERE created_at >= to_timestamp(%(since)s)
    ), ended AS (
        SELECT
            (last ->> 'timestamp')::timestamptz AS at, created_at, last ->> 'status' AS status,
            (
                SELECT count(*) FROM jsonb_array_elements(status_history) AS entry
                WHERE entry ->> 'status' = 'routing'
            ) AS attempts
        FROM placed
    )
    SELECT
        count(*) FILTER (WHERE status = 'confirmed'),
        count(*) FILTER (WHERE status NOT IN ('confirmed', 'failed', 'expired', 'cancelled')),
        extract(epoch FROM max(at) - min(at))::float,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM at - created_at))::float,
        avg(attempts)::float
    FROM ended
"""


@dataclass(frozen=True, slots=True)
class SolanaFigures:
    """The results of one run; ``calls`` are those to nodes, by method."""

    orders: int
    confirmed: int
    orders_per_s: float
    cpu_ms: float
    idle_cpu_ms_per_s: float
    seconds: float
    median_s: float
    attempts: float
    commits: float
    calls: Counter[str] = field(default_factory=Counter)
    idle_calls_per_s: dict[str, float] = field(default_factory=dict)

    @property
    def net_cpu_ms(self) -> float:
        """The processor's time of one order without what an idle service takes."""
        return self.cpu_ms - self.idle_cpu_ms_per_s * self.seconds / self.orders


class ChainProcess:
    """The chain's process."""

    def __init__(self, endpoints: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.solana_chain", f"--endpoints={endpoints}"],
            cwd=PROJECT,
            env=inherited(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        paths = ["", *(f"/{place}" for place in range(2, endpoints + 1))]
        self.urls = ",".join(f"{self.url}{path}" for path in paths)

    def calls(self) -> Counter[str]:
        with urllib.request.urlopen(f"{self.url}/calls") as answer:  # noqa: S310 - of this machine
            return Counter(json.loads(answer.read()))

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class LoadedVenue:
    """A service under load, and the chain that it trades on; None: it trades on the paper market."""

    def __init__(self, servers: TestServers, service: ServiceProcess, chain: ChainProcess | None) -> None:
        self._servers = servers
        self._service = service
        self._chain = chain

    def run(self, orders: int, idle_s: float) -> SolanaFigures:
        """Measure an idle service, then place orders and wait until all have ended."""
        calls, cpu = self._calls(), self._service.cpu_s()
        time.sleep(idle_s)
        idle_cpu = (self._service.cpu_s() - cpu) / idle_s if idle_s else 0.0
        idle_calls = {method: count / idle_s for method, count in (self._calls() - calls).items()}
        calls, commits = self._calls(), self._commits()
        cpu, since, began = self._service.cpu_s(), time.time(), time.monotonic()
        command = [sys.executable, "-m", "tests.bench.load", f"--port={self._service.port}"]
        command += [f"--orders={orders}", f"--amount={_AMOUNT}"]
        subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
        confirmed, span_s, median_s, attempts = self._wait(since, orders)
        seconds, cpu = time.monotonic() - began, self._service.cpu_s() - cpu
        # Each PostgreSQL backend reports its statistics within a second.
        time.sleep(1.2)
        return SolanaFigures(
            orders,
            confirmed,
            (confirmed - 1) / span_s,
            1000 * cpu / orders,
            1000 * idle_cpu,
            seconds,
            median_s,
            attempts,
            (self._commits() - commits) / orders,
            self._calls() - calls,
            idle_calls,
        )

    def _wait(self, since: float, orders: int) -> tuple[int, float, float, float]:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with self._servers.connect() as link, link.cursor() as cursor:
                cursor.execute(_RESULTS, {"since": since})
                confirmed, left, span_s, median_s, attempts = cursor.fetchone() or (0, orders, 0, 0, 0)
            if not left:
                return confirmed, span_s, median_s, attempts
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} orders have not ended:\n{self._service.output[-4000:]}")
            time.sleep(0.5)

    def _commits(self) -> int:
        with self._servers.connect() as link, link.cursor() as cursor:
            cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
            [commits] = cursor.fetchone() or (0,)
            return int(commits)

    def _calls(self) -> Counter[str]:
        return Counter() if self._chain is None else self._chain.calls()


@contextmanager
def _rig(cluster: TestCluster, endpoints: int, workers: int) -> Iterator[LoadedVenue]:
    """Run a service; on the paper market if there are no endpoints."""
    servers = cluster.new()
    settings = {
        **NO_DELAYS,
        **servers.environment,
        "WORKER_CONCURRENCY": str(workers),
        "LOG_LEVEL": "WARNING",
    }
    chain = ChainProcess(endpoints) if endpoints else None
    try:
        if chain is not None:
            settings |= {"VENUE": "solana", "SOLANA_RPC_URLS": chain.urls}
        with ServiceProcess(settings) as service:
            rig = LoadedVenue(servers, service.wait_until_ready(), chain)
            rig.run(_WARM_UP, 0)
            yield rig
    finally:
        if chain is not None:
            chain.stop()


def _print(runs: dict[str, SolanaFigures]) -> None:
    figures: dict[str, Sequence[float]] = {
        "orders/s": [each.orders_per_s for each in runs.values()],
        "CPU ms/order": [each.cpu_ms for each in runs.values()],
        "  without what idling takes": [each.net_cpu_ms for each in runs.values()],
        "CPU ms/s, idle": [each.idle_cpu_ms_per_s for each in runs.values()],
        "commits/order": [each.commits for each in runs.values()],
        "attempts/order": [each.attempts for each in runs.values()],
        "not confirmed": [each.orders - each.confirmed for each in runs.values()],
        "s from POST to confirmed, median": [each.median_s for each in runs.values()],
    }
    _print_table("", list(runs), figures)
    solana = {name: each for name, each in runs.items() if each.calls}
    methods = sorted({method for each in solana.values() for method in each.calls})
    for title, of in (("calls per order", _calls_per_order), ("calls per second, idle", _idle_calls)):
        rows = {method: [of(each, method) for each in solana.values()] for method in methods}
        rows["all"] = [sum(values) for values in zip(*rows.values(), strict=True)]
        _print_table(title, list(solana), rows)


def _print_table(title: str, columns: list[str], rows: Mapping[str, Sequence[float]]) -> None:
    print("\n" + title.ljust(34) + "".join(f"{name:>30}" for name in columns))
    for name, values in rows.items():
        print(name.ljust(34) + "".join(f"{value:30.2f}" for value in values))


def _calls_per_order(figures: SolanaFigures, method: str) -> float:
    return figures.calls[method] / figures.orders


def _idle_calls(figures: SolanaFigures, method: str) -> float:
    return figures.idle_calls_per_s.get(method, 0.0)


def main() -> None:
    """Measure and print the tables; exit with 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=600)
    parser.add_argument("--few", type=int, default=100, help="of the run with one worker")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds in which nothing is traded")
    options = parser.parse_args()
    cluster = TestCluster(durable=True)
    runs: dict[str, SolanaFigures] = {}
    try:
        for name, endpoints, workers, orders in (
            ("three endpoints, 10 workers", 3, 10, options.orders),
            ("three endpoints, 50 workers", 3, 50, options.orders),
            ("one endpoint, 10 workers", 1, 10, options.orders),
            ("three endpoints, 1 worker", 3, 1, options.few),
            ("paper market, 10 workers", 0, 10, options.orders),
        ):
            with _rig(cluster, endpoints, workers) as rig:
                runs[name] = rig.run(orders, options.idle)
                print(name, runs[name], file=sys.stderr)
    finally:
        cluster.stop()
    _print(runs)
    first = runs["three endpoints, 10 workers"]
    print(f"\nbars: at least {LEAST_ORDERS_PER_S:.0f} orders/s, at most {MOST_CPU_MS} ms CPU/order")
    sys.exit(first.orders_per_s < LEAST_ORDERS_PER_S or first.cpu_ms > MOST_CPU_MS)


if __name__ == "__main__":
    main()
