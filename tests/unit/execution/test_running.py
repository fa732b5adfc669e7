"""Which orders this process executes: none twice at once, those in the background until they end."""

import asyncio

from service.execution.running import RunningOrders
from tests.support.clock import settle


async def test_an_order_has_one_task_at_a_time() -> None:
    requeued: list[str] = []
    running = RunningOrders(requeued.append)
    assert running.begin("a")
    assert not running.begin("a")
    assert not running.begin("a")
    assert (running.ids, requeued) == (["a"], [])
    # It may be due again: its wake-ups were consumed meanwhile.
    running.end("a")
    assert (running.ids, requeued) == ([], ["a"])
    assert running.begin("a")
    running.end("a")
    assert requeued == ["a"]


async def test_an_order_in_the_background_runs_until_its_task_ends() -> None:
    requeued: list[str] = []
    running, known = RunningOrders(requeued.append), asyncio.Event()

    async def ask() -> None:
        await known.wait()

    running.begin("a")
    running.continue_in_background("a", ask())
    running.end("a")
    assert (running.ids, running.in_background, running.begin("a")) == (["a"], 1, False)
    assert running.unknown_outcomes == 0
    assert running.set_unknown("a", unknown=True)
    assert running.unknown_outcomes == 1
    assert requeued == []
    known.set()
    await settle()
    assert (running.ids, running.in_background, requeued) == ([], 0, ["a"])
    assert running.unknown_outcomes == 0


def test_an_outcome_becomes_unknown_and_known_again() -> None:
    running = RunningOrders(list[str]().append)
    changes = [running.set_unknown("a", unknown=unknown) for unknown in (False, True, True, False, False)]
    assert changes == [False, True, False, True, False]
    assert running.unknown_outcomes == 0


async def test_all_work_is_cancelled() -> None:
    running = RunningOrders(list[str]().append)

    async def work() -> None:
        running.begin("a")
        try:
            await asyncio.Event().wait()
        finally:
            running.end("a")

    task = asyncio.create_task(work())
    await settle()
    running.begin("b")
    # Cancelled before it starts.
    running.continue_in_background("b", asyncio.sleep(3_600))
    running.end("b")
    await running.cancel()
    assert running.ids == []
    assert task.cancelled()
