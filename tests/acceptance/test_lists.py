"""Lists of orders: each filter, and cursors that belong to their filter and are stable under inserts."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.gem_market import rows
from tests.support.orders import Client, Json, execute, place
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]

RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}


async def listed(client: Client, query: str) -> list[str]:
    """Return the labels of a list's orders, read in pages of two."""
    labels: list[str] = []
    cursor = ""
    while True:
        async with client.get(f"/api/orders?limit=2&{query}{cursor}") as answer:
            page: Any = await answer.json()
            assert answer.status == 200, page
        labels += [order["label"] for order in page["orders"]]
        if page["nextCursor"] is None:
            return labels
        cursor = f"&cursor={page['nextCursor']}"


async def test_each_filter_selects_its_orders(start: Start, servers: TestServers) -> None:
    client = await start()
    venue = (await execute(client, label="a", clientOrderId="bot_1-a"))["venue"]
    other = "meteora" if venue == "raydium" else "raydium"
    cancelled = await place(client, label="b", clientOrderId="bot_1-b", **RESTING)
    assert (await client.delete(f"/api/orders/{cancelled['id']}")).status == 200
    await place(client, label="c", clientOrderId="bot.1", **RESTING)
    await place(client, label="d", clientOrderId="botX1-d", **RESTING, tokenOut="USDT")
    await place(client, label="e", **RESTING)
    [times] = rows(servers, "SELECT array_agg(rfc3339(created_at) ORDER BY created_at) FROM orders")[0:1]
    [created] = times
    second, fourth = quote(created[1]), quote(created[3])
    for query, expected in (
        ("", "edcba"),
        ("status=confirmed", "a"),
        ("status=confirmed,cancelled", "ba"),
        ("status=open", "edc"),
        ("status=open,cancelled", "edcb"),
        ("status=open,cancelled,confirmed,failed", "edcba"),
        ("status=open,open", "edc"),
        ("status=pending,failed", ""),
        (f"createdFrom={second}", "edcb"),
        (f"createdTo={fourth}", "cba"),
        (f"createdFrom={second}&createdTo={fourth}", "cb"),
        (f"createdFrom={second}&createdTo={fourth}&status=open", "c"),
        (f"createdFrom={second}&status=cancelled,confirmed", "b"),
        (f"createdFrom={fourth}&createdTo={second}", ""),
        ("clientOrderIdPrefix=bot_1", "ba"),
        ("clientOrderIdPrefix=bot", "dcba"),
        ("clientOrderIdPrefix=bot&status=open&tokenOut=USDT", "d"),
        ("clientOrderIdPrefix=Bot", ""),
        ("orderType=limit", "edcb"),
        ("orderType=market", "a"),
        ("tokenOut=USDT", "d"),
        ("orderType=limit&status=cancelled", "b"),
        ("orderType=sniper&status=expired", ""),
        (f"venue={venue}", "a"),
        (f"venue={venue}&status=confirmed&tokenIn=SOL", "a"),
        (f"venue={venue}&status=cancelled", ""),
        (f"venue={other}", ""),
        # PostgreSQL knows no such offset.
        ("createdFrom=2000-01-01T00:00:00%2B23:59", "edcba"),
    ):
        assert "".join(await listed(client, query)) == expected, query


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=", "status"),
        ("status=open,", "status"),
        ("status=open,nope", "status"),
        ("status=open&status=failed", "status"),
        ("createdFrom=yesterday", "createdFrom"),
        ("createdTo=2030-01-01T00:00:00", "createdTo"),
        ("clientOrderIdPrefix=", "clientOrderIdPrefix"),
        ("venue=orca", "venue"),
        ("clientOrderIdPrefix=a%25", "clientOrderIdPrefix"),
    ],
)
async def test_other_filters_are_rejected(start: Start, query: str, name: str) -> None:
    client = await start()
    async with client.get(f"/api/orders?{query}") as answer:
        assert answer.status == 422
        assert (await answer.json())["errors"][0]["pointer"] == f"#/{name}"


async def test_a_cursor_belongs_to_its_filter(start: Start) -> None:
    client = await start()
    for label in "abc":
        await place(client, label=label, **RESTING)
    page = await (await client.get("/api/orders?limit=1&status=open")).json()
    cursor = page["nextCursor"]
    for query, status in (
        ("status=open", 200),
        ("status=open&limit=500", 200),
        ("", 422),
        ("status=open,failed", 422),
        ("status=open&label=a", 422),
        ("status=open&venue=raydium", 422),
        ("status=open&account=default", 422),
    ):
        async with client.get(f"/api/orders?{query}&cursor={cursor}") as answer:
            assert answer.status == status, query
            if status == 422:
                assert (await answer.json())["errors"][0]["pointer"] == "#/cursor"


async def test_pages_are_stable_while_orders_are_placed(start: Start) -> None:
    client = await start()
    for label in "abcd":
        await place(client, label=label, **RESTING)
    page = await (await client.get("/api/orders?limit=2&status=open")).json()
    seen = [order["label"] for order in page["orders"]]
    for label in "efgh":
        await place(client, label=label, **RESTING)
    page = await (await client.get(f"/api/orders?limit=9&status=open&cursor={page['nextCursor']}")).json()
    assert [*seen, *(order["label"] for order in page["orders"])] == ["d", "c", "b", "a"]
    assert page["nextCursor"] is None
