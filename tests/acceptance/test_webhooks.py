"""Webhooks over the wire, to a real receiver: signed, at least once, in order for each order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.web import Application

from service.app import Service
from service.domain.api_key import Scope
from service.store.api_keys import NewKey
from service.store.webhook_endpoints import MOST_ENDPOINTS
from tests.conftest import service_on
from tests.support.gem_market import rows
from tests.support.orders import LIFE, MARKET_ORDER, Client, Json, place, watch
from tests.support.paper import until
from tests.support.receiver import Received, Receiver, accept, answering
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]
MakeClient = Callable[[Application], Awaitable[Client]]

PRIVATE = {"WEBHOOK_ALLOW_PRIVATE": "1"}
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
PENDING = "SELECT count(*)::integer FROM webhook_deliveries"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Return a receiver that accepts everything."""
    async with Receiver() as receiver:
        yield receiver
        assert receiver.wrong == []


async def create(client: Client, receiver: Receiver, **members: Any) -> Json:
    """Create an endpoint for a receiver, which learns its secret, and return the response."""
    async with client.post("/api/webhooks", json={"url": receiver.url, **members}) as answer:
        body: Json = await answer.json()
        assert answer.status == 201, body
    receiver.secrets.append(body["secret"])
    return body


async def read(client: Client, endpoint: Json) -> Json:
    """Read an endpoint."""
    async with client.get(f"/api/webhooks/{endpoint['id']}") as answer:
        body: Json = await answer.json()
        assert answer.status == 200, body
        return body


async def change(client: Client, endpoint: Json, **members: Any) -> Json:
    """Change an endpoint, and return the response."""
    async with client.patch(f"/api/webhooks/{endpoint['id']}", json=members) as answer:
        body: Json = await answer.json()
        assert answer.status == 200, body
        return body


async def execute_many(client: Client, count: int) -> list[str]:
    """Place market orders, wait until all are confirmed, and return their ids."""
    placed = await asyncio.gather(*(place(client) for _ in range(count)))
    ends = await asyncio.gather(*(watch(client, order["id"]) for order in placed))
    assert {messages[-1]["status"] for messages in ends} == {"confirmed"}
    return [order["id"] for order in placed]


def try_now(servers: TestServers) -> None:
    """Have everything that waits for its next attempt tried now."""
    rows(servers, "UPDATE webhook_endpoints SET retry_at = now()")
    rows(servers, "UPDATE webhook_deliveries SET due_at = now() WHERE due_at > now()")


async def test_every_change_arrives_once_in_order_as_on_the_web_socket(
    start: Start, receiver: Receiver, servers: TestServers
) -> None:
    client = await start(**PRIVATE)
    before = await place(client, **RESTING)
    endpoint = await create(client, receiver, description="the desk's")
    confirmed = await execute_many(client, 20)
    rests = await place(client, **RESTING)
    assert (await client.patch(f"/api/orders/{rests['id']}", json={"limitPrice": "2000000"})).status == 200
    for order in (rests, before):
        assert (await client.delete(f"/api/orders/{order['id']}")).status == 200
    await receiver.wait_for(20 * len(LIFE) + 4 + 1)
    expected = {order_id: [1, 2, 3, 4, 5] for order_id in confirmed}
    # The order that rested already is told from its next change on.
    assert receiver.sequences() == {**expected, rests["id"]: [1, 2, 3, 4], before["id"]: [3]}
    for order_id in (*confirmed[:3], rests["id"]):
        messages = await watch(client, order_id)
        assert [m.body["data"] for m in receiver.accepted if m.order_id == order_id] == messages
    for message in receiver.accepted:
        assert message.body["type"] == f"order.{message.body['data']['status']}"
        assert message.body["timestamp"] == message.body["data"]["timestamp"]
        assert message.message_id == f"msg_{message.order_id}_{message.sequence}"
    await until(lambda: rows(servers, PENDING) == [(0,)])
    told = await read(client, endpoint)
    assert (told["pending"], told["givenUp"], told["lastFailure"], told["pausedUntil"]) == (0, 0, None, None)
    assert told["lastSuccessAt"] > told["createdAt"]


