"""Background loops: they start once, stop completely, and restart after an error."""

import asyncio

import pytest

from service import background
from service.background import Background, cancel
from tests.support.clock import ManualClock, settle


class Loop:
    """A loop that counts its running tasks, and ignores some cancellations."""

    def __init__(self, deaf: int = 0) -> None:
        self.started = self.running = 0
        self._deaf = deaf

    async def run(self) -> None:
        self.started += 1
        self.running += 1
        try:
            while True:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    if self._deaf == 0:
                        raise
                    self._deaf -= 1
        finally:
            self.running -= 1


async def test_a_loop_runs_once_however_often_it_is_started_and_stopped() -> None:
    loop = Loop()
    beside = Background("test", loop.run, ManualClock())
    await beside.stop()
    beside.start()
    beside.start()
    await settle()
    assert (loop.started, loop.running) == (1, 1)
    await beside.stop()
    await beside.stop()
    assert (loop.started, loop.running) == (1, 0)


async def test_a_loop_starts_again_after_a_stop() -> None:
    loop = Loop()
    beside = Background("test", loop.run, ManualClock())
    for times in (1, 2):
        beside.start()
        await settle()
        assert (loop.started, loop.running) == (times, 1)
        await beside.stop()


async def test_a_stop_before_the_first_iteration_leaves_nothing_running() -> None:
    loop = Loop()
    beside = Background("test", loop.run, ManualClock())
    beside.start()
    await beside.stop()
    await settle()
    assert loop.started == 0


async def test_a_cancellation_that_is_swallowed_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_CANCEL_AGAIN_S", 0)
    loop = Loop(deaf=3)
    beside = Background("test", loop.run, ManualClock())
    beside.start()
    await settle()
    await beside.stop()
    assert loop.running == 0


async def test_a_task_that_cancels_others_is_cancelled_only_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "_CANCEL_AGAIN_S", 0)
    inner, later = Loop(deaf=1), []

    async def run() -> None:
        task = asyncio.create_task(inner.run())
        try:
            await asyncio.wait([task])
        finally:
            await cancel([task])
            later.append("not reached if cancelled")

    outer = asyncio.create_task(run())
    await settle()
    outer.cancel()
    await asyncio.sleep(0)
    # The inner task has swallowed the first cancellation; the outer one is cancelled again.
    outer.cancel()
    await asyncio.wait([outer])
    assert (inner.started, inner.running, outer.cancelled(), later) == (1, 0, True, [])


async def test_an_unexpected_error_is_logged_and_the_loop_restarts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran_at = []

    async def broken() -> None:
        ran_at.append(clock.monotonic())
        raise ZeroDivisionError

    clock = ManualClock()
    beside = Background("the loop", broken, clock)
    beside.start()
    await clock.advance(1.1)
    assert ran_at == [0, 0.5, 1.0]
    assert "the loop: internal error" in caplog.text
    await beside.stop()
    await clock.advance(5)
    assert len(ran_at) == 3
