"""The sweep: dead instances, idle orders, and wake-ups of due orders."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, cast

import pytest

from service.execution.engine import Engine
from service.execution.order_queue import OrderQueue
from service.postgres.database import UnavailableError
from service.store.instances import MOST_A_SWEEP, Identity, Instances
from service.store.rate_limit import RateLimit
from service.workers.sweep import Sweep
from tests.support.clock import ManualClock, settle


class FakeInstances:
    """The store's side of the sweep: it writes down what was asked for, in ``calls``."""

    def __init__(self, identity: Identity, clock: ManualClock) -> None:
        self._identity, self._clock = identity, clock
        self.calls, self.left, self.released = list[str](), list[str](), list[str]()
        self.due, self.idle = list[str](), list[str]()
        self.spent, self.removed = list[str](), list[str]()
        self.away = self.dead = self.answers_are_lost = False

    async def register(self) -> None:
        self._call("register")
        self._identity.heard(self._clock.monotonic())
        self.dead = False

    async def heartbeat(self) -> bool:
        self._call("heartbeat")
        if not self.dead:
            self._identity.heard(self._clock.monotonic())
        return not self.dead

    async def remove_dead(self, *, all_others: bool = False) -> list[str]:
        self._call("remove all" if all_others else "remove_dead")
        removed, self.removed = self.removed, []
        return removed

    async def release_orphans(self) -> list[str]:
        self._call("release orphans")
        return ["orphan"]

    async def leave(self, spent: Sequence[str] = (), *, all_due: bool = False) -> list[str]:
        self._call("leave, all due" if all_due else "leave")
        self.left.append(self._identity.id)
        return ["left", *spent]

    async def put_back(self, order_ids: Sequence[str]) -> None:
        self._call("put back")
        self.spent += order_ids

    async def wake_due(self, *, again: bool, **_options: Any) -> list[str]:
        self._call("wake again" if again else "wake")
        if self.answers_are_lost:
            raise UnavailableError("the answer was lost", unknown=True)
        return self.due

    async def release(self, order_ids: list[str]) -> None:
        self._call("release")
        self.released += order_ids

    async def find_idle(self, running: list[str]) -> list[str]:
        self._call("find idle")
        return [order_id for order_id in self.idle if order_id not in running]

    def _call(self, name: str) -> None:
        if self.away:
            raise UnavailableError("away", unknown=False)
        self.calls.append(name)


class World:
    """A sweep, what it stands on, and what it enqueued."""

    available = True

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.identity = Identity(self.clock, timeout_ms=4_000)
        self.instances = FakeInstances(self.identity, self.clock)
        self.running, self.woken = list[str](), list[str]()
        self.waiting = 0
        self.queue = OrderQueue(self, self.clock)
        self.sweep = Sweep(
            cast("Instances", self.instances),
            self.identity,
            self.clock,
            self.queue,
            cast("Engine", self),
            rate_limit=RateLimit(0),
            instance_timeout_ms=4_000,
        )

    async def cancel_running(self) -> None:
        self.running = []

    async def send(self, order_ids: Iterable[str]) -> None:
        self.woken += order_ids

    async def length(self) -> int | None:
        return self.waiting if self.available else None

    async def start(self) -> None:
        await self.sweep.recover(alone=False)
        self.sweep.start()
        await settle()

    async def after(self, seconds: float, *, stopped: bool = False) -> list[str]:
        """Let time pass, and return what was asked of the store then; the process may have been stopped."""
        self.instances.calls.clear()
        self.woken.clear()
        await (self.clock.jump(seconds) if stopped else self.clock.advance(seconds))
        # Its timer runs by the event loop's clock: have it look at ours instead.
        self.queue.check_after(10**9)
        await settle()
        return list(self.instances.calls)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.sweep.stop()


@pytest.mark.parametrize(("alone", "judged"), [(False, []), (True, ["remove all"])])
async def test_recovery_takes_over_what_others_left(world: World, alone: bool, judged: list[str]) -> None:
    await world.sweep.recover(alone=alone)
    assert world.instances.calls == ["register", "heartbeat", *judged, "release orphans"]


