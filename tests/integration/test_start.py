"""A start that fails says why, and leaves nothing behind."""

from collections.abc import Callable

import pytest
from service import app
from service.app import Service
from service.store.migrations import MigrationError


async def test_a_start_that_fails_tells_its_own_reason(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_database: object) -> None:
        raise MigrationError("the database is newer than this program")

    monkeypatch.setattr(app, "migrate", fail)
    service = make_service()
    with pytest.raises(MigrationError):
        await service.start()
    await service.stop()
    await service.stop()
