"""The network between the service and its servers: latency, cut, reset, half-open, a trickle."""

import time
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.support.judge import wait_until
from tests.support.own_servers import Load, judge_after_recovery, wait_until_it_works
from tests.support.process import NO_DELAYS, ServiceFork
from tests.support.proxy import Proxy, Weather
from tests.support.report import Row, add
from tests.support.servers import TestServers

QUIET = {**NO_DELAYS, "LOG_LEVEL": "WARNING", "INSERT_TIMEOUT_MS": "500"}
ROUNDS = [1, pytest.param(20, marks=pytest.mark.long)]
FAULTS = [weather for weather in Weather if weather is not Weather.FINE]
BAD_FOR_S = 0.7

# A statement without a response times out after four seconds, and only then is another connection opened:
# once by the store, and once by the venue, which has its own connections.
RECOVERY_S = {Weather.HALF_OPEN: 4.0 + 4.0}


@pytest.fixture
def network(servers: TestServers, request: pytest.FixtureRequest) -> Iterator[tuple[Proxy, dict[str, str]]]:
    """Return a proxy in front of one of the servers, and the settings with which it is used."""
    database, redis = urlsplit(servers.database_url), urlsplit(servers.redis_url)
    if request.param == "postgresql":
        with Proxy(f"{parse_qs(database.query)['host'][0]}/.s.PGSQL.5432") as proxy:
            url = f"postgresql://postgres@127.0.0.1:{proxy.port}{database.path}"
            yield proxy, {**servers.environment, "DATABASE_URL": url}
    else:
        with Proxy(unquote(redis.path)) as proxy:
            yield proxy, {**servers.environment, "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("weather", FAULTS)
@pytest.mark.parametrize("network", ["postgresql", "redis"], indirect=True)
def test_orders_survive_a_network_fault(
    servers: TestServers,
    network: tuple[Proxy, dict[str, str]],
    weather: Weather,
    rounds: int,
    request: pytest.FixtureRequest,
) -> None:
    proxy, environment = network
    behind = request.node.callspec.params["network"]
    promised: list[str] = []
    within_s = RECOVERY_S.get(weather, 5.0)
    slowest_s = 0.0
    with ServiceFork({**environment, **QUIET}).wait_until_ready() as service:
        with Load(service, clients=3) as load:
            for _ in range(rounds):
                # Orders are executed without Redis too, so it may still be unavailable.
                wait_until(lambda: proxy.connections > 0)
                proxy.turn(weather)
                until = time.monotonic() + BAD_FOR_S
                # The fault lasts for a while and affects some clients, which all get some response.
                load.wait_for_more(lambda: len(load.accepted) + load.unavailable, 3)
                wait_until(lambda until=until: time.monotonic() > until)  # type: ignore[misc]
                proxy.turn(Weather.FINE)
                took_s = wait_until_it_works(service, time.monotonic(), promised)
                assert took_s < within_s, service.output[-5_000:]
                slowest_s = max(slowest_s, took_s)
        assert not load.wrong, load.wrong[:3]
        assert not (behind == "redis" and load.unavailable)
        promised += load.accepted
        verdict, took_s = judge_after_recovery(servers, promised, time.monotonic(), within_s=within_s)
        assert "Traceback" not in service.output, service.output[-5_000:]
        if behind == "redis":
            assert "heartbeat timed out" not in service.output, service.output[-5_000:]
    row = Row(f"network to {behind}: {weather}", rounds, verdict.orders)
    row.slowest_recovery_s = max(slowest_s, took_s)
    row.note = f"503: {load.unavailable}; slowest answer {load.slowest_s:.1f} s"
    add(row)


@pytest.mark.long
@pytest.mark.parametrize("network", ["redis"], indirect=True)
def test_an_instance_that_was_cut_off_receives_messages_again(
    servers: TestServers, network: tuple[Proxy, dict[str, str]]
) -> None:
    """A subscription on a dead connection is silent, like one without messages."""
    proxy, environment = network
    with (
        ServiceFork({**servers.environment, **QUIET}).wait_until_ready(),
        ServiceFork({**environment, **QUIET}).wait_until_ready(),
    ):
        subscribed = [link for link in proxy._links if not link.dead]
        assert subscribed
        proxy.turn(Weather.HALF_OPEN)
        proxy.turn(Weather.FINE)
        # All connections are replaced: the link's, the receiver's, and the subscription's.
        wait_until(lambda: not any(link.dead for link in list(proxy._links)), 20)
    add(Row("network to redis: a dead subscription", 1))
