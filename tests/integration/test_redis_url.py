"""A service works over a REDIS_URL with options."""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import redis
from aiohttp.web import Application

from tests.conftest import Client, service_on
from tests.faults.test_useless_redis import tell
from tests.integration.test_consumed_wake_ups import until
from tests.support.orders import MARKET_ORDER
from tests.support.process import PROJECT
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


def documented_commands() -> list[str]:
    """Return the rules of an ACL user, as docs/deployment.md lists them."""
    text = " ".join((PROJECT / "docs" / "deployment.md").read_text().split())
    _, found, listed = text.partition("must allow the engine's user these commands on keys and channels")
    assert found
    return re.findall(r"\+[a-z|]+", listed.partition("All settings")[0])


async def test_a_user_needs_no_other_commands_than_the_documented_ones(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    name, ours = servers.redis_prefix, f"{servers.redis_prefix}:*"
    rules = ["on", ">secret", "-@all", "resetchannels", f"&{ours}", f"~{ours}", *documented_commands()]
    with (
        redis.Redis.from_url(servers.redis_url) as admin,
        Proxy(unquote(urlsplit(servers.redis_url).path)) as proxy,
    ):
        admin.acl_log_reset()
        tell(admin, "ACL", "SETUSER", name, *rules)
        url = f"redis://{name}:secret@127.0.0.1:{proxy.port}"
        theirs = TestServers(servers.database_url, url, servers.redis_prefix)
        service = service_on(theirs, REQUESTS_PER_SECOND="1000", INSTANCE_TIMEOUT_MS="500")
        client, stream = await aiohttp_client(service.web), servers.wake_ups
        await service.execution.receiver.stop_reading()
        async with client.post("/api/orders/execute", json=MARKET_ORDER) as answer:
            order = await answer.json()
        await until(lambda: admin.xlen(stream) == 1)
        # Read by a process that died: it must be claimed.
        tell(admin, "XREADGROUP", "GROUP", "workers", "dead", "STREAMS", stream, ">")
        [pending] = admin.xpending_range(stream, "workers", "-", "+", 10)
        admin.xclaim(stream, "workers", "dead", 0, [pending["message_id"]], idle=60_000)
        service.execution.receiver.start()
        async with client.ws_connect(f"/api/orders/{order['orderId']}/ws") as watching:
            assert [message.json()["status"] async for message in watching][-1] == "confirmed"
        await until(lambda: admin.xlen(stream) == 0)
        # As after a loss of Redis.
        service.storage.queue.enqueue_all_due()
        await until(lambda: not service.storage.queue.all_due)
        async with client.get("/health") as health:
            assert (await health.json())["redisError"] is None
        await client.close()
        denied = [each for each in admin.acl_log() if each["username"] == name]
        assert denied == []
        admin.acl_deluser(name)
