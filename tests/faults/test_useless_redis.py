"""Redis is reachable but unusable: orders are still executed, and the service reports the cause."""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Self

import pytest
from aiohttp import ClientSession
from redis import Redis

from tests.support.judge import wait_until
from tests.support.own_servers import OwnServers, judge_after_recovery, own_valkey, place_one
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.report import Row, add
from tests.support.servers import TestServers

QUIET = {**NO_DELAYS, "LOG_LEVEL": "WARNING"}
SOON_S = 2.0
"""A second, plus one for a busy machine; without a wake-up it would take five or six."""
# A cluster needs two seconds to detect that it has all its slots.
RECOVERY_S = 6.0

_names = itertools.count(1)


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    servers = OwnServers()
    yield servers
    servers.stop()


def tell(redis: Redis, *command: str) -> None:
    redis.execute_command(*command)  # type: ignore[no-untyped-call]


Hurt = Callable[[OwnServers, TestServers, Redis], AbstractContextManager[str]]


@contextlib.contextmanager
def replica(_own: OwnServers, _servers: TestServers, redis: Redis) -> Iterator[str]:
    """As after a fail-over: the host name resolves to a server that rejects writes."""
    tell(redis, "REPLICAOF", "127.0.0.1", "1")
    try:
        yield "read only"
    finally:
        tell(redis, "REPLICAOF", "NO", "ONE")


@contextlib.contextmanager
def full(_own: OwnServers, _servers: TestServers, redis: Redis) -> Iterator[str]:
    redis.config_set("maxmemory", "1")
    try:
        yield "maxmemory"
    finally:
        redis.config_set("maxmemory", "0")


@contextlib.contextmanager
def password_changed(_own: OwnServers, _servers: TestServers, redis: Redis) -> Iterator[str]:
    redis.config_set("requirepass", "another")
    for kind in ("normal", "pubsub"):
        redis.client_kill_filter(_type=kind, skipme=True)
    try:
        yield "uthentication required"
    finally:
        redis.config_set("requirepass", "")


def forbidden(*rules: str) -> Hurt:
    """Return a fault that revokes permissions that the engine needs."""

    @contextlib.contextmanager
    def hurt(_own: OwnServers, _servers: TestServers, redis: Redis) -> Iterator[str]:
        tell(redis, "ACL", "SETUSER", "default", *rules)
        try:
            yield "permission"
        finally:
            tell(redis, "ACL", "SETUSER", "default", "allcommands", "allchannels", "allkeys")

    hurt.__name__ = " ".join(rules)
    return hurt


@contextlib.contextmanager
def another_type(_own: OwnServers, servers: TestServers, redis: Redis) -> Iterator[str]:
    redis.set(servers.wake_ups, "not a stream")
    try:
        yield "WRONGTYPE"
    finally:
        redis.delete(servers.wake_ups)


@contextlib.contextmanager
def hung(own: OwnServers, _servers: TestServers, _redis: Redis) -> Iterator[str]:
    assert own.valkey.pid is not None
    os.kill(own.valkey.pid, signal.SIGSTOP)
    try:
        yield "no answer in time"
    finally:
        os.kill(own.valkey.pid, signal.SIGCONT)


KINDS: tuple[Hurt, ...] = (
    *(replica, full, password_changed, another_type, hung),
    *(forbidden("-xadd"), forbidden("-publish"), forbidden("-xreadgroup"), forbidden("resetchannels")),
)