async def test_what_fails_is_repeated_before_what_follows(
    start: Start, receiver: Receiver, servers: TestServers
) -> None:
    client = await start(**PRIVATE)
    endpoint = await create(client, receiver)

    async def fail_some(message: Received) -> web.Response:
        # The second message of each order fails twice.
        answers = [answering(500), answering(302, Location="/elsewhere"), accept]
        return await (answers[times(message) - 1] if message.sequence == 2 else accept)(message)

    def times(message: Received) -> int:
        return sum(other.message_id == message.message_id for other in receiver.arrived)

    receiver.answer = fail_some
    order_ids = await execute_many(client, 3)
    for attempts, status in ((1, 500), (2, 302)):
        # Nothing that follows has been sent.
        failed = f"{PENDING} WHERE sequence = 2 AND attempts = {attempts}"
        await until(lambda: rows(servers, failed) == [(3,)])  # noqa: B023 - awaited in the same round
        assert receiver.sequences() == {order_id: [1] for order_id in order_ids}
        assert (await read(client, endpoint))["lastFailure"].startswith(f"It answered {status}")
        try_now(servers)
    await receiver.wait_for(3 * len(LIFE))
    assert receiver.sequences() == {order_id: [1, 2, 3, 4, 5] for order_id in order_ids}
    assert {times(message) for message in receiver.arrived if message.sequence == 2} == {3}
    # Redirects are not followed.
    assert {message.path for message in receiver.arrived} == {"/orders"}


async def test_dead_endpoints_delay_neither_orders_nor_other_endpoints(
    start: Start, receiver: Receiver, servers: TestServers
) -> None:
    client = await start(**PRIVATE)
    never = asyncio.Event()
    async with Receiver() as hanging, Receiver() as refusing:

        async def hang(_message: Received) -> web.Response:
            await never.wait()
            return web.Response()

        hanging.answer = hang
        for _ in range(3):
            await create(client, hanging)
            await create(client, refusing)
        await refusing.down()
        await create(client, receiver)
        order_ids = await execute_many(client, 40)
        await receiver.wait_for(40 * len(LIFE))
        assert receiver.sequences() == {order_id: [1, 2, 3, 4, 5] for order_id in order_ids}
        assert (hanging.accepted, refusing.arrived) == ([], [])
        # Everything is still there for the dead, and each has no more than its places in use.
        await until(lambda: rows(servers, PENDING) == [(6 * 40 * len(LIFE),)])
        assert 1 <= len(hanging.arrived) <= 3 * 16
        never.set()


async def test_a_receiver_that_was_down_under_load_gets_everything(
    start: Start, receiver: Receiver, servers: TestServers
) -> None:
    client = await start(**PRIVATE)
    endpoint = await create(client, receiver)
    order_ids = await execute_many(client, 5)
    await receiver.down()
    order_ids += await execute_many(client, 40)
    # After a few failures it is called only now and then.
    await until(lambda: rows(servers, "SELECT failures >= 5 FROM webhook_endpoints") == [(True,)])
    told = await read(client, endpoint)
    assert told["lastFailure"] == "It cannot be connected to."
    assert told["pausedUntil"] is not None
    await receiver.up()
    order_ids += await execute_many(client, 5)
    rows(servers, "UPDATE webhook_endpoints SET retry_at = now()")
    await receiver.wait_for(50 * len(LIFE))
    assert receiver.sequences() == {order_id: [1, 2, 3, 4, 5] for order_id in order_ids}
    await until(lambda: rows(servers, PENDING) == [(0,)])


