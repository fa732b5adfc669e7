"""A start that fails says why, and leaves nothing behind."""

from collections.abc import Awaitable, Callable

import pytest

from service import parts
from service.app import Service
from service.postgres.migrations import MigrationError
from service.settings import InvalidSettingError
from tests.support.gem_market import rows
from tests.support.orders import Client
from tests.support.process import ServiceProcess
from tests.support.servers import TestServers


async def test_a_start_that_fails_tells_its_own_reason(
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


async def test_a_market_keeps_its_slot_length(
    start: Callable[..., Awaitable[Client]], make_service: Callable[..., Service], servers: TestServers
) -> None:
    await start(SLOT_MS="50")
    # Beside the one that runs, and after it.
    for _ in range(2):
        other = make_service(SLOT_MS="400")
        with pytest.raises(InvalidSettingError, match=r"^SLOT_MS is 400, .* 50 ms: set SLOT_MS=50$"):
            await other.start()
        await other.stop()
    await start(SLOT_MS="50")
    assert rows(servers, "SELECT slot_ms FROM paper_market") == [(50,)]


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
