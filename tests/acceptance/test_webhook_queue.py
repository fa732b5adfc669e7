"""The outbox under long queues: what a claim reads, and what is left of an endpoint."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from aiohttp.web import Application

from service.domain.webhook import WebhookDelivery
from service.store.webhook_outbox import DeliveryResult
from tests.acceptance.test_webhooks import PENDING, PRIVATE, create, read, receiver
from tests.conftest import service_on
from tests.support.gem_market import rows
from tests.support.orders import Client
from tests.support.paper import until
from tests.support.receiver import Receiver
from tests.support.servers import TestServers

__all__ = ["receiver"]

Start = Callable[..., Awaitable[Client]]
MakeClient = Callable[[Application], Awaitable[Client]]


def queue(servers: TestServers, orders: int, sequences: str, due: str) -> None:
    """Queue messages of orders, which do not exist, for the only endpoint."""
    rows(
        servers,
        "INSERT INTO webhook_deliveries (endpoint_id, order_id, sequence, created_at, due_at) "  # noqa: S608
        f"SELECT e.id, md5(o::text)::uuid, s, now(), {due} "
        f"FROM webhook_endpoints AS e, generate_series(1, {orders}) AS o, {sequences} AS s",
    )


async def test_what_is_queued_behind_one_that_waits_waits_as_long(
    start: Start, receiver: Receiver, servers: TestServers
) -> None:
    client = await start(**PRIVATE)
    await create(client, receiver)
    queue(servers, 200, "generate_series(1, 1)", "now() + o * interval '1 s' + interval '1 h'")
    queue(servers, 200, "generate_series(2, 5)", "now()")
    await until(lambda: rows(servers, f"{PENDING} WHERE due_at <= now()") == [(0,)])
    beyond = f"""
        {PENDING} AS d JOIN webhook_deliveries AS h USING (endpoint_id, order_id)
        WHERE h.sequence = 1 AND d.due_at <> h.due_at
    """
    assert rows(servers, beyond) == [(0,)]
    # Once the first ones are sent, so are those behind them.
    rows(servers, "UPDATE webhook_deliveries SET due_at = now() WHERE sequence = 1")
    await until(lambda: rows(servers, PENDING) == [(0,)])


async def test_a_disabled_endpoint_shows_why_it_is(
    servers: TestServers, aiohttp_client: MakeClient, receiver: Receiver
) -> None:
    service = service_on(servers, **PRIVATE)
    client = await aiohttp_client(service.web)
    endpoint = await create(client, receiver)
    deliveries = [
        WebhookDelivery(endpoint["id"], "default", str(UUID(int=number)), 1, 0, receiver.url, (b"x",))
        for number in range(2)
    ]
    # Recorded together.
    await service.webhooks.outbox._write_results(
        [
            DeliveryResult(deliveries[0], failure="It answered 410.", retry_in_ms=1, gone=True),
            DeliveryResult(deliveries[1], failure="It answered 500.", retry_in_ms=1),
        ]
    )
    assert (await read(client, endpoint))["disabledReason"] == "It answered 410."


async def test_what_is_left_of_a_deleted_endpoint_is_dropped_later(
    servers: TestServers, aiohttp_client: MakeClient, receiver: Receiver
) -> None:
    service = service_on(servers, **PRIVATE)
    client = await aiohttp_client(service.web)
    endpoint = await create(client, receiver)
    queue(servers, 1_500, "generate_series(1, 2)", "now() + interval '1 h'")
    assert (await client.delete(f"/api/webhooks/{endpoint['id']}")).status == 204
    assert rows(servers, PENDING) == [(3_000,)]
    other = await create(client, receiver)
    queue(servers, 2, "generate_series(1, 2)", "now() + interval '1 h'")
    await service.webhooks.endpoints.drop_orphans()
    assert rows(servers, "SELECT DISTINCT endpoint_id::text FROM webhook_deliveries") == [(other["id"],)]
    assert (await read(client, other))["pending"] == 4
