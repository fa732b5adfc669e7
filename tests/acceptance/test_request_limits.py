"""Request limits: counted for each key, across instances, and never a refusal because of Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import WSServerHandshakeError
from aiohttp.web import Application

from service.app import Service
from service.domain.api_key import Scope
from service.store.api_keys import NewKey
from tests.conftest import service_on
from tests.support.orders import Client, place
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]
Authenticate = Callable[[str], Awaitable[dict[str, str]]]

LIMIT = 20


@pytest.fixture
async def instances(
    make_service: Callable[..., Service], aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> tuple[list[Client], Authenticate]:
    """Return two instances with a limit, and a function that creates keys."""
    services = [make_service(REQUESTS_PER_SECOND=str(LIMIT)) for _ in range(2)]
    clients = [await aiohttp_client(service.web) for service in services]

    async def authenticate(name: str) -> dict[str, str]:
        _key_id, token = await services[0].storage.keys.create(NewKey("desk", name, Scope.TRADE))
        return {"Authorization": f"Bearer {token}"}

    return clients, authenticate


async def test_a_key_s_requests_are_counted_across_instances(
    instances: tuple[list[Client], Authenticate],
) -> None:
    clients, authenticate = instances
    mine, other = await authenticate("mine"), await authenticate("other")

    async def ask(number: int) -> int:
        async with clients[number % 2].get("/api/tokens", headers=mine) as answer:
            if answer.status == 429:
                assert answer.content_type == "application/problem+json"
                assert answer.headers["Retry-After"] == "1"
                assert answer.headers["RateLimit"] == '"default";r=0;t=1'
            assert answer.headers["RateLimit-Policy"] == f'"default";q={LIMIT};w=1'
            return answer.status

    # More than two windows allow, however the second is cut.
    statuses = await asyncio.gather(*(ask(number) for number in range(3 * LIMIT)))
    assert LIMIT <= statuses.count(200) <= 2 * LIMIT
    assert statuses.count(200) + statuses.count(429) == 3 * LIMIT
    # Another key is not affected.
    async with clients[0].get("/api/tokens", headers=other) as answer:
        assert answer.status == 200
        assert answer.headers["RateLimit"] == f'"default";r={LIMIT - 1};t=1'
    # A second later, the key may go on.
    await asyncio.sleep(1.1)
    assert await ask(0) == 200


async def test_errors_and_sockets_count(instances: tuple[list[Client], Authenticate]) -> None:
    [client, _other], authenticate = instances
    mine = await authenticate("mine")
    unknown = "/api/orders/00000000-0000-0000-0000-000000000000"
    answers = await asyncio.gather(*(client.get(unknown, headers=mine) for _ in range(3 * LIMIT)))
    assert {answer.status for answer in answers} == {404, 429}
    with pytest.raises(WSServerHandshakeError, match="429"):
        await client.ws_connect(f"{unknown}/ws", headers=mine)


async def test_without_redis_each_instance_counts_for_itself(
    servers: TestServers, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    without_redis = replace(servers, redis_url="redis://127.0.0.1:1")
    service = service_on(without_redis, REQUESTS_PER_SECOND=str(LIMIT))
    client = await aiohttp_client(service.web)
    assert not service.storage.link.available
    statuses = [
        answer.status for answer in await asyncio.gather(*(client.get("/api/tokens") for _ in range(90)))
    ]
    assert LIMIT <= statuses.count(200) < 90
    await asyncio.sleep(1.1)
    assert (await client.get("/api/tokens")).status == 200


async def test_an_error_of_redis_refuses_nothing(
    make_service: Callable[..., Service],
    aiohttp_client: Callable[[Application], Awaitable[Client]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = make_service(REQUESTS_PER_SECOND=str(LIMIT))
    client = await aiohttp_client(service.web)

    for error in (ConnectionError("reset"), TimeoutError()):
        asked: list[object] = []

        async def fail(*arguments: object, error: Exception = error, asked: list[object] = asked) -> int:
            asked.append(arguments)
            raise error

        monkeypatch.setattr("limits.aio.storage.RedisStorage.incr", fail)
        await place(client)
        assert asked


async def test_a_redis_that_hangs_delays_nothing_for_long(
    make_service: Callable[..., Service],
    aiohttp_client: Callable[[Application], Awaitable[Client]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = await aiohttp_client(make_service(REQUESTS_PER_SECOND=str(LIMIT)).web)

    async def hang(*_arguments: object) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr("limits.aio.storage.RedisStorage.incr", hang)
    began = time.monotonic()
    await place(client)
    assert time.monotonic() - began < 2


async def test_the_limit_is_told_behind_a_proxy_and_counts_the_client(start: Start) -> None:
    client = await start(REQUESTS_PER_SECOND="1", TRUSTED_PROXIES="127.0.0.1", ALLOW_ANONYMOUS="1")
    for address in ("1.2.3.4", "1.2.3.5"):
        async with client.get("/api/tokens", headers={"X-Forwarded-For": address}) as answer:
            assert answer.status == 200
            assert answer.headers["RateLimit"] == '"default";r=0;t=1'
    unknown = "/api/orders/00000000-0000-0000-0000-000000000000"
    async with client.get(unknown, headers={"X-Forwarded-For": "1.2.3.6"}) as answer:
        assert (answer.status, answer.headers["RateLimit-Policy"]) == (404, '"default";q=1;w=1')


async def test_health_is_not_counted_and_there_is_no_limit_by_default(start: Start) -> None:
    client = await start(REQUESTS_PER_SECOND="1")
    for _ in range(5):
        assert (await client.get("/health")).status == 200
    unlimited = await start()
    for _ in range(5):
        async with unlimited.get("/api/tokens") as answer:
            assert answer.status == 200
            assert "RateLimit" not in answer.headers
