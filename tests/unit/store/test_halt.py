"""What a process knows of a halt: the newest that it has read."""

import asyncio
from typing import Any

import pytest

from service.store.halt import TradingHalt
from tests.support.clock import ManualClock


async def test_an_older_reading_does_not_end_a_newer_halt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    clock, resumed, unused = ManualClock(), [], None
    database: Any = unused
    halt = TradingHalt(database, clock, lambda: resumed.append(clock.monotonic()))
    await clock.advance(1)
    sent_before = clock.monotonic()
    await clock.advance(1)
    halt.observe("fire", clock.monotonic())
    # A heartbeat that was sent before the halt is answered after it.
    halt.observe(None, sent_before)
    assert (halt.reason, resumed) == ("fire", [])
    await clock.advance(1)
    halt.observe("fire", clock.monotonic())
    halt.observe(None, clock.monotonic())
    assert (halt.reason, resumed) == (None, [3])
    assert [record.message for record in caplog.records] == ["trading is halted: fire", "trading is resumed"]


async def test_waiting_for_the_end_of_a_halt() -> None:
    clock, unused = ManualClock(), None
    database: Any = unused
    halt = TradingHalt(database, clock, lambda: None)
    await halt.wait_until_resumed()
    halt.observe("fire", clock.monotonic())
    clock_at_end = []

    async def wait() -> None:
        await halt.wait_until_resumed()
        clock_at_end.append(clock.monotonic())

    waiting = asyncio.create_task(wait())
    await clock.advance(2.2)
    assert clock_at_end == []
    halt.observe(None, clock.monotonic())
    await clock.advance(0.5)
    await waiting
    assert clock_at_end == [2.5]
