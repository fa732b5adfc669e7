"""Places and follows orders, as a client does."""

from typing import Any

from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

Client = TestClient[Request, Application]
Json = dict[str, Any]

MARKET_ORDER: Json = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50", "orderType": "market"}

LIFE = ["pending", "routing", "building", "submitted", "confirmed"]
"""The statuses of a market order without failures."""


def order_of(**changes: Any) -> Json:
    """Return a valid order with changes; with an amount out it has no amount in."""
    order = {**MARKET_ORDER, **changes}
    if "amountOut" in changes and "amountIn" not in changes:
        del order["amountIn"]
    return order


async def place(client: Client, **changes: Any) -> Json:
    """Place an order and return the response."""
    async with client.post("/api/orders/execute", json=order_of(**changes)) as answer:
        body: Json = await answer.json()
        assert answer.status == 201, body
        return body


async def get(client: Client, order_id: str) -> Json:
    """Read an order."""
    async with client.get(f"/api/orders/{order_id}") as answer:
        body: Json = await answer.json()
        assert answer.status == 200, body
        return body


async def watch(client: Client, order_id: str, query: str = "") -> list[Json]:
    """Follow an order to its end and return the messages; the socket must close with 1000."""
    messages = []
    async with client.ws_connect(f"/api/orders/{order_id}/ws{query}") as socket:
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            messages.append(message.json())
    assert socket.close_code == 1000
    return messages


async def execute(client: Client, **changes: Any) -> Json:
    """Place an order, wait until it has ended, and return it."""
    placed = await place(client, **changes)
    await watch(client, placed["orderId"])
    return await get(client, placed["orderId"])


def statuses(order: Json) -> list[str]:
    """Return the statuses of an order's history."""
    return [entry["status"] for entry in order["statusHistory"]]
