"""What a client can still do over a connection that was open when the service began to stop."""

from collections.abc import Callable
from typing import Any

from service.api.routes import ROUTES
from service.app import Service
from tests.support.orders import MARKET_ORDER, get, place

STOPPING = "The service is stopping, and nothing was changed; send the request again, over a new connection."
NOBODY = "01a20442-5a0b-7807-a11a-525a6a5718f3"


async def test_nothing_new_is_begun_and_reads_are_answered(
    make_service: Callable[..., Service], aiohttp_client: Any
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    far = {"orderType": "limit", "limitPrice": "1000000"}
    waiting, cancelled = [(await place(client, **far))["id"] for _ in range(2)]
    await service.drain()
    for route in ROUTES:
        if route.method == "GET":
            continue
        path = route.path.format(order_id=NOBODY, pool_id=NOBODY, webhook_id=NOBODY)
        async with client.request(route.method, path, json=MARKET_ORDER) as response:
            assert response.headers["Connection"] == "close"
            refused = response.status == 503 and (await response.json())["detail"] == STOPPING
            assert refused is not route.while_stopping, route.operation_id
            assert not refused or response.headers["Retry-After"] == "1"
    # Neither what was sent above, nor by one that cancels all.
    async with client.get("/api/orders") as response:
        assert response.headers["Connection"] == "close"
        orders = (await response.json())["orders"]
    assert {order["id"] for order in orders} == {waiting, cancelled}
    async with client.delete(f"/api/orders/{cancelled}") as response:
        assert response.status == 200
    assert [(await get(client, order))["status"] for order in (waiting, cancelled)] == ["open", "cancelled"]
