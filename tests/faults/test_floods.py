"""No request that one client repeats delays other orders: each market order is confirmed within a second.

The floods use a lock, a lease, an epoch, a connection, a full read, or the event loop.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.support.flood import LIMIT_ORDER, Outcome, Request, ask, orders_under
from tests.support.judge import wait_until
from tests.support.load import place_many
from tests.support.orders import Json
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.report import Row, add
from tests.support.servers import TestCluster

Spawn = Callable[..., ServiceProcess]

LONGEST_WAIT_S = 1.0
SHORT_S, LONG_S = 2.0, 20.0
EXECUTE = "/api/orders/execute"


def resting(service: ServiceProcess, count: int) -> list[str]:
    return [ask(service, "POST", EXECUTE, LIMIT_ORDER)["orderId"] for _ in range(count)]


def ended(service: ServiceProcess, count: int) -> list[str]:
    """Return orders that have ended, with their quotes."""
    order_ids = place_many(service, count)
    wait_until(lambda: ask(service, "GET", "/api/orders?status=pending&limit=1")["orders"] == [], 60)
    return order_ids


def of_one(method: str, path: str, body: Json | None = None) -> Callable[[ServiceProcess], list[Request]]:
    return lambda _service: [Request(method, path, body)]


def lists(service: ServiceProcess) -> list[Request]:
    ended(service, 250)
    page = ask(service, "GET", "/api/orders?limit=100")
    return [
        Request("GET", path)
        for path in (
            "/api/orders?limit=500",
            "/api/orders?limit=500&status=confirmed",
            f"/api/orders?limit=500&cursor={page['nextCursor']}",
            "/api/orders?limit=500&tokenIn=NOBODY",
        )
    ]


def quotes(_service: ServiceProcess) -> list[Request]:
    return [
        Request("GET", f"/api/quotes?tokenIn={sold}&tokenOut={bought}&{amount}")
        for sold, bought, amount in (
            ("SOL", "USDC", "amountIn=20000"),
            ("JUP", "BONK", "amountIn=40{n}"),
            ("JUP", "BONK", "amountOut=400{n}"),
            ("RAY", "JUP", "amountOut=40"),
        )
    ]


def dry_runs(_service: ServiceProcess) -> list[Request]:
    return [
        Request("POST", f"{EXECUTE}?dryRun=true", {"orderType": "market", **swap})
        for swap in (
            {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "20000", "clientOrderId": "unknown"},
            {"tokenIn": "JUP", "tokenOut": "BONK", "amountIn": "40{n}"},
            {"tokenIn": "JUP", "tokenOut": "BONK", "amountOut": "400{n}"},
            {"tokenIn": "RAY", "tokenOut": "JUP", "amountOut": "40"},
        )
    ]


def sockets(service: ServiceProcess) -> list[Request]:
    """Return WebSocket requests for orders that have ended, which the service closes."""
    return [Request("WS", f"/api/orders/{order_id}/ws") for order_id in ended(service, 40)]


def sockets_of_resting(service: ServiceProcess) -> list[Request]:
    """Return WebSocket requests for resting orders, which the client closes."""
    return [Request("WS", f"/api/orders/{order_id}/ws") for order_id in resting(service, 20)]


def reads(service: ServiceProcess) -> list[Request]:
    client_id = {**LIMIT_ORDER, "clientOrderId": "known"}
    order_id = ask(service, "POST", EXECUTE, client_id)["orderId"]
    paths = ("by-client-id/known", "by-client-id/unknown", order_id)
    return [Request("GET", f"/api/orders/{path}") for path in paths]


def amendments(service: ServiceProcess) -> list[Request]:
    return [
        Request("PATCH", f"/api/orders/{order_id}", {"limitPrice": "9{n}"})
        for order_id in resting(service, 20)
    ]


def cancel_all(service: ServiceProcess) -> list[Request]:
    """Return cancellations of all resting orders of a pair, with new orders to cancel."""
    resting(service, 300)
    cancel = Request("POST", "/api/orders/cancel", {"orderType": "limit"})
    return [*[Request("POST", EXECUTE, LIMIT_ORDER)] * 9, cancel]


def cancel_ended(service: ServiceProcess) -> list[Request]:
    return [Request("DELETE", f"/api/orders/{order_id}") for order_id in ended(service, 40)]


def cancel_nothing(service: ServiceProcess) -> list[Request]:
    """Return a cancellation that examines every open order and matches none."""
    resting(service, 300)
    return [Request("POST", "/api/orders/cancel", {"tokenIn": "NOBODY"})]


FLOODS: dict[str, Callable[[ServiceProcess], list[Request]]] = {
    "lists": lists,
    "quotes": quotes,
    "dry runs": dry_runs,
    "sockets": sockets,
    "sockets of resting orders": sockets_of_resting,
    "reads": reads,
    "amendments": amendments,
    "cancel all": cancel_all,
    "cancel what has ended": cancel_ended,
    "cancel nothing": cancel_nothing,
    "health": of_one("GET", "/health"),
    "pools": of_one("GET", "/api/pools"),
    "venue": of_one("GET", "/api/venue"),
    "balances": of_one("GET", "/api/balances?limit=500"),
    "contract": of_one("GET", "/openapi.json"),
    "duplicates": of_one("POST", EXECUTE, {**LIMIT_ORDER, "clientOrderId": "again"}),
    "orders that rest": of_one("POST", EXECUTE, LIMIT_ORDER),
}
WORST = ("lists", "quotes", "dry runs", "sockets", "cancel all")


@pytest.fixture(scope="module")
def service(cluster: TestCluster) -> Iterator[ServiceProcess]:
    with ServiceFork({**NO_DELAYS, **cluster.new().environment, "LOG_LEVEL": "WARNING"}) as service:
        yield service.wait_until_ready()


@pytest.mark.parametrize("kind", WORST)
def test_a_flood_does_not_delay_orders(service: ServiceProcess, kind: str) -> None:
    judge(kind, orders_under(service, FLOODS[kind](service), seconds=SHORT_S))


@pytest.mark.long
@pytest.mark.parametrize("kind", FLOODS)
def test_a_long_flood_does_not_delay_orders(spawn: Spawn, kind: str) -> None:
    service = spawn(**NO_DELAYS, LOG_LEVEL="WARNING")
    judge(kind, orders_under(service, FLOODS[kind](service), seconds=LONG_S))
    assert "Traceback" not in service.output


def judge(kind: str, outcome: Outcome) -> None:
    add(
        Row(
            f"flood: {kind}",
            outcome.answers.total(),
            orders=len(outcome.waits_s),
            slowest_recovery_s=outcome.slowest_s,
            note=", ".join(f"{status}: {number:,}" for status, number in sorted(outcome.answers.items())),
        )
    )
    assert outcome.slowest_s < LONGEST_WAIT_S, outcome