class Asker:
    """A client of a service. Use it as a context manager."""

    def __init__(self, service: ServiceProcess) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        self.placed: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._link.close()

    def get(self, path: str) -> dict[str, Any]:
        self._link.request("GET", path)
        body: dict[str, Any] = json.loads(self._link.getresponse().read())
        return body

    def execute(self) -> float:
        """Place an order; return how long it took to be confirmed."""
        began = time.monotonic()
        status, body, _retry_after = place_one(self._link, f"useless-{next(_names)}")
        assert status == 201, body
        self.placed.append(body["orderId"])
        wait_until(lambda: self.get(f"/api/orders/{body['orderId']}")["status"] == "confirmed", 10)
        return time.monotonic() - began

    def wait_for_health(self, status: str, reason: str = "") -> dict[str, Any]:
        """Wait for a status, and for a text in ``redisError``."""
        health: dict[str, Any] = {}

        def come_to_that() -> bool:
            health.update(self.get("/health"))
            return bool(health["status"] == status and reason in (health["redisError"] or ""))

        wait_until(come_to_that, RECOVERY_S)
        return health


def connections(redis: Redis) -> set[str]:
    return {each["id"] for each in redis.client_list() if each["cmd"] != "client|list"}


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.long)])
def test_orders_are_executed_while_redis_is_unusable(own: OwnServers, rounds: int) -> None:
    servers = own.new()
    slowest_s = 0.0
    with (
        own.redis() as redis,
        ServiceFork({**servers.environment, **QUIET}).wait_until_ready() as service,
        Asker(service) as asker,
    ):
        assert asker.get("/health")["status"] == "ok"
        for hurt in KINDS * rounds:
            before, began = len(service.output.splitlines()), time.monotonic()
            own_connection = {str(redis.client_id())}
            known = connections(redis)
            with hurt(own, servers, redis) as reason:
                # The first order detects it; later ones do not need Redis.
                took = [asker.execute() for _ in range(3)]
                assert max(took) < SOON_S, (hurt.__name__, took, service.output)
                health = asker.wait_for_health("degraded", reason)
                assert health["redis"] == "unavailable"
            assert asker.wait_for_health("ok")["redisError"] is None
            # The host name may resolve to another server by now.
            assert connections(redis) & known <= own_connection, hurt.__name__
            slowest_s = max(slowest_s, *took, asker.execute())
            lines = service.output.splitlines()[before:]
            assert len(lines) <= 3 + (time.monotonic() - began), (hurt.__name__, lines)
        assert "Traceback" not in service.output, service.output
        verdict, _took_s = judge_after_recovery(servers, asker.placed, time.monotonic(), within_s=RECOVERY_S)
    assert verdict.statuses == {"confirmed": len(asker.placed)}
    row = Row("Redis answers, but not as hoped", len(KINDS) * rounds, verdict.orders)
    row.slowest_recovery_s = slowest_s
    add(row)