async def test_410_disables_an_endpoint_until_it_is_enabled_again(
    start: Start, receiver: Receiver, servers: TestServers
) -> None:
    client = await start(**PRIVATE)
    endpoint = await create(client, receiver)
    receiver.answer = answering(410)
    order = await place(client, **RESTING)
    await until(lambda: rows(servers, "SELECT enabled FROM webhook_endpoints") == [(False,)])
    told = await read(client, endpoint)
    assert (told["enabled"], told["pending"]) == (False, 2)
    assert told["disabledReason"] == "It answered 410: it wants nothing more."
    # Nothing is collected for it meanwhile.
    assert (await client.delete(f"/api/orders/{order['id']}")).status == 200
    receiver.answer = accept
    told = await change(client, endpoint, enabled=True, events=["pending", "open"], description=None)
    assert (told["enabled"], told["disabledReason"], told["events"]) == (True, None, ["pending", "open"])
    await receiver.wait_for(2)
    assert receiver.sequences() == {order["id"]: [1, 2]}
    await until(lambda: rows(servers, PENDING) == [(0,)])
    assert (await change(client, endpoint, enabled=False, events=None))["events"] is None
    await place(client, **RESTING)
    assert rows(servers, PENDING) == [(0,)]


async def test_retry_after_pauses_an_endpoint(start: Start, receiver: Receiver, servers: TestServers) -> None:
    client = await start(**PRIVATE)
    endpoint = await create(client, receiver)
    receiver.answer = answering(503, Retry_After="86400")
    await place(client, **RESTING)
    # An hour at most.
    paused = "SELECT 1 FROM webhook_endpoints WHERE retry_at BETWEEN now() + '59 min' AND now() + '1 h'"
    await until(lambda: rows(servers, paused) == [(1,)])
    assert (await read(client, endpoint))["pausedUntil"] is not None
    receiver.answer = accept
    assert (await change(client, endpoint, url=receiver.url))["pausedUntil"] is None
    await receiver.wait_for(2)


async def test_for_a_day_both_secrets_sign(start: Start, receiver: Receiver, servers: TestServers) -> None:
    client = await start(**PRIVATE)
    endpoint = await create(client, receiver)
    async with client.post(f"/api/webhooks/{endpoint['id']}/rotate-secret") as answer:
        assert answer.status == 200
        rotated = await answer.json()
    assert rotated["secret"] != endpoint["secret"]
    day = "SELECT 1 FROM webhook_endpoints WHERE previous_until BETWEEN now() + '23 h' AND now() + '24 h'"
    assert rows(servers, day) == [(1,)]
    # The receiver knows the old secret only.
    await place(client, **RESTING)
    await receiver.wait_for(2)
    assert [len(message.signatures) for message in receiver.accepted] == [2, 2]
    receiver.secrets = [rotated["secret"]]
    await place(client, **RESTING)
    await receiver.wait_for(4)
    rows(servers, "UPDATE webhook_endpoints SET previous_until = now()")
    await place(client, **RESTING)
    await receiver.wait_for(6)
    assert [len(message.signatures) for message in receiver.accepted[4:]] == [1, 1]


async def test_two_instances_deliver_together(start: Start, receiver: Receiver, servers: TestServers) -> None:
    clients = [await start(**PRIVATE), await start(**PRIVATE)]
    await create(clients[0], receiver)
    order_ids = [
        order_id
        for found in await asyncio.gather(*(execute_many(client, 20) for client in clients))
        for order_id in found
    ]
    await receiver.wait_for(40 * len(LIFE))
    await until(lambda: rows(servers, PENDING) == [(0,)])
    assert receiver.sequences() == {order_id: [1, 2, 3, 4, 5] for order_id in order_ids}


NOT_ALLOWED = [
    "https://127.0.0.1/",
    "https://localhost/",
    "https://LOCALHOST:8443/path",
    "https://10.1.2.3/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://2130706433/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "http://example.com/",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com/#part",
    "https:///path",
    "https://example.com:99999/",
    "https://8.8.8.8:0/",
    "ftp://example.com/",
    "example.com",
    "https://exam ple.com/",
    "https://example.com/" + "x" * 2_048,
    "",
]


