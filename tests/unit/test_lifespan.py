"""Parts start in order and stop in reverse, even after a partial start."""

import asyncio
from collections.abc import Callable

import pytest

from service.lifespan import Lifespan, Part


class Notes:
    """Parts that record their calls in ``told``."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def part(self, name: str, **broken: Exception) -> Part:
        """Return a part that records its steps; the given ones fail."""

        def step(what: str) -> Callable[[], object]:
            async def note() -> None:
                await asyncio.sleep(0)
                self.told.append(f"{what} {name}")
                if what in broken:
                    raise broken[what]

            return note

        return Part(start=step("start"), drain=step("drain"), stop=step("stop"))  # type: ignore[arg-type]


async def test_parts_start_in_order_and_drain_and_stop_in_reverse_once() -> None:
    notes = Notes()
    begun: list[str] = []
    lifespan = Lifespan([notes.part("a"), Part(start=lambda: begun.append("at once")), notes.part("b")])
    for step in (
        lifespan.start,
        lifespan.start,
        lifespan.drain,
        lifespan.stop,
        lifespan.stop,
        lifespan.drain,
    ):
        await step()
    assert notes.told == ["start a", "start b", "drain b", "drain a", "stop b", "stop a"]
    assert begun == ["at once"]


async def test_parts_that_were_never_started_are_stopped_once() -> None:
    # Some hold a socket from the beginning.
    notes = Notes()
    lifespan = Lifespan([notes.part("a")])
    await lifespan.drain()
    await lifespan.stop()
    await lifespan.stop()
    assert notes.told == ["stop a"]


async def test_a_start_that_is_cancelled_stops_every_part() -> None:
    notes = Notes()
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    lifespan = Lifespan([notes.part("a"), Part(start=hang), notes.part("b")])
    starting = asyncio.create_task(lifespan.start())
    await reached.wait()
    starting.cancel()
    await asyncio.wait([starting])
    await lifespan.stop()
    assert notes.told == ["start a", "stop b", "stop a"]


async def test_a_part_that_fails_to_stop_does_not_keep_others_running() -> None:
    notes = Notes()
    lifespan = Lifespan([notes.part("a"), notes.part("b", stop=RuntimeError("b")), notes.part("c")])
    await lifespan.start()
    with pytest.raises(RuntimeError, match="b"):
        await lifespan.stop()
    assert notes.told[3:] == ["stop c", "stop b", "stop a"]
