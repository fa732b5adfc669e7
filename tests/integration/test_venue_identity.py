"""The orders of a database belong to one venue, whatever instances start on it, and when."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, replace
from itertools import cycle, islice

import pytest

from service.app import Service
from service.chains.venue import VenueIdentity
from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import load, migrate
from service.store import venue_identity
from service.store.venue_identity import OtherVenueError, register_on_venue
from tests.support.gem_market import limit, rows
from tests.support.orders import Client
from tests.support.paper import until
from tests.support.servers import TestCluster, TestServers

PAPER = VenueIdentity("paper", "7", "user")
CHAIN = VenueIdentity("chain", "genesis", "wallet")
OTHERS = [CHAIN, *(replace(PAPER, **{name: "other"}) for name in ("kind", "market", "wallet"))]

_OPEN_ORDER = """
    WITH placed AS (
        INSERT INTO orders (
            id, account, order_type, token_in, token_out, swap_mode, amount, amount_text, slippage_bps,
            decimals_in, decimals_out, status, version, status_history, created_at, updated_at
        )
        VALUES (
            gen_random_uuid(), 'default', 'market', 'SOL', 'USDC', 'exactIn', 1, '1', 0, 9, 6, 'pending', 1,
            '[{"status": "pending"}]', now(), now()
        )
        RETURNING id
    )
    INSERT INTO open_orders (order_id, created_at, due_at, wake_at) SELECT id, now(), now(), now() FROM placed
"""


@pytest.fixture
async def database(servers: TestServers) -> AsyncIterator[Database]:
    database = Database(servers.database_url, size=8, clock=Clock())
    await migrate(database)
    yield database
    await database.close()


async def register(database: Database, venue: VenueIdentity) -> str:
    """Register a process on a venue, and return the process's id."""
    instance_id = Clock().new_instance_id()
    await register_on_venue(database, instance_id, venue)
    return instance_id


def stop_all(servers: TestServers) -> None:
    rows(servers, "DELETE FROM instances")


def registered(servers: TestServers) -> set[str]:
    return {instance for (instance,) in rows(servers, "SELECT id::text FROM instances")}


def recorded(servers: TestServers) -> VenueIdentity:
    [row] = rows(servers, "SELECT kind, market, wallet FROM venue_identity")
    return VenueIdentity(*row)


async def test_the_first_start_records_the_venue_and_each_later_one_agrees(
    database: Database, servers: TestServers
) -> None:
    running = set()
    for starts in (1, 2, 3):
        running.add(await register(database, PAPER))
        rows(servers, _OPEN_ORDER)
        assert (recorded(servers), registered(servers)) == (PAPER, running)
        assert rows(servers, "SELECT starts, since = '-infinity' FROM venue_identity") == [(starts, True)]


@pytest.mark.parametrize("other", OTHERS, ids=str)
async def test_another_venue_takes_over_only_without_open_orders(
    database: Database, servers: TestServers, other: VenueIdentity
) -> None:
    await register(database, PAPER)
    rows(servers, _OPEN_ORDER)
    rows(servers, _OPEN_ORDER)
    stop_all(servers)
    with pytest.raises(OtherVenueError, match="and 2 of its orders are open") as refusal:
        await register(database, other)
    assert str(refusal.value).startswith(f"this database belongs to the venue {PAPER}, not to {other}")
    assert "\n" not in str(refusal.value)
    assert (recorded(servers), registered(servers)) == (PAPER, set())
    rows(servers, "DELETE FROM open_orders")
    mine = await register(database, other)
    assert (recorded(servers), registered(servers)) == (other, {mine})
    assert rows(servers, "SELECT since > now() - interval '1 minute' FROM venue_identity") == [(True,)]


