"""Pages of long orders end early, without omissions or duplicates."""

from collections.abc import Awaitable, Callable

from service.api.pages import LARGEST_PAGE_BYTES
from tests.support.loop_load import ENTRIES, store_orders
from tests.support.orders import Client
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]


async def test_a_long_page_ends_early_and_the_next_one_continues(start: Start, servers: TestServers) -> None:
    stored = store_orders(servers, 130, "cancelled")
    client = await start()
    seen, pages, cursor = [], 0, ""
    while True:
        async with client.get(f"/api/orders?limit=500&status=cancelled{cursor}") as answer:
            text = await answer.read()
            page = await answer.json()
        largest = max(len(order["statusHistory"]) for order in page["orders"])
        assert largest == ENTRIES
        assert len(text) < LARGEST_PAGE_BYTES + 100_000
        seen += [order["id"] for order in page["orders"]]
        pages += 1
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert sorted(seen) == sorted(stored)
    assert pages == 3


async def test_a_page_is_no_longer_than_requested(start: Start, servers: TestServers) -> None:
    store_orders(servers, 30, "open", entries=3)
    client = await start()
    seen = []
    cursor = ""
    for length in (12, 12, 6):
        async with client.get(f"/api/orders?limit=12{cursor}") as answer:
            page = await answer.json()
        assert len(page["orders"]) == length
        seen += [order["id"] for order in page["orders"]]
        cursor = f"&cursor={page['nextCursor']}"
    assert page["nextCursor"] is None
    assert len(set(seen)) == 30
