"""Two deployments on one Redis with the same prefix: neither receives the other's messages or wake-ups."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis.asyncio import Redis

from service.app import Service
from service.domain.history import Committed
from service.store.claims import Claim
from tests.conftest import service_on
from tests.support.orders import MARKET_ORDER
from tests.support.own_servers import own_valkey
from tests.support.paper import chain_of, quiet_slot_ms, until
from tests.support.servers import TestCluster

_SOON_S = 10


async def come_to(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds; fail if it does not hold in time."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < _SOON_S, "it did not come to that in time"
        await asyncio.sleep(0.01)


@dataclass
class Deployment:
    """A service on its own database."""

    service: Service
    client: Any

    async def place(self, amount: str = "1000") -> str:
        async with self.client.post(
            "/api/orders/execute", json={**MARKET_ORDER, "amountIn": amount}
        ) as answer:
            assert answer.status == 201
            return str((await answer.json())["orderId"])

    async def ends(self, order_id: str) -> None:
        async def ended() -> bool:
            async with self.client.get(f"/api/orders/{order_id}") as answer:
                return bool((await answer.json())["status"] == "confirmed")

        await come_to(ended)

    @property
    def states(self) -> dict[str, object]:
        """The state that it quotes from."""
        return {pool.id: pool.state for pool in chain_of(self.service).catalogue.pools.values()}


Both = Callable[..., Awaitable[list[Deployment]]]


@pytest.fixture
async def both(cluster: TestCluster, aiohttp_client: Callable[..., Awaitable[Any]]) -> AsyncIterator[Both]:
    """Return a starter of two deployments, in Redis databases of the given numbers."""
    async with AsyncExitStack() as stack:

        async def start(*numbers: int) -> list[Deployment]:
            redis_url = stack.enter_context(own_valkey("--databases", "2"))
            return [
                await stack.enter_async_context(open_deployment(f"{redis_url}?db={number}", seed))
                for seed, number in enumerate(numbers, start=1)
            ]

        @asynccontextmanager
        async def open_deployment(redis_url: str, seed: int) -> AsyncIterator[Deployment]:
            own = cluster.new()
            servers = replace(own, redis_url=redis_url, redis_prefix="shared")
            slot_ms = str(quiet_slot_ms(own))
            service = service_on(servers, PAPER_SEED=str(seed), SLOT_MS=slot_ms)
            client = await aiohttp_client(service.web)
            yield Deployment(service, client)
            await client.close()
            cluster.drop(own)

        yield start


@pytest.mark.parametrize("numbers", [(0, 1), (0, 0)])
async def test_market_messages_do_not_reach_another_deployment(both: Both, numbers: tuple[int, int]) -> None:
    here, there = await both(*numbers)
    before = there.states
    for _ in range(5):
        await here.ends(await here.place())
    assert here.states != before
    assert there.states == before
    # It still receives its own messages.
    await there.ends(await there.place())
    assert there.states != before


async def test_wake_ups_do_not_reach_another_deployment(both: Both) -> None:
    here, there = await both(0, 0)
    taken: list[str] = []
    claim = there.service.storage.claims.claim

    async def take_note(order_id: str) -> Claim:
        taken.append(order_id)
        return await claim(order_id)

    there.service.storage.claims.claim = take_note  # type: ignore[method-assign]
    for _ in range(5):
        await here.ends(await here.place())
    assert taken == []


async def test_a_message_with_another_deployment_id_is_dropped(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    """A follower checks the deployment's id in the message, not only the channel's name."""
    here, there = await both(0, 0)
    names = [deployment.service.storage.deployment for deployment in (here, there)]
    heard: list[Sequence[Committed]] = []
    there.service.storage.bus.on_steps(heard.append)
    async with Redis.from_url(there.service.storage.link.url) as redis:
        sender = here.service.storage.identity.id.encode()
        await redis.publish(names[1].name("steps"), names[0].id.encode() + sender + b"[]")
        await redis.publish(names[1].name("steps"), names[1].id.encode() + sender + b"[]")
        await redis.xadd(names[1].name("wake-ups"), {"deployment": names[0].id, "data": "stray"})
        await until(lambda: heard == [[]])

        async def taken_off() -> bool:
            return await redis.xlen(names[1].name("wake-ups")) == 0

        await come_to(taken_off)
    assert "ignored a wake-up of another deployment" in caplog.text
