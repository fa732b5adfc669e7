"""``kill -9`` around approvals: no order is executed unapproved, none twice, none is lost."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import pytest

from tests.support import report
from tests.support.approvals import APPROVAL_POINTS, Team, create_team
from tests.support.gem_market import rows
from tests.support.judge import audit, audit_now
from tests.support.kills import (
    STEPWISE,
    Client,
    Killer,
    RequestResult,
    let_leases_run_out,
    on_databases,
    share_out,
    shuffled,
    summary,
)
from tests.support.orders import Json
from tests.support.process import ServiceFork, ServiceProcess
from tests.support.servers import TestCluster, TestServers

SETTINGS = {
    **STEPWISE,
    "PRICE_VARIANCE": "0",
    "PAPER_FAILURE_RATE": "transient=0.1",
    "MAX_RETRIES": "10",
    "RETRY_BASE_DELAY_MS": "40",
}

_POINTS = {
    **APPROVAL_POINTS,
    # The other points that such an order reaches.
    "after insert": 6,
    "before fire": 1,
    "after fire": 1,
    "before claim": 3,
    "after claim": 3,
    "after building": 3,
    "before submitted": 3,
    "after submitted": 3,
    "after settle": 2,
    "before amend": 2,
    "after amend": 2,
    "before end cancelled": 2,
    "after publish": 12,
}
"""The crash points, and the maximum number of times to pass one."""

DANGEROUS = ("before approve", "after approve", "after refuse", "after fire")
"""The points after which recovery is hardest; the short form kills at each of them."""

_KILLER = Killer(SETTINGS, _POINTS, life_s=(0.1, 1), patience_s=4.0)
_SETTLED_WITHIN_S = 30.0


class ApprovalKind(StrEnum):
    """An order's kind."""

    MARKET = "market"
    IMMEDIATE = "immediate, payable"
    PAID = "limit, payable at once"
    NEVER = "limit, never payable"


_BODIES: dict[ApprovalKind, Json] = {
    ApprovalKind.MARKET: {"orderType": "market"},
    ApprovalKind.IMMEDIATE: {"orderType": "limit", "limitPrice": "50", "timeInForce": "IOC"},
    ApprovalKind.PAID: {"orderType": "limit", "limitPrice": "50"},
    ApprovalKind.NEVER: {"orderType": "limit", "limitPrice": "90000"},
}
_ENDS = {
    ApprovalKind.MARKET: {"confirmed"},
    # Its only attempt may be hit by a simulated failure, or by a kill.
    ApprovalKind.IMMEDIATE: {"confirmed", "expired"},
    ApprovalKind.PAID: {"confirmed"},
    ApprovalKind.NEVER: {"open"},
}
"""The statuses in which an approved order may remain."""

_PLACED = (ApprovalKind.MARKET, ApprovalKind.PAID, ApprovalKind.NEVER, ApprovalKind.IMMEDIATE) * 4


@dataclass(eq=False)
class TeamOrder:
    """An order, and what its clients asked and were answered."""

    kind: ApprovalKind
    body: Json
    id: str | None = None
    asked: set[str] = field(default_factory=set)
    answers: list[tuple[str, int]] = field(default_factory=list)
    unanswered: list[tuple[str, str]] = field(default_factory=list)
    """Decisions without a response, with their idempotency keys: they are sent again."""

    @property
    def name(self) -> str:
        """The client order id."""
        name: str = self.body["clientOrderId"]
        return name

    def was_answered(self, what: str) -> bool:
        """Return whether a decision was answered with 200."""
        return (what, 200) in self.answers


Step = Callable[[Client, Client], None]
"""What the bot and the boss do."""


