"""A flood: one client, in its own process, that repeats requests as fast as they are answered.

Its connections and its duration are limited. Meanwhile the test places one market order per second and
measures the time from its POST until a client sees it confirmed.
"""

import asyncio
import http.client
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Self

import aiohttp

from tests.support.orders import MARKET_ORDER, Json
from tests.support.process import PROJECT, ServiceProcess

CONNECTIONS = 8
LIMIT_ORDER: Json = {
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amountIn": "1",
    "orderType": "limit",
    "limitPrice": "900",
}
"""An order that rests: its price is never reached."""

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a flood; the method WS opens a WebSocket, receives a message, and closes it.

    ``{n}`` in the path or in the body's strings is replaced by a number that is unique within the flood.
    """

    method: str
    path: str
    body: Json | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from POST to ``confirmed`` of each order, and the flood's responses by status."""

    waits_s: list[float]
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def slowest_s(self) -> float:
        """The longest time of an order."""
        return max(self.waits_s)


class Flood:
    """Repeats requests in turn over several connections, as a context manager.

    After its end, ``answers`` counts the responses by status (or by the error's name).
    """

    def __init__(
        self, url: str, requests: Sequence[Request], *, seconds: float, connections: int = CONNECTIONS
    ) -> None:
        self.answers: Counter[str] = Counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.flood", url, str(seconds), str(connections)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        json.dump([asdict(request) for request in requests], self._process.stdin)
        self._process.stdin.close()
        self._output = self._process.stdout

    def __enter__(self) -> Self:
        assert self._output.readline() == "begun\n"  # a response has arrived
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        last = self._output.read()
        self._output.close()
        self._process.wait()
        self.answers.update(json.loads(last))


def orders_under(
    service: ServiceProcess,
    requests: Sequence[Request],
    *,
    seconds: float,
    connections: int = CONNECTIONS,
    order: Json = MARKET_ORDER,
    every_s: float = 1.0,
) -> Outcome:
    """Flood a service while placing one market order per second; return how long each took.

    Raises:
        AssertionError: An order was rejected, or not ``confirmed`` within 30 s.
    """
    waits_s: list[float] = []
    with Flood(service.url, requests, seconds=seconds + _PATIENCE_S, connections=connections) as flood:
        began = time.monotonic()
        while (ahead := time.monotonic() - began) < seconds:
            time.sleep(max(0.0, len(waits_s) * every_s - ahead))  # the pace, not a wait for something
            waits_s.append(time_to_confirmed(service, order))
    return Outcome(waits_s, flood.answers)


def time_to_confirmed(service: ServiceProcess, order: Json = MARKET_ORDER) -> float:
    """Place an order, poll until it is confirmed, and return the seconds."""
    link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=_PATIENCE_S)
    try:
        began = time.monotonic()
        body = _ask(link, "POST", "/api/orders/execute", order)
        while body["status"] != "confirmed":
            assert body["status"] not in {"failed", "cancelled", "expired"}, body
            assert time.monotonic() - began < _PATIENCE_S, body
            time.sleep(0.01)
            body = _ask(link, "GET", f"/api/orders/{body['orderId']}")
        return time.monotonic() - began
    finally:
        link.close()


def ask(service: ServiceProcess, method: str, path: str, body: Json | None = None) -> Json:
    """Send one request on a new connection; the response must be a success."""
    link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=_PATIENCE_S)
    try:
        return _ask(link, method, path, body)
    finally:
        link.close()


def _ask(link: http.client.HTTPConnection, method: str, path: str, body: Json | None = None) -> Json:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    link.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = link.getresponse()
    content: Json = json.loads(answer.read())
    assert answer.status in {200, 201}, content
    return content


def _filled(value: Any, number: int) -> Any:
    """Return a path or a body with ``{n}`` replaced."""
    if isinstance(value, str):
        return value.replace("{n}", str(number))
    if isinstance(value, dict):
        return {name: _filled(each, number) for name, each in value.items()}
    return value


async def _repeat(url: str, requests: list[Request], seconds: float, connections: int) -> None:
    answers: Counter[str] = Counter()
    numbers = count()
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:

        async def repeat() -> None:
            while True:
                number = next(numbers)
                request = requests[number % len(requests)]
                try:
                    answers[await _send(session, request, number)] += 1
                except (aiohttp.ClientError, OSError) as error:
                    answers[type(error).__name__] += 1
                if sum(answers.values()) == 1:
                    print("begun", flush=True)  # noqa: T201 - to the process that started this one

        clients = [asyncio.create_task(repeat()) for _ in range(connections)]
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(15, stop.set)
        try:
            await asyncio.wait(
                [asyncio.create_task(stop.wait()), *clients], timeout=seconds, return_when="FIRST_COMPLETED"
            )
        finally:
            for client in clients:
                client.cancel()
            await asyncio.wait(clients)
    print(json.dumps(answers), flush=True)  # noqa: T201


async def _send(session: aiohttp.ClientSession, request: Request, number: int) -> str:
    path = _filled(request.path, number)
    if request.method == "WS":
        async with session.ws_connect(path) as socket:
            await socket.receive()
        return "101"
    async with session.request(request.method, path, json=_filled(request.body, number)) as answer:
        await answer.read()
        return str(answer.status)


if __name__ == "__main__":
    asyncio.run(
        _repeat(
            sys.argv[1],
            [Request(**each) for each in json.load(sys.stdin)],
            seconds=float(sys.argv[2]),
            connections=int(sys.argv[3]),
        )
    )
