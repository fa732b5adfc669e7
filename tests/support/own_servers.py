"""PostgreSQL and Valkey that a test may kill, and a load on the service.

Tests that do not disturb the servers share the session's cluster; these servers are started per test file,
from the main thread, in their own folder.
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
from tests.support.venues import PAPER, JudgedVenue


class OwnServers:
    """Both servers, for fault injection. Each test gets its own database with ``new``.

    Args:
        within: The folder for their data folder; None: that of temporary files.
    """

    def __init__(self, within: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="oee-own-", dir=within)
        self._embedded = embedded.start(Path(self._folder.name), postgres=True, redis=True)
        self.postgres, self.valkey = self._embedded._servers
        self._names = (f"own_{number}" for number in itertools.count(1))

    def new(self) -> TestServers:
        """Return an empty database and an unused Redis prefix."""
        name = next(self._names)
        assert self._embedded.database_url is not None
        assert self._embedded.redis_url is not None
        with self.admin() as admin, admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        url = self._embedded.database_url.replace("/engine?", f"/{name}?")
        return TestServers(url, self._embedded.redis_url, name)

    @contextlib.contextmanager
    def admin(self) -> Iterator[connection]:
        """Connect to PostgreSQL as a user that may terminate other sessions."""
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
        """Send a server a signal that ends it, and wait until it has ended."""
        assert server.pid is not None
        os.kill(server.pid, number)
        wait_until(lambda: server.exit_report() is not None)

    def empty_redis(self) -> None:
        """Delete the data of a stopped Valkey."""
        shutil.rmtree(self.valkey.folder)

    def start_again(self) -> None:
        """Restart the ended servers, and wait until they are ready."""
        self._embedded.restart_dead()
        for server in (self.postgres, self.valkey):
            assert server.wait_ready(30)

    def stop(self) -> None:
        """Stop both and delete their data."""
        self._embedded.stop()
        self._folder.cleanup()


@contextlib.contextmanager
def own_valkey(*options: str) -> Iterator[str]:
    """Start a separate Valkey with options such as ``"--databases", "2"``; yield its URL."""
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
    """Clients that place orders, one after the other, until they are stopped.

    Each order has a client order id, so that orders without a response can be looked up. ``wrong`` holds
    every response other than 201, and 503 with Retry-After.
    """

    _numbers = itertools.count(1)

    def __init__(self, service: ServiceProcess, *, clients: int = 4, pause_s: float = 0.03) -> None:
        self._service = service
        self._pause_s = pause_s
        self.fastest_per_s = clients / pause_s
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._place_forever) for _ in range(clients)]
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
        """The number of 503 responses."""
        return len(self.refused) + len(self.unknown)

    def wait_for_more(self, count: Callable[[], int], more: int = 1, within_s: float = 20) -> None:
        """Wait until a count of responses has grown."""
        wanted = count() + more
        wait_until(lambda: count() >= wanted or bool(self.wrong), within_s)
        assert not self.wrong, self.wrong[:3]

    def _place_forever(self) -> None:
        link = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=30)
        try:
            while not self._stopping.wait(self._pause_s):
                name = f"load-{next(self._numbers)}"
                began = time.monotonic()
                self._note(name, *place_one(link, name))
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - a thread cannot raise to the test
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
    servers: TestServers,
    promised: list[str],
    since: float,
    *,
    within_s: float,
    venue: JudgedVenue = PAPER,
) -> tuple[Verdict, float]:
    """Wait until promised orders have ended, then the others; return the verdict and the first wait's time.

    An order whose client got a 503 with its id is found by the sweep up to six seconds later.
    """
    wait_until(lambda: open_orders(servers).isdisjoint(promised), max(0, since + within_s - time.monotonic()))
    took_s = time.monotonic() - since
    verdict, _took_s = wait_for_the_end(servers, promised, within_s=10 + venue.order_s, judged=venue.judge)
    assert verdict.clean, verdict
    return verdict, took_s


def share_of_a_core(service: ServiceProcess, over_s: float) -> float:
    """Return the share of a core that the idle service uses."""
    used, began = service.cpu_s(), time.monotonic()
    time.sleep(over_s)
    return (service.cpu_s() - used) / (time.monotonic() - began)
