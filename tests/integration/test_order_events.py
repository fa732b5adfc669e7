"""Events between snapshots: each committed one once and in order, whatever the transactions do."""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

import psycopg2
import pytest
from psycopg2.extensions import connection, cursor

from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.postgres.queries import SQL_FOLDER, load
from service.store import order_events, purge
from service.store.claims import Claimed
from service.store.endings import Endings
from service.store.event_position import EventPosition, decode_position
from service.store.order_events import OrderEvent, OrderEvents
from service.store.rate_limit import RateLimit
from service.store.resting import Amendment, Fired, Resting
from tests.support.servers import TestServers
from tests.support.store import Store, changed, open_store

DEPLOYMENT = "0190a8f5-0000-4000-8000-000000000000"


@pytest.fixture
async def store(servers: TestServers) -> AsyncIterator[Store]:
    async with open_store(servers) as store:
        yield store


@pytest.fixture
def events(store: Store) -> OrderEvents:
    return OrderEvents(store.database, store.clock)


@contextmanager
def transaction(servers: TestServers) -> Iterator[connection]:
    """Yield a connection whose statements are one transaction."""
    with closing(psycopg2.connect(servers.database_url)) as link:
        yield link


def insert(cursor: cursor, order_id: str, version: int = 1, account: str = "default") -> int:
    """Insert an event as the statements do; return its id."""
    cursor.execute(
        "INSERT INTO order_events (account, order_id, version) VALUES (%s, %s, %s) RETURNING id",
        (account, order_id, version),
    )
    [(event_id,)] = cursor.fetchall()
    return int(event_id)


@dataclass
class Reader:
    """Reads on from a position, which goes to a client and back each time."""

    events: OrderEvents
    position: EventPosition
    accounts: Collection[str] | None = None
    read: list[OrderEvent] = field(default_factory=list)

    async def read_page(self) -> bool:
        """Read one page; return whether everything that has been committed was read."""
        until = await self.events.horizon()
        page = await self.events.page(self.position, until, self.accounts)
        self.read += page.events
        self.position = decode_position(page.position.encode(DEPLOYMENT), DEPLOYMENT)
        # The time is rounded to seconds on the way.
        assert replace(self.position, at=page.position.at) == page.position
        assert self.position.is_valid_at(until)
        return page.position.target is None and page.position.base == until.base

    async def read_all(self) -> list[int]:
        """Read until nothing is left now; return the ids of all events that were ever read."""
        while not await self.read_page():
            pass
        return [event.id for event in self.read]

    @property
    def steps(self) -> list[tuple[str, int]]:
        """What was read: orders and sequences."""
        return [(event.order_id, event.entry["sequence"]) for event in self.read]


async def test_a_transaction_that_ends_late_is_not_missed_and_holds_nothing_up(
    servers: TestServers, store: Store, events: OrderEvents
) -> None:
    order_ids = [await store.insert() for _ in range(4)]
    reader = Reader(events, await events.horizon())
    with transaction(servers) as late, late.cursor() as cursor:
        first = insert(cursor, order_ids[0])
        with transaction(servers) as soon, soon.cursor() as other:
            second = insert(other, order_ids[1])
            soon.commit()
            assert await reader.read_all() == [second]
            third = insert(other, order_ids[2])
            soon.commit()
            assert await reader.read_all() == [second, third]
            # The late one goes on meanwhile, and has ids on both sides.
            fourth = insert(cursor, order_ids[3])
            fifth = insert(other, order_ids[1])
            soon.commit()
            assert await reader.read_all() == [second, third, fifth]
            late.commit()
        assert await reader.read_all() == [second, third, fifth, first, fourth]
    assert await reader.read_all() == [second, third, fifth, first, fourth]


async def test_a_transaction_with_thousands_of_ids_of_its_own_makes_no_long_position(
    servers: TestServers, store: Store, events: OrderEvents
) -> None:
    order_id = await store.insert()
    reader = Reader(events, await events.horizon())
    with transaction(servers) as link, link.cursor() as cursor:
        # Each block with an exception gets a transaction id, and no transaction with a higher one has ended.
        first = insert(cursor, order_id)
        cursor.execute("INSERT INTO leases (name, leader, renewed_at) VALUES ('0', gen_random_uuid(), now())")
        cursor.execute(
            "DO $$ BEGIN FOR n IN 1..3000 LOOP BEGIN"
            " UPDATE leases SET epoch = n WHERE name = '0'; EXCEPTION WHEN division_by_zero THEN NULL;"
            " END; END LOOP; END $$"
        )
        assert await reader.read_all() == []
        assert len(reader.position.encode(DEPLOYMENT)) < 300
        last = insert(cursor, order_id)
        assert await reader.read_all() == []
        link.commit()
    assert await reader.read_all() == [first, last]


