"""A service works over a REDIS_URL with options."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from aiohttp.web import Application

from tests.conftest import Client, service_on
from tests.support.orders import MARKET_ORDER
from tests.support.proxy import Proxy
from tests.support.servers import TestServers


@pytest.mark.parametrize(
    "options", ["?db=0&family=0", "/0?family=4&socket_timeout=3&health_check_interval=9"]
)
async def test_orders_are_executed_over_a_url_with_options(
    servers: TestServers,
    options: str,
    aiohttp_client: Callable[[Application], Awaitable[Client]],
) -> None:
    path = unquote(urlsplit(servers.redis_url).path)
    with Proxy(path) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}{options}"
        service = service_on(TestServers(servers.database_url, url, servers.redis_prefix))
        client = await aiohttp_client(service.web)
        async with client.post("/api/orders/execute", json=MARKET_ORDER) as answer:
            order: dict[str, Any] = await answer.json()
        async with client.ws_connect(f"/api/orders/{order['orderId']}/ws") as watching:
            statuses = [message.json()["status"] async for message in watching]
        assert statuses[-1] == "confirmed"
        async with client.get("/health") as health:
            assert (await health.json())["status"] == "ok"
        await client.close()
