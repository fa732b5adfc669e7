"""``kill -9`` at every crash point and at random instants, repeatedly on one database."""

import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from service.crash_points import POINTS
from tests.support import report
from tests.support.approvals import APPROVAL_POINTS
from tests.support.judge import (
    Verdict,
    audit,
    judge,
    versions_of_open_orders,
    wait_until_all_go_on,
    wait_until_none_is_open,
)
from tests.support.load import mixed_orders, post_all
from tests.support.orders import Json
from tests.support.process import ServiceFork
from tests.support.resting import REQUEST_POINTS, RESTING_POINTS
from tests.support.servers import TestCluster, TestServers
from tests.support.solana_sandbox import SOLANA_POINTS

SETTINGS = {
    "QUOTE_DELAY_MS": "0-20",
    "EXECUTION_DELAY_MS": "0-60",
    "QUEUE_RATE_LIMIT": "0",
    "WORKER_CONCURRENCY": "50",
    "INSTANCE_TIMEOUT_MS": "500",
    # So that every step occurs, including retries and failures.
    "PAPER_FAILURE_RATE": "transient=0.2,permanent=0.1",
    "RETRY_BASE_DELAY_MS": "40",
    "LOG_LEVEL": "WARNING",
}

# The last process takes all orders at once: the time that one waits for another's slot is no recovery time.
_LAST = {**SETTINGS, "WORKER_CONCURRENCY": "2000"}

DANGEROUS = (
    "after insert",
    "after claim",
    "after submitted",
    "before submit",
    "after submit",
    "after settle",
    "before confirmed",
    "after confirmed",
    "before publish",
    "before settle",
    "after building",
    "before submitted",
    "after pending",
    "before failed",
    "before acknowledge",
)
"""The points after which recovery is hardest; the short form kills once at each of them."""

_ELSEWHERE = {*RESTING_POINTS, *REQUEST_POINTS, *APPROVAL_POINTS, *SOLANA_POINTS}
_MARKET_POINTS = [point for point in POINTS if point not in _ELSEWHERE]
"""The points that market orders reach.

``test_resting_kills.py``, ``test_request_kills.py``, ``test_approval_kills.py`` and ``test_solana_kills.py``
kill at the others.
"""

# A process that has no order left does not reach its point, and is killed. The time says nothing: on a busy
# machine it may miss its own INSTANCE_TIMEOUT_MS again and again, and begin its orders anew.
_ENDED_WITHIN_S = 30.0
_RECOVERED_WITHIN_S = 5.0

# Points that a group of orders passes together, and points that few orders pass.
_SELDOM = {"insert", "claim", "settle", "publish", "pending", "failed"}


@dataclass
class _Lives:
    """The results of the processes of one database."""

    promised: list[str] = field(default_factory=list)
    unanswered: list[Json] = field(default_factory=list)
    died_at: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)


def _kill_once(
    lives: _Lives, servers: TestServers, point: str | None, orders: int, rng: random.Random
) -> None:
    """Start a process, place orders, and kill it: at a point, or without one at a random instant."""
    environment = {**SETTINGS, **servers.environment}
    if point is not None:
        often = 3 if point.split()[-1] in _SELDOM else orders // 2
        environment["CRASH_AT"] = f"{point}:{rng.randint(1, often)}"
    life_s = rng.uniform(0, 0.6) if point is None else _ENDED_WITHIN_S
    with ServiceFork(environment) as service, ThreadPoolExecutor(1) as pool:
        try:
            service.wait_until_ready()
        except AssertionError:
            # It began to recover before it listened, and died at the point.
            assert service.process.returncode == -signal.SIGKILL, service.output
            lives.died_at[point or "random"] += 1
            return
        began = time.monotonic()
        left_behind = versions_of_open_orders(servers)
        again, lives.unanswered = lives.unanswered, []
        placing = pool.submit(post_all, service, again + mixed_orders(orders, rng))
        while service.process.poll() is None and time.monotonic() - began < life_s:
            all_placed = placing.done()
            still_open = versions_of_open_orders(servers)
            if left_behind and not left_behind.items() & still_open.items():
                lives.recoveries_s.append(time.monotonic() - began)
                left_behind = {}
            if point is not None and all_placed and not still_open:
                break
            time.sleep(0.02)
        else:
            assert point is None or service.process.poll() is not None, service.output
        code = service.process.poll()
        assert code in {None, -signal.SIGKILL}, service.output
        lives.died_at["random" if code is None or point is None else point] += 1
        service.kill()
        placed = placing.result()
        lives.promised += placed.ids
        lives.unanswered += placed.unanswered


def _finish(lives: _Lives, servers: TestServers) -> Verdict:
    """Start a process without a crash point, let it finish all orders, and check the tables."""
    with ServiceFork({**_LAST, **servers.environment}) as service:
        service.wait_until_ready()
        left_behind = versions_of_open_orders(servers)
        again, lives.unanswered = lives.unanswered, []
        placed = post_all(service, again)
        assert not placed.unanswered
        lives.promised += placed.ids
        try:
            lives.recoveries_s.append(
                wait_until_all_go_on(servers, left_behind, within_s=_RECOVERED_WITHIN_S)
            )
            wait_until_none_is_open(servers, within_s=_ENDED_WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{service.output}") from None
    verdict = judge(servers, lives.promised)
    assert verdict.clean, verdict
    assert audit(servers)["orders"] == verdict.orders
    # Although posted repeatedly, each order was stored once, and there are no others.
    assert verdict.orders == len(set(lives.promised))
    return verdict


def _kill_again_and_again(
    cluster: TestCluster, points: list[str | None], *, per_database: int, orders: int, seed: int
) -> Counter[str]:
    rng = random.Random(seed)
    died_at: Counter[str] = Counter()
    row = report.Row("kill -9 at crash points and at random", len(points))
    slowest = 0.0
    for first in range(0, len(points), per_database):
        servers, lives = cluster.new(), _Lives()
        for point in points[first : first + per_database]:
            _kill_once(lives, servers, point, orders, rng)
        verdict = _finish(lives, servers)
        row.orders += verdict.orders
        died_at += lives.died_at
        slowest = max(slowest, *lives.recoveries_s)
    named = died_at.total() - died_at["random"]
    row.slowest_recovery_s = slowest
    row.note = f"{named} at {len(died_at - Counter(random=died_at['random']))} named points, seed {seed}"
    report.add(row)
    assert died_at.total() == len(points)
    assert slowest < _RECOVERED_WITHIN_S, slowest
    return died_at


def test_killed_at_the_most_dangerous_points(cluster: TestCluster) -> None:
    died_at = _kill_again_and_again(cluster, list(DANGEROUS), per_database=15, orders=24, seed=1)
    assert set(died_at) >= set(DANGEROUS), f"never killed at {set(DANGEROUS) - set(died_at)}"


@pytest.mark.long
def test_killed_a_thousand_times(cluster: TestCluster) -> None:
    # Every point equally often, and one kill in four at a random instant.
    rng = random.Random(3)
    points: list[str | None] = [_MARKET_POINTS[number % len(_MARKET_POINTS)] for number in range(750)]
    points += [None] * 250
    rng.shuffle(points)
    died_at = _kill_again_and_again(cluster, points, per_database=50, orders=24, seed=4)
    assert set(died_at) >= set(_MARKET_POINTS), f"never killed at {set(_MARKET_POINTS) - set(died_at)}"
