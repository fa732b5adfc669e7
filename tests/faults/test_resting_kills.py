"""``kill -9`` while orders rest, fire, rest again, expire, are amended and cancelled."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.support import report
from tests.support.judge import audit
from tests.support.kills import (
    STEPWISE,
    Client,
    Killer,
    ServingPeriod,
    let_leases_run_out,
    on_databases,
    shuffled,
    summary,
)
from tests.support.process import ServiceFork, ServiceProcess
from tests.support.resting import (
    IMMEDIATE,
    RESTING_POINTS,
    Book,
    Kind,
    Step,
    first_pool,
    pause,
    run_steps,
    second_pool,
    third_pool,
)
from tests.support.resting_judge import (
    Books,
    deadlocks,
    judge_resting,
    migrate_and_witness,
)
from tests.support.servers import TestCluster, TestServers

SETTINGS = {
    **STEPWISE,
    "PRICE_VARIANCE": "0",
    # So that limit orders rest again, and others are retried.
    "PAPER_FAILURE_RATE": "transient=0.1,slippage=0.25",
    "MAX_RETRIES": "10",
    "RETRY_BASE_DELAY_MS": "40",
}

_POINTS = {
    **RESTING_POINTS,
    # The other points that a resting order reaches.
    "after insert": 5,
    "before claim": 6,
    "after claim": 6,
    "after building": 10,
    "before submitted": 10,
    "after submitted": 10,
    "after submit": 10,
    "after settle": 5,
    "before pending": 1,
    "before confirmed": 8,
    "after publish": 20,
}
"""The crash points, and the maximum number of times to pass one: a run does not last long."""

DANGEROUS = ("after fire", "after request cancel", "after amend", "after open", "before expired")
"""The points after which recovery is hardest; the short form kills at each of them."""

_KINDS = (
    *(Kind.PAID,) * 2,
    *(Kind.LATER,) * 5,
    *(Kind.NEVER,) * 4,
    *(Kind.GTD_NEVER,) * 3,
    *(Kind.SNIPE_POOL,) * 2,
    *(Kind.SNIPE_PRICE,) * 2,
    *(Kind.IOC_PAID,) * 2,
    *(Kind.FOK_NEVER,) * 2,
    Kind.GTD_PAID,
    Kind.GTD_LATER,
    Kind.MARKET,
    Kind.SNIPE_TIME,
    Kind.SNIPE_NEVER,
    Kind.SNIPE_UNTIL,
)
"""The orders that are placed in each run."""

_AMENDABLE = {Kind.NEVER, Kind.GTD_NEVER, Kind.SNIPE_NEVER, Kind.LATER}
_NEEDS_NO_TOKEN = {Kind.MARKET, Kind.PAID, Kind.SNIPE_POOL}
_CHANGES = 5
_LATEST = 24

_KILLER = Killer(SETTINGS, _POINTS, life_s=(0.2, 1.5), patience_s=4.0)
_SETTLED_WITHIN_S = 30.0
_EXPIRED_WITHIN_S = 1.3
"""A second, plus a margin for a busy machine."""


@dataclass
class Lives:
    """One database, and the processes that died on it."""

    servers: TestServers
    book: Book
    rng: random.Random
    lives: list[ServingPeriod] = field(default_factory=list)
    died_at: Counter[str] = field(default_factory=Counter)

    def live(self, point: str | None) -> bool:
        """Start a process, use all features concurrently, and kill it; then check the tables.

        Returns whether it died at the given point.
        """
        death = _KILLER.kill(self.servers, point, self.rng, self._do_everything)
        self.died_at[death.at] += 1
        if death.served is not None:
            self.lives.append(death.served)
        self.look()
        return death.at == point

    def _do_everything(self, service: ServiceProcess) -> None:
        """Place orders of every kind, list pools, amend and cancel, from several connections."""
        book, rng = self.book, self.rng
        token = book.new_token()
        again, book.unsent = book.unsent, []
        pools, book.unlisted = book.unlisted, []
        orders = book.mixed(token, _KINDS)
        client = Client(service)
        for pool in pools:
            book.list_pool(client, pool)
        # Only these can be placed before there is a pool.
        for order in orders:
            if order.kind is Kind.SNIPE_POOL:
                book.place(client, order)
        listed = book.list_pool(client, first_pool(token))
        client.close()
        placing: list[Step] = []
        for order in orders:
            if listed or order.kind in _NEEDS_NO_TOKEN:
                placing += [partial(book.place, order=order)] * (order.kind is not Kind.SNIPE_POOL)
            else:
                book.unsent.append(order)
        rng.shuffle(placing)
        changes: list[Step] = [partial(book.list_pool, pool=second_pool(token))]
        changes += [self._amend_any, self._cancel_any] * _CHANGES
        if rng.random() < 0.3:
            changes.append(partial(book.cancel_token, token=token))
        rng.shuffle(changes)
        # Some while orders are being placed, most afterwards.
        for change in changes[:4]:
            placing.insert(rng.randint(len(placing) // 2, len(placing)), change)
        steps: list[Step] = [partial(book.place_again, order=order) for order in again]
        steps += placing
        for change in changes[4:]:
            steps += [pause(rng.uniform(0, 0.15)), change]
        run_steps(service, steps)

    def _amend_any(self, client: Client) -> None:
        if orders := [order for order in self.book.orders if order.kind in _AMENDABLE]:
            self.book.amend(client, self.rng.choice(orders[-_LATEST:]))

    def _cancel_any(self, client: Client) -> None:
        # IOC and FOK orders have ended by then.
        if orders := [order for order in self.book.orders if order.kind not in IMMEDIATE]:
            self.book.cancel(client, self.rng.choice(orders[-_LATEST:]))

    def look(self) -> Books:
        """Check the tables, and the promises to clients."""
        books = judge_resting(self.servers, self.lives, late_s=_EXPIRED_WITHIN_S)
        wrong = books.wrong + self.book.wrong
        wrong += [
            f"{order.id} ({order.kind}) was promised and is lost"
            for order in self.book.orders
            if order.id not in books.by_id
        ]
        wrong += [
            f"{order_id} was cancelled and is {books.by_id[order_id]}"
            for order_id in self.book.cancelled
            if books.by_id[order_id] != "cancelled"
        ]
        assert not wrong, "\n".join(wrong)
        return books

    def finish(self) -> tuple[Books, float]:
        """Start a process without a crash point, and let all orders' conditions occur: all must end."""
        settings = {**SETTINGS, "PAPER_FAILURE_RATE": "0"}
        book = self.book
        with ServiceFork({**settings, **self.servers.environment}) as service:
            service.wait_until_ready()
            ready_at = time.time()
            client = Client(service)
            for pool in book.unlisted:
                assert book.list_pool(client, pool)
            for order in book.unsent:
                book.place_again(client, order)
            for token in book.tokens:
                assert book.list_pool(client, second_pool(token))
                assert book.list_pool(client, third_pool(token))
            settled_s = self._wait_until_settled()
            answer = client.ask("POST", "/api/orders/cancel", {"all": True})
            client.close()
            self.lives.append(ServingPeriod(ready_at, time.time()))
            assert answer.status == 200, answer
            assert answer.body["cancelRequested"] == 0, answer
            assert service.process.poll() is None, service.output
            assert "Traceback" not in service.output, service.output
        books = self.look()
        assert set(books.statuses) <= {"confirmed", "cancelled", "expired"}, books.statuses
        assert audit(self.servers)["open_orders"] == 0
        return books, settled_s

    def _wait_until_settled(self) -> float:
        """Wait until every order has an allowed status; return how long the executable ones took."""
        began = time.monotonic()
        with self.servers.connect() as link, link.cursor() as cursor:
            cursor.execute(
                "SELECT greatest(0, coalesce(extract(epoch FROM max(not_before) - now()), 0))::float8"
                " FROM open_orders"
            )
            [(paused_s,)] = cursor.fetchall()
            while True:
                cursor.execute("SELECT id::text, status FROM orders")
                left = self.book.astray(dict(cursor.fetchall()))
                took_s = time.monotonic() - began
                if not left:
                    return max(0.0, took_s - float(paused_s))
                forgotten = "\n".join(left)
                assert took_s < _SETTLED_WITHIN_S + paused_s, f"{len(left)} were forgotten:\n{forgotten}"
                time.sleep(0.1)


