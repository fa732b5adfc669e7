"""Migrations: each is applied once, atomically, by one process at a time, and never on a newer schema."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg2
import pytest

from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import Migration, MigrationError, load, migrate, pending
from tests.support.servers import TestCluster, TestServers

FIRST = Migration(1, "first", "CREATE TABLE first (n integer); INSERT INTO first VALUES (1)")
SECOND = Migration(2, "second", "ALTER TABLE first ADD COLUMN m text DEFAULT '100%'")
BROKEN = Migration(2, "broken", "INSERT INTO first VALUES (2); SELECT 1 / 0")


@pytest.fixture
def servers(cluster: TestCluster) -> TestServers:
    """Return a database without a schema."""
    return cluster.new(empty=True)


@pytest.fixture
async def database(servers: TestServers) -> AsyncIterator[Database]:
    database = Database(servers.database_url, size=1, clock=Clock())
    yield database
    await database.close()


def rows(servers: TestServers, statement: str) -> list[tuple[object, ...]]:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


async def test_each_migration_is_applied_once(database: Database, servers: TestServers) -> None:
    assert await migrate(database, [FIRST]) == [FIRST]
    assert await migrate(database, [FIRST, SECOND]) == [SECOND]
    assert await migrate(database, [FIRST, SECOND]) == []
    assert rows(servers, "SELECT n, m FROM first") == [(1, "100%")]


async def test_what_a_start_would_apply_is_told_and_not_applied(
    database: Database, servers: TestServers
) -> None:
    assert await pending(database) == load()
    assert rows(servers, "SELECT to_regclass('schema_migrations')") == [(None,)]
    [first, *others] = load()
    await migrate(database, [first])
    assert await pending(database) == others


async def test_few_of_the_transactions_of_an_earlier_version_are_expected_in_a_day(
    database: Database, servers: TestServers
) -> None:
    """Or the statement that compares what is sold in a day would read all of them, and not end in time."""
    await migrate(database, load()[:16])
    with servers.connect() as link, link.cursor() as cursor:
        # Without their orders.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "INSERT INTO transactions"
            " (id, order_id, sequence, venue, raw, maximum_in, minimum_out, last_valid_slot)"
            " SELECT n, gen_random_uuid(), 3, 'raydium', '', 1, 1, n FROM generate_series(1, 3000) AS n"
        )
    await migrate(database)
    plan = "EXPLAIN SELECT FROM transactions WHERE signed_at > now() - interval '24 hours'"
    [(scan,), *_] = rows(servers, plan)
    assert re.fullmatch(r"Index .*Scan using transactions_signed .* rows=1 .*", str(scan))


async def test_a_failed_migration_leaves_nothing(database: Database, servers: TestServers) -> None:
    with pytest.raises(psycopg2.errors.DivisionByZero):
        await migrate(database, [FIRST, BROKEN])
    assert rows(servers, "SELECT n FROM first") == [(1,)]
    assert rows(servers, "SELECT version FROM schema_migrations") == [(1,)]


async def test_concurrent_starts_migrate_one_after_the_other(servers: TestServers) -> None:
    databases = [Database(servers.database_url, size=1, clock=Clock()) for _ in range(5)]
    applied = await asyncio.gather(*(migrate(database, [FIRST, SECOND]) for database in databases))
    assert sorted(migration.version for each in applied for migration in each) == [1, 2]


async def test_a_changed_file_is_detected(database: Database) -> None:
    await migrate(database, [FIRST])
    with pytest.raises(MigrationError, match="0001_first has changed"):
        await migrate(database, [Migration(1, "first", "SELECT 1")])


async def test_a_newer_schema_is_not_changed(database: Database) -> None:
    await migrate(database, [FIRST, SECOND])
    with pytest.raises(MigrationError, match="newer"):
        await migrate(database, [FIRST])


async def test_a_configured_schema_is_created(servers: TestServers) -> None:
    own = Database(f"{servers.database_url}&schema=My%20Own", size=1, clock=Clock())
    await migrate(own)
    assert rows(
        servers, "SELECT count(*) FROM pg_tables WHERE schemaname = 'My Own' AND tablename = 'orders'"
    ) == [(1,)]
    assert rows(servers, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


@pytest.mark.parametrize("name", ["0002_late.sql", "first.sql", "0001-first.sql"])
def test_a_file_out_of_sequence_is_rejected(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match="expected the name 0001_"):
        load(tmp_path)
