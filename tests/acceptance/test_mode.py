"""Whether real money is traded: told in every order, in ``/health``, to each key, and in the log."""

from collections.abc import Awaitable, Callable

from tests.support.orders import Client, order_of, place, watch
from tests.support.process import ServiceProcess

RESTING = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}


async def test_it_is_told_everywhere_that_no_real_money_is_traded(
    start: Callable[..., Awaitable[Client]],
) -> None:
    client = await start()
    order = await place(client, clientOrderId="mine")
    shown = [order, *(message["order"] for message in await watch(client, order["id"]))]
    async with client.post("/api/orders/batch", json={"orders": [order_of(**RESTING)]}) as answer:
        [result] = (await answer.json())["results"]
    open_one = f"/api/orders/{result['order']['id']}"
    shown.append(result["order"])
    for method, path, body in (
        ("GET", f"/api/orders/{order['id']}", None),
        ("GET", "/api/orders/by-client-id/mine", None),
        ("POST", "/api/orders/execute", order_of(clientOrderId="mine")),
        ("PATCH", open_one, {"slippageBps": 7}),
        ("DELETE", open_one, None),
        ("GET", "/health", None),
        ("GET", "/api/keys/me", None),
        ("GET", "/api/venue", None),
    ):
        async with client.request(method, path, json=body) as answer:
            assert answer.status == 200
            shown.append(await answer.json())
    async with client.get("/api/orders") as answer:
        shown += (await answer.json())["orders"]
    assert len(shown) == 1 + 5 + 1 + 8 + 2
    assert {each["mode"] for each in shown} == {"paper"}


def test_the_log_begins_with_the_mode(spawn: Callable[..., ServiceProcess]) -> None:
    assert spawn().output.splitlines()[0].endswith("mode: paper")
