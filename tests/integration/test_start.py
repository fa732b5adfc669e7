"""A failed start reports its reason, and leaves nothing behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service import parts
from service.app import Service
from service.clock import Clock
from service.postgres.database import Database, UnavailableError
from service.postgres.migrations import MigrationError
from service.postgres.queries import Query, Row
from service.settings import InvalidSettingError
from tests.support.gem_market import rows
from tests.support.orders import Client
from tests.support.process import ServiceProcess
from tests.support.servers import TestServers
from tests.support.statements import meddle


async def test_a_failed_start_reports_its_own_reason(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_database: object) -> None:
        raise MigrationError("the database is newer than this program")

    monkeypatch.setattr(parts, "migrate", fail)
    service = make_service()
    with pytest.raises(MigrationError):
        await service.start()
    await service.stop()
    await service.stop()


async def test_a_venue_that_starts_at_the_second_attempt_leaves_redis_usable(
    make_service: Callable[..., Service],
) -> None:
    service, failed = make_service(), list[str]()

    async def fail_once(query: Query[Any]) -> None:
        if query.name == "paper_get_pools" and not failed:
            failed.append(query.name)
            raise UnavailableError("away", unknown=True)

    meddle(service.market.database, fail_once)
    await service.start()
    assert failed
    assert service.storage.link.available
    await service.stop()


async def test_a_start_that_is_cancelled_leaves_nothing_running(make_service: Callable[..., Service]) -> None:
    before, service = asyncio.all_tasks(), make_service()
    waiting = asyncio.Event()

    async def checked() -> None:
        waiting.set()
        await asyncio.Event().wait()

    service.storage.link.wait_until_checked = checked  # type: ignore[method-assign]
    starting = asyncio.create_task(service.start())
    await waiting.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await service.stop()
    if left := asyncio.all_tasks() - before:
        # The tasks cancelled last end with the next iteration of the loop.
        _ended, left = await asyncio.wait(left, timeout=1)
    assert left == set()


def test_a_start_that_is_refused_says_so_in_one_line(servers: TestServers) -> None:
    with ServiceProcess({**servers.environment, "SLOT_MS": "50", "LOG_LEVEL": "WARNING"}) as first:
        first.wait_until_ready()
        assert first.stop() == 0
    with ServiceProcess({**servers.environment, "SLOT_MS": "400", "LOG_LEVEL": "WARNING"}) as refused:
        assert refused.process.wait(60) == 1
        # No warning of a connection, a task or a lease that was left behind.
        [line] = refused.output.splitlines()
        assert line.startswith("error: SLOT_MS is 400")
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM instances")
        assert cursor.fetchall() == [(0,)]


async def test_the_isolation_level_is_not_that_of_the_database(servers: TestServers) -> None:
    setting = "default_transaction_isolation"
    rows(servers, f"ALTER DATABASE {servers.database} SET {setting} = 'repeatable read'")
    database = Database(servers.database_url, size=1, clock=Clock())
    show: Query[Row] = Query("show", "SHOW transaction_isolation")
    try:
        assert await database.run(show) == [("read committed",)]
    finally:
        await database.close()
        rows(servers, f"ALTER DATABASE {servers.database} RESET {setting}")


async def test_a_market_keeps_its_slot_length(
    start: Callable[..., Awaitable[Client]], make_service: Callable[..., Service], servers: TestServers
) -> None:
    await start(SLOT_MS="50")
    # While another instance runs, and after it.
    for _ in range(2):
        other = make_service(SLOT_MS="400")
        with pytest.raises(InvalidSettingError, match=r"^SLOT_MS is 400, .* 50 ms: set SLOT_MS=50$"):
            await other.start()
        await other.stop()
    await start(SLOT_MS="50")
    assert rows(servers, "SELECT slot_ms FROM paper_market") == [(50,)]


async def test_without_a_setting_a_market_keeps_the_slots_that_it_was_created_with(
    start: Callable[..., Awaitable[Client]], make_service: Callable[..., Service], servers: TestServers
) -> None:
    # As an earlier version created it, whose default this was.
    client = await start(SLOT_MS="400")
    await client.close()
    service = make_service()
    await service.start()
    assert service.market.venue.slot_ms == 400
    slot, _views = service.market.venue.all_views()
    assert abs(slot * 400 / 1000 - time.time()) < 60
    await service.stop()
    assert rows(servers, "SELECT slot_ms FROM paper_market") == [(400,)]


async def test_a_new_market_has_the_slots_of_solana(
    start: Callable[..., Awaitable[Client]], servers: TestServers
) -> None:
    await start()
    assert rows(servers, "SELECT slot_ms FROM paper_market") == [(200,)]


def test_a_start_with_another_slot_length_names_the_setting(
    spawn: Callable[..., ServiceProcess], servers: TestServers
) -> None:
    spawn(SLOT_MS="50").stop()
    with ServiceProcess({**servers.environment, "SLOT_MS": "400"}) as process:
        assert process.process.wait(30) == 1
        errors = [line for line in process.output.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in process.output
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: SLOT_MS is 400")
