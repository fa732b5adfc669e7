"""Behind PgBouncer, the session's settings are in effect: the schema and the statement time-out."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg2
import pytest
from psycopg2.errors import QueryCanceled

from service.app import Service
from service.clock import Clock
from service.postgres.database import Database, RefusedError
from service.postgres.migrations import migrate
from service.postgres.queries import Query, Row
from service.postgres.session import SessionOpener, SessionSettings
from service.urls import parse_postgres_url
from tests.conftest import Client, service_on
from tests.support.orders import MARKET_ORDER
from tests.support.pgbouncer import PROGRAM, PgBouncer
from tests.support.servers import TestCluster, TestServers

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")

SCHEMA = "eng 1%"
IN_URL = "eng%201%25"
# Fewer sessions than the engine has connections: transactions take turns on them.
TRANSACTION = {"pool_mode": "transaction", "default_pool_size": "3"}
SESSION = {"pool_mode": "session", "default_pool_size": "30"}
STATEMENT = {"pool_mode": "statement", "default_pool_size": "3"}
DROPPED = {"ignore_startup_parameters": "options"}

WHERE: Query[Row] = Query(
    "where",
    "SELECT current_setting('search_path'), current_setting('statement_timeout'),"
    " current_setting('timezone'), current_setting('transaction_isolation'), %(text)s FROM pg_sleep(0.005)",
)


@pytest.fixture
def servers(cluster: TestCluster) -> Iterator[TestServers]:
    servers = cluster.new(empty=True)
    yield servers
    cluster.drop(servers)


@pytest.fixture(
    params=[
        pytest.param(TRANSACTION, id="transaction"),
        pytest.param(TRANSACTION | DROPPED, id="transaction, options dropped", marks=pytest.mark.long),
        pytest.param(SESSION, id="session", marks=pytest.mark.long),
        pytest.param(SESSION | DROPPED, id="session, options dropped"),
        pytest.param(STATEMENT, id="statement", marks=pytest.mark.long),
    ],
)
def pooler(servers: TestServers, request: pytest.FixtureRequest) -> Iterator[PgBouncer]:
    with PgBouncer(servers, **request.param) as pooler:
        yield pooler


@pytest.fixture
async def database(pooler: PgBouncer) -> AsyncIterator[Database]:
    database = Database(f"{pooler.url}?schema={IN_URL}", size=8, clock=Clock())
    yield database
    await database.close()


def tables_by_schema(servers: TestServers) -> dict[str, int]:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, count(*) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') GROUP BY 1"
        )
        return dict(cursor.fetchall())


async def test_each_statement_has_its_settings(
    database: Database, pooler: PgBouncer, servers: TestServers
) -> None:
    await migrate(database)
    assert list(tables_by_schema(servers)) == [SCHEMA]
    # Another client leaves other settings in the shared sessions.
    others = psycopg2.connect(pooler.url)
    others.autocommit = True
    with others.cursor() as cursor:
        for statement in (
            "SET search_path = public",
            "SET statement_timeout = 600",
            "SET timezone = 'Asia/Tokyo'",
            "SET default_transaction_isolation = 'repeatable read'",
        ):
            cursor.execute(statement)
    for _ in range(5):
        answers = await asyncio.gather(*(database.run(WHERE, {"text": "%"}) for _ in range(20)))
        assert set(itertools.chain.from_iterable(answers)) == {
            (f'"{SCHEMA}"', "3s", "UTC", "read committed", "%")
        }
    others.close()


async def test_a_statement_that_takes_too_long_is_cancelled(pooler: PgBouncer) -> None:
    opener = SessionOpener(parse_postgres_url(pooler.url), Clock())
    session = await opener.open(SessionSettings("public", 200))
    began = time.monotonic()
    with pytest.raises(QueryCanceled):
        await session.run("SELECT pg_sleep(60)")
    assert time.monotonic() - began < 5
    assert await session.run("SELECT 1") == [(1,)]
    session.close()


async def test_concurrent_migrations_run_one_after_the_other(pooler: PgBouncer, servers: TestServers) -> None:
    databases = [Database(f"{pooler.url}?schema=eng", size=1, clock=Clock()) for _ in range(4)]
    applied = await asyncio.gather(*(migrate(database) for database in databases))
    versions = [migration.version for each in applied for migration in each]
    assert sorted(versions) == list(range(1, len(versions) + 1))
    assert list(tables_by_schema(servers)) == ["eng"]


async def test_orders_are_executed(
    pooler: PgBouncer, servers: TestServers, aiohttp_client: Callable[..., object]
) -> None:
    behind = TestServers(f"{pooler.url}?schema=eng", servers.redis_url, servers.redis_prefix)
    service: Service = service_on(behind, QUEUE_RATE_LIMIT="1000")
    client: Client = await aiohttp_client(service.web)  # type: ignore[misc]
    for _ in range(5):
        async with client.post("/api/orders/execute", json=MARKET_ORDER) as answer:
            assert answer.status == 201, await answer.text()
            order_id = (await answer.json())["orderId"]
        async with client.ws_connect(f"/api/orders/{order_id}/ws") as watching:
            statuses = [message.json()["status"] async for message in watching]
        assert statuses[-1] == "confirmed"
    assert list(tables_by_schema(servers)) == ["eng"]


async def test_an_unknown_database_is_rejected(servers: TestServers) -> None:
    with PgBouncer(servers, **TRANSACTION) as pooler:
        database = Database(f"postgresql://postgres@127.0.0.1:{pooler.port}/nowhere", size=1, clock=Clock())
        with pytest.raises(RefusedError, match=r"no such database|bouncer config error"):
            await migrate(database)
