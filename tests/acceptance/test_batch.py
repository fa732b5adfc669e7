"""POST /api/orders/batch: each order has the result that it would have alone; stored ones share a commit."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp.web import Application

from service.api.responses import BatchResultSchema
from service.app import Service
from service.postgres.database import UnavailableError
from service.postgres.queries import Query, Row
from tests.support.gem_market import rows
from tests.support.orders import LIFE, Client, Json, get, order_of, place, statuses, watch
from tests.support.servers import TestServers
from tests.support.statements import meddle

Start = Callable[..., Awaitable[Client]]

RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}


async def send(client: Client, *orders: object, **headers: str) -> list[Json]:
    """Place a batch, and return the results."""
    async with client.post("/api/orders/batch", json={"orders": orders}, headers=headers) as answer:
        body: Json = await answer.json()
        assert answer.status == 200, body
        assert BatchResultSchema().validate(body) == {}
        results: list[Json] = body["results"]
        return results


async def test_each_order_has_its_own_result(start: Start) -> None:
    client = await start()
    existing = await place(client, clientOrderId="mine", **RESTING)
    results = await send(
        client,
        order_of(),
        order_of(**RESTING),
        order_of(amountIn="0"),
        order_of(clientOrderId="mine", **RESTING),
        order_of(clientOrderId="mine", **RESTING, label="other"),
        "no order",
        None,
        order_of(tokenOut="NOPE"),
    )
    assert [result["status"] for result in results] == [201, 201, 422, 200, 409, 422, 422, 422]
    assert [result["order"] is None for result in results] == [
        result["problem"] is not None for result in results
    ]
    assert results[3]["order"]["id"] == existing["id"]
    pointers = [
        error["pointer"]
        for result in results
        if result["status"] == 422
        for error in result["problem"]["errors"]
    ]
    assert pointers == ["#/orders/2/amountIn", "#/orders/5", "#/orders/6", "#/orders/7/tokenOut"]
    assert (await watch(client, results[0]["order"]["id"]))[-1]["status"] == "confirmed"
    assert statuses(await get(client, results[0]["order"]["id"])) == LIFE
    assert (await get(client, results[1]["order"]["id"]))["status"] == "open"


async def test_a_client_order_id_twice_in_a_batch_is_one_order(start: Start, servers: TestServers) -> None:
    client = await start()
    results = await send(client, *[order_of(clientOrderId="mine", **RESTING)] * 3)
    assert sorted(result["status"] for result in results) == [200, 200, 201]
    assert len({result["order"]["id"] for result in results}) == 1
    assert rows(servers, "SELECT count(*) FROM orders") == [(1,)]


async def test_a_batch_is_one_statement(
    make_service: Callable[..., Service], aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    inserts = 0

    async def before(query: Query[Row]) -> None:
        nonlocal inserts
        inserts += query.name == "insert_orders"

    meddle(service.storage.database, before)
    results = await send(client, *[order_of(**RESTING)] * 100)
    assert {result["status"] for result in results} == {201}
    assert len({result["order"]["id"] for result in results}) == 100
    assert inserts == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/orders"),
        ({"orders": []}, "#/orders"),
        ({"orders": {}}, "#/orders"),
        ({"orders": [order_of()] * 101}, "#/orders"),
        ({"orders": ["1"] * 10_000}, "#/orders"),
        ({"orders": [order_of()], "more": 1}, "#/more"),
        ([], "#"),
    ],
)
async def test_a_batch_of_another_form_is_rejected(start: Start, body: object, pointer: str) -> None:
    client = await start()
    async with client.post("/api/orders/batch", json=body) as answer:
        assert answer.status == 422
        assert (await answer.json())["errors"][0]["pointer"] == pointer


async def test_a_batch_that_is_sent_again_is_completed(
    make_service: Callable[..., Service],
    aiohttp_client: Callable[[Application], Awaitable[Client]],
    servers: TestServers,
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    headers = {"Idempotency-Key": "batch-1"}
    orders = [order_of(**RESTING, label=str(number)) for number in range(3)]
    first = await send(client, *orders, **headers)
    # As if the process had died before it stored the last one, and its reservation with it.
    rows(servers, "UPDATE idempotency_keys SET owner = gen_random_uuid() WHERE owner IS NOT NULL")
    rows(servers, "DELETE FROM open_orders WHERE order_id = %s::uuid", first[2]["order"]["id"])
    rows(servers, "DELETE FROM orders WHERE label = '2'")
    rows(servers, "DELETE FROM idempotency_keys WHERE key = 'batch-1 2'")
    again = await send(client, *orders, **headers)
    assert [result["status"] for result in again] == [201] * 3
    assert again[:2] == first[:2]
    assert again[2]["order"]["id"] != first[2]["order"]["id"]
    assert rows(servers, "SELECT count(*) FROM orders") == [(3,)]
    # Another batch under the key is refused as a whole.
    async with client.post(
        "/api/orders/batch", json={"orders": [*orders, order_of(**RESTING)]}, headers=headers
    ) as answer:
        assert answer.status == 422
    assert rows(servers, "SELECT count(*) FROM orders") == [(3,)]


async def test_one_order_s_failure_does_not_hide_the_others(
    make_service: Callable[..., Service], aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    await place(client, clientOrderId="mine", **RESTING)

    async def fail(query: Query[Row]) -> None:
        if query.name == "find_client_order":
            raise UnavailableError("away", unknown=False)

    meddle(service.storage.database, fail)
    results = await send(client, order_of(**RESTING), order_of(clientOrderId="mine", **RESTING))
    assert [result["status"] for result in results] == [201, 503]


async def test_a_batch_is_executed_once(start: Start, servers: TestServers) -> None:
    client = await start()
    headers = {"Idempotency-Key": "batch-1"}
    first = await send(client, order_of(**RESTING), order_of(amountIn="0"), **headers)
    async with client.post(
        "/api/orders/batch", json={"orders": [order_of(**RESTING), order_of(amountIn="0")]}, headers=headers
    ) as answer:
        assert answer.headers["Idempotent-Replayed"] == "true"
        assert (await answer.json())["results"] == first
    assert rows(servers, "SELECT count(*) FROM orders") == [(1,)]


async def test_a_halt_refuses_each_order(start: Start) -> None:
    client = await start()
    await client.post("/api/admin/halt", json={"reason": "a drill"})
    orders = order_of(), order_of(**RESTING), order_of(amountIn="0")
    headers = {"Idempotency-Key": "batch-1"}
    results = await send(client, *orders, **headers)
    assert [result["status"] for result in results] == [503, 503, 422]
    assert results[0]["problem"]["detail"] == "Trading is halted: a drill"
    # What was refused for a while is tried again under the same key.
    await client.post("/api/admin/resume")
    results = await send(client, *orders, **headers)
    assert [result["status"] for result in results] == [201, 201, 422]