def _one_after_the_other(
    servers: TestServers, points: Sequence[str | None], seed: int, *, patient: float, sure: bool
) -> Lives:
    """Kill at one point after the other.

    Args:
        servers: An empty database's.
        points: The points at which processes die; None is a random instant.
        seed: The seed of all random choices.
        patient: How often to wait for a dead process's leases; otherwise they expire at once.
        sure: Whether to repeat a run that did not reach its point.
    """
    rng = random.Random(seed)
    migrate_and_witness(servers)
    lives = Lives(servers, Book(random.Random(seed + 1)), rng)
    for point in points:
        while not lives.live(point) and sure:
            let_leases_run_out(servers)
        if rng.random() >= patient:
            let_leases_run_out(servers)
        elif rng.random() < 0.5:
            # Orders expire while no process is running.
            time.sleep(rng.uniform(0, 1.5))
    return lives


def _kill(
    cluster: TestCluster,
    points: Sequence[str | None],
    *,
    per_database: int,
    patient: float,
    seed: int,
    sure: bool = False,
) -> Counter[str]:
    died_at: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    late_s = slowest = 0.0
    orders = 0

    def run(number: int, share: Sequence[str | None]) -> tuple[Lives, Books, float]:
        lives = _one_after_the_other(cluster.new(), share, seed + number, patient=patient, sure=sure)
        return lives, *lives.finish()

    for lives, books, settled_s in on_databases(points, per_database, run):
        died_at += lives.died_at
        counts.update(books.statuses, fires=books.fires, returns=books.returns)
        counts.update(lives.book.counts, deadlocks=deadlocks(lives.servers))
        orders += books.orders
        late_s, slowest = max(late_s, books.late_s), max(slowest, settled_s)
    told = ("fires", "returns", "confirmed", "cancelled", "expired", "amendments", "deadlocks")
    note = (
        f"{summary(died_at, seed)};"
        f" {', '.join(f'{counts[what]:,} {what}' for what in told)}; expired {late_s:.1f} s late at most"
    )
    what = "kill -9 while orders rest, fire, are cancelled"
    report.add(report.Row(what, died_at.total(), orders, slowest_recovery_s=slowest, note=note))
    return died_at


def test_killed_while_orders_rest(cluster: TestCluster) -> None:
    died_at = _kill(cluster, DANGEROUS, per_database=3, patient=0, seed=11, sure=True)
    assert set(died_at) >= set(DANGEROUS)


@pytest.mark.long
def test_killed_three_hundred_times_while_orders_rest(cluster: TestCluster) -> None:
    points = shuffled(_POINTS, 275, 25, seed=5)
    died_at = _kill(cluster, points, per_database=25, patient=0.3, seed=6)
    assert died_at.total() == len(points)
    assert set(died_at) >= set(_POINTS), f"never killed at {set(_POINTS) - set(died_at)}"
