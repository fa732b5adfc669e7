"""Long computations yield to the event loop and run one at a time."""

import asyncio

import pytest

from service.clock import Clock
from service.turns import LONGEST_S, Steps, Turns, finished


class Watch(Clock):
    """A clock that advances only by the work done."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def work(
    watch: Watch, pieces: int, piece_s: float, log: list[str] | None = None, name: str = ""
) -> Steps[str]:
    for _ in range(pieces):
        watch.now += piece_s
        if log is not None:
            log.append(name)
        yield
    return name


def test_a_computation_can_run_without_yielding() -> None:
    assert finished(work(Watch(), 3, 1, name="done")) == "done"


async def count_turns(done: asyncio.Event) -> int:
    turns = 0
    while not done.is_set():
        turns += 1
        await asyncio.sleep(0)
    return turns


@pytest.mark.parametrize(("pieces", "piece_s", "turns"), [(8, LONGEST_S / 4, 2), (100, LONGEST_S / 2, 50)])
async def test_a_computation_yields_whenever_it_held_the_loop_for_long(
    pieces: int, piece_s: float, turns: int
) -> None:
    watch, done = Watch(), asyncio.Event()
    counted = asyncio.ensure_future(count_turns(done))
    await Turns(watch).run(work(watch, pieces, piece_s))
    done.set()
    assert abs(await counted - turns) <= 1


async def test_concurrent_computations_do_not_add_up_to_one_long_block() -> None:
    watch, done = Watch(), asyncio.Event()
    turns = Turns(watch)
    counted = asyncio.ensure_future(count_turns(done))
    # Each is short enough for one iteration of the loop.
    await asyncio.gather(*(turns.run(work(watch, 1, LONGEST_S)) for _ in range(40)))
    done.set()
    assert await counted >= 38


async def test_computations_run_one_after_the_other() -> None:
    watch, log = Watch(), list[str]()
    turns = Turns(watch)
    names = ["first", "second", "third"]
    done = await asyncio.gather(*(turns.run(work(watch, 5, LONGEST_S, log, name)) for name in names))
    assert done == names
    assert log == [name for name in names for _ in range(5)]


async def test_a_cancelled_or_failed_computation_releases_the_next() -> None:
    watch = Watch()
    turns = Turns(watch)
    endless = asyncio.ensure_future(turns.run(work(watch, 10**9, LONGEST_S)))
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(turns.run(work(watch, 1, 0, name="next")))
    await asyncio.sleep(0)
    endless.cancel()
    assert await waiting == "next"

    def failing() -> Steps[str]:
        yield
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        await turns.run(failing())
    assert await turns.run(work(watch, 1, 0, name="after")) == "after"