class Clients:
    """What the clients of one database do and know, across the runs of its service."""

    def __init__(self, team: Team, rng: random.Random) -> None:
        self._team = team
        self._rng = rng
        self._lock = threading.Lock()
        self.orders: list[TeamOrder] = []
        """All that were sent; those with an id were accepted."""
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def work(self, service: ServiceProcess) -> None:
        """Place orders, and approve, refuse, amend and cancel them, from several connections."""
        rng = self._rng
        known = [order for order in self.orders if order.id is not None]
        steps: list[Step] = [partial(self._repeat, order) for order in self.orders]
        for kind in rng.sample(_PLACED, len(_PLACED)):
            order = TeamOrder(kind, self._body(kind))
            self.orders.append(order)
            steps.append(partial(self._place_and_decide, order))
        # Orders of earlier runs too, some of them twice at the same time.
        for order in rng.sample(known, min(len(known), 8)):
            steps += [partial(self._decide, order, "approve")] * rng.choice((1, 2))
        never = [order for order in known if order.kind is ApprovalKind.NEVER]
        steps += [partial(self._amend, order) for order in rng.sample(never, min(len(never), 4))]
        steps += [partial(self._cancel, order) for order in rng.sample(known, min(len(known), 2))]
        self.run(service, steps)

    def approve_all(self, service: ServiceProcess) -> None:
        """Place what was not accepted, and approve everything that still awaits it."""
        self.run(service, [partial(self._repeat, order) for order in self.orders])
        self.run(service, [partial(self._decide, order, "approve") for order in self.orders])
        assert all(order.id and not order.unanswered for order in self.orders)

    def run(self, service: ServiceProcess, steps: Iterable[Step]) -> None:
        """Let several clients do steps concurrently, until all are done."""

        def work(left: Iterator[Step]) -> None:
            bot, boss = (Client(service, key.header) for key in (self._team.bot, self._team.boss))
            for step in left:
                step(bot, boss)
            bot.close()
            boss.close()

        share_out(steps, work)

    def _body(self, kind: ApprovalKind) -> Json:
        return {
            "clientOrderId": f"a-{self._rng.getrandbits(80):020x}",
            "tokenIn": "SOL",
            "tokenOut": "USDC",
            "amountIn": f"0.00{self._rng.randint(10, 99)}",
            "slippageBps": 2_000,
            **_BODIES[kind],
        }

    def _repeat(self, order: TeamOrder, bot: Client, boss: Client) -> None:
        """Send again what got no response."""
        if order.id is None:
            self._place(order, bot)
        unanswered, order.unanswered = order.unanswered, []
        for what, key in unanswered:
            self._send(order, what, key, boss)

    def _place_and_decide(self, order: TeamOrder, bot: Client, boss: Client) -> None:
        self._place(order, bot)
        what = self._rng.choice(("approve", "approve", "approve", "refuse", None))
        if what is not None:
            self._decide(order, what, bot, boss)

    def _place(self, order: TeamOrder, bot: Client) -> None:
        answer = bot.ask("POST", "/api/orders/execute", order.body)
        if answer.status in {200, 201}:
            order.id = answer.body["id"]
            self._count("orders placed")
            if answer.status == 201 and answer.body["awaitingApproval"] is not True:
                self._note("place", answer)
        elif not answer.unknown:
            self._note("place", answer)

    def _decide(self, order: TeamOrder, what: str, _bot: Client, boss: Client) -> None:
        if order.id is not None:
            self._send(order, what, f"{order.name}-{self._rng.getrandbits(64):x}", boss)

    def _send(self, order: TeamOrder, what: str, key: str, boss: Client) -> None:
        order.asked.add(what)
        answer = boss.ask("POST", f"/api/orders/{order.id}/{what}", None, **{"Idempotency-Key": key})
        order.answers.append((what, answer.status))
        self._count(f"{what}: {answer.status}")
        if answer.unknown:
            order.unanswered.append((what, key))
        elif answer.status not in {200, 409}:
            self._note(what, answer)

    def _amend(self, order: TeamOrder, bot: Client, _boss: Client) -> None:
        change = {"limitPrice": f"{self._rng.randint(80_000, 99_000)}.5"}
        answer = bot.ask("PATCH", f"/api/orders/{order.id}", change)
        self._count(f"amend: {answer.status}")
        awaits = answer.status == 200 and answer.body["awaitingApproval"] is True
        if not (awaits or answer.status == 409 or answer.unknown):
            self._note("amend", answer)

    def _cancel(self, order: TeamOrder, bot: Client, _boss: Client) -> None:
        order.asked.add("cancel")
        answer = bot.ask("DELETE", f"/api/orders/{order.id}")
        if answer.status not in {200, 202, 409} and not answer.unknown:
            self._note("cancel", answer)

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _note(self, what: str, answer: RequestResult) -> None:
        with self._lock:
            self.wrong.append(f"{what}: {answer.status} {answer.body}")


_READ = """
SELECT
    o.client_order_id, o.status, o.status_history, p.approve_by IS NOT NULL,
    (SELECT count(*) FROM paper_transactions AS t WHERE t.order_id = o.id AND t.status = 'landed')
FROM orders AS o
LEFT JOIN open_orders AS p ON p.order_id = o.id
"""


def judge_approvals(servers: TestServers, clients: Clients) -> Counter[str]:
    """Check every order from the tables alone; return how many have each status."""
    stored = {row[0]: row[1:] for row in rows(servers, _READ)}
    wrong = [*clients.wrong, *asyncio.run(audit_now(servers))]
    for order in clients.orders:
        if order.name in stored:
            wrong += [f"{order.id} ({order.kind}): {what}" for what in _judge(order, *stored[order.name])]
        elif order.id is not None:
            wrong.append(f"{order.id} ({order.kind}) was promised and is lost")
    assert not wrong, "\n".join(wrong)
    return Counter(status for status, *_rest in stored.values())


def _judge(
    order: TeamOrder, status: str, history: list[dict[str, Any]], awaited: bool, landed: int
) -> Iterator[str]:
    awaiting = yield from _judge_approvals(order, history)
    if awaited != (awaiting and status == "open"):
        yield f"is {status}, and {'awaits' if awaited else 'does not await'} approval: {history}"
    # Of a submitted one, the landing may not be recorded yet.
    if landed > 1 or (status != "submitted" and (status == "confirmed") != (landed == 1)):
        yield f"is {status}, and landed {landed} times"
    if status in {"failed", "expired"} and status not in _ENDS[order.kind]:
        yield f"is {status}: {history}"
    if order.was_answered("approve") and not any("approvedBy" in entry for entry in history):
        yield f"was said to be approved: {history}"
    if order.was_answered("refuse") and "refusedBy" not in history[-1]:
        yield f"was said to be refused: {history}"


