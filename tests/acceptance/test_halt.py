"""The kill switch and the dead man's switch, on two instances."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp.web import Application

from service.app import Service
from tests.conftest import service_on
from tests.support.gem_market import rows
from tests.support.orders import LIFE, Client, Json, get, order_of, place, statuses, watch
from tests.support.paper import until
from tests.support.servers import TestServers
from tests.support.statements import Gate

Start = Callable[..., Awaitable[Client]]
MakeClient = Callable[[Application], Awaitable[Client]]

REASON = "the market is on fire"
WITHIN_S = 1.0
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
REACHED: Json = {"orderType": "limit", "limitPrice": "0.000001", "timeInForce": "GTC"}


async def halt(client: Client) -> Json:
    """Halt trading, and return the response."""
    async with client.post("/api/admin/halt", json={"reason": REASON}) as answer:
        assert answer.status == 200
        body: Json = await answer.json()
        return body


async def resume(client: Client) -> None:
    """Resume trading."""
    async with client.post("/api/admin/resume") as answer:
        assert answer.status == 200
        assert await answer.json() == {"halted": False, "reason": None, "haltedAt": None}


async def health(client: Client) -> Json:
    """Return what an instance says of itself."""
    body: Json = await (await client.get("/health")).json()
    return body


async def test_no_order_is_accepted_on_any_instance(start: Start, servers: TestServers) -> None:
    clients = [await start(), await start()]
    before = await place(clients[0], clientOrderId="before", **RESTING)
    halted = await halt(clients[0])
    assert (halted["halted"], halted["reason"]) == (True, REASON)
    for client in (*clients, await start()):
        for body in (order_of(), order_of(**RESTING), order_of(clientOrderId="new")):
            async with client.post("/api/orders/execute", json=body) as answer:
                assert answer.status == 503
                assert (await answer.json())["detail"] == f"Trading is halted: {REASON}"
        assert (await health(client))["halted"] == {"reason": REASON, "haltedAt": halted["haltedAt"]}
        # What was placed before is found, also by repeating it.
        async with client.post(
            "/api/orders/execute", json=order_of(clientOrderId="before", **RESTING)
        ) as answer:
            assert (answer.status, (await answer.json())["id"]) == (200, before["id"])
    assert rows(servers, "SELECT count(*) FROM orders") == [(1,)]
    # An id that was refused is free.
    await resume(clients[1])
    await place(clients[0], clientOrderId="new")
    assert (await health(clients[0]))["halted"] is None


async def test_a_halt_waits_for_the_statements_that_began_before_it(
    start: Start, servers: TestServers
) -> None:
    client = await start()
    order = await place(client, **RESTING)
    with servers.connect() as link, link.cursor() as cursor:
        # A statement that submits an order reads the table in the same way.
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM trading_halt")
        halting = asyncio.create_task(halt(client))
        await until(lambda: rows(servers, "SELECT count(*) FROM trading_halt") == [(1,)])
        # Meanwhile it holds nobody else up: neither heartbeats nor cancellations.
        for _ in range(5):
            assert (await client.get("/health")).status == 200
        assert (await client.delete(f"/api/orders/{order['id']}")).status == 200
        assert not halting.done()
        cursor.execute("COMMIT")
        assert (await halting)["halted"] is True


async def test_a_transaction_that_never_ends_does_not_prevent_a_halt(
    start: Start, servers: TestServers
) -> None:
    client = await start()
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM trading_halt")
        began = time.monotonic()
        assert (await halt(client))["halted"] is True
        assert 2.9 < time.monotonic() - began < 6
        cursor.execute("COMMIT")


async def test_a_second_halt_replaces_the_reason(start: Start) -> None:
    client = await start()
    first = await halt(client)
    async with client.post("/api/admin/halt", json={"reason": "another"}) as answer:
        assert await answer.json() == {**first, "reason": "another"}


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "x" * 201}, {"reason": "a\nb"}, {"reason": 1}]
)
async def test_a_halt_needs_a_reason(start: Start, body: Json) -> None:
    client = await start()
    async with client.post("/api/admin/halt", json=body) as answer:
        assert answer.status == 422
        assert (await answer.json())["errors"][0]["pointer"] == "#/reason"


async def test_resting_orders_do_not_fire_and_can_be_cancelled(start: Start, servers: TestServers) -> None:
    clients = [await start(), await start()]
    resting = [await place(clients[0], **RESTING) for _ in range(2)]
    await halt(clients[0])
    # Now its price is reached.
    for order in resting:
        async with clients[1].patch(f"/api/orders/{order['id']}", json={"limitPrice": "0.000001"}) as answer:
            assert answer.status == 200
    assert (await clients[1].delete(f"/api/orders/{resting[0]['id']}")).status == 200
    # Until both instances have heard of the halt, PostgreSQL refuses; afterwards they do not even try.
    heard = "SELECT 1 FROM instances HAVING min(seen_at) > (SELECT halted_at FROM trading_halt)"
    await until(lambda: rows(servers, heard) == [(1,)])
    assert (await get(clients[0], resting[1]["id"]))["status"] == "open"
    assert rows(servers, "SELECT count(*) FROM open_orders WHERE fired IS NOT NULL") == [(0,)]
    await resume(clients[1])
    assert (await watch(clients[0], resting[1]["id"]))[-1]["status"] == "confirmed"


async def test_nothing_is_submitted_and_what_was_submitted_ends(
    servers: TestServers, aiohttp_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    services = [
        service_on(servers, EXECUTION_DELAY_MS="1500"),
        service_on(servers, EXECUTION_DELAY_MS="1500"),
    ]
    clients = [await aiohttp_client(service.web) for service in services]
    submitted = await place(clients[0])
    await until(lambda: rows(servers, "SELECT status FROM orders") == [("submitted",)])
    # These are about to be submitted, on either instance, when trading is halted.
    gates = [Gate(service.storage.database, "append_transitions") for service in services]
    building = [await place(client) for client in clients]
    await until(lambda: rows(servers, "SELECT count(*) FROM orders WHERE status = 'routing'") == [(2,)])
    await halt(clients[1])
    for gate in gates:
        gate.open()
    assert (await watch(clients[1], submitted["id"]))[-1]["status"] == "confirmed"
    await until(lambda: all(f"{order['id']} is not submitted" in caplog.text for order in building))
    for order in building:
        assert (await get(clients[0], order["id"]))["status"] in {"pending", "routing", "building"}
    assert rows(servers, "SELECT count(*) FROM transactions") == [(1,)]
    await resume(clients[0])
    for order in building:
        messages = await watch(clients[1], order["id"])
        assert statuses(messages[-1]["order"]) == LIFE


async def test_an_order_that_was_accepted_starts_after_the_halt(
    make_service: Callable[..., Service], aiohttp_client: MakeClient, servers: TestServers
) -> None:
    services = [make_service(), make_service()]
    client, other = [await aiohttp_client(service.web) for service in services]
    # Either instance may receive the wake-up.
    gates = [Gate(service.storage.database, "claim_orders") for service in services]
    order = await place(client)
    await until(lambda: any(gate.reached.is_set() for gate in gates))
    await halt(other)
    for gate in gates:
        gate.open()
    await asyncio.sleep(2 * WITHIN_S)
    assert rows(servers, "SELECT attempts, status FROM orders") == [(0, "pending")]
    began = time.monotonic()
    await resume(other)
    assert (await watch(client, order["id"]))[-1]["status"] == "confirmed"
    assert time.monotonic() - began < 2 + WITHIN_S


COPY_ORDER = (
    "INSERT INTO orders SELECT copy.* FROM orders AS o, jsonb_populate_record("
    "o, jsonb_build_object('id', %s::text, 'created_at', now(), 'updated_at', now())) AS copy",
    "INSERT INTO open_orders SELECT copy.* FROM open_orders AS p, jsonb_populate_record("
    "p, jsonb_build_object('order_id', %s::text, 'created_at', now())) AS copy",
)


async def set_timer(client: Client, timeout_ms: int) -> str | None:
    """Set the timer, and return when it expires."""
    async with client.post("/api/orders/cancel-after", json={"timeoutMs": timeout_ms}) as answer:
        assert answer.status == 200
        cancels_at: str | None = (await answer.json())["cancelsAt"]
        return cancels_at


async def test_open_orders_are_cancelled_unless_the_timer_is_renewed(
    start: Start, servers: TestServers
) -> None:
    clients = [await start(), await start()]
    order = await place(clients[0], **RESTING)
    began = time.monotonic()
    times = []
    for client in (clients[0], clients[1], clients[0]):
        times.append(await set_timer(client, 1_000))
        await asyncio.sleep(0.6)
        assert (await get(clients[0], order["id"]))["status"] == "open"
    assert times == sorted(set(map(str, times)))
    assert (await watch(clients[1], order["id"]))[-1]["status"] == "cancelled"
    assert 2.2 < time.monotonic() - began < 2.2 + 2 * WITHIN_S
    # It takes effect once: what is placed afterwards stays.
    later = await place(clients[0], **RESTING)
    await until(lambda: rows(servers, "SELECT count(*) FROM cancel_timers") == [(0,)])
    assert (await get(clients[0], later["id"]))["status"] == "open"


async def test_a_timer_can_be_removed(start: Start, servers: TestServers) -> None:
    client = await start()
    order = await place(client, **RESTING)
    assert await set_timer(client, 1_000) is not None
    assert await set_timer(client, 0) is None
    assert rows(servers, "SELECT count(*) FROM cancel_timers") == [(0,)]
    assert (await get(client, order["id"]))["status"] == "open"


@pytest.mark.parametrize("timeout_ms", [-1, 1, 999, 86_400_001, 1.5, "1000", None, True])
async def test_other_times_are_rejected(start: Start, timeout_ms: object) -> None:
    client = await start()
    async with client.post("/api/orders/cancel-after", json={"timeoutMs": timeout_ms}) as answer:
        assert answer.status == 422
        assert (await answer.json())["errors"][0]["pointer"] == "#/timeoutMs"


async def test_a_timer_that_expired_while_nothing_ran_takes_effect_at_the_start(
    make_service: Callable[..., Service], aiohttp_client: MakeClient, servers: TestServers
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    order = await place(client, **RESTING)
    await set_timer(client, 86_400_000)
    await client.close()
    rows(servers, "UPDATE cancel_timers SET cancels_at = now()")
    client = await aiohttp_client(make_service().web)
    assert (await watch(client, order["id"]))[-1]["status"] == "cancelled"


async def test_a_process_that_dies_while_it_cancels_leaves_the_rest_to_another(
    make_service: Callable[..., Service], aiohttp_client: MakeClient, servers: TestServers
) -> None:
    stuck = make_service()
    gate = Gate(stuck.storage.database, "request_cancel_matching")
    client = await aiohttp_client(stuck.web)
    order = await place(client, **RESTING)
    await set_timer(client, 1_000)
    await asyncio.wait_for(gate.reached.wait(), 5)
    other = await aiohttp_client(make_service().web)
    assert (await watch(other, order["id"]))[-1]["status"] == "cancelled"
    gate.open()


async def test_orders_placed_after_the_timer_s_time_stay(start: Start, servers: TestServers) -> None:
    client = await start()
    order = await place(client, **RESTING)
    # As if every instance had been away when it ran out.
    rows(servers, "INSERT INTO cancel_timers SELECT 'default', created_at - interval '1 ms' FROM orders")
    await until(lambda: rows(servers, "SELECT count(*) FROM cancel_timers") == [(0,)])
    assert (await get(client, order["id"]))["status"] == "open"


async def test_a_timer_that_is_renewed_while_it_cancels_is_not_lost(
    make_service: Callable[..., Service], aiohttp_client: MakeClient, servers: TestServers
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    await place(client, **RESTING)
    gate = Gate(service.storage.database, "count_cancelled")
    await set_timer(client, 1_000)
    await asyncio.wait_for(gate.reached.wait(), 5)
    await set_timer(client, 1_000)
    later = await place(client, **RESTING)
    # It has expired again before the first cancellation is done.
    await until(lambda: rows(servers, "SELECT cancels_at < now() FROM cancel_timers") == [(True,)])
    gate.open()
    assert (await watch(client, later["id"]))[-1]["status"] == "cancelled"


async def test_a_timer_is_of_one_account(servers: TestServers, start: Start) -> None:
    client = await start()
    order = await place(client, **RESTING)
    rows(servers, "INSERT INTO cancel_timers VALUES ('other', now())")
    await until(lambda: rows(servers, "SELECT count(*) FROM cancel_timers") == [(0,)])
    assert (await get(client, order["id"]))["status"] == "open"


async def test_an_order_stored_by_a_statement_that_began_before_the_timer_s_time_is_cancelled(
    start: Start, servers: TestServers, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start()
    await place(client, **RESTING)
    with servers.connect() as link, link.cursor() as cursor:
        # A slow statement that inserts a copy of the order.
        cursor.execute("BEGIN")
        cursor.execute("SELECT gen_random_uuid()::text, count(*) FROM trading_halt")
        [(late, _halts)] = cursor.fetchall()
        for statement in COPY_ORDER:
            cursor.execute(statement, [late])
        await set_timer(client, 1_000)
        await until(lambda: "its timer has expired: 1 orders cancelled" in caplog.text)
        cursor.execute("COMMIT")
    assert (await watch(client, late))[-1]["status"] == "cancelled"