async def test_private_addresses_are_refused(start: Start, receiver: Receiver, servers: TestServers) -> None:
    client = await start()
    for url in NOT_ALLOWED:
        async with client.post("/api/webhooks", json={"url": url}) as answer:
            body = await answer.json()
            assert (answer.status, body["errors"][0]["pointer"]) == (422, "#/url"), url
            assert "secret" not in body["errors"][0]["detail"]
    async with client.post("/api/webhooks", json={"url": "https://8.8.8.8/", "label": "none"}) as answer:
        endpoint = await answer.json()
        assert answer.status == 201
    answer = await client.patch(f"/api/webhooks/{endpoint['id']}", json={"url": "https://[::1]/"})
    assert answer.status == 422
    # A name may resolve to another address than when it was registered: the connection is refused.
    for host in ("localhost", "127.0.0.1"):
        moved = f"url = 'http://{host}:{receiver.port}/', label = NULL, last_failure = NULL"
        rows(servers, f"UPDATE webhook_endpoints SET {moved}")  # noqa: S608 - the test's own
        await place(client, **RESTING)
        await until(lambda: rows(servers, "SELECT last_failure IS NOT NULL FROM webhook_endpoints")[0][0])
        assert (await read(client, endpoint))["lastFailure"] == "The address is not a public one."
    assert receiver.arrived == []
    assert receiver.wrong == []


async def test_an_account_sees_and_is_told_only_its_own(
    make_service: Callable[..., Service], aiohttp_client: MakeClient, receiver: Receiver
) -> None:
    service = make_service(**PRIVATE)
    client = await aiohttp_client(service.web)

    async def header(account: str, scope: Scope = Scope.TRADE) -> dict[str, str]:
        _key, token = await service.storage.keys.create(NewKey(account, account, scope))
        return {"Authorization": f"Bearer {token}"}

    mine, other, admin = await header("desk"), await header("other"), await header("ops", Scope.ADMIN)
    body = {"url": receiver.url}
    created = await (await client.post("/api/webhooks", json=body, headers=mine)).json()
    receiver.secrets.append(created["secret"])
    path = f"/api/webhooks/{created['id']}"
    for method, url, sent in (
        ("GET", path, None),
        ("PATCH", path, {"enabled": False}),
        ("POST", f"{path}/rotate-secret", None),
        ("DELETE", path, None),
        ("GET", "/api/webhooks/none", None),
    ):
        assert (await client.request(method, url, json=sent, headers=other)).status == 404, (method, url)
    assert await (await client.get("/api/webhooks", headers=other)).json() == {"webhooks": []}
    assert (await client.get("/api/webhooks?account=desk", headers=other)).status == 403
    for listed in ("/api/webhooks", "/api/webhooks?account=desk"):
        [found] = (await (await client.get(listed, headers=admin)).json())["webhooks"]
        assert (found["id"], found["account"]) == (created["id"], "desk")
        assert "secret" not in str(found)
    order = {**MARKET_ORDER, **RESTING}
    for owner in (other, mine):
        assert (await client.post("/api/orders/execute", json=order, headers=owner)).status == 201
    await receiver.wait_for(2)
    assert {message.body["data"]["order"]["account"] for message in receiver.arrived} == {"desk"}
    assert (await client.delete(path, headers=admin)).status == 204
    assert (await client.get(path, headers=mine)).status == 404


async def test_an_account_has_at_most_twenty(start: Start, receiver: Receiver, servers: TestServers) -> None:
    client = await start(**PRIVATE)
    asked = [client.post("/api/webhooks", json={"url": receiver.url}) for _ in range(MOST_ENDPOINTS + 5)]
    created = sorted([answer.status for answer in await asyncio.gather(*asked)])
    assert created == [201] * MOST_ENDPOINTS + [409] * 5
    listed = (await (await client.get("/api/webhooks")).json())["webhooks"]
    assert (await client.delete(f"/api/webhooks/{listed[3]['id']}")).status == 204
    # The place is free again, and a repeated request takes it once.
    key = {"Idempotency-Key": "once"}
    bodies = [
        await (await client.post("/api/webhooks", json={"url": receiver.url}, headers=key)).json()
        for _ in range(2)
    ]
    assert bodies[0] == bodies[1]
    assert rows(servers, "SELECT count(*) FROM webhook_endpoints") == [(MOST_ENDPOINTS,)]


