"""``kill -9`` at every crash point, on a chain that outlives the process, loses transactions and forks."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.support import report
from tests.support.judge import Verdict, audit, wait_until_none_is_open
from tests.support.kills import QUICK, RANDOM, Killer, on_databases, shuffled, summary
from tests.support.load import Placed, post_all
from tests.support.orders import Json
from tests.support.process import ServiceFork, ServiceProcess
from tests.support.servers import TestCluster
from tests.support.solana_sandbox import FINALIZED_AFTER, SOLANA_POINTS
from tests.support.venues import SolanaChain, solana_chain

POINTS = {
    "before insert": 2,
    "after insert": 2,
    "before acknowledge": 3,
    "after acknowledge": 3,
    "before claim": 2,
    "after claim": 2,
    "before building": 4,
    "after building": 4,
    "before submitted": 4,
    "after submitted": 4,
    "before submit": 4,
    "after submit": 4,
    "before confirmed": 2,
    "after confirmed": 2,
    "before pending": 1,
    "after pending": 1,
    "before failed": 1,
    "after failed": 1,
    "before publish": 3,
    "after publish": 3,
    **SOLANA_POINTS,
}
"""The crash points, and the maximum number of times to pass one."""

DANGEROUS = (
    "after sign",
    "after submitted",
    "after send",
    "after submit",
    "after receipt",
    "before confirmed",
)
"""The short form kills once at each of them."""

SETTINGS = {**QUICK, "RETRY_BASE_DELAY_MS": "40", "QUEUE_RATE_LIMIT": "0"}
ORDERS = 6
# In millionths of what each endpoint is sent. What is lost must be sent again. What is late lands in the last
# block that may take it: until then no node knows it, and it may not be taken for lost.
SEND_FAULTS_PPM = {"/": {"drop": 300_000, "late": 300_000}, "/2": {"drop": 500_000, "late": 300_000}}
# It may take the whole life of a late transaction until a process gets to its point.
PATIENCE_S = 30
# A transaction that was not sent before its process died may expire, and its order begins a new one.
ENDED_WITHIN_S = 60

_MIXED: tuple[Json, ...] = (
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.5"},
    {"tokenIn": "USDC", "tokenOut": "SOL", "amountIn": "250", "slippageBps": 50},
    {"tokenIn": "SOL", "tokenOut": "BONK", "amountIn": "0.3", "slippageBps": 500},
    {"tokenIn": "USDC", "tokenOut": "SOL", "amountOut": "1.25"},
    # In two swaps, which leave a residue, and in several pools.
    {"tokenIn": "JUP", "tokenOut": "BONK", "amountIn": "40"},
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "200"},
    # The output would round to zero: it fails.
    {"tokenIn": "BONK", "tokenOut": "SOL", "amountIn": "0.00001"},
)


def _orders(rng: random.Random) -> list[Json]:
    return [
        {**rng.choice(_MIXED), "orderType": "market", "clientOrderId": f"c-{rng.getrandbits(96):024x}"}
        for _ in range(ORDERS)
    ]


class _ChainLives:
    """The processes on one database and one chain, one after the other.

    Args:
        cluster: Where to make the database.
        venue: The chain.
        seed: Decides what they are asked, and where they die.
    """

    def __init__(self, cluster: TestCluster, venue: SolanaChain, seed: int) -> None:
        self._servers = cluster.new()
        self._venue = venue
        self._rng = random.Random(seed)
        self._killer = Killer(
            {**SETTINGS, **venue.settings}, POINTS, life_s=(0.3, 2.5), patience_s=PATIENCE_S
        )
        self._placed = Placed()
        self.died_at: Counter[str] = Counter()

    def kill(self, point: str | None) -> None:
        """Start a process, and kill it while orders are placed."""
        # The quote of the next transaction is stale when it lands: it may fail there, and cost its fee.
        self._venue.process.arm("move_pool", bps=200)
        orders = self._placed.unanswered + _orders(self._rng)
        self._placed.unanswered = []

        def place(service: ServiceProcess) -> None:
            nonlocal orders
            placed, orders = post_all(service, orders, clients=3), []
            self._placed.add(placed)

        death = self._killer.kill(self._servers, point, self._rng, place)
        # Blocks vanish that are not final, with or without what was in them.
        depth, keep = self._rng.randint(1, FINALIZED_AFTER // 2), self._rng.random() < 0.5
        self._venue.process.arm("fork", depth=depth, keep=keep)
        self._placed.unanswered += orders
        self.died_at[death.at] += 1

    def end(self) -> Verdict:
        """Start a process without a crash point, let it end all orders, and compare them with the chain."""
        with ServiceFork({**SETTINGS, **self._venue.settings, **self._servers.environment}) as service:
            service.wait_until_ready()
            self._placed.add(post_all(service, self._placed.unanswered))
            wait_until_none_is_open(self._servers, within_s=ENDED_WITHIN_S)
            assert "Traceback" not in service.output, service.output
        verdict = self._venue.judge(self._servers, self._placed.ids)
        assert verdict.clean, verdict
        assert verdict.statuses.keys() <= {"confirmed", "failed"}, verdict
        # Although posted repeatedly, each order was stored once, and there are no others.
        assert verdict.orders == len(set(self._placed.ids))
        audit(self._servers, self._venue.settings)
        return verdict


def _run(cluster: TestCluster, points: Sequence[str | None], per_database: int, seed: int) -> Counter[str]:
    def lives(number: int, some: Sequence[str | None]) -> tuple[Counter[str], Verdict]:
        with solana_chain(endpoints=len(SEND_FAULTS_PPM)) as venue:
            for endpoint, faults in SEND_FAULTS_PPM.items():
                for kind, rate_ppm in faults.items():
                    venue.process.arm(kind, endpoint, times=None, rate_ppm=rate_ppm)
            run = _ChainLives(cluster, venue, seed + number)
            for point in some:
                run.kill(point)
            return run.died_at, run.end()

    died_at: Counter[str] = Counter()
    row = report.Row("solana: kill -9 at crash points and at random", len(points))
    for died, verdict in on_databases(points, per_database, lives):
        died_at += died
        row.orders += verdict.orders
    row.note = summary(died_at, seed)
    report.add(row)
    assert died_at.total() == len(points)
    return died_at


def test_killed_at_the_most_dangerous_points_nothing_is_executed_twice(cluster: TestCluster) -> None:
    died_at = _run(cluster, [*DANGEROUS, None], per_database=4, seed=1)
    assert died_at.keys() - {RANDOM} == set(DANGEROUS)


@pytest.mark.long
def test_killed_two_hundred_times_nothing_is_executed_twice(cluster: TestCluster) -> None:
    died_at = _run(cluster, shuffled(POINTS, 160, 40, seed=2), per_database=20, seed=3)
    assert died_at.keys() - {RANDOM} == set(POINTS)
