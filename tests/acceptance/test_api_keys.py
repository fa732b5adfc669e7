"""API keys over the wire: every route with each scope, no key, another account's key, an invalid one."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientResponse, WSMsgType, WSServerHandshakeError
from aiohttp.web import Application

from service.api.access import STREAM_PROTOCOL
from service.api.close_codes import UNAUTHORIZED
from service.api.route import ApiRoute
from service.api.routes import ROUTES
from service.app import Service
from service.clock import Clock
from service.domain.api_key import Scope
from service.domain.key_limits import NO_LIMITS
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.api_keys import ApiKeys, NewKey
from tests.support.gem_market import rows
from tests.support.orders import Client, Json, order_of
from tests.support.servers import TestServers

REVOKED_WITHIN_S = 2.0
NOT_VALID = [
    "",
    "Bearer",
    "Bearer oek_0",
    f"Bearer oek_{'0' * 16}_{'0' * 64}",
    "Basic dXNlcjpwYXNz",
]


class Keyring:
    """Creates keys on a test's database; a header authenticates with one."""

    def __init__(self, keys: ApiKeys) -> None:
        self.stored = keys
        self.ids: dict[str, str] = {}

    async def header(
        self, scope: Scope, account: str = "desk", expires_in_s: int | None = None
    ) -> dict[str, str]:
        """Create a key, and return the header that sends it."""
        key_id, token = await self.stored.create(
            NewKey(account, f"{scope} of {account}", scope, expires_in_s)
        )
        self.ids[token] = key_id
        return {"Authorization": f"Bearer {token}"}

    def id_of(self, header: dict[str, str]) -> str:
        """Return the id of a header's key."""
        return self.ids[header["Authorization"].removeprefix("Bearer ")]


@pytest.fixture
async def keyring(servers: TestServers) -> AsyncIterator[Keyring]:
    """Return the keys of the test's database, before any service starts on it."""
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    yield Keyring(ApiKeys(database, Clock()))
    await database.close()


Start = Callable[..., Awaitable[Client]]


async def _place(client: Client, header: dict[str, str], **changes: object) -> Json:
    async with client.post("/api/orders/execute", json=order_of(**changes), headers=header) as answer:
        body: Json = await answer.json()
        assert answer.status == 201, body
        return body


def _resting() -> Json:
    return {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}


async def _ask(client: Client, route: ApiRoute, order_id: str, header: dict[str, str]) -> ClientResponse:
    path = route.path.format(order_id=order_id, client_order_id="mine", pool_id="none", webhook_id=order_id)
    return await client.request(route.method, path, headers=header, json={} if route.body else None)


GUARDED = [route for route in ROUTES if route.scope is not None]


def test_only_these_routes_are_public() -> None:
    public = {"/health", "/openapi.json", "/asyncapi.json", "/docs", "/docs/{asset}"}
    assert {route.path for route in ROUTES if route.scope is None} == public
    changing = {route.operation_id for route in GUARDED if route.method != "GET"}
    assert {r.operation_id for r in GUARDED if r.scope is Scope.READ and r.method != "GET"} == {
        "createStreamTicket"
    }
    assert {r.operation_id for r in GUARDED if r.scope is not Scope.READ} == changing - {"createStreamTicket"}


async def test_every_route_needs_a_key_with_its_scope(start: Start, keyring: Keyring) -> None:
    headers = {scope: await keyring.header(scope) for scope in Scope}
    gone = [await keyring.header(Scope.ADMIN), await keyring.header(Scope.ADMIN, expires_in_s=-1)]
    await keyring.stored.revoke(keyring.id_of(gone[0]))
    client = await start()
    placed = await _place(client, headers[Scope.TRADE], clientOrderId="mine", **_resting())
    # A public address, and a label that no order has: nothing is sent.
    sent = {"url": "https://8.8.8.8/", "label": "of no order"}
    webhook = await (await client.post("/api/webhooks", json=sent, headers=headers[Scope.TRADE])).json()
    for path in {route.path for route in GUARDED if route.method == "GET" and route.allow_head}:
        url = path.format(order_id=placed["id"], client_order_id="mine", webhook_id=webhook["id"])
        assert (await client.head(url)).status == 401
        assert (await client.head(url, headers=headers[Scope.READ])).status in {200, 422}
    for route in GUARDED:
        assert route.scope is not None
        for value in NOT_VALID:
            answer = await _ask(client, route, placed["id"], {"Authorization": value} if value else {})
            problem = await answer.json()
            assert answer.status == 401, (route, value)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
            assert problem["detail"] == "The API key is missing or not valid."
        for header in gone:
            assert (await _ask(client, route, placed["id"], header)).status == 401, route
        for scope, header in headers.items():
            answer = await _ask(client, route, placed["id"], header)
            allowed = scope.includes(route.scope)
            assert (answer.status != 403) == allowed, (route, scope)
            assert answer.status != 401


