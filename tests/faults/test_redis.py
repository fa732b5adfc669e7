"""Redis dies, loses its data, disconnects its clients, or is slow: the service loses only wake-ups."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.support.judge import wait_until
from tests.support.own_servers import (
    Load,
    OwnServers,
    judge_after_recovery,
    share_of_a_core,
    wait_until_it_works,
)
from tests.support.process import NO_DELAYS, ServiceFork
from tests.support.report import Row, add
from tests.support.venues import PAPER, JudgedVenue, solana_chain

QUIET = {**NO_DELAYS, "LOG_LEVEL": "WARNING"}
RECOVERY_S = 5.0
PAUSE_S = 1.0
HANG_S = 6.5


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    servers = OwnServers()
    yield servers
    servers.stop()


def as_many(load: Load, count: int) -> float:
    """Return what a count of orders in the paper market is for a load that places fewer."""
    return count * load.fastest_per_s / (PAPER.clients / PAPER.pause_s)


def killed(own: OwnServers, load: Load) -> None:
    own.end(own.valkey, signal.SIGKILL)
    load.wait_for_more(lambda: len(load.accepted), 20)
    own.start_again()


def killed_and_emptied(own: OwnServers, load: Load) -> None:
    own.end(own.valkey, signal.SIGKILL)
    own.empty_redis()
    load.wait_for_more(lambda: len(load.accepted), 20)
    own.start_again()


def flushed(own: OwnServers, _load: Load) -> None:
    with own.redis() as redis:
        redis.flushall()


def cut_off(own: OwnServers, _load: Load) -> None:
    with own.redis() as redis:
        for kind in ("normal", "pubsub"):
            redis.client_kill_filter(_type=kind, skipme=True)


def slow(own: OwnServers, load: Load) -> None:
    with own.redis() as redis:
        redis.client_pause(round(PAUSE_S * 1000))
        accepted, until = len(load.accepted), time.monotonic() + PAUSE_S
        redis.ping()
        assert time.monotonic() > until - 0.1
    assert len(load.accepted) > accepted + as_many(load, 5)


def hung(own: OwnServers, load: Load) -> None:
    """Stop it for longer than any response time-out."""
    assert own.valkey.pid is not None
    os.kill(own.valkey.pid, signal.SIGSTOP)
    try:
        accepted, until = len(load.accepted), time.monotonic() + HANG_S
        wait_until(lambda: time.monotonic() > until)
        assert len(load.accepted) > accepted + as_many(load, 50)
    finally:
        os.kill(own.valkey.pid, signal.SIGCONT)


EVENTS = (killed, killed_and_emptied, flushed, cut_off, slow, hung)


@pytest.mark.parametrize("rounds", [1, pytest.param(17, marks=pytest.mark.long)])
def test_orders_survive_failures_of_redis_under_load(own: OwnServers, rounds: int) -> None:
    _run(own, EVENTS * rounds, PAPER)


@pytest.mark.parametrize("rounds", [1, pytest.param(17, marks=pytest.mark.long)])
def test_orders_on_a_chain_survive_failures_of_redis(own: OwnServers, rounds: int) -> None:
    with solana_chain() as venue:
        _run(own, (killed_and_emptied, cut_off) if rounds == 1 else EVENTS * rounds, venue)


def _run(own: OwnServers, events: Sequence[Callable[[OwnServers, Load], None]], venue: JudgedVenue) -> None:
    servers = own.new()
    promised: list[str] = []
    slowest_s = 0.0
    within_s = RECOVERY_S + venue.order_s
    settings = {**servers.environment, **QUIET, **venue.settings}
    with ServiceFork(settings).wait_until_ready() as service:
        with Load(service, clients=venue.clients, pause_s=venue.pause_s) as load:
            for event in events:
                before, began = len(service.output.splitlines()), time.monotonic()
                event(own, load)
                took_s = wait_until_it_works(service, time.monotonic(), promised)
                assert took_s < within_s, (event.__name__, service.output)
                slowest_s = max(slowest_s, took_s)
                lines = service.output.splitlines()[before:]
                assert len(lines) <= 3 + (time.monotonic() - began), (event.__name__, lines)
        # No client was affected.
        assert not load.wrong
        assert not load.unavailable
        promised += load.accepted
        verdict, took_s = judge_after_recovery(
            servers, promised, time.monotonic(), within_s=within_s, venue=venue
        )
        assert set(verdict.statuses) == {"confirmed"}
        assert "Traceback" not in service.output, service.output
        assert "heartbeat timed out" not in service.output, service.output
    how = ", ".join(dict.fromkeys(event.__name__.replace("_", " ") for event in events))
    row = Row(f"{venue.name}: Redis {how}", len(events), verdict.orders)
    row.slowest_recovery_s = max(slowest_s, took_s)
    add(row)


def test_without_redis_a_service_starts_and_uses_little_cpu(own: OwnServers) -> None:
    servers = own.new()
    promised: list[str] = []
    own.end(own.valkey, signal.SIGKILL)
    try:
        with ServiceFork({**servers.environment, **QUIET}).wait_until_ready() as service:
            with Load(service) as load:
                load.wait_for_more(lambda: len(load.accepted), 50)
            promised += load.accepted
            share = share_of_a_core(service, 2)
            assert share < 0.2, share
            own.start_again()
            returned = time.monotonic()
            wait_until_it_works(service, returned, promised, within_s=RECOVERY_S)
            verdict, recovery_s = judge_after_recovery(servers, promised, returned, within_s=RECOVERY_S)
            assert len(service.output.splitlines()) < 30, service.output
            assert "Traceback" not in service.output, service.output
    finally:
        own.start_again()
    note = f"{share:.0%} of a core while away"
    add(Row("Redis away at the start", 1, verdict.orders, slowest_recovery_s=recovery_s, note=note))