async def test_only_what_is_wanted_arrives(start: Start, receiver: Receiver) -> None:
    client = await start(**PRIVATE)
    await create(client, receiver, events=["open", "cancelled", "confirmed"], orderType="limit", label="mine")
    wanted = await place(client, **RESTING, label="mine")
    for ignored in ({**RESTING, "label": "other"}, {**RESTING}, {"label": "mine"}):
        await place(client, **ignored)
    assert (await client.post("/api/orders/cancel", json={"all": True})).status == 200
    await receiver.wait_for(2)
    assert receiver.sequences() == {wanted["id"]: [2, 3]}


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"url": None}, "#/url"),
        ({"url": 1}, "#/url"),
        ({"events": []}, "#/events"),
        ({"events": ["done"]}, "#/events/0"),
        ({"orderType": "stop"}, "#/orderType"),
        ({"label": ""}, "#/label"),
        ({"description": "a\nb"}, "#/description"),
        ({"secret": "mine"}, "#/secret"),
    ],
)
async def test_other_members_are_rejected(start: Start, members: Json, pointer: str) -> None:
    client = await start(**PRIVATE)
    async with client.post("/api/webhooks", json={"url": "http://127.0.0.1/", **members}) as answer:
        assert answer.status == 422
        assert (await answer.json())["errors"][0]["pointer"] == pointer


async def test_what_cannot_be_delivered_for_a_day_is_given_up(
    servers: TestServers, aiohttp_client: MakeClient, receiver: Receiver
) -> None:
    service = service_on(servers, **PRIVATE)
    client = await aiohttp_client(service.web)
    endpoint = await create(client, receiver)
    receiver.answer = answering(500)
    order = await place(client, **RESTING)
    await until(lambda: rows(servers, f"{PENDING} WHERE attempts > 0") == [(1,)])
    rows(servers, "UPDATE webhook_deliveries SET created_at = now() - interval '25 h' WHERE sequence = 1")
    # While it is being sent, it is not given up.
    while (await read(client, endpoint))["givenUp"] == 0:
        await service.webhooks.deliverer.give_up_old()
    receiver.answer = accept
    try_now(servers)
    await receiver.wait_for(1)
    assert receiver.sequences() == {order["id"]: [2]}
    assert (await read(client, endpoint))["givenUp"] == 1


async def test_a_deleted_endpoint_gets_nothing_more(
    servers: TestServers, aiohttp_client: MakeClient, receiver: Receiver
) -> None:
    service = service_on(servers, **PRIVATE)
    client = await aiohttp_client(service.web)
    endpoint = await create(client, receiver)
    receiver.answer = answering(500)
    await execute_many(client, 2)
    assert (await client.delete(f"/api/webhooks/{endpoint['id']}")).status == 204
    assert rows(servers, "SELECT count(*) FROM webhook_endpoints") == [(0,)]
    await service.webhooks.endpoints.drop_orphans()
    await until(lambda: rows(servers, PENDING) == [(0,)])


async def test_no_log_contains_a_secret_or_a_url(
    start: Start, receiver: Receiver, servers: TestServers, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(**PRIVATE)
    with caplog.at_level(logging.DEBUG):
        endpoint = await create(client, receiver)
        for answer in (answering(500), answering(410)):
            receiver.answer = answer
            await place(client, **RESTING)
            await until(lambda: rows(servers, "SELECT last_failure IS NOT NULL FROM webhook_endpoints")[0][0])
            try_now(servers)
        await until(lambda: "is disabled" in caplog.text)
    assert endpoint["id"] in caplog.text
    for secret in (endpoint["secret"], endpoint["secret"].removeprefix("whsec_"), "none-of-your-business"):
        assert secret not in caplog.text
    assert endpoint["secret"] not in str(await read(client, endpoint))
