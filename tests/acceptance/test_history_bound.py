"""An order's history is bounded: beyond a setting it cannot be amended, but still executes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.execution import retry
from tests.support.gem_market import ended, fire_by_hand, forget_listed_tokens, limit, list_pool, poll, rows
from tests.support.orders import Client, Json, get, statuses
from tests.support.servers import TestServers

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]

NEVER = "1000"
"""A limit that is never reached."""


async def amend(client: Client, order: Json, price: int) -> tuple[int, Json]:
    async with client.patch(f"/api/orders/{order['id']}", json={"limitPrice": str(price)}) as answer:
        return answer.status, await answer.json()


async def test_an_order_is_amended_until_its_history_is_full(start: Start) -> None:
    client = await start(MAX_HISTORY_ENTRIES="10")
    await list_pool(client)
    placed = await limit(client, NEVER)
    # Many at once, so that several compete for the last entry.
    for first in range(1_001, 1_100, 10):
        await asyncio.gather(*(amend(client, placed, first + n) for n in range(10)))
    full = await get(client, placed["id"])
    assert statuses(full) == ["pending", *["open"] * 9]
    status, problem = await amend(client, placed, 9)
    assert status == 409
    assert "10 entries" in problem["detail"]
    # An amendment without changes needs no entry, and the order is unchanged.
    assert await amend(client, placed, int(full["limitPrice"])) == (200, full)
    async with client.delete(f"/api/orders/{placed['id']}") as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "cancelled")


async def test_an_order_that_returns_to_a_full_history_fails(
    start: Start, servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def has_returned(times: int) -> bool:
        return bool(rows(servers, "SELECT 1 FROM open_orders WHERE resting AND returns = %s", times))

    monkeypatch.setattr(retry, "RESERVED_ENTRIES", 4)
    client = await start(MAX_HISTORY_ENTRIES="10")
    await list_pool(client)
    placed = await limit(client, NEVER)
    for price in range(1_001, 1_009):
        assert (await amend(client, placed, price))[0] == 200
    # It has been amended as often as allowed, and is still executed and rests.
    for times in (1, 2):
        fire_by_hand(servers, placed)
        await poll(lambda times=times: has_returned(times))  # type: ignore[misc]
    fire_by_hand(servers, placed)
    order = await ended(client, placed)
    assert statuses(order)[10:] == ["routing", "open", "routing", "open", "routing", "failed"]
    assert order["failureReason"] == "history_full"
    assert "limit price" in order["failureDetail"]
    assert rows(servers, "SELECT count(*) FROM open_orders") == [(0,)]
