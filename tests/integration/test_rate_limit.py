"""The rate limit holds in every window, over all processes, and starts the longest due order first."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.store.claims import Claimed, Deferred
from service.store.rate_limit import RateLimit
from tests.support.servers import TestServers
from tests.support.store import Store, open_store

LIMIT = RateLimit(5, window_ms=400)


@pytest.fixture
async def store(servers: TestServers) -> AsyncIterator[Store]:
    async with open_store(servers, LIMIT) as store:
        yield store


async def start_all(stores: list[Store], order_ids: list[str]) -> None:
    """Claim orders as soon as the limit allows, until all have started."""

    async def start(store: Store, order_id: str) -> None:
        while isinstance(claim := await store.claims.claim(order_id), Deferred):
            await store.clock.sleep(max(claim.wait_ms, 5) / 1000)

    await asyncio.gather(*(start(store, order_id) for store in stores for order_id in order_ids))


def starts(servers: TestServers) -> list[tuple[str, float]]:
    """Return the start times of orders from their histories."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT id::text, extract(epoch FROM (entry ->> 'timestamp')::timestamptz)::float8"
            " FROM orders, jsonb_array_elements(status_history) AS entry"
            " WHERE entry ->> 'status' = 'routing' ORDER BY 2, 1"
        )
        return cursor.fetchall()


async def test_no_window_holds_more_starts_than_the_limit(store: Store, servers: TestServers) -> None:
    async with open_store(servers, LIMIT) as other:
        ids = [await store.insert() for _ in range(18)]
        await start_all([store, other], ids)
    started = starts(servers)
    assert sorted(order_id for order_id, _at in started) == sorted(ids)
    times = [at for _order_id, at in started]
    assert all(later - earlier >= 0.4 for earlier, later in zip(times, times[5:], strict=False))


async def test_the_longest_due_order_starts_first(store: Store, servers: TestServers) -> None:
    ids = [await store.insert() for _ in range(12)]
    await start_all([store], ids[::-1])
    first, second = ids[:5], ids[5:10]
    order = [order_id for order_id, _at in starts(servers)]
    assert sorted(order[:5]) == sorted(first)
    assert sorted(order[5:10]) == sorted(second)


async def test_a_deferred_order_has_no_owner_and_a_wake_up_time(store: Store, servers: TestServers) -> None:
    for _ in range(5):
        assert isinstance(await store.claims.claim(await store.insert()), Claimed)
    deferred = await store.claims.claim(await store.insert())
    assert isinstance(deferred, Deferred)
    assert 0 < deferred.wait_ms <= 400
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM open_orders WHERE owner IS NULL AND NOT started")
        assert cursor.fetchone() == (1,)


async def test_continuing_an_order_does_not_count_towards_the_limit(store: Store) -> None:
    claims = [await store.start() for _ in range(5)]
    await store.instances.release([claim.order_id for claim in claims])
    again = [await store.claims.claim(claim.order_id) for claim in claims]
    assert all(isinstance(claim, Claimed) for claim in again)


async def test_a_new_limit_counts_the_starts_in_the_histories(servers: TestServers) -> None:
    wide = RateLimit(4, window_ms=60_000)
    async with open_store(servers) as unlimited:
        for _ in range(3):
            await unlimited.start()
    async with open_store(servers, wide) as store:
        assert isinstance(await store.claims.claim(await store.insert()), Claimed)
        waiting = await store.insert()
        assert isinstance(await store.claims.claim(waiting), Deferred)
    async with open_store(servers, RateLimit(6, window_ms=60_000)) as raised:
        assert isinstance(await raised.claims.claim(waiting), Claimed)
        assert isinstance(await raised.claims.claim(await raised.insert()), Claimed)
        assert isinstance(await raised.claims.claim(await raised.insert()), Deferred)
    async with open_store(servers, RateLimit(2, window_ms=60_000)) as lowered:
        assert isinstance(await lowered.claims.claim(await lowered.insert()), Deferred)


async def test_the_sweep_wakes_no_more_orders_than_may_start(store: Store) -> None:
    for _ in range(20):
        await store.insert()

    async def wake() -> list[str]:
        return await store.instances.wake_due(rate_limit=LIMIT, wake_after_ms=5_000, again=True)

    assert len(await wake()) == 5