@pytest.mark.long
def test_orders_are_executed_while_redis_is_a_cluster_node(own: OwnServers) -> None:
    """It responds to commands with a key with MOVED, or that the cluster is down."""
    servers = own.new()
    with own_valkey("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no") as redis_url:
        environment = {**servers.environment, **QUIET, "REDIS_URL": redis_url}
        with ServiceFork(environment).wait_until_ready() as service, Asker(service) as asker:
            assert asker.execute() < SOON_S
            asker.wait_for_health("degraded", "ClusterDownError")
            with Redis.from_url(redis_url) as redis:
                tell(redis, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            asker.wait_for_health("ok")
            assert asker.execute() < SOON_S


@pytest.mark.long
def test_orders_are_executed_while_redis_loads_its_data(own: OwnServers) -> None:
    servers = own.new()
    slowly = ("--key-load-delay", "700", "--loading-process-events-interval-bytes", "1024")
    with (
        own_valkey("--enable-debug-command", "yes", *slowly) as redis_url,
        Redis.from_url(redis_url) as redis,
    ):
        redis.mset({f"key {number}": "x" * 200 for number in range(3_000)})
        environment = {**servers.environment, **QUIET, "REDIS_URL": redis_url}
        with ServiceFork(environment).wait_until_ready() as service, Asker(service) as asker:
            assert asker.wait_for_health("ok")["redisError"] is None
            loading = threading.Thread(target=tell, args=(redis, "DEBUG", "RELOAD"))
            loading.start()
            try:
                asker.wait_for_health("degraded", "loading")
                assert asker.execute() < SOON_S
            finally:
                loading.join()
            asker.wait_for_health("ok")


@contextlib.contextmanager
def crowded(own: OwnServers, policy: str) -> Iterator[None]:
    """Others fill Redis all the time, and to make room it deletes keys by a policy, the engine's too."""
    stopped = threading.Event()

    def fill() -> None:
        with own.redis() as link:
            for number in itertools.count():
                if stopped.wait(0.001):
                    return
                link.set(f"others:{number}", b"x" * 20_000)

    with own.redis() as redis:
        redis.config_set("maxmemory-policy", policy)
        redis.config_set("maxmemory", str(redis.info("memory")["used_memory"] + 1_000_000))
        filler = threading.Thread(target=fill)
        filler.start()
        try:
            yield
        finally:
            stopped.set()
            filler.join()
            redis.config_set("maxmemory", "0")
            redis.config_set("maxmemory-policy", "noeviction")
            redis.delete(*redis.scan_iter("others:*", count=1_000))


@pytest.mark.parametrize("losses", [3, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_orders_are_executed_while_redis_evicts_their_wake_ups(
    own: OwnServers, policy: str, losses: int
) -> None:
    servers = own.new()
    took: list[float] = []
    with (
        own.redis() as redis,
        ServiceFork({**servers.environment, **QUIET}).wait_until_ready() as service,
        Asker(service) as asker,
    ):
        with crowded(own, policy):
            for _ in range(losses):
                wait_until(lambda: not redis.exists(servers.wake_ups), 30)
                took.append(asker.execute())
        assert max(took) < SOON_S, (took, service.output)
        asker.wait_for_health("ok")
        assert asker.execute() < SOON_S
        assert "Traceback" not in service.output, service.output
        verdict, _took_s = judge_after_recovery(servers, asker.placed, time.monotonic(), within_s=RECOVERY_S)
    assert verdict.statuses == {"confirmed": len(asker.placed)}
    row = Row(f"Redis evicts: {policy}", losses, verdict.orders)
    row.slowest_recovery_s = max(took)
    add(row)


async def test_watchers_here_and_elsewhere_see_every_update(own: OwnServers) -> None:
    servers = own.new()
    # At least two seconds per order, so that watchers connect before its first step.
    environment = {**servers.environment, **QUIET, "QUOTE_DELAY_MS": "500"}
    with (
        own.redis() as redis,
        ServiceFork(environment).wait_until_ready() as here,
        ServiceFork(environment).wait_until_ready() as there,
    ):
        redis.config_set("maxmemory", "1")
        try:
            async with ClientSession() as client:
                async with client.post(
                    f"{here.url}/api/orders/execute",
                    json={"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1", "orderType": "market"},
                ) as answer:
                    order_id = (await answer.json())["orderId"]
                ended: list[float] = []
                for service in (here, there):
                    path = f"/api/orders/{order_id}/ws"
                    async with asyncio.timeout(20), client.ws_connect(service.url + path) as socket:
                        seen = [message.json()["status"] async for message in socket]
                        ended.append(time.monotonic())
                        assert seen == ["pending", "routing", "building", "submitted", "confirmed"]
                assert ended[1] - ended[0] < SOON_S
        finally:
            redis.config_set("maxmemory", "0")


def test_a_flood_of_health_checks_probes_redis_one_at_a_time(own: OwnServers) -> None:
    servers = own.new()
    with own.redis() as redis, ServiceFork({**servers.environment, **QUIET}) as service:
        service.wait_until_ready()
        told: list[str] = []

        def ask() -> None:
            with Asker(service) as mine:
                told.extend(mine.get("/health")["status"] for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told == ["ok"] * 160
        # No probe is left in Redis.
        assert redis.xlen(servers.wake_ups) == 0
        assert len(connections(redis)) < 12