async def test_nothing_of_another_account_is_seen_or_changed(
    start: Start, keyring: Keyring, servers: TestServers
) -> None:
    mine, other = await keyring.header(Scope.TRADE, "desk"), await keyring.header(Scope.TRADE, "other")
    admin = await keyring.header(Scope.ADMIN, "operations")
    client = await start()
    order = await _place(client, mine, clientOrderId="mine", label="the desk's", **_resting())
    path = f"/api/orders/{order['id']}"
    before = await (await client.get(path, headers=mine)).json()
    assert before["account"] == "desk"
    for method, url, body in (
        ("GET", path, None),
        ("GET", "/api/orders/by-client-id/mine", None),
        ("PATCH", path, {"limitPrice": "2000000"}),
        ("DELETE", path, None),
        ("GET", f"{path}/ws", None),
    ):
        asked = {**other, "Connection": "Upgrade", "Upgrade": "websocket"} if url.endswith("/ws") else other
        answer = await client.request(
            method,
            url,
            json=body,
            headers={**asked, "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "A" * 22 + "=="},
        )
        assert answer.status == 404, (method, url)
    wanted: Json
    for wanted in ({"all": True}, {"label": "the desk's"}):
        answer = await client.post("/api/orders/cancel", json=wanted, headers=other)
        assert await answer.json() == {"cancelled": 0, "cancelRequested": 0}
    for query in ("", "?status=open", "?orderType=limit", "?account=other"):
        assert (await (await client.get(f"/api/orders{query}", headers=other)).json())["orders"] == []
    assert (await client.get("/api/orders?account=desk", headers=other)).status == 403
    taken = await client.post("/api/orders/cancel", json={"all": True, "account": "desk"}, headers=other)
    assert taken.status == 403
    # The other account's clientOrderId is its own.
    theirs = await _place(client, other, clientOrderId="mine", **_resting())
    assert theirs["account"] == "other"
    # Nothing has changed, nor will it.
    assert rows(servers, "SELECT count(*) FROM open_orders WHERE cancel_requested") == [(0,)]
    assert await (await client.get(path, headers=mine)).json() == before
    # An admin sees all accounts, one account, and whose each order is.
    listed = await (await client.get("/api/orders", headers=admin)).json()
    assert [found["account"] for found in listed["orders"]] == ["other", "desk"]
    listed = await (await client.get("/api/orders?account=desk&status=open", headers=admin)).json()
    assert [found["id"] for found in listed["orders"]] == [order["id"]]
    answer = await client.post("/api/orders/cancel", json={"all": True, "account": "desk"}, headers=admin)
    assert (await answer.json())["cancelled"] == 1
    assert (await (await client.get(path, headers=mine)).json())["status"] == "cancelled"


async def test_a_lists_cancellation_is_of_the_own_account_even_for_an_admin(
    start: Start, keyring: Keyring
) -> None:
    admin, mine = await keyring.header(Scope.ADMIN, "operations"), await keyring.header(Scope.TRADE)
    client = await start()
    order = await _place(client, mine, **_resting())
    answer = await client.post("/api/orders/cancel", json={"all": True}, headers=admin)
    assert (await answer.json())["cancelled"] == 0
    # By its id an admin may cancel any order.
    assert (await client.delete(f"/api/orders/{order['id']}", headers=admin)).status == 200


async def test_an_expired_or_a_revoked_key_is_refused_soon_on_every_instance(
    start: Start, keyring: Keyring
) -> None:
    expiring = await keyring.header(Scope.READ, expires_in_s=3600)
    revoked = await keyring.header(Scope.TRADE)
    stays = await keyring.header(Scope.TRADE)
    clients = [await start(), await start()]
    order = await _place(clients[0], revoked, **_resting())
    for client in clients:
        for header in (expiring, revoked, stays):
            assert (await client.get("/api/keys/me", headers=header)).status == 200
    paths = (f"/api/orders/{order['id']}/ws", "/api/market/ws?pairs=SOL-USDC")
    sockets = [await clients[1].ws_connect(path, headers=revoked) for path in paths]
    for socket in sockets:
        assert (await socket.receive()).type is WSMsgType.TEXT
    await keyring.stored.revoke(keyring.id_of(revoked))
    began = time.monotonic()
    for client in clients:
        while (await client.get("/api/keys/me", headers=revoked)).status != 401:
            assert time.monotonic() - began < REVOKED_WITHIN_S
            await asyncio.sleep(0.05)
        assert (await client.get("/api/keys/me", headers=stays)).status == 200
    for socket in sockets:
        while not socket.closed:
            await socket.receive(timeout=2 * REVOKED_WITHIN_S)
        assert socket.close_code == UNAUTHORIZED


async def test_a_key_can_be_used_as_soon_as_it_is_created_or_rotated(
    start: Start, keyring: Keyring, servers: TestServers
) -> None:
    await keyring.header(Scope.READ)
    clients = [await start(), await start()]
    for client in clients:
        assert (await client.get("/api/keys/me")).status == 401
    new = await keyring.header(Scope.TRADE)
    for client in clients:
        assert (await client.get("/api/keys/me", headers=new)).status == 200
    # Its ticket too, on the instance that has not heard of the key.
    late = await keyring.header(Scope.TRADE)
    order = await _place(clients[0], late, **_resting())
    ticket = (await (await clients[0].post("/api/stream-tickets", headers=late)).json())["ticket"]
    protocols = (STREAM_PROTOCOL, f"ticket.{ticket}")
    socket = await clients[1].ws_connect(f"/api/orders/{order['id']}/ws", protocols=protocols)
    assert (await socket.receive_json())["sequence"] == 1
    await socket.close()
    rotated = await keyring.stored.rotate(keyring.id_of(new), 0)
    for client in clients:
        header = {"Authorization": f"Bearer {rotated}"}
        assert (await client.get("/api/keys/me", headers=header)).status == 200
    expired = await keyring.header(Scope.READ, expires_in_s=-1)
    assert await keyring.stored.rotate(keyring.id_of(expired), 0) is None


async def test_a_rotated_key_has_a_new_secret(start: Start, keyring: Keyring) -> None:
    lasting, replaced = await keyring.header(Scope.READ), await keyring.header(Scope.READ)
    new = {
        f"Bearer {await keyring.stored.rotate(keyring.id_of(lasting), 60)}",
        f"Bearer {await keyring.stored.rotate(keyring.id_of(replaced), 0)}",
    }
    client = await start()
    for token in new:
        assert (await client.get("/api/keys/me", headers={"Authorization": token})).status == 200
    assert (await client.get("/api/keys/me", headers=lasting)).status == 200
    assert (await client.get("/api/keys/me", headers=replaced)).status == 401


async def test_a_key_tells_what_it_may_do(start: Start, keyring: Keyring) -> None:
    header = await keyring.header(Scope.TRADE, "desk", expires_in_s=60)
    client = await start()
    told = await (await client.get("/api/keys/me", headers=header)).json()
    assert told.pop("createdAt") < told.pop("expiresAt")
    assert told == {
        "keyId": keyring.id_of(header),
        "name": "trade of desk",
        "account": "desk",
        "scope": "trade",
        "mode": "paper",
        "limits": NO_LIMITS.as_shown(),
        "used": {"maxAmountPerDay": None, "maxUsdPerDay": None, "maxOpenOrders": None},
    }


async def test_without_any_key_everybody_on_this_machine_may_trade(
    make_service: Callable[..., Service],
    aiohttp_client: Callable[[Application], Awaitable[Client]],
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    told = await (await client.get("/api/keys/me")).json()
    assert (told["keyId"], told["account"], told["scope"]) == (None, "default", "admin")
    # An invalid key is not ignored.
    assert (await client.get("/api/keys/me", headers={"Authorization": "Bearer x"})).status == 401
    await service.storage.keys.create(NewKey("desk", "first", Scope.READ))
    began = time.monotonic()
    while (await client.get("/api/keys/me")).status != 401:
        assert time.monotonic() - began < REVOKED_WITHIN_S
        await asyncio.sleep(0.05)


async def test_a_ticket_opens_one_socket_on_any_instance(
    start: Start, keyring: Keyring, servers: TestServers
) -> None:
    mine, other = await keyring.header(Scope.TRADE), await keyring.header(Scope.TRADE, "other")
    first, second = await start(), await start()
    order = await _place(first, mine, **_resting())
    path = f"/api/orders/{order['id']}/ws"

    async def ticket(header: dict[str, str]) -> str:
        answer = await first.post("/api/stream-tickets", headers=header)
        body = await answer.json()
        assert (answer.status, body["validSeconds"]) == (201, 30)
        return f"ticket.{body['ticket']}"

    async def status_of(*protocols: str) -> int:
        try:
            async with second.ws_connect(path, protocols=protocols) as socket:
                assert socket.protocol == STREAM_PROTOCOL
                assert (await socket.receive_json())["order"]["account"] == "desk"
                return 101
        except WSServerHandshakeError as error:
            return error.status

    mine_once = await ticket(mine)
    assert await status_of(STREAM_PROTOCOL, mine_once) == 101
    assert await status_of(STREAM_PROTOCOL, mine_once) == 401
    assert await status_of(STREAM_PROTOCOL, f"ticket.{'0' * 64}") == 401
    assert await status_of(STREAM_PROTOCOL) == 401
    assert await status_of(STREAM_PROTOCOL, await ticket(other)) == 404
    too_late = await ticket(mine)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("UPDATE stream_tickets SET expires_at = now()")
    assert await status_of(STREAM_PROTOCOL, too_late) == 401
    for malformed in ("ticket.", "ticket.x", f"ticket.{'0' * 63}", f"ticket.{'0' * 64}0"):
        assert await status_of(STREAM_PROTOCOL, malformed) == 401
    # Whatever the socket is.
    protocols = (STREAM_PROTOCOL, await ticket(other))
    async with second.ws_connect("/api/market/ws?pairs=SOL-USDC", protocols=protocols) as socket:
        assert (await socket.receive_json())["type"] == "market_state"
    # A ticket is for sockets only.
    answer = await first.get("/api/orders", headers={"Sec-WebSocket-Protocol": await ticket(mine)})
    assert answer.status == 401