async def test_a_transaction_that_is_rolled_back_has_no_events(
    servers: TestServers, store: Store, events: OrderEvents
) -> None:
    order_id = await store.insert()
    reader = Reader(events, await events.horizon())
    with transaction(servers) as link, link.cursor() as cursor:
        insert(cursor, order_id)
        assert await reader.read_all() == []
        link.rollback()
        assert await reader.read_all() == []
        last = insert(cursor, order_id)
        link.commit()
    assert await reader.read_all() == [last]


@pytest.mark.parametrize("seed", range(6))
async def test_any_interleaving_of_transactions_is_read_once_and_in_order(
    servers: TestServers, store: Store, events: OrderEvents, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(order_events, "MOST_IN_PAGE", 3)
    monkeypatch.setattr(order_events, "_IDS_IN_PAGE", 5)
    rng = random.Random(seed)
    order_id = await store.insert()
    start = await events.horizon()
    readers = [Reader(events, start), Reader(events, start, ["default"]), Reader(events, start, ["other"])]
    committed: dict[int, str] = {}
    with (
        transaction(servers) as a,
        transaction(servers) as b,
        transaction(servers) as c,
        transaction(servers) as d,
    ):
        open_events: dict[connection, dict[int, str]] = {link: {} for link in (a, b, c, d)}
        for _ in range(120):
            link = rng.choice([a, b, c, d])
            action = rng.random()
            if action < 0.5:
                account = rng.choice(["default", "other"])
                with link.cursor() as cursor:
                    open_events[link][insert(cursor, order_id, account=account)] = account
            elif action < 0.7:
                link.commit()
                committed |= open_events[link]
                open_events[link] = {}
            elif action < 0.75:
                link.rollback()
                open_events[link] = {}
            else:
                await rng.choice(readers).read_page()
        for link, left in open_events.items():
            link.commit()
            committed |= left
    for reader in readers:
        ids = await reader.read_all()
        accounts = reader.accounts or ["default", "other"]
        assert sorted(ids) == sorted(each for each, account in committed.items() if account in accounts)
        assert {event.account for event in reader.read} <= set(accounts)


async def test_every_entry_of_a_history_has_an_event(store: Store, events: OrderEvents) -> None:
    endings = Endings(store.database, store.clock, store._tell)
    resting = Resting(store.database, store.clock, store._tell, wake_after_ms=5_000)
    reader = Reader(events, await events.horizon())
    # Executed, with a retry.
    claim = await store.start()
    await store.journal.append(store.step(claim, Status.PENDING, retry_in_ms=0))
    again = await store.claims.claim(claim.order_id)
    assert isinstance(again, Claimed)
    await store.journal.append(store.step(again, Status.FAILED, detail={"reason": "no_route"}))
    # Amended, fired, and cancelled.
    terms = {"time_in_force": "GTC", "limit_price": "1", "limit_out": 1}
    limit = changed(store.new_order(), order_type=OrderType.LIMIT, **terms)
    await store.journal.insert(limit, timeout_s=5)
    assert await resting.amend(Amendment(limit.id, 2, replace(limit.terms, slippage_bps=7), {}))
    assert await resting.fire([Fired(limit.id, 3, {})])
    await store.claims.claim(limit.id)
    await endings.cancel(limit.id)
    # Expired.
    over = changed(store.new_order(), expires_at="2020-01-01T00:00:00Z")
    await store.journal.insert(over, timeout_s=5)
    assert await endings.end_expired() == 1
    await reader.read_all()
    orders = await store.orders.get_many([claim.order_id, limit.id, over.id])
    for order_id, stored in orders.items():
        own = [event for event in reader.read if event.order_id == order_id]
        assert [event.entry["sequence"] for event in own] == list(range(1, stored.version + 1))
        assert [event.entry["status"] for event in own] == [entry["status"] for entry in stored.history]
    assert len(reader.read) == sum(stored.version for stored in orders.values())
    assert [orders[each].status for each in (claim.order_id, limit.id, over.id)] == [
        Status.FAILED,
        Status.CANCELLED,
        Status.EXPIRED,
    ]


async def test_claims_within_the_rate_limit_have_events(servers: TestServers) -> None:
    async with open_store(servers, RateLimit(10)) as store:
        events = OrderEvents(store.database, store.clock)
        reader = Reader(events, await events.horizon())
        claim = await store.start()
        await reader.read_all()
        assert reader.steps == [(claim.order_id, 1), (claim.order_id, 2)]


def test_every_statement_that_appends_to_a_history_records_it() -> None:
    queries = load(SQL_FOLDER).values()
    appending = {query.name for query in queries if "appended(" in query.sql}
    assert len(appending) >= 7
    assert appending == {query.name for query in queries if "INSERT INTO order_events" in query.sql}


async def test_the_last_event_of_a_position_tells_whether_the_database_was_restored(
    servers: TestServers, store: Store, events: OrderEvents
) -> None:
    assert await events.has_last_of(await events.horizon())
    await store.insert()
    await store.insert()
    position = await events.horizon()
    assert await events.has_last_of(position)
    with servers.connect() as link, link.cursor() as cursor:
        last = position.base.last_id
        # Old events are deleted from the front.
        cursor.execute("DELETE FROM order_events WHERE id < %s", (last,))
        assert await events.has_last_of(position)
        cursor.execute("UPDATE order_events SET version = 2 WHERE id = %s", (last,))
        assert not await events.has_last_of(position)
        cursor.execute(
            "INSERT INTO order_events (id, account, order_id, version) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, 'default', %s, 1)",
            (last - 1, "0190a8f5-0000-7000-8000-000000000000"),
        )
        cursor.execute("DELETE FROM order_events WHERE id = %s", (last,))
        assert not await events.has_last_of(position)
        cursor.execute("DELETE FROM order_events")
        cursor.execute(
            "INSERT INTO order_events (account, order_id, version) VALUES ('default', %s, 1)",
            ("0190a8f5-0000-7000-8000-000000000000",),
        )
        assert await events.has_last_of(position)


async def test_old_events_are_deleted_and_the_last_one_stays(
    servers: TestServers, store: Store, events: OrderEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "_MOST_PER_STEP", 2)
    for _ in range(6):
        await store.insert()
    assert await events.delete_old() == 0
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "UPDATE order_events SET at = now() - interval '26 hours'"
            " WHERE id IN (SELECT id FROM order_events ORDER BY id LIMIT 3)"
        )
        assert await events.delete_old() == 3
        cursor.execute("SELECT count(*) FROM order_events")
        assert cursor.fetchall() == [(3,)]
        cursor.execute("UPDATE order_events SET at = now() - interval '26 hours'")
        assert await events.delete_old() == 2
        assert await events.delete_old() == 0


