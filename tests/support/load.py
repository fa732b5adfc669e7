"""Many concurrent orders for a service in another process; rejected ones are counted, not raised."""

import http.client
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.support.orders import MARKET_ORDER, Json
from tests.support.process import ServiceProcess

_AMOUNTS = ("1", "0.25", "3.5", "12")


def place_many(service: ServiceProcess, count: int, *, clients: int = 8) -> list[str]:
    """Place orders from several connections; return the ids of those that were accepted."""
    with ThreadPoolExecutor(clients) as pool:
        shares = pool.map(lambda share: list(_place(service, share)), _shares(count, clients))
        return [order_id for share in shares for order_id in share]


def _shares(count: int, clients: int) -> list[int]:
    return [count // clients + (client < count % clients) for client in range(clients)]


def _place(service: ServiceProcess, count: int) -> Iterator[str]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    try:
        for number in range(count):
            body = json.dumps({**MARKET_ORDER, "amountIn": _AMOUNTS[number % len(_AMOUNTS)]})
            connection.request("POST", "/api/orders/execute", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = json.loads(answer.read())
            if answer.status == 201:
                yield content["orderId"]
    except (OSError, http.client.HTTPException):
        return  # the service was killed: orders without a response were not promised
    finally:
        connection.close()


_MIXED = (
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.5"},
    {"tokenIn": "USDC", "tokenOut": "SOL", "amountIn": "250", "slippageBps": 50},
    {"tokenIn": "SOL", "tokenOut": "BONK", "amountIn": "0.3", "slippageBps": 500},
    {"tokenIn": "JUP", "tokenOut": "RAY", "amountIn": "40"},
    {"tokenIn": "USDC", "tokenOut": "SOL", "amountOut": "1.25"},
    # In two swaps, and over both DEXs.
    {"tokenIn": "JUP", "tokenOut": "BONK", "amountIn": "40"},
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "20000"},
    # The output would round to zero: it fails permanently.
    {"tokenIn": "BONK", "tokenOut": "SOL", "amountIn": "0.00001"},
    {"tokenIn": "USDT", "tokenOut": "USDC", "amountIn": "1000", "slippageBps": 1},
)


@dataclass
class Placed:
    """The results of placing orders: ``ids`` were promised, ``unanswered`` may exist or not."""

    ids: list[str] = field(default_factory=list)
    unanswered: list[Json] = field(default_factory=list)

    def add(self, other: "Placed") -> None:
        """Add the results of others."""
        self.ids += other.ids
        self.unanswered += other.unanswered


def mixed_orders(count: int, rng: random.Random) -> list[Json]:
    """Return orders of several pairs and amounts, each with its own client order id."""
    return [
        {**rng.choice(_MIXED), "orderType": "market", "clientOrderId": f"c-{rng.getrandbits(96):024x}"}
        for _ in range(count)
    ]


def post_all(service: ServiceProcess, orders: Sequence[Json], *, clients: int = 8) -> Placed:
    """Post orders from several connections; those that got no 200 or 201 can be posted again."""
    placed = Placed()
    with ThreadPoolExecutor(clients) as pool:
        for share in pool.map(
            lambda some: _post(service, some), (orders[n::clients] for n in range(clients))
        ):
            placed.add(share)
    return placed


def _post(service: ServiceProcess, orders: Sequence[Json]) -> Placed:
    placed, left = Placed(), iter(orders)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    try:
        for order in left:
            try:
                connection.request(
                    "POST", "/api/orders/execute", json.dumps(order), {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                content = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                placed.unanswered += itertools.chain([order], left)
                break
            if answer.status in {200, 201}:
                placed.ids.append(content.get("orderId") or content["id"])
            else:
                placed.unanswered.append(order)
    finally:
        connection.close()
    return placed
