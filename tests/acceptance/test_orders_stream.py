"""The stream of all orders: every event once and in order, resumed anywhere, after anything."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import psycopg2
import pytest
from aiohttp import WSMsgType

from service.api.close_codes import POSITION_GONE, TOO_SLOW
from service.app import Service
from service.clock import Clock
from service.domain.api_key import Scope
from service.events import message_queue
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.redis.channel import Channel
from service.store.api_keys import ApiKeys, NewKey
from tests.support.load import mixed_orders, post_all
from tests.support.orders import LIFE, Client, Json, execute, get, order_of, place
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
PATIENCE_S = 15.0


@dataclass
class OrdersFollower:
    """A client of the stream: the events it has seen, and the position of its last message."""

    socket: aiohttp.ClientWebSocketResponse
    seen: list[Json] = field(default_factory=list)
    position: str = ""

    async def receive(self) -> list[Json]:
        """Receive a message, and return its events."""
        message: Json = await self.socket.receive_json(timeout=PATIENCE_S)
        self._note(message)
        events: list[Json] = message["events"]
        return events

    def _note(self, message: Json) -> None:
        assert (message["type"], set(message)) == ("order_events", {"type", "position", "events"})
        self.position = message["position"]
        self.seen += message["events"]

    async def until(self, done: Callable[[Self], bool]) -> Self:
        """Receive until a condition holds."""
        while not done(self):
            await self.receive()
        return self

    async def until_seen(self, count: int) -> Self:
        """Receive until so many events were seen."""
        return await self.until(lambda self: len(self.seen) >= count)

    async def until_ended(self, *order_ids: str) -> Self:
        """Receive until orders are confirmed or have failed."""
        ended = {"confirmed", "failed", "cancelled", "expired"}
        return await self.until(
            lambda self: {e["orderId"] for e in self.seen if e["status"] in ended}.issuperset(order_ids)
        )

    async def close_code(self) -> int | None:
        """Receive all that was sent until the service closes the socket; return the code."""
        while (message := await self.socket.receive(timeout=PATIENCE_S)).type is WSMsgType.TEXT:
            self._note(message.json())
        return self.socket.close_code

    def of(self, order_id: str) -> list[Json]:
        """Return the events of an order."""
        return [event for event in self.seen if event["orderId"] == order_id]


@asynccontextmanager
async def follow(
    client: Client,
    position: str = "",
    query: dict[str, str] | None = None,
    header: dict[str, str] | None = None,
) -> AsyncIterator[OrdersFollower]:
    """Open the stream; its first message, without events, is received."""
    wanted = {**(query or {}), **({"from": position} if position else {})}
    url = f"/api/orders/ws?{urlencode(wanted)}"
    async with client.ws_connect(url, headers=header or {}, max_msg_size=0) as socket:
        follower = OrdersFollower(socket)
        assert await follower.receive() == []
        yield follower


def check_once(events: list[Json], orders: list[Json]) -> None:
    """Check that events are the histories of orders, each entry once and in order."""
    of_orders: dict[str, list[Json]] = {order["id"]: [] for order in orders}
    for event in events:
        of_orders[event["orderId"]].append(event)
    for order in orders:
        found = of_orders[order["id"]]
        assert [event["sequence"] for event in found] == list(range(1, len(order["statusHistory"]) + 1))
        for event, entry in zip(found, order["statusHistory"], strict=True):
            assert {name: event[name] for name in entry} == entry
            for name in ("account", "clientOrderId", "label", "orderType", "tokenIn", "tokenOut"):
                assert event[name] == order[name]


async def test_every_event_of_all_orders_is_sent_once_and_in_order(start: Start) -> None:
    here, there = await start(), await start()
    async with follow(here) as first, follow(there) as second:
        placed = await asyncio.gather(
            *(place(client, label=f"n{number}") for number, client in enumerate([here, there] * 4)),
            place(here, **RESTING),
        )
        resting = placed[-1]
        assert (await here.delete(f"/api/orders/{resting['id']}")).status == 200
        order_ids = [order["id"] for order in placed]
        await asyncio.gather(first.until_ended(*order_ids), second.until_ended(*order_ids))
        orders = [await get(here, order_id) for order_id in order_ids]
        check_once(first.seen, orders)
        check_once(second.seen, orders)
        assert [event["status"] for event in first.of(resting["id"])] == ["pending", "open", "cancelled"]
        confirmed = first.of(placed[0]["id"])[-1]
        assert [event["status"] for event in first.of(placed[0]["id"])] == LIFE
        assert (confirmed["amountIn"], confirmed["amountOut"]) == (
            orders[0]["amountIn"],
            orders[0]["amountOut"],
        )


async def test_a_client_resumes_after_each_message_on_any_instance(start: Start) -> None:
    clients = [await start(), await start()]
    async with follow(clients[0]) as whole:
        positions = [(0, whole.position)]
        for _ in range(3):
            order = await execute(clients[0])
            while not any(e["orderId"] == order["id"] and e["status"] == "confirmed" for e in whole.seen):
                await whole.receive()
                positions.append((len(whole.seen), whole.position))
    assert len(whole.seen) == 15
    for number, (count, position) in enumerate(positions):
        async with follow(clients[number % 2], position) as rest:
            await rest.until_seen(15 - count)
            assert whole.seen[:count] + rest.seen == whole.seen


async def test_a_client_that_leaves_in_the_middle_of_a_page_resumes_there(
    start: Start, servers: TestServers
) -> None:
    client = await start()
    async with follow(client) as follower:
        beginning = follower.position
        order = await execute(client)
        await follower.until_ended(order["id"])
        tip = len(follower.seen)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "INSERT INTO order_events (account, order_id, version)"
            " SELECT 'default', %s, 1 + n %% 5 FROM generate_series(0, 2999) AS n",
            (order["id"],),
        )
    rng = random.Random(7)
    seen: list[Json] = []
    position = beginning
    while len(seen) < 3_000 + tip:
        async with follow(client, position) as follower:
            for _ in range(rng.randint(1, 3)):
                if len(seen) + len(follower.seen) < 3_000 + tip:
                    await follower.receive()
        seen += follower.seen
        position = follower.position
    assert [event["sequence"] for event in seen[tip:]] == [1, 2, 3, 4, 5] * 600
    async with follow(client, position) as follower:
        await place(client, **RESTING)
        await follower.until_seen(2)


async def test_a_transaction_that_ends_late_is_not_missed(start: Start, servers: TestServers) -> None:
    client = await start()
    order = await execute(client)
    async with follow(client) as follower:
        late = psycopg2.connect(servers.database_url)
        with late.cursor() as cursor:
            cursor.execute(
                "INSERT INTO order_events (account, order_id, version) VALUES ('default', %s, 4)",
                (order["id"],),
            )
            others = [await execute(client) for _ in range(3)]
            await follower.until_ended(*(other["id"] for other in others))
            position = follower.position
            assert follower.of(order["id"]) == []
            late.commit()
        late.close()
        await follower.until(lambda follower: bool(follower.of(order["id"])))
        assert [event["sequence"] for event in follower.of(order["id"])] == [4]
    # A client that left before it ended gets it too, and nothing else.
    async with follow(client, position) as follower:
        await follower.until_seen(1)
        last = await execute(client)
        await follower.until_ended(last["id"])
        assert [event["orderId"] for event in follower.seen] == [order["id"]] + 5 * [last["id"]]


async def test_without_messages_between_the_instances_events_arrive_soon(
    make_service: Callable[..., Service], aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await aiohttp_client(make_service().web)
    there = await aiohttp_client(make_service().web)
    monkeypatch.setattr(Channel, "publish", lambda *_message: None)
    async with follow(there) as follower:
        order = await execute(here)
        # The next poll finds them; nothing else would.
        async with asyncio.timeout(5):
            await follower.until_ended(order["id"])
        check_once(follower.seen, [await get(here, order["id"])])


RESTED = ["pending", "open", "cancelled"]
FILTERS: list[tuple[dict[str, str], dict[str, list[str]]]] = [
    ({"status": "open,cancelled"}, {"grid": ["open", "cancelled"]}),
    ({"orderType": "limit"}, {"grid": RESTED}),
    ({"tokenIn": "USDC"}, {"bought": LIFE}),
    ({"tokenOut": "USDC", "orderType": "market"}, {"sold": LIFE}),
    ({"label": "sold"}, {"sold": LIFE}),
    ({"clientOrderIdPrefix": "b.1"}, {"bought": LIFE}),
    ({"account": "default"}, {"grid": RESTED, "bought": LIFE, "sold": LIFE}),
    ({"account": "nobody"}, {}),
]


async def test_filters_select_events_live_and_resumed(start: Start) -> None:
    client = await start()
    async with AsyncExitStack() as sockets:
        whole = await sockets.enter_async_context(follow(client))
        beginning = whole.position
        live = [await sockets.enter_async_context(follow(client, query=query)) for query, _chosen in FILTERS]
        grid = await place(client, **RESTING, label="grid")
        await client.delete(f"/api/orders/{grid['id']}")
        orders = [
            grid,
            await execute(client, tokenIn="USDC", tokenOut="SOL", label="bought", clientOrderId="b.1-7"),
            await execute(client, label="sold", clientOrderId="b_1-7"),
        ]
        await whole.until_ended(*(order["id"] for order in orders))
        resumed = [
            await sockets.enter_async_context(follow(client, beginning, query)) for query, _chosen in FILTERS
        ]
        for followers in (live, resumed):
            for follower, (query, chosen) in zip(followers, FILTERS, strict=True):
                await follower.until_seen(sum(map(len, chosen.values())))
                statuses: dict[str, list[str]] = {}
                for event in follower.seen:
                    statuses.setdefault(event["label"], []).append(event["status"])
                assert statuses == chosen, query


async def test_an_invalid_query_is_rejected_at_the_handshake(start: Start) -> None:
    client = await start()
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for query, pointer in (
        ("from=x", "#/from"),
        ("from=", "#/from"),
        ("status=done", "#/status"),
        ("orderType=stop", "#/orderType"),
        ("tokenIn=!", "#/tokenIn"),
        ("account=A", "#/account"),
        ("limit=5", "#/limit"),
        ("label=a&label=b", "#/label"),
    ):
        async with client.get(f"/api/orders/ws?{query}", headers=upgrade) as answer:
            assert answer.status == 422, query
            assert [error["pointer"] for error in (await answer.json())["errors"]] == [pointer]
    async with client.get("/api/orders/ws") as answer:
        assert answer.status == 426


async def close_code_of(client: Client, position: str) -> int | None:
    """Connect with a position, and return the code with which the service closes at once."""
    async with client.ws_connect(f"/api/orders/ws?from={position}") as socket:
        assert (await socket.receive(timeout=PATIENCE_S)).type is WSMsgType.CLOSE
        return socket.close_code


async def test_a_position_of_a_lost_past_or_too_old_is_refused(
    make_service: Callable[..., Service],
    aiohttp_client: Any,
    servers: TestServers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    await place(client, **RESTING)
    async with follow(client) as follower:
        position = follower.position
    async with follow(client, position):
        pass
    monkeypatch.setattr("service.store.event_position.VALID_S", -10)
    assert await close_code_of(client, position) == POSITION_GONE
    monkeypatch.undo()
    with servers.connect() as link, link.cursor() as cursor:
        # As after a restored backup, in whose future another event got the id.
        cursor.execute(
            "UPDATE order_events SET version = 1 WHERE id = (SELECT max(id) FROM order_events) RETURNING id"
        )
        [(event_id,)] = cursor.fetchall()
        assert await close_code_of(client, position) == POSITION_GONE
        cursor.execute("UPDATE order_events SET version = 2 WHERE id = %s", (event_id,))
        async with follow(client, position):
            pass
        cursor.execute(
            "CREATE OR REPLACE FUNCTION xid_era() RETURNS text LANGUAGE sql AS $$ SELECT 'other' $$"
        )
        assert await close_code_of(client, position) == POSITION_GONE


async def test_another_era_ends_the_streams(start: Start, servers: TestServers) -> None:
    client = await start()
    async with follow(client) as follower:
        with servers.connect() as link, link.cursor() as cursor:
            cursor.execute(
                "CREATE OR REPLACE FUNCTION xid_era() RETURNS text LANGUAGE sql AS $$ SELECT 'other' $$"
            )
        assert await follower.close_code() == 1012
    assert await close_code_of(client, follower.position) == POSITION_GONE


async def test_an_account_sees_only_its_own_events(start: Start, servers: TestServers) -> None:
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    keys = ApiKeys(database, Clock())
    header = {}
    for name, scope, account in (
        ("mine", Scope.TRADE, "desk"),
        ("other", Scope.TRADE, "other"),
        ("admin", Scope.ADMIN, "operations"),
    ):
        _key_id, token = await keys.create(NewKey(account, name, scope))
        header[name] = {"Authorization": f"Bearer {token}"}
    await database.close()
    client = await start()

    async def placed(name: str) -> str:
        body = order_of(**RESTING)
        async with client.post("/api/orders/execute", json=body, headers=header[name]) as answer:
            assert answer.status == 201
            return str((await answer.json())["orderId"])

    async with (
        follow(client, header=header["mine"]) as mine,
        follow(client, header=header["admin"]) as admin,
        follow(client, query={"account": "other"}, header=header["admin"]) as one,
    ):
        beginning = admin.position
        own, theirs = await placed("mine"), await placed("other")
        await admin.until_seen(4)
        await one.until_seen(2)
        assert {event["account"] for event in one.seen} == {"other"}
        assert {(event["orderId"], event["account"]) for event in admin.seen} == {
            (own, "desk"),
            (theirs, "other"),
        }
        last = await placed("mine")
        await mine.until_seen(4)
        assert {event["orderId"] for event in mine.seen} == {own, last}
    # Whatever the position was given for.
    async with follow(client, beginning, header=header["mine"]) as mine:
        await mine.until_seen(4)
        assert {event["account"] for event in mine.seen} == {"desk"}
    for url in ("/api/orders/ws?account=desk", f"/api/orders/ws?account=desk&from={beginning}"):
        async with client.get(url, headers=header["other"]) as answer:
            assert answer.status == 403
    async with client.get("/api/orders/ws") as answer:
        assert answer.status == 401


async def test_a_client_that_does_not_read_is_closed_and_resumes(
    make_service: Callable[..., Service], aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await aiohttp_client(make_service().web)
    async with follow(client) as follower:
        # From now on every message is more than may wait.
        monkeypatch.setattr(message_queue, "MOST_WAITING_BYTES", 0)
        order = await execute(client)
        assert await follower.close_code() == TOO_SLOW
    monkeypatch.undo()
    async with follow(client, follower.position) as again:
        await again.until_ended(order["id"])
        check_once(again.seen, [await get(client, order["id"])])


async def test_a_client_resumes_after_a_stop_and_after_a_kill_under_load(
    spawn: Callable[..., ServiceProcess], servers: TestServers
) -> None:
    settings = {**NO_DELAYS, "QUOTE_DELAY_MS": "5-20", "EXECUTION_DELAY_MS": "5-50", "SHUTDOWN_GRACE_S": "0"}
    service = await asyncio.to_thread(spawn, **settings)
    rng, seen, position = random.Random(3), list[Json](), ""
    for end, code in ((signal.SIGTERM, 1012), (signal.SIGKILL, 1006)):
        async with follow_process(service, position) as follower:
            posting = asyncio.create_task(asyncio.to_thread(post_all, service, mixed_orders(60, rng)))
            await follower.until_seen(80)
            service.process.send_signal(end)
            assert await follower.close_code() == code
        seen, position = seen + follower.seen, follower.position
        promised = (await posting).ids
        await asyncio.to_thread(service.process.wait, 20)
        service = await asyncio.to_thread(spawn, **settings)
    async with follow_process(service, position) as follower:
        while not await asyncio.to_thread(all_seen, servers, seen + follower.seen):
            await follower.receive()
    seen += follower.seen
    assert {event["orderId"] for event in seen} >= set(promised)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT id::text, status_history FROM orders")
        for order_id, history in cursor.fetchall():
            events = [event for event in seen if event["orderId"] == order_id]
            assert [event["sequence"] for event in events] == list(range(1, len(history) + 1)), order_id
            assert [event["status"] for event in events] == [entry["status"] for entry in history]


@asynccontextmanager
async def follow_process(service: ServiceProcess, position: str) -> AsyncIterator[OrdersFollower]:
    """Open the stream of a service in its own process."""
    url = f"{service.url}/api/orders/ws" + (f"?from={position}" if position else "")
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        follower = OrdersFollower(socket)
        await follower.receive()
        yield follower


def all_seen(servers: TestServers, seen: list[Json]) -> bool:
    """Return whether all orders have ended, and as many events were seen as they have entries."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM open_orders), (SELECT sum(version) FROM orders)")
        [(left, entries)] = cursor.fetchall()
    return left == 0 and len(seen) >= int(entries)
