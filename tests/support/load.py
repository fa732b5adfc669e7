"""Many orders at once at a service in another process; what it does not accept is counted, not raised."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.support.orders import MARKET_ORDER
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
        return  # the service was killed: what it had not acknowledged was not promised
    finally:
        connection.close()