async def test_events_of_transactions_of_another_cluster_are_deleted(
    servers: TestServers, store: Store, events: OrderEvents
) -> None:
    order_id = await store.insert()
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "INSERT INTO order_events (xid, account, order_id, version)"
            " SELECT (pg_current_xact_id()::text::bigint + 1000 + n)::text::xid8, 'default', %s, n"
            " FROM generate_series(1, 5) AS n",
            (order_id,),
        )
        assert await events.delete_foreign() == 5
        assert await events.delete_foreign() == 0
        cursor.execute("SELECT count(*) FROM order_events")
        assert cursor.fetchall() == [(1,)]


async def test_a_page_reads_few_rows_however_long_a_foreign_transaction_runs(
    servers: TestServers, store: Store, events: OrderEvents
) -> None:
    order_id = await store.insert()
    with transaction(servers) as foreign, foreign.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
        with servers.connect() as link, link.cursor() as other:
            other.execute(
                "INSERT INTO order_events (account, order_id, version)"
                " SELECT 'default', %s, 1 FROM generate_series(1, 20000)",
                (order_id,),
            )
            other.execute("ANALYZE order_events")
            base = await events.horizon()
            assert base.base.running
            last = insert(other, order_id)
            until = await events.horizon()
            page = await events.page(base, until, ["default"])
            assert [event.id for event in page.events] == [last]
            given = {
                "ended": [],
                "xmax": str(base.base.xmax),
                "next_xid": str(base.base.next_xid),
                "base_last_id": base.base.last_id,
                "target": until.base.text,
                "after": 0,
                "until": last,
                "accounts": ["default"],
                "most": 250,
            }
            other.execute(f"EXPLAIN (ANALYZE) {load(SQL_FOLDER)['read_order_events'].sql}", given)
            plan = "\n".join(line for (line,) in other.fetchall())
            assert "Seq Scan on order_events" not in plan, plan
            assert "Rows Removed by Filter" not in plan, plan


async def test_the_deletion_runs_in_the_background(
    servers: TestServers, store: Store, events: OrderEvents
) -> None:
    for _ in range(3):
        await store.insert()
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("UPDATE order_events SET at = now() - interval '26 hours'")
        events.start()
        async with asyncio.timeout(10):
            while True:
                cursor.execute("SELECT count(*) FROM order_events")
                if cursor.fetchall() == [(1,)]:
                    break
                await asyncio.sleep(0.02)
    await events.stop()