async def test_another_venue_does_not_take_over_from_a_process_that_runs(
    database: Database, servers: TestServers
) -> None:
    running, killed = [await register(database, PAPER) for _ in range(2)]
    last_seen = "UPDATE instances SET seen_at = now() - %s * interval '1 second' WHERE id = %s"
    rows(servers, last_seen, venue_identity._GONE_AFTER_S + 1, killed)
    # It may be starting, and will send heartbeats then.
    rows(servers, last_seen, venue_identity._GONE_AFTER_S // 2, running)
    with pytest.raises(OtherVenueError, match="an instance runs on it, or was killed in the last 60 s"):
        await register(database, CHAIN)
    rows(servers, "DELETE FROM instances WHERE id = %s", running)
    mine = await register(database, CHAIN)
    assert recorded(servers) == CHAIN
    # The killed one was only paused, and continues: it executes nothing, and cannot register any more.
    assert registered(servers) == {mine}
    with pytest.raises(OtherVenueError):
        await register_on_venue(database, killed, PAPER)
    assert registered(servers) == {mine}
    # Others of the same venue stay.
    beside = await register(database, CHAIN)
    assert registered(servers) == {mine, beside}


@pytest.mark.parametrize("known", [None, PAPER], ids=["first", "later"])
async def test_a_start_that_another_overtakes_does_not_take_the_database_from_it(
    database: Database, servers: TestServers, known: VenueIdentity | None
) -> None:
    """The other registers after this one's statement has begun, so that it cannot see the other."""
    if known is not None:
        await register(database, known)
        stop_all(servers)
    other = Clock().new_instance_id()
    given = {**asdict(PAPER), "instance": other, "gone_after_s": venue_identity._GONE_AFTER_S}
    with servers.connect() as link, link.cursor() as cursor:
        link.autocommit = False
        cursor.execute(venue_identity._REGISTER.sql, given)
        assert cursor.fetchall()[0][:2] == (True, "paper")
        starting = asyncio.create_task(register(database, CHAIN))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
        await until(lambda: rows(servers, waits) != [(0,)])
        link.commit()
    with pytest.raises(OtherVenueError, match="an instance runs on it"):
        await starting
    assert (recorded(servers), registered(servers)) == (PAPER, {other})


@pytest.mark.parametrize("known", [None, OTHERS[1]], ids=["first", "later"])
async def test_processes_that_start_at_once_agree(
    database: Database, servers: TestServers, known: VenueIdentity | None
) -> None:
    if known is not None:
        await register(database, known)
        stop_all(servers)
    venues = [*islice(cycle((PAPER, CHAIN)), 16)]
    ends = await asyncio.gather(*(register(database, venue) for venue in venues), return_exceptions=True)
    agreed = recorded(servers)
    assert agreed in {PAPER, CHAIN}
    for venue, end in zip(venues, ends, strict=True):
        assert isinstance(end, str if venue == agreed else OtherVenueError), (venue, end)
    assert registered(servers) == {end for end in ends if isinstance(end, str)}


async def test_a_service_does_not_continue_the_orders_of_another_venue(
    start: Callable[..., Awaitable[Client]], make_service: Callable[..., Service], servers: TestServers
) -> None:
    client = await start(PAPER_SEED="7")
    assert recorded(servers) == PAPER
    await limit(client, "1000000", tokenOut="SOL")
    await client.close()
    rows(servers, "UPDATE venue_identity SET kind = 'chain', market = 'genesis', wallet = 'wallet'")
    service = make_service()
    with pytest.raises(OtherVenueError, match=re.escape(f"{CHAIN}, not to {PAPER}, and 1 of its")):
        await service.start()
    await service.stop()
    assert recorded(servers) == CHAIN
    # Nothing of the refused start is left, and nothing of it is in the way of the next.
    assert registered(servers) == set()
    rows(servers, "DELETE FROM open_orders")
    await start()
    assert recorded(servers) == PAPER


async def test_a_database_of_an_earlier_version_is_that_of_its_paper_market(cluster: TestCluster) -> None:
    servers = cluster.new(empty=True)
    database = Database(servers.database_url, size=1, clock=Clock())
    try:
        known = load()
        before = [migration.name for migration in known].index("venue_identity")
        await migrate(database, known[:before])
        rows(servers, "INSERT INTO paper_market (seed, slot_ms) VALUES (7, 400)")
        await migrate(database)
    finally:
        await database.close()
    assert recorded(servers) == PAPER