async def test_a_start_wakes_all_that_is_due_at_once(world: World) -> None:
    world.instances.due = ["a", "b"]
    await world.start()
    assert (world.instances.calls[-1], world.woken) == ("wake again", ["a", "b"])


async def test_a_sweep_a_second_beats_looks_after_orphans_and_wakes_what_is_due(world: World) -> None:
    await world.start()
    world.instances.due = ["a"]
    assert await world.after(0.5) == []
    assert await world.after(0.5) == ["heartbeat", "release orphans", "find idle", "wake"]
    assert world.woken == ["a"]


async def test_an_owned_order_without_a_task_is_released(world: World) -> None:
    await world.start()
    world.instances.idle, world.running = ["idle", "busy"], ["busy"]
    await world.after(1)
    assert world.instances.released == ["idle"]


async def test_an_order_that_a_task_takes_up_while_the_sweep_looks_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()

    async def find_idle(_running: list[str]) -> list[str]:
        world.running = ["a"]
        return ["a"]

    monkeypatch.setattr(world.instances, "find_idle", find_idle)
    await world.after(1)
    assert world.instances.released == []


async def test_others_are_judged_only_after_a_full_period(world: World) -> None:
    await world.start()
    judged = ["remove_dead" in await world.after(1) for _ in range(5)]
    assert judged == [False, False, False, True, True]


async def test_the_dead_are_found_at_the_very_end_of_that_period(world: World) -> None:
    await world.start()
    for _ in range(4):
        assert "remove_dead" not in await world.after(0.9)
    assert "remove_dead" in await world.after(0.4)


@pytest.mark.parametrize("cause", ["postgresql", "this process"])
async def test_after_an_outage_others_get_a_full_period_for_a_heartbeat(world: World, cause: str) -> None:
    await world.start()
    for _ in range(5):
        await world.after(1)
    if cause == "postgresql":
        world.instances.away = True
        for _ in range(3):
            await world.after(1)
        world.instances.away = False
        assert "heartbeat" in await world.after(1)
    else:
        assert "heartbeat" in await world.after(3, stopped=True)
    assert "remove_dead" not in world.instances.calls
    judged = ["remove_dead" in await world.after(1) for _ in range(4)]
    assert judged == [False, False, False, True]


async def test_a_process_judged_dead_gives_up_its_orders_and_goes_on_under_a_new_id(world: World) -> None:
    await world.start()
    before = world.identity.id
    world.instances.dead = True
    assert (await world.after(1))[:3] == ["heartbeat", "leave", "register"]
    assert world.identity.id != before
    assert world.instances.left == [before]
    # Under the old id, claims may have been refused.
    assert world.instances.calls[-1] == "wake again"
    assert "register" not in await world.after(1)
    assert world.instances.calls[-1] == "wake"


async def test_when_another_is_found_dead_all_is_woken_that_it_may_have_been_woken_for(world: World) -> None:
    await world.start()
    for _ in range(5):
        await world.after(1)
    world.instances.removed = ["b"]
    assert (await world.after(1))[-1] == "wake again"
    assert (await world.after(1))[-1] == "wake"


async def test_a_consumed_wake_up_is_put_back_by_the_next_sweep(world: World) -> None:
    await world.start()
    world.queue.put_back("a")
    world.queue.put_back("b")
    assert await world.after(0.5) == []
    world.instances.away = True
    await world.after(1)
    assert world.instances.spent == []
    world.instances.away = False
    assert (await world.after(1))[-2:] == ["put back", "wake"]
    assert world.instances.spent == ["a", "b"]
    assert "put back" not in await world.after(1)


async def test_what_a_lost_answer_handed_out_is_woken_again(world: World) -> None:
    await world.start()
    world.instances.due, world.instances.answers_are_lost = ["a"], True
    assert (await world.after(1))[-1] == "wake"
    assert world.woken == []
    world.instances.answers_are_lost = False
    assert (await world.after(1))[-1] == "wake again"
    assert world.woken == ["a"]


