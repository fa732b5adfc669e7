"""``kill -9`` while two instances use up a key's budgets: none is exceeded, and nothing is counted twice."""

import itertools
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import pytest

from service.domain.api_key import Scope
from service.domain.key_limits import KeyLimits, LargestAmount
from service.store.api_keys import NewKey
from tests.support import report
from tests.support.gem_market import rows
from tests.support.judge import open_orders, wait_until
from tests.support.keys import create_keys
from tests.support.kills import QUICK, Client, RequestResult, crash_at
from tests.support.orders import Json, order_of
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.resting_judge import deadlocks
from tests.support.servers import TestCluster, TestServers

SOL = 10**9
MOST_SOL, MOST_OPEN = 8, 7
LIMITS = KeyLimits(
    max_amount_per_day={"SOL": LargestAmount(MOST_SOL * SOL, 9)},
    max_usd_per_day=10**15,
    max_open_orders=MOST_OPEN,
)
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
SETTINGS = {**NO_DELAYS, **QUICK}

_POINTS = {
    "before insert": 40,
    "after insert": 40,
    "before end cancelled": 20,
    "after end cancelled": 20,
    "before confirmed": 10,
    "after publish": 40,
}
"""The crash points, and the maximum number of times to pass one."""

_RUN_S = 1.0


@dataclass
class Placement:
    """A request to place an order, which may be sent again; ``order_id`` once it was answered with 201."""

    key: str
    body: Json
    order_id: str | None = None


def bearer(token: str) -> dict[str, str]:
    """Return the header that sends an API key's token."""
    return {"Authorization": f"Bearer {token}"}


class Trader:
    """A client that places, repeats and cancels orders, on either instance, until the first one dies."""

    _numbers = itertools.count(1)

    def __init__(self, services: Sequence[ServiceProcess], token: str, seed: int) -> None:
        self._clients = [Client(service, bearer(token)) for service in services]
        self._rng = random.Random(seed)
        self.requests: list[Placement] = []
        self.refused = 0

    def run(self) -> None:
        """Trade until a connection breaks."""
        try:
            while True:
                self._step(self._rng.choice(self._clients))
        except ConnectionError:
            return
        finally:
            for client in self._clients:
                client.close()

    def _step(self, client: Client) -> None:
        rests = [each for each in self.requests if each.order_id and each.body["orderType"] == "limit"]
        what = self._rng.random()
        if what < 0.4 and rests:
            order_id = self._rng.choice(rests).order_id
            self._ask(client, "DELETE", f"/api/orders/{order_id}")
        elif what < 0.6 and self.requests:
            self.place(client, self._rng.choice(self.requests))
        else:
            amount = {"amountIn": "0.01"} if self._rng.random() < 0.3 else {**RESTING, "amountIn": "1"}
            self.requests.append(Placement(f"key-{next(self._numbers)}", order_of(**amount)))
            self.place(client, self.requests[-1])

    def place(self, client: Client, request: Placement) -> None:
        """Send a request to place an order."""
        key = {"Idempotency-Key": request.key}
        answer = self._ask(client, "POST", "/api/orders/execute", request.body, **key)
        if answer.status == 201:
            assert request.order_id in {None, answer.body["id"]}, "one key, two orders"
            request.order_id = answer.body["id"]
        else:
            # A request that was answered with 201 is never refused.
            assert (answer.status, request.order_id) == (403, None) or answer.status == 503, answer
            self.refused += answer.status == 403

    def _ask(
        self, client: Client, method: str, path: str, body: Json | None = None, **headers: str
    ) -> RequestResult:
        """Send a request.

        Raises:
            ConnectionError: There was no response.
        """
        answer = client.ask(method, path, body, **headers)
        if not answer.status:
            raise ConnectionError(path)
        return answer


def _check(servers: TestServers) -> None:
    """Compare what is counted with the orders that count."""
    [(counted, orders, opened, most)] = rows(
        servers,
        """SELECT
            (SELECT coalesce(sum(amount), 0) FROM key_usage)
                - (SELECT coalesce(sum(amount), 0) FROM key_refunds),
            (SELECT coalesce(sum(amount), 0) FROM orders
                WHERE status NOT IN ('failed', 'cancelled', 'expired')),
            (SELECT count(*) FROM open_orders),
            (SELECT count(*) FROM orders) - (SELECT count(*) FROM idempotency_keys)""",
    )
    assert counted == orders
    assert counted <= MOST_SOL * SOL
    assert opened <= MOST_OPEN
    assert most == 0, "orders without a key, or keys without an order"


def _kill_once(
    servers: TestServers, other: ServiceProcess, token: str, rng: random.Random
) -> tuple[int, int]:
    """Kill one of two instances that trade; return how many orders were accepted, and how many refused."""
    point = rng.choice(sorted(_POINTS))
    crash = crash_at(point, _POINTS, rng) if rng.random() < 0.7 else {}
    with ServiceFork({**servers.environment, **SETTINGS, **crash}) as service:
        service.wait_until_ready()
        traders = [Trader((service, other), token, rng.getrandbits(32)) for _ in range(4)]
        killer = threading.Timer(rng.uniform(0.2, _RUN_S), service.kill)
        killer.start()
        with ThreadPoolExecutor(len(traders)) as pool:
            for running in [pool.submit(trader.run) for trader in traders]:
                running.result()
        killer.cancel()
        service.kill()
    _check(servers)
    # What got no answer is sent again: it is placed once, or refused.
    for trader in traders:
        with closing(Client(other, bearer(token))) as client:
            for request in trader.requests:
                trader.place(client, request)
    _check(servers)
    accepted = sum(request.order_id is not None for trader in traders for request in trader.requests)
    return accepted, sum(trader.refused for trader in traders)


def _cancel_all(service: ServiceProcess, token: str) -> None:
    """Cancel all open orders."""
    with closing(Client(service, bearer(token))) as client:
        assert client.ask("POST", "/api/orders/cancel", {"all": True}).status == 200


def _run(cluster: TestCluster, kills: int, seed: int) -> None:
    servers = cluster.new()
    rng = random.Random(seed)
    [token] = create_keys(servers, NewKey("default", "bot", Scope.TRADE, limits=LIMITS))
    accepted = refused = 0
    with ServiceFork({**servers.environment, **SETTINGS}) as other:
        other.wait_until_ready()
        for _ in range(kills):
            placed, turned_away = _kill_once(servers, other, token, rng)
            accepted, refused = accepted + placed, refused + turned_away
            # Room for the next ones.
            _cancel_all(other, token)
        wait_until(lambda: not open_orders(servers))
    _check(servers)
    [(left, filled)] = rows(
        servers,
        "SELECT (SELECT sum(amount) FROM key_usage) - (SELECT coalesce(sum(amount), 0) FROM key_refunds),"
        " (SELECT coalesce(sum(amount), 0) FROM orders WHERE status = 'confirmed')",
    )
    assert left == filled
    assert deadlocks(servers) == 0
    assert min(accepted, refused) > kills, (accepted, refused)
    report.add(
        report.Row("killed while a budget is used up", kills, accepted, note=f"{refused:,} over the budget")
    )


def test_three_kills_do_not_exceed_a_budget(cluster: TestCluster) -> None:
    _run(cluster, 3, seed=1)


@pytest.mark.long
def test_a_hundred_kills_do_not_exceed_a_budget(cluster: TestCluster) -> None:
    _run(cluster, 100, seed=2)
