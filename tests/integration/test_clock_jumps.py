"""PostgreSQL's clock has jumped back: rows with times of the future, as any process would have left them."""

from collections.abc import AsyncIterator

import pytest

from service.postgres.leases import NamedLease
from service.store.claims import Claimed, Deferred
from service.store.rate_limit import RateLimit
from service.store.resting import Resting
from tests.support.servers import TestServers
from tests.support.store import Store, open_store

LIMIT = RateLimit(2, window_ms=60_000)
DEAD, LIVING = "10000000-0000-4000-8000-000000000001", "20000000-0000-4000-8000-000000000002"


@pytest.fixture
async def store(servers: TestServers) -> AsyncIterator[Store]:
    async with open_store(servers, LIMIT) as store:
        yield store


def run(servers: TestServers, sql: str, row_id: str | None = None) -> list[tuple[object, ...]]:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(sql, {"id": row_id})
        return cursor.fetchall() if cursor.description else []


async def test_orders_that_would_wait_an_hour_are_woken(store: Store, servers: TestServers) -> None:
    waits, soon, woken, later = [await store.insert() for _ in range(4)]
    run(servers, "UPDATE open_orders SET due_at = now() + interval '1 h', wake_at = now() + interval '1 h'")
    # That one was put off by an instance with longer delays, and now.
    changed = "UPDATE orders SET updated_at = now() + interval '1 h' WHERE id <> %(id)s"
    run(servers, changed, later)
    run(servers, "UPDATE open_orders SET due_at = now() + interval '50 s' WHERE order_id = %(id)s", soon)
    run(servers, "UPDATE open_orders SET due_at = now() - interval '1 s' WHERE order_id = %(id)s", woken)
    assert await store.instances.wake_postponed() == [waits]
    due = await store.instances.wake_due(rate_limit=RateLimit(0), wake_after_ms=5_000)
    assert set(due) == {waits, woken}
    assert await store.instances.wake_postponed() == []
    assert await store.instances.wake_due(rate_limit=RateLimit(0), wake_after_ms=5_000) == []


async def test_the_rate_limit_is_kept_and_ends_with_its_window(store: Store, servers: TestServers) -> None:
    ids = [await store.insert() for _ in range(4)]
    # One slot was used just before the jump of an hour, the other one an hour earlier.
    run(servers, "UPDATE rate_starts SET started_at = now() + interval '1 h' WHERE slot = 1")
    run(servers, "UPDATE rate_starts SET started_at = now() WHERE slot <> 1")
    assert await store.instances.wake_postponed() == []
    claims = [await store.claims.claim(order_id) for order_id in ids]
    assert [type(claim) for claim in claims] == [Claimed, Deferred, Deferred, Deferred]
    [(newest,)] = run(servers, "SELECT round(extract(epoch FROM max(started_at) - now())) FROM rate_starts")
    assert newest == 0


async def test_leases_and_heartbeats_of_the_future_are_over(store: Store, servers: TestServers) -> None:
    dead = NamedLease(store.database, name="a lease", leader=DEAD)
    living = NamedLease(store.database, name="a lease", leader=LIVING)
    first = (await dead.take(None)).epoch
    assert first is not None
    assert (await living.take(None)).epoch is None
    run(servers, "UPDATE leases SET renewed_at = now() + interval '1 h'")
    assert (await living.take(None)).epoch == first + 1
    # The leader itself begins a new epoch: it must read again what it keeps by the time.
    run(servers, "UPDATE leases SET renewed_at = now() + interval '1 h'")
    assert (await living.take(first + 1)).epoch == first + 2
    run(servers, "INSERT INTO instances VALUES (%(id)s, now(), now() + interval '1 h')", DEAD)
    assert await store.instances.remove_dead() == [DEAD]


async def test_no_order_rests_longer_than_its_pause(store: Store, servers: TestServers) -> None:
    order_id = await store.insert()
    run(
        servers,
        "UPDATE open_orders SET resting = true, due_at = 'infinity', wake_at = 'infinity',"
        " rested_version = 1, rested_at = now(), returns = 3,"
        " not_before = now() + interval '1 h' WHERE order_id = %(id)s",
        order_id,
    )
    [(now,)] = run(servers, "SELECT extract(epoch FROM now())::float8")
    assert isinstance(now, float)
    resting = Resting(store.database, store.clock, store.told.extend, wake_after_ms=5_000)
    [order] = await resting.get([order_id])
    assert 3 < order.not_before - now < 10
