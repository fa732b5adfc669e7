"""Kills the service while clients use it: at a crash point, or at a random instant."""

import http.client
import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from tests.support.orders import Json
from tests.support.process import ServiceFork, ServiceProcess
from tests.support.servers import TestServers

T = TypeVar("T")

QUICK = {"INSTANCE_TIMEOUT_MS": "500", "LOG_LEVEL": "WARNING"}
"""Settings with which the orders of a dead process are soon taken over."""

STEPWISE = {
    **QUICK,
    "QUOTE_DELAY_MS": "0-20",
    "EXECUTION_DELAY_MS": "0-60",
    "QUEUE_RATE_LIMIT": "0",
    "WORKER_CONCURRENCY": "50",
}
"""The same with small delays, so that a kill meets orders in every step."""

RANDOM = "random"
"""In the place of a crash point: the process was killed at another instant."""


@dataclass(frozen=True)
class ServingPeriod:
    """When a process started and ended serving, in seconds since the Unix epoch."""

    ready_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Death:
    """Where a process died: at a crash point or ``RANDOM``; and when it served, if it was ever ready."""

    at: str
    served: ServingPeriod | None


def crash_at(point: str, points: Mapping[str, int], rng: random.Random) -> dict[str, str]:
    """Return the setting that kills a process at a point; ``points`` has the most times to pass each."""
    return {"CRASH_AT": f"{point}:{rng.randint(1, points[point])}"}


@dataclass(frozen=True, slots=True)
class Killer:
    """Starts processes, and kills each while clients use it.

    Attributes:
        settings: The settings of a process.
        points: The crash points, and the maximum number of times to pass one.
        life_s: The shortest and the longest life of a process without a crash point.
        patience_s: How long another is used that has not reached its point.
    """

    settings: Mapping[str, str]
    points: Mapping[str, int]
    life_s: tuple[float, float]
    patience_s: float

    def kill(
        self,
        servers: TestServers,
        point: str | None,
        rng: random.Random,
        use: Callable[[ServiceProcess], object],
    ) -> Death:
        """Start a process, and kill it while it is used.

        Args:
            servers: The servers on which it runs.
            point: The crash point at which it dies; None: a random instant.
            rng: Decides on the instant.
            use: Uses it, until it has died at the latest; its errors are raised here.
        """
        crash = {} if point is None else crash_at(point, self.points, rng)
        with ServiceFork({**self.settings, **servers.environment, **crash}) as service:
            try:
                service.wait_until_ready()
            except AssertionError:
                # It began to recover before it listened, and died at the point.
                assert service.process.returncode == -signal.SIGKILL, service.output
                return Death(point or RANDOM, None)
            ready_at = time.time()
            life_s = self.patience_s if point else rng.uniform(*self.life_s)
            with ThreadPoolExecutor(1) as pool:
                using = pool.submit(use, service)
                with suppress(subprocess.TimeoutExpired):
                    service.process.wait(life_s)
                code = service.process.poll()
                service.kill()
                served = ServingPeriod(ready_at, time.time())
                using.result()
            assert code in {None, -signal.SIGKILL}, service.output
            assert "Traceback" not in service.output, service.output
        return Death(point if code is not None and point else RANDOM, served)


def on_databases(
    points: Sequence[str | None],
    per_database: int,
    run: Callable[[int, Sequence[str | None]], T],
    *,
    at_once: int = 2,
) -> list[T]:
    """Kill at the points, some on each database; return the databases' results.

    Several at once, since most of the time is spent on starting.

    Args:
        points: The crash points; None is a random instant.
        per_database: How many on each database.
        run: Kills on the database with a number from 0, at some of the points.
        at_once: How many databases to use at the same time.
    """
    shares = [points[first : first + per_database] for first in range(0, len(points), per_database)]
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run, range(len(shares)), shares))


def shuffled(points: Iterable[str], at_points: int, at_random: int, seed: int) -> list[str | None]:
    """Return crash points in turn, and random instants, all in a random sequence."""
    names = list(points)
    chosen: list[str | None] = [names[number % len(names)] for number in range(at_points)]
    chosen += [None] * at_random
    random.Random(seed).shuffle(chosen)
    return chosen


def let_leases_run_out(servers: TestServers) -> None:
    """Make the leases of a dead process expire."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("UPDATE leases SET renewed_at = '-infinity'")
        cursor.execute("UPDATE paper_leader SET renewed_at = '-infinity'")


def summary(died_at: Counter[str], seed: int) -> str:
    """Return how many processes died at how many points, for a report's note."""
    named = died_at.total() - died_at[RANDOM]
    return f"{named} at {len(died_at.keys() - {RANDOM})} named points, seed {seed}"


@dataclass(frozen=True)
class RequestResult:
    """A request's result; ``status`` 0 is no response."""

    status: int
    body: Json

    @property
    def unknown(self) -> bool:
        """Whether the request may or may not have been executed."""
        return self.status in {0, 503}


class Client:
    """One keep-alive connection to a service that may die at any time; each request has the ``headers``."""

    def __init__(self, service: ServiceProcess, headers: Mapping[str, str] | None = None) -> None:
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)

    def ask(self, method: str, path: str, body: Json | None = None, **headers: str) -> RequestResult:
        """Send a request, with further headers, and wait for its response."""
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, content, {**self._headers, **headers})
            answer = self._connection.getresponse()
            return RequestResult(answer.status, json.loads(answer.read()))
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return RequestResult(0, {})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def share_out(items: Iterable[T], work: Callable[[Iterator[T]], None], *, clients: int = 4) -> None:
    """Let several clients take items off a sequence, each in a thread of its own, until all are done."""
    left = iter(list(items))
    lock = threading.Lock()

    def take() -> Iterator[T]:
        while True:
            with lock:
                try:
                    item = next(left)
                except StopIteration:
                    return
            yield item

    with ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(work, take()) for _ in range(clients)]:
            done.result()
