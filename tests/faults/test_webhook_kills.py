"""Webhooks under ``kill -9``, with a receiver that fails, hangs and disconnects; and one that is long down.

Every change of every order arrives at least once, and for each order in order.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator

import pytest
from aiohttp import ClientSession, web

from tests.support import report
from tests.support.gem_market import rows
from tests.support.kills import QUICK
from tests.support.load import mixed_orders, post_all
from tests.support.own_servers import Load
from tests.support.paper import until
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.receiver import Answer, Received, Receiver, accept, answering
from tests.support.servers import TestCluster, TestServers

SETTINGS = {
    **NO_DELAYS,
    **QUICK,
    "WEBHOOK_ALLOW_PRIVATE": "1",
    "WEBHOOK_TIMEOUT_S": "1",
    "WORKER_CONCURRENCY": "50",
    "PAPER_FAILURE_RATE": "transient=0.2,permanent=0.1",
    "RETRY_BASE_DELAY_MS": "40",
}

_TRY_NOW = (
    "UPDATE webhook_endpoints SET retry_at = now()",
    "UPDATE webhook_deliveries SET due_at = now() WHERE due_at > now()",
)


def moody(rng: random.Random) -> Answer:
    """Return answers of which a fifth are failures of some kind."""

    async def answer(message: Received) -> web.Response:
        mood = rng.random()
        if mood < 0.1:
            return await answering(500)(message)
        if mood < 0.13:
            await asyncio.sleep(1.5)
        if mood < 0.2:
            raise ConnectionResetError
        return await accept(message)

    return answer


def killing(service: ServiceProcess, receiver: Receiver, last: int, answer: Answer) -> Answer:
    """Return answers, of which the one to a given message follows the death of its sender."""

    async def kill(message: Received) -> web.Response:
        if len(receiver.arrived) >= last:
            service.kill()
        return await answer(message)

    return kill


async def create_endpoint(service: ServiceProcess, receiver: Receiver) -> None:
    """Create an endpoint for a receiver."""
    async with (
        ClientSession(service.url) as client,
        client.post("/api/webhooks", json={"url": receiver.url}) as answer,
    ):
        assert answer.status == 201
        receiver.secrets.append((await answer.json())["secret"])


@contextlib.contextmanager
def running(servers: TestServers) -> Iterator[ServiceProcess]:
    """Run a service in its own process."""
    with ServiceFork({**SETTINGS, **servers.environment}) as service:
        yield service


async def wait_until_all_has_arrived(servers: TestServers, within_s: float) -> float:
    """Wait until every order has ended and nothing is left to deliver; return how long it took."""
    began = time.monotonic()
    await until(lambda: rows(servers, "SELECT count(*) FROM open_orders") == [(0,)], within_s)
    await until(lambda: rows(servers, "SELECT count(*) FROM webhook_deliveries") == [(0,)], within_s)
    return time.monotonic() - began


def check(servers: TestServers, receiver: Receiver) -> int:
    """Check that each change of each order was accepted, in order; return how many orders there are."""
    stored = dict(rows(servers, "SELECT id::text, version FROM orders"))
    arrived = receiver.sequences(repeated=True)
    assert arrived == {order_id: [*range(1, version + 1)] for order_id, version in stored.items()}
    assert receiver.wrong == []
    return len(stored)


async def _kill_repeatedly(cluster: TestCluster, kills: int, orders: int) -> None:
    rng, servers = random.Random(kills), cluster.new()
    slowest_s = 0.0
    async with Receiver() as receiver:
        for number in range(kills):
            with running(servers) as service:
                await asyncio.to_thread(service.wait_until_ready)
                if number == 0:
                    await create_endpoint(service, receiver)
                last = len(receiver.arrived) + rng.randint(1, 2 * orders)
                receiver.answer = killing(service, receiver, last, moody(rng))
                await asyncio.to_thread(post_all, service, mixed_orders(orders, rng), clients=4)
                await until(lambda service=service: service.process.poll() is not None, 30)  # type: ignore[misc]
            # Otherwise what the dead process was sending waits for its leases.
            rows(servers, "UPDATE webhook_deliveries SET leased_until = now() WHERE leased_until IS NOT NULL")
        receiver.answer = accept
        with running(servers) as service:
            await asyncio.to_thread(service.wait_until_ready)
            for statement in _TRY_NOW:
                rows(servers, statement)
            slowest_s = await wait_until_all_has_arrived(servers, 300)
            assert "Traceback" not in service.output
        count = check(servers, receiver)
    again = len(receiver.accepted) - len({message.message_id for message in receiver.accepted})
    report.add(
        report.Row(
            "kill -9 while webhooks are sent",
            kills,
            count,
            slowest_recovery_s=slowest_s,
            note=f"{len(receiver.accepted):,} messages, {again:,} of them again",
        )
    )


async def test_kills_lose_no_message(cluster: TestCluster) -> None:
    await _kill_repeatedly(cluster, 3, 40)


@pytest.mark.long
async def test_a_hundred_kills_lose_no_message(cluster: TestCluster) -> None:
    await _kill_repeatedly(cluster, 100, 60)


async def _stay_down(cluster: TestCluster, down_s: float) -> None:
    servers = cluster.new()
    async with Receiver() as receiver:
        with running(servers) as service:
            await asyncio.to_thread(service.wait_until_ready)
            await create_endpoint(service, receiver)
            load = Load(service, clients=2, pause_s=0.1)
            await asyncio.to_thread(load.__enter__)
            await receiver.wait_for(20)
            await receiver.down()
            await asyncio.sleep(down_s)
            await receiver.up()
            await asyncio.to_thread(load.__exit__)
            assert not load.wrong, load.wrong[:3]
            took_s = await wait_until_all_has_arrived(servers, 120 + 2 * down_s)
            assert "Traceback" not in service.output
        count = check(servers, receiver)
    report.add(
        report.Row(
            f"a webhook receiver is down for {down_s:g} s under load",
            1,
            count,
            slowest_recovery_s=took_s,
            note=f"{len(receiver.accepted):,} messages; slowest 201 {load.slowest_s:.2f} s",
        )
    )


@pytest.mark.long
async def test_a_receiver_that_is_down_for_ten_minutes_gets_everything(cluster: TestCluster) -> None:
    await _stay_down(cluster, 600)
