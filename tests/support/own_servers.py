"""PostgreSQL and Valkey that a test may kill, and the load under which it does so.

The session's shared cluster is for tests that leave it alone; these are started for a file of tests, from
the main thread, in a folder of their own.
"""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psycopg2
from psycopg2.extensions import connection
from redis import Redis

from service import embedded
from service.embedded.binaries import valkey_server
from service.embedded.server import Server
from tests.support.judge import Verdict, open_orders, wait_for_the_end, wait_until
from tests.support.orders import MARKET_ORDER
from tests.support.process import ServiceProcess
from tests.support.servers import TestServers


class OwnServers:
    """Both servers, to be hurt. Each test takes a database of its own with ``new``."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="oee-own-")
        self._embedded = embedded.start(Path(self._folder.name), postgres=True, redis=True)
        self.postgres, self.valkey = self._embedded._servers
        self._names = (f"own_{number}" for number in itertools.count(1))

    def new(self) -> TestServers:
        """Return an empty database, and a Redis prefix that nobody has used."""
        name = next(self._names)
        assert self._embedded.database_url is not None
        assert self._embedded.redis_url is not None
        with self.admin() as admin, admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        url = self._embedded.database_url.replace("/engine?", f"/{name}?")
        return TestServers(url, self._embedded.redis_url, name)

    @contextlib.contextmanager
    def admin(self) -> Iterator[connection]:
        """Connect to PostgreSQL as one who may end others' sessions."""
        assert self._embedded.database_url is not None
        link = psycopg2.connect(self._embedded.database_url)
        link.autocommit = True
        try:
            yield link
        finally:
            link.close()

    @contextlib.contextmanager
    def redis(self) -> Iterator[Redis]:
        """Connect to Valkey."""
        assert self._embedded.redis_url is not None
        with Redis.from_url(self._embedded.redis_url) as link:
            yield link

    def end(self, server: Server, number: signal.Signals) -> None:
        """Send a server the signal that ends it, and wait until it has ended."""
        assert server.pid is not None
        os.kill(server.pid, number)
        wait_until(lambda: server.exit_report() is not None)

    def empty_redis(self) -> None:
        """Throw away what an ended Valkey has kept."""
        shutil.rmtree(self.valkey.folder)

    def start_again(self) -> None:
        """Start what has ended, and wait until it serves."""
        self._embedded.restart_dead()
        for server in (self.postgres, self.valkey):
            assert server.wait_ready(30)

    def stop(self) -> None:
        """Stop both and forget their data."""
        self._embedded.stop()
        self._folder.cleanup()


@contextlib.contextmanager
def own_valkey(*options: str) -> Iterator[str]:
    """Start a Valkey of one's own with options such as ``"--databases", "2"``; return its URL."""
    with tempfile.TemporaryDirectory(prefix="oee-valkey-") as folder:
        path = Path(folder) / "valkey.sock"
        command = [str(valkey_server()), "--port", "0", "--unixsocket", str(path), "--dir", folder]
        process = subprocess.Popen(
            [*command, "--save", "", "--loglevel", "warning", *options], stdout=subprocess.DEVNULL
        )
        try:
            wait_until(path.exists)
            yield f"unix://{path}"
        finally:
            process.kill()
            process.wait()


class Load:
    """Clients that place orders, one after the other, until they are told to stop.

    Each order has a client's id, so that what became of an unanswered one can be looked up. ``wrong`` holds
    every answer that the contract does not know: other than 201, and 503 with Retry-After.
    """

    _numbers = itertools.count(1)

    def __init__(self, service: ServiceProcess, *, clients: int = 4, pause_s: float = 0.03) -> None:
        self._service = service
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._place_for_ever) for _ in range(clients)]
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []
        self.wrong: list[str] = []
        self.slowest_s = 0.0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for_more(lambda: len(self.accepted), 10)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def unavailable(self) -> int:
        """How many were answered with 503."""
        return len(self.refused) + len(self.unknown)

    def wait_for_more(self, count: Callable[[], int], more: int = 1, within_s: float = 20) -> None:
        """Wait until a count of answers has grown."""
        wanted = count() + more
        wait_until(lambda: count() >= wanted or bool(self.wrong), within_s)
        assert not self.wrong, self.wrong[:3]

    def _place_for_ever(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=30)
        try:
            while not self._stopping.wait(self._pause_s):
                name = f"load-{next(self._numbers)}"
                began = time.monotonic()
                self._note(name, *place_one(link, name))
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - the thread's one way to say so
            self.wrong.append(repr(error))
        finally:
            link.close()

    def _note(self, name: str, status: int, body: dict[str, Any], retry_after: str | None) -> None:
        if status == 201:
            self.accepted.append(body["orderId"])
        elif status == 503 and retry_after:
            (self.unknown if "orderId" in body else self.refused).append(name)
        else:
            self.wrong.append(f"{status} {retry_after} {body}")


def place_one(
    link: http.client.HTTPConnection, client_order_id: str
) -> tuple[int, dict[str, Any], str | None]:
    """Place an order; return the status, the body and Retry-After."""
    body = json.dumps({**MARKET_ORDER, "clientOrderId": client_order_id})
    link.request("POST", "/api/orders/execute", body, {"Content-Type": "application/json"})
    answer = link.getresponse()
    return answer.status, json.loads(answer.read()), answer.headers["Retry-After"]


_probes = itertools.count(1)


def wait_until_it_works(
    service: ServiceProcess, since: float, promised: list[str], *, within_s: float = 30
) -> float:
    """Place an order and wait until it is confirmed; return the seconds since ``since``.

    The order's id goes to ``promised``.
    """
    link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    placed: list[str] = []

    def confirmed() -> bool:
        assert service.process.poll() is None, service.output[-2_000:]
        if not placed:
            status, body, _retry_after = place_one(link, f"probe-{next(_probes)}")
            assert status in {201, 503}, body
            if status == 201:
                placed.append(body["orderId"])
            return False
        link.request("GET", f"/api/orders/{placed[0]}")
        answer = link.getresponse()
        body = json.loads(answer.read())
        assert answer.status in {200, 503}, body
        return bool(body["status"] == "confirmed")

    with contextlib.closing(link):
        wait_until(confirmed, within_s)
    promised += placed
    return time.monotonic() - since


def judge_after_recovery(
    servers: TestServers, promised: list[str], since: float, *, within_s: float
) -> tuple[Verdict, float]:
    """Wait until what was promised has ended, and then the rest; return the verdict and the former's time.

    An order whose client was told that its outcome is unknown is found by the sweep, six seconds later.
    """
    wait_until(lambda: open_orders(servers).isdisjoint(promised), max(0, since + within_s - time.monotonic()))
    took_s = time.monotonic() - since
    verdict, _took_s = wait_for_the_end(servers, promised, within_s=10)
    assert verdict.clean, verdict
    return verdict, took_s


def share_of_a_core(service: ServiceProcess, over_s: float) -> float:
    """Return how much of a processor the service uses while nothing is asked of it."""
    used, began = service.cpu_s(), time.monotonic()
    time.sleep(over_s)
    return (service.cpu_s() - used) / (time.monotonic() - began)
