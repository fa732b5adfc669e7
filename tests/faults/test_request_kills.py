"""``kill -9`` around requests that are sent again: with idempotency keys, batches, cancel timers."""

import math
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.domain.api_key import Scope
from service.store.api_keys import NewKey
from tests.support import report
from tests.support.judge import audit, wait_until
from tests.support.keys import create_keys
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
from tests.support.resting import REQUEST_POINTS
from tests.support.servers import TestCluster, TestServers

SETTINGS = {**STEPWISE, "PAPER_FAILURE_RATE": "0"}

_POINTS = {
    **REQUEST_POINTS,
    "before insert": 8,
    "after insert": 8,
    "before end cancelled": 3,
    "after end cancelled": 3,
    "before submitted": 5,
}

_ACCOUNTS = ("desk", "timer-1", "timer-2", "timer-3")
_ORDERS, _BATCHES, _CANCELLED, _COPIES = 8, 2, 2, 3
_TIMEOUT_MS = 1_000
_KILLER = Killer(SETTINGS, _POINTS, life_s=(0.05, 1.5), patience_s=3.0)
_ANSWERED_WITHIN_S = 10.0
_ENDED_WITHIN_S = 3.0
_MARKET: Json = {"orderType": "market", "tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "0.001"}
_RESTING: Json = {**_MARKET, "orderType": "limit", "limitPrice": "1000000"}


@dataclass(eq=False)
class KeyedRequest:
    """A POST with an idempotency key, sent until it is answered; ``copies`` of it at once.

    ``answers`` are the successful responses, which all copies must share.
    """

    path: str
    body: Json
    key: str
    account: str
    copies: int = _COPIES
    after: "KeyedRequest | None" = None
    """It is sent only once this one is answered."""
    answers: list[Json] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """The labels of the orders that it places; each order has its own."""
        orders = self.body.get("orders", [self.body])
        return [order["label"] for order in orders if "tokenIn" in order]

    @property
    def is_due(self) -> bool:
        """Whether it is to be sent."""
        return not self.answers and (self.after is None or bool(self.after.answers))


@dataclass
class RequestLives:
    """One database, its clients' requests, and the processes that died on it."""

    servers: TestServers
    rng: random.Random
    tokens: dict[str, str]
    requests: list[KeyedRequest] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    died_at: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0

    def live(self, point: str | None) -> bool:
        """Start a process, send everything concurrently, and kill it; return whether it died at the point."""
        death = _KILLER.kill(self.servers, point, self.rng, self._send_more)
        self.died_at[death.at] += 1
        return death.at == point

    def _send_more(self, service: ServiceProcess) -> None:
        self.requests += self._new_requests()
        self._send_all(service)

    def _new_requests(self) -> list[KeyedRequest]:
        """Return a process's new requests: orders, batches, cancellations, and a timer on its own account."""
        self._number += 1
        name = f"{self._number}"
        requests = []
        for number in range(_ORDERS):
            label = f"o-{name}-{number}"
            requests.append(self._request("execute", {**_MARKET, "label": label}))
        for number in range(_BATCHES):
            orders = [{**_MARKET, "label": f"b-{name}-{number}-{part}"} for part in range(4)]
            requests.append(self._request("batch", {"orders": orders}))
        for number in range(_CANCELLED):
            label = f"c-{name}-{number}"
            placed = self._request("execute", {**_RESTING, "label": label}, copies=1)
            cancelled = self._request("cancel", {"label": label})
            cancelled.after = placed
            requests += [placed, cancelled]
        account = self.rng.choice([account for account in self.tokens if account.startswith("timer")])
        resting = self._request("execute", {**_RESTING, "label": f"t-{name}"}, copies=1, account=account)
        timer = self._request("cancel-after", {"timeoutMs": _TIMEOUT_MS}, account=account)
        timer.after = resting
        return [*requests, resting, timer]

    def _request(
        self, path: str, body: Json, *, copies: int = _COPIES, account: str = "desk"
    ) -> KeyedRequest:
        return KeyedRequest(f"/api/orders/{path}", body, f"{self.rng.getrandbits(64):016x}", account, copies)

    def _send_all(self, service: ServiceProcess, within_s: float = math.inf) -> None:
        """Send every request that is not answered, until all are, or the process has died."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and service.process.poll() is None:
            if all(request.answers for request in self.requests):
                return
            due = [request for request in self.requests if request.is_due]
            copies = [request for request in due for _ in range(request.copies)]
            self.rng.shuffle(copies)
            self._send(service, copies)

    def _send(self, service: ServiceProcess, requests: Sequence[KeyedRequest]) -> None:
        def work(left: Iterator[KeyedRequest]) -> None:
            with closing(Client(service)) as client:
                for request in left:
                    key = {
                        "Authorization": f"Bearer {self.tokens[request.account]}",
                        "Idempotency-Key": request.key,
                    }
                    self._record(request, client.ask("POST", request.path, request.body, **key))

        share_out(requests, work)

    def _record(self, request: KeyedRequest, answer: RequestResult) -> None:
        """Record a response: what is not yet known is asked again."""
        status, body = answer.status, answer.body
        again = status in {0, 409, 503}
        if status == 200 and "results" in body:
            again = any(result["status"] in {409, 503} for result in body["results"])
        with self._lock:
            if again:
                return
            if status not in {200, 201}:
                self.wrong.append(f"{request.path} {request.body}: {status} {body}")
            request.answers.append(body)

    def finish(self) -> dict[str, str]:
        """Start a process without a crash point, answer everything, and judge; return orders' statuses."""
        with ServiceFork({**SETTINGS, **self.servers.environment}) as service:
            service.wait_until_ready()
            self._send_all(service, _ANSWERED_WITHIN_S)
            wait_until(lambda: not self._astray(), within_s=_ENDED_WITHIN_S + _TIMEOUT_MS / 1000)
            assert "Traceback" not in service.output, service.output
        return self._judge()

    def _rows(self, statement: str) -> list[Any]:
        with self.servers.connect() as link, link.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def _astray(self) -> list[str]:
        """Return the orders that are not as the answers say: filled, cancelled, or cancelled by a timer."""
        cancels_at: dict[str, str] = defaultdict(str)
        for request in self.requests:
            for answer in request.answers:
                if "cancelsAt" in answer:
                    cancels_at[request.account] = max(cancels_at[request.account], answer["cancelsAt"])
        found = self._rows("SELECT label, account, status, rfc3339(created_at) FROM orders")
        return [
            f"{label} of {account}, placed at {created_at}, is {status}"
            for label, account, status, created_at in found
            if status != self._expected(label, created_at, cancels_at[account])
        ]

    def _expected(self, label: str, created_at: str, cancels_at: str) -> str:
        match label[0]:
            case "c":
                return "cancelled"
            case "t":
                return "cancelled" if created_at <= cancels_at else "open"
        return "confirmed"

    def _judge(self) -> dict[str, str]:
        stored = self._rows("SELECT label, id::text, status FROM orders")
        ids: dict[str, list[str]] = defaultdict(list)
        for label, order_id, _status in stored:
            ids[label].append(order_id)
        wrong = list(self.wrong) + self._astray()
        for request in self.requests:
            wrong += self._judge_request(request, ids)
        twice = self._rows(
            "SELECT order_id::text FROM paper_transactions"
            " WHERE status = 'landed' GROUP BY 1 HAVING count(*) > 1"
        )
        wrong += [f"{order_id} landed more than once" for (order_id,) in twice]
        expected = {label for request in self.requests for label in request.labels}
        wrong += [f"{label}: nobody sent it" for label in ids.keys() - expected]
        assert not wrong, "\n".join(wrong)
        audit(self.servers)
        return {order_id: status for _label, order_id, status in stored}

    @staticmethod
    def _judge_request(request: KeyedRequest, ids: dict[str, list[str]]) -> Iterable[str]:
        if not request.answers:
            yield f"{request.path} {request.body} was never answered"
            return
        told: list[list[str]] = []
        for answer in request.answers:
            if request.path.endswith("/execute"):
                told.append([answer["orderId"]])
            elif request.path.endswith("/batch"):
                told.append([result["order"]["orderId"] for result in answer["results"]])
            elif answer != request.answers[0]:
                yield f"{request.path} {request.body}: {request.answers}"
        for label, *answers in zip(request.labels, *told, strict=True):
            if len(ids[label]) != 1 or set(answers) != set(ids[label]):
                yield f"{label}: orders {ids[label]}, answered {answers}"


def _kill(
    cluster: TestCluster, points: Sequence[str | None], *, per_database: int, seed: int, sure: bool = False
) -> Counter[str]:
    def run(number: int, share: Sequence[str | None]) -> tuple[RequestLives, dict[str, str]]:
        servers = cluster.new()
        keys = [NewKey(account, "client", Scope.TRADE) for account in _ACCOUNTS]
        tokens = dict(zip(_ACCOUNTS, create_keys(servers, *keys), strict=True))
        lives = RequestLives(servers, random.Random(seed + number * per_database), tokens)
        for point in share:
            while not lives.live(point) and sure:
                let_leases_run_out(servers)
            if lives.rng.random() < 0.5:
                let_leases_run_out(servers)
        return lives, lives.finish()

    died_at: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    requests = 0
    for lives, ended in on_databases(points, per_database, run, at_once=1):
        statuses.update(ended.values())
        died_at += lives.died_at
        requests += sum(request.copies for request in lives.requests)
    note = (
        f"{summary(died_at, seed)};"
        f" {requests:,} copies of requests; {statuses['confirmed']:,} confirmed,"
        f" {statuses['cancelled']:,} cancelled"
    )
    what = "kill -9 around idempotency keys, batches, cancel timers"
    report.add(report.Row(what, died_at.total(), statuses.total(), note=note))
    return died_at


def test_killed_around_requests_that_are_sent_again(cluster: TestCluster) -> None:
    points = ("after reserve", "before store response", "after insert", "after set timer", "before end timer")
    died_at = _kill(cluster, points, per_database=5, seed=1, sure=True)
    assert set(died_at) >= set(points)


@pytest.mark.long
def test_killed_a_hundred_times_around_requests_that_are_sent_again(cluster: TestCluster) -> None:
    points = shuffled(_POINTS, 85, 15, seed=2)
    died_at = _kill(cluster, points, per_database=20, seed=3)
    assert died_at.total() == len(points)
    assert set(died_at) >= set(_POINTS), f"never killed at {set(_POINTS) - set(died_at)}"