def _judge_approvals(order: TeamOrder, history: list[dict[str, Any]]) -> Generator[str, None, bool]:
    """Check that an order was executed only after its approval; return whether it awaits one."""
    walk = [entry["status"] for entry in history]
    if walk[:2] != ["pending", "open"] or "awaitingApproval" not in history[1]:
        yield f"did not await approval: {history}"
    if "routing" in walk and "approve" not in order.asked:
        yield f"was executed, and nobody approved it: {history}"
    awaiting = False
    for entry in history:
        if "awaitingApproval" in entry:
            awaiting = True
        elif "approvedBy" in entry:
            if not awaiting:
                yield f"was approved twice: {history}"
            awaiting = False
        elif entry["status"] in {"routing", "building", "submitted", "confirmed"} and awaiting:
            yield f"was executed unapproved: {history}"
    return awaiting


@dataclass
class ApprovalLives:
    """One database, and the processes that died on it."""

    servers: TestServers
    rng: random.Random
    died_at: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.clients = Clients(asyncio.run(create_team(self.servers)), random.Random(self.rng.random()))

    def live(self, point: str | None) -> bool:
        """Start a process, and kill it while it is used; return whether it died at the given point."""
        death = _KILLER.kill(self.servers, point, self.rng, self.clients.work)
        self.died_at[death.at] += 1
        judge_approvals(self.servers, self.clients)
        let_leases_run_out(self.servers)
        return death.at == point

    def finish(self) -> float:
        """Approve what is left, wait until all of it has ended, and return how long that took."""
        clients = self.clients
        with ServiceFork({**SETTINGS, "PAPER_FAILURE_RATE": "0", **self.servers.environment}) as service:
            service.wait_until_ready()
            clients.approve_all(service)
            settled_s = self._wait_until_settled()
            clients.run(service, [lambda bot, _boss: _cancel_rest(bot)])
            assert "Traceback" not in service.output, service.output
        assert set(judge_approvals(self.servers, clients)) <= {"confirmed", "cancelled", "expired"}
        assert audit(self.servers)["open_orders"] == 0
        return settled_s

    def _wait_until_settled(self) -> float:
        began = time.monotonic()
        while True:
            stored = dict(rows(self.servers, "SELECT client_order_id, status FROM orders"))
            left = [
                f"{order.id} ({order.kind}) is {stored[order.name]}: {order.answers}"
                for order in self.clients.orders
                if stored[order.name] not in {*_ENDS[order.kind], *(["cancelled"] if _may_end(order) else [])}
            ]
            took_s = time.monotonic() - began
            if not left:
                return took_s
            assert took_s < _SETTLED_WITHIN_S, "\n".join(left)
            time.sleep(0.05)


def _may_end(order: TeamOrder) -> bool:
    """Return whether somebody asked to refuse or cancel an order."""
    return bool(order.asked & {"refuse", "cancel"})


def _cancel_rest(bot: Client) -> None:
    answer = bot.ask("POST", "/api/orders/cancel", {"all": True})
    assert (answer.status, answer.body.get("cancelRequested")) == (200, 0), answer


def _kill(
    cluster: TestCluster, points: Sequence[str | None], *, per_database: int, seed: int, sure: bool = False
) -> Counter[str]:
    def run(number: int, share: Sequence[str | None]) -> tuple[ApprovalLives, float]:
        lives = ApprovalLives(cluster.new(), random.Random(seed + number))
        for point in share:
            while not lives.live(point) and sure:
                pass
        return lives, lives.finish()

    died_at: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    orders, slowest = 0, 0.0
    for lives, settled_s in on_databases(points, per_database, run):
        died_at += lives.died_at
        counts += lives.clients.counts
        orders += len(lives.clients.orders)
        slowest = max(slowest, settled_s)
    told = ", ".join(f"{counts[what]:,} {what}" for what in ("approve: 200", "approve: 409", "refuse: 200"))
    note = f"{summary(died_at, seed)}; {told}"
    report.add(
        report.Row("kill -9 around approvals", died_at.total(), orders, slowest_recovery_s=slowest, note=note)
    )
    return died_at


def test_killed_around_approvals(cluster: TestCluster) -> None:
    died_at = _kill(cluster, DANGEROUS, per_database=2, seed=21, sure=True)
    assert set(died_at) >= set(DANGEROUS)


@pytest.mark.long
def test_killed_a_hundred_times_around_approvals(cluster: TestCluster) -> None:
    points = shuffled(_POINTS, 85, 15, seed=7)
    died_at = _kill(cluster, points, per_database=20, seed=8)
    assert died_at.total() == len(points)
    assert set(died_at) >= set(APPROVAL_POINTS), f"never killed at {set(APPROVAL_POINTS) - set(died_at)}"
