"""Many slow endpoints, and long queues: what one account causes does not delay the deliveries of another."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web import Application

from service.app import Service
from service.domain.api_key import Scope
from service.store.api_keys import NewKey
from service.store.webhook_endpoints import MOST_ENDPOINTS
from tests.support.orders import MARKET_ORDER, Client
from tests.support.receiver import Received, Receiver

MakeClient = Callable[[Application], Awaitable[Client]]

PRIVATE = {"WEBHOOK_ALLOW_PRIVATE": "1"}
RESTING = {**MARKET_ORDER, "orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}


async def test_slow_endpoints_of_one_account_do_not_delay_another(
    make_service: Callable[..., Service], aiohttp_client: MakeClient
) -> None:
    service = make_service(**PRIVATE)
    client = await aiohttp_client(service.web)
    never = asyncio.Event()

    async def header(account: str) -> dict[str, str]:
        _key, token = await service.storage.keys.create(NewKey(account, account, Scope.TRADE))
        return {"Authorization": f"Bearer {token}"}

    async def hang(_message: Received) -> web.Response:
        await never.wait()
        return web.Response()

    async def create(receiver: Receiver, headers: dict[str, str]) -> None:
        async with client.post("/api/webhooks", json={"url": receiver.url}, headers=headers) as answer:
            assert answer.status == 201
            receiver.secrets.append((await answer.json())["secret"])

    async def execute(headers: dict[str, str]) -> None:
        assert (await client.post("/api/orders/execute", json=RESTING, headers=headers)).status == 201

    slow, healthy = await header("slow"), await header("healthy")
    async with Receiver() as hanging, Receiver() as answering:
        hanging.answer = hang
        for _ in range(MOST_ENDPOINTS):
            await create(hanging, slow)
        await create(answering, healthy)
        # More messages than there are places for all accounts.
        await asyncio.gather(*(execute(slow) for _ in range(16)))
        await hanging.wait(lambda: len(hanging.arrived) >= 48)
        for count in (2, 4, 6):
            await execute(healthy)
            await answering.wait_for(count, within_s=1)
        assert len(hanging.arrived) <= 64
        never.set()