async def test_a_backlog_is_woken_a_part_at_a_time(world: World) -> None:
    world.instances.due = [str(number) for number in range(MOST_A_SWEEP)]
    await world.start()
    assert world.instances.calls[-1] == "wake again"
    world.waiting = 501
    assert "wake" not in "".join(await world.after(1))
    world.waiting, world.instances.due = 0, ["a"]
    assert (await world.after(1))[-1] == "wake again"
    assert (await world.after(1))[-1] == "wake"


@pytest.mark.parametrize(("absence_s", "renewed"), [(3.9, False), (4.1, True)])
async def test_one_that_may_have_been_does_not_wait_to_be_told(
    world: World, absence_s: float, renewed: bool
) -> None:
    await world.start()
    before = world.identity.id
    await world.after(absence_s, stopped=True)
    assert (world.identity.id != before) == renewed


async def test_the_heartbeat_does_not_wait_for_a_sweep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.start()
    before, ended = world.identity.id, asyncio.Event()

    async def take_long() -> list[str]:
        await ended.wait()
        return []

    monkeypatch.setattr(world.instances, "release_orphans", take_long)
    await world.after(1)
    assert await world.after(10) == ["heartbeat"] * 10
    ended.set()
    await world.after(1)
    assert world.identity.id == before


async def test_a_look_comes_when_it_was_asked_for_and_not_before(world: World) -> None:
    await world.start()
    for delay_ms in (600, 300, 600, 300):
        world.queue.check_after(delay_ms)
    assert await world.after(0.25) == []
    assert await world.after(0.06) == ["wake"]
    assert await world.after(0.25) == []
    assert await world.after(0.05) == ["wake"]
    assert await world.after(0.2) == []


async def test_when_wake_ups_may_be_lost_all_are_sent_again_at_once(world: World) -> None:
    await world.start()
    await world.after(0)
    world.instances.due, world.waiting = ["a"], 10_000
    world.queue.enqueue_all_due()
    await settle()
    assert (world.instances.calls, world.woken) == (["wake again"], ["a"])
    world.waiting = 0
    assert (await world.after(1))[-1] == "wake"


@pytest.mark.parametrize(("waiting", "wakes"), [(None, False), (0, True), (500, True), (501, False)])
async def test_nothing_is_enqueued_while_no_worker_takes_it_or_they_have_enough_to_do(
    world: World, waiting: int | None, wakes: bool
) -> None:
    await world.start()
    if waiting is None:
        world.available = False
        world.queue.close_local()
    else:
        world.waiting = waiting
    for _sweep in range(2):
        assert await world.after(1) == ["heartbeat", "release orphans", "find idle", *["wake"] * wakes]


async def test_a_stop_signs_off_wakes_what_was_left_and_sweeps_no_more(world: World) -> None:
    await world.start()
    await world.after(0)
    world.queue.put_back("spent")
    await world.sweep.stop()
    assert (world.instances.calls, world.woken) == (["leave"], ["left", "spent"])
    assert await world.after(5) == []


async def test_a_stop_while_orders_are_handed_out_leaves_all_that_is_due_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()

    async def hand_out(**_options: Any) -> list[str]:
        world.instances.calls.append("handing out")
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(world.instances, "wake_due", hand_out)
    assert (await world.after(1))[-1] == "handing out"
    await world.sweep.stop()
    assert world.instances.calls[-1] == "leave, all due"


async def test_a_stop_while_postgresql_is_away_leaves_it_to_the_others(world: World) -> None:
    await world.start()
    world.instances.away = True
    await world.sweep.stop()
    assert world.instances.left == []


async def test_a_wake_all_outlives_an_absence_of_postgresql() -> None:
    world = World()
    await world.start()
    world.instances.away = True
    world.queue.enqueue_all_due()
    await settle()
    world.instances.away = False
    asked = await world.after(1) + await world.after(1)
    await world.sweep.stop()
    assert "wake again" in asked
