"""``Idempotency-Key``: a request that is sent again is executed once, whatever happens in between."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp.web import Application

from service.app import Service
from service.clock import Clock
from service.domain.api_key import Scope
from service.postgres.database import Database, UnavailableError
from service.postgres.migrations import migrate
from service.postgres.queries import Query, Row
from service.store.api_keys import ApiKeys, NewKey
from tests.support.gem_market import GEM_POOL, forget_listed_tokens, rows
from tests.support.orders import Client, Json, order_of, watch
from tests.support.paper import until
from tests.support.servers import TestServers
from tests.support.statements import Gate, meddle

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]
Sent = tuple[int, bool, Json]

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
EXECUTE, CANCEL, LIST_POOL = "/api/orders/execute", "/api/orders/cancel", "/api/paper/pools"
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}


async def send(client: Client, path: str, body: Json, key: str = KEY) -> Sent:
    """Send a request under a key; return its status, whether it was replayed, and its body."""
    async with client.post(path, json=body, headers={"Idempotency-Key": key}) as answer:
        return answer.status, answer.headers.get("Idempotent-Replayed") == "true", await answer.json()


async def test_an_order_is_placed_once_and_its_response_replayed(start: Start, servers: TestServers) -> None:
    clients = [await start(), await start()]
    first = await send(clients[0], EXECUTE, order_of(**RESTING, label="one"))
    assert first[:2] == (201, False)
    # The response is the first one, even after the order has changed, on any instance, and after a restart.
    await clients[0].patch(f"/api/orders/{first[2]['id']}", json={"limitPrice": "2000000"})
    for client in (*clients, await start()):
        assert await send(client, EXECUTE, order_of(**RESTING, label="one")) == (201, True, first[2])
    assert await send(clients[0], EXECUTE, order_of(label="one", **RESTING), f'"{KEY}"') == (
        201,
        True,
        first[2],
    )
    assert rows(servers, "SELECT count(*) FROM orders") == [(1,)]


async def test_a_thousand_concurrent_copies_make_one_order(start: Start, servers: TestServers) -> None:
    clients = [await start(), await start()]
    answers = await asyncio.gather(
        *(send(clients[number % 2], EXECUTE, order_of(**RESTING)) for number in range(1_000))
    )
    assert {(status, body["id"]) for status, _replayed, body in answers} == {(201, answers[0][2]["id"])}
    assert sum(not replayed for _status, replayed, _body in answers) == 1
    assert rows(servers, "SELECT count(*) FROM orders") == [(1,)]


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        (EXECUTE, order_of(**RESTING), order_of(**RESTING, label="other")),
        (CANCEL, {"all": True}, {"orderType": "limit"}),
        (LIST_POOL, GEM_POOL, {**GEM_POOL, "program": "meteora_damm_v2"}),
    ],
)
async def test_a_key_stands_for_one_request(start: Start, path: str, body: Json, other: Json) -> None:
    client = await start()
    first = await send(client, path, body)
    assert first[:2] == ({CANCEL: 200}.get(path, 201), False)
    # The members' order does not matter, and the first response is replayed.
    assert await send(client, path, dict(reversed(body.items()))) == (first[0], True, first[2])
    status, replayed, problem = await send(client, path, other)
    assert (status, replayed) == (422, False)
    assert "another request" in problem["detail"]
    another_path = CANCEL if path == EXECUTE else EXECUTE
    status, *_ = await send(client, another_path, {"all": True} if another_path == CANCEL else order_of())
    assert status == 422
    # Under another key it is another request.
    assert (await send(client, path, other, "another"))[0] in {200, 201}


async def test_a_client_order_id_and_a_key_together(start: Start, servers: TestServers) -> None:
    client = await start()
    order = order_of(**RESTING, clientOrderId="mine")
    first = await send(client, EXECUTE, order)
    assert await send(client, EXECUTE, order) == (201, True, first[2])
    # Under another key the client order id decides: the same order, or a conflict; each time.
    for _ in range(2):
        status, _replayed, body = await send(client, EXECUTE, order, "other")
        assert (status, body["id"]) == (200, first[2]["id"])
        status, *_ = await send(client, EXECUTE, {**order, "label": "x"}, "third")
        assert status == 409
    assert rows(servers, "SELECT count(*) FROM orders") == [(1,)]


async def test_an_order_that_has_expired_meanwhile_is_replayed(start: Start, servers: TestServers) -> None:
    client = await start()
    [[soon]] = rows(servers, "SELECT rfc3339(now() + interval '1 second')")
    order = order_of(**{**RESTING, "timeInForce": "GTD"}, expiresAt=soon)
    first = await send(client, EXECUTE, order)
    assert first[0] == 201
    assert (await watch(client, first[2]["id"]))[-1]["status"] == "expired"
    assert await send(client, EXECUTE, order) == (201, True, first[2])
    assert (await send(client, EXECUTE, order, "another"))[0] == 422


async def test_a_key_is_of_its_account(start: Start, servers: TestServers) -> None:
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    tokens = [
        (await ApiKeys(database, Clock()).create(NewKey(account, "bot", Scope.ADMIN)))[1]
        for account in ("desk", "other")
    ]
    await database.close()
    client = await start()
    for path, body in ((EXECUTE, order_of(**RESTING)), (CANCEL, {"all": True})):
        seen = []
        for token in tokens * 2:
            headers = {"Idempotency-Key": path, "Authorization": f"Bearer {token}"}
            async with client.post(path, json=body, headers=headers) as answer:
                seen.append("Idempotent-Replayed" in answer.headers)
                assert answer.status < 300
        assert seen == [False, False, True, True]
    assert rows(servers, "SELECT account FROM orders ORDER BY account") == [("desk",), ("other",)]


@pytest.mark.parametrize("path", [EXECUTE, CANCEL, "/api/orders/batch"])
async def test_a_deeply_nested_body_is_malformed(start: Start, path: str) -> None:
    client = await start()
    headers = {"Idempotency-Key": KEY, "Content-Type": "application/json"}
    for depth in (100, 300, 900, 5_000):
        async with client.post(path, data=b"[" * depth + b"]" * depth, headers=headers) as answer:
            assert answer.status == 400


@pytest.mark.parametrize("name", ["release_idempotency_key", "reserve_idempotency_key"])
async def test_no_key_stays_reserved_when_postgresql_is_away_for_a_moment(
    make_service: Callable[..., Service],
    aiohttp_client: Callable[[Application], Awaitable[Client]],
    servers: TestServers,
    name: str,
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    failed = False

    new_write_id = service.storage.clock.new_write_id
    reservations: list[str] = []

    def record_write_id() -> str:
        reservations.append(new_write_id())
        return reservations[-1]

    service.storage.clock.new_write_id = record_write_id  # type: ignore[method-assign]

    async def fail_after(query: Query[Row]) -> None:
        nonlocal failed
        if query.name == "request_cancel_matching" and not failed:
            raise UnavailableError("away", unknown=False)
        if query.name == name and not failed:
            failed = True
            if name == "reserve_idempotency_key":
                rows(
                    servers,
                    "INSERT INTO idempotency_keys"
                    " (account, key, request_hash, created_at, owner, reservation)"
                    " SELECT 'default', %s, decode('00', 'hex'), now(), id, %s FROM instances",
                    KEY,
                    reservations[-1],
                )
            raise UnavailableError("the response was lost", unknown=True)

    meddle(service.storage.database, fail_after)
    assert (await send(client, CANCEL, {"all": True}))[0] == 503
    assert failed
    await until(lambda: rows(servers, "SELECT count(*) FROM idempotency_keys") == [(0,)])
    assert (await send(client, CANCEL, {"all": True}))[:2] == (200, False)


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "two words", 'in"side', "é"])
async def test_a_malformed_key_is_rejected(start: Start, key: str) -> None:
    client = await start()
    for path, body in ((EXECUTE, order_of()), (CANCEL, {"all": True})):
        assert (await send(client, path, body, key))[0] == 400


async def test_a_request_that_failed_may_be_sent_again(start: Start) -> None:
    client = await start()
    for path, invalid, body in (
        (EXECUTE, order_of(amountIn="0"), order_of(**RESTING)),
        (CANCEL, {}, {"all": True}),
        (LIST_POOL, {**GEM_POOL, "tokenA": "USDC", "tokenB": "USDC"}, GEM_POOL),
    ):
        assert (await send(client, path, invalid, path))[0] == 422
        status, replayed, _body = await send(client, path, body, path)
        assert (status, replayed) == ({CANCEL: 200}.get(path, 201), False)


async def test_while_a_request_is_handled_another_is_told_to_wait(
    make_service: Callable[..., Service], aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    gate = Gate(service.storage.database, "request_cancel_matching")
    first = asyncio.create_task(send(client, CANCEL, {"all": True}))
    await gate.reached.wait()
    status, replayed, problem = await send(client, CANCEL, {"all": True})
    assert (status, replayed) == (409, False)
    assert "being handled" in problem["detail"]
    gate.open()
    assert (await first)[:2] == (200, False)
    assert (await send(client, CANCEL, {"all": True}))[:2] == (200, True)


async def test_the_request_of_a_process_that_died_is_handled_anew(start: Start, servers: TestServers) -> None:
    client = await start()
    first = await send(client, CANCEL, {"all": True})
    # As if its process had died before it stored the response.
    rows(servers, "UPDATE idempotency_keys SET status = NULL, response = NULL, owner = gen_random_uuid()")
    assert await send(client, CANCEL, {"all": True}) == (200, False, first[2])
    assert await send(client, CANCEL, {"all": True}) == (200, True, first[2])


async def test_a_response_is_stored_when_postgresql_is_back(
    make_service: Callable[..., Service], aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    stored, failures = asyncio.Event(), 2

    async def before(query: Query[Row]) -> None:
        nonlocal failures
        if query.name == "store_idempotent_response":
            failures -= 1
            if failures >= 0:
                raise UnavailableError("away", unknown=True)
            stored.set()

    meddle(service.storage.database, before)
    first = await send(client, CANCEL, {"all": True})
    assert first[:2] == (200, False)
    assert (await send(client, CANCEL, {"all": True}))[0] == 409
    await stored.wait()
    # The statement has been let through, and answers soon.
    async with asyncio.timeout(5):
        while (again := await send(client, CANCEL, {"all": True}))[0] == 409:
            pass
    assert again == (200, True, first[2])


async def test_keys_are_kept_for_a_day(
    make_service: Callable[..., Service],
    aiohttp_client: Callable[[Application], Awaitable[Client]],
    servers: TestServers,
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    first = await send(client, EXECUTE, order_of(**RESTING))
    rows(servers, "UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    assert await service.storage.idempotency.delete_old() == 0
    assert (await send(client, EXECUTE, order_of(**RESTING)))[1:] == (True, first[2])
    rows(servers, "UPDATE idempotency_keys SET created_at = now() - interval '24 hours'")
    assert await service.storage.idempotency.delete_old() == 1
    assert (await send(client, EXECUTE, order_of(**RESTING)))[:2] == (201, False)
    assert rows(servers, "SELECT count(*) FROM orders") == [(2,)]
