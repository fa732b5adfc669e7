"""Without Redis, this process's workers execute orders, within its limits."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from service.app import Service
from tests.conftest import service_on
from tests.support.orders import MARKET_ORDER
from tests.support.servers import TestServers

SOON_S = 2.0
"""A second, and one more for a busy machine."""

Start = Callable[..., Awaitable[Any]]


@pytest.fixture
def start_without(servers: TestServers, aiohttp_client: Callable[..., Awaitable[Any]]) -> Start:
    """Return a starter of services without Redis."""
    nowhere = replace(servers, redis_url="unix:///nowhere/redis.sock")

    async def start(**environment: str) -> tuple[Service, Any]:
        service = service_on(nowhere, **environment)
        return service, await aiohttp_client(service.web)

    return start


async def place(client: Any) -> str:
    async with client.post("/api/orders/execute", json=MARKET_ORDER) as answer:
        assert answer.status == 201
        return str((await answer.json())["orderId"])


async def statuses(service: Service, order_ids: list[str]) -> list[str]:
    orders = [await service.storage.orders.get(order_id) for order_id in order_ids]
    return ["" if order is None else str(order.status) for order in orders]


async def wait_for(condition: Callable[[], Awaitable[bool]], within_s: float) -> float:
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < within_s, "it did not come to that in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_orders_are_executed_and_watched(start_without: Start) -> None:
    _service, client = await start_without()
    order_id = await place(client)
    began = time.monotonic()
    async with asyncio.timeout(10), client.ws_connect(f"/api/orders/{order_id}/ws") as socket:
        seen = [message.json()["status"] async for message in socket]
    assert seen == ["pending", "routing", "building", "submitted", "confirmed"]
    assert time.monotonic() - began < SOON_S
    async with client.get("/health") as answer:
        body = await answer.json()
    assert (answer.status, body["status"], body["redis"]) == (200, "degraded", "unavailable")
    assert "No such file" in body["redisError"]


async def test_an_order_whose_wake_up_was_lost_is_found_by_the_sweep(
    start_without: Start, servers: TestServers
) -> None:
    service, client = await start_without()

    async def lose(_order_ids: Iterable[str]) -> None:
        pass

    with patch.object(service.storage.queue, "enqueue", lose):
        order_id = await place(client)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("UPDATE open_orders SET wake_at = now()")

    async def confirmed() -> bool:
        return await statuses(service, [order_id]) == ["confirmed"]

    await wait_for(confirmed, SOON_S)


async def test_the_concurrency_limit_holds(start_without: Start) -> None:
    service, client = await start_without(WORKER_CONCURRENCY="2", EXECUTION_DELAY_MS="100", SLOT_MS="50")
    running: list[int] = []
    order_ids = [await place(client) for _ in range(8)]

    async def all_confirmed() -> bool:
        running.append(service.execution.receiver.running)
        return set(await statuses(service, order_ids)) == {"confirmed"}

    await wait_for(all_confirmed, 10)
    assert max(running) == 2


async def test_the_rate_limit_holds(start_without: Start) -> None:
    service, client = await start_without(QUEUE_RATE_LIMIT="3")
    order_ids = [await place(client) for _ in range(5)]

    async def three_confirmed() -> bool:
        return (await statuses(service, order_ids)).count("confirmed") == 3

    await wait_for(three_confirmed, SOON_S)
    assert (await statuses(service, order_ids)).count("pending") == 2


async def test_a_stop_finishes_running_orders_and_leaves_the_rest(
    start_without: Start, servers: TestServers
) -> None:
    service, client = await start_without(WORKER_CONCURRENCY="1", EXECUTION_DELAY_MS="300", SLOT_MS="50")
    order_ids = [await place(client) for _ in range(3)]

    async def one_is_sent() -> bool:
        return "submitted" in await statuses(service, order_ids)

    await wait_for(one_is_sent, SOON_S)
    await client.close()
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT status FROM orders ORDER BY created_at")
        assert [row[0] for row in cursor.fetchall()] == ["confirmed", "pending", "pending"]
        # Other instances find it at once.
        cursor.execute("SELECT count(*) FROM open_orders WHERE wake_at <= now() AND owner IS NULL")
        assert cursor.fetchone() == (2,)


async def test_two_instances_run_no_order_twice_and_share_the_due_ones(start_without: Start) -> None:
    (here, client), (there, _client) = await start_without(), await start_without()
    order_ids = [await place(client) for _ in range(30)]
    # As if each had just lost the connection to Redis.
    here.storage.queue.enqueue_all_due()
    there.storage.queue.enqueue_all_due()

    async def all_confirmed() -> bool:
        return set(await statuses(here, order_ids)) == {"confirmed"}

    await wait_for(all_confirmed, 5)
    orders = [await here.storage.orders.get(order_id) for order_id in order_ids]
    assert {len(order.history) for order in orders if order is not None} == {5}
