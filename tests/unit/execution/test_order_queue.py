"""The order queue: wake-ups on Redis or in this process, and requests to the sweep."""

import asyncio
from collections.abc import Callable, Iterable

import pytest

from service.execution import order_queue
from service.execution.order_queue import EntryId, OrderQueue
from tests.support.clock import ManualClock, settle


class Stream:
    """The wake-ups on Redis, while it is available."""

    def __init__(self) -> None:
        self.available = True
        self.sent: list[str] = []

    async def send(self, order_ids: Iterable[str]) -> None:
        self.sent += order_ids

    async def last_sent(self) -> EntryId | None:
        return (len(self.sent), 0)

    def supersede(self, until: EntryId) -> None:
        del self.sent[: until[0]]

    async def length(self) -> int | None:
        return len(self.sent) if self.available else None


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def queue(stream: Stream, clock: ManualClock) -> OrderQueue:
    return OrderQueue(stream, clock)


async def test_wake_ups_go_to_redis_and_without_it_to_this_process(queue: OrderQueue, stream: Stream) -> None:
    await queue.enqueue(["a", "b"])
    assert (stream.sent, await queue.length(), queue.pop_local()) == (["a", "b"], 2, None)
    waiting = asyncio.create_task(queue.wait_for_local())
    await settle()
    assert not waiting.done()
    stream.available = False
    await queue.enqueue(["c", "d"])
    await queue.enqueue(["c"])
    await waiting
    assert await queue.length() == 2
    assert [queue.pop_local() for _ in range(3)] == ["c", "d", None]


async def test_wake_ups_beyond_the_local_limit_are_left_to_the_sweep(
    queue: OrderQueue, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_queue, "_LOCAL_LIMIT", 2)
    stream.available = False
    await queue.enqueue(["a", "b", "c"])
    assert (await queue.length(), queue.unclaimed) == (2, ["c"])


async def test_a_closed_queue_returns_waiting_and_new_orders(queue: OrderQueue, stream: Stream) -> None:
    stream.available = False
    await queue.enqueue(["a", "b"])
    queue.close_local()
    await queue.enqueue(["c"])
    assert (queue.pop_local(), await queue.length(), queue.unclaimed) == (None, None, ["a", "b", "c"])
    stream.available = True
    assert await queue.length() == 0


async def test_a_check_is_due_once_at_its_time(queue: OrderQueue, clock: ManualClock) -> None:
    for delay_ms in (300, 100, 100):
        queue.check_after(delay_ms)
    due = []
    for _ in range(4):
        await clock.advance(0.11)
        due.append(queue.pop_checks(clock.monotonic()))
    assert due == [True, False, True, False]


@pytest.mark.parametrize("ask", [OrderQueue.enqueue_all_due, lambda queue: queue.check_after(10**6)])
async def test_a_request_ends_the_sweeps_wait(queue: OrderQueue, ask: Callable[[OrderQueue], None]) -> None:
    waiting = asyncio.create_task(queue.wait_until(3_600))
    await settle()
    assert not waiting.done()
    queue.requeue("a")  # for the next sweep
    await settle()
    assert not waiting.done()
    ask(queue)
    await waiting
    following = asyncio.create_task(queue.wait_until(3_600))
    await settle()
    assert not following.done()
    following.cancel()
