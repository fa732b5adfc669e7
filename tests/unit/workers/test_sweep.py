"""The sweep: dead instances, idle orders, and wake-ups of due orders."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, cast

import pytest

from service.execution.engine import Engine
from service.execution.order_queue import EntryId, OrderQueue
from service.postgres.database import UnavailableError
from service.store.instances import MAX_PER_SWEEP, Identity, Instances
from service.store.rate_limit import RateLimit
from service.store.venue_identity import OtherVenueError
from service.workers.sweep import Sweep
from tests.support.clock import ManualClock, settle


class FakeInstances:
    """The store as the sweep uses it, with its calls recorded in ``calls``."""

    def __init__(self, identity: Identity, clock: ManualClock) -> None:
        self._identity, self._clock = identity, clock
        self.calls, self.left, self.released = list[str](), list[str](), list[str]()
        self.due, self.idle = list[str](), list[str]()
        self.requeued, self.removed = list[str](), list[str]()
        self.away = self.dead = self.answers_are_lost = self.of_another_venue = False

    async def register(self) -> None:
        self._call("register")
        if self.of_another_venue:
            raise OtherVenueError("this database belongs to another venue")
        self._identity.record_heartbeat(self._clock.monotonic())
        self.dead = False

    async def heartbeat(self) -> bool:
        self._call("heartbeat")
        if not self.dead:
            self._identity.record_heartbeat(self._clock.monotonic())
        return not self.dead

    async def remove_dead(self, *, all_others: bool = False) -> list[str]:
        self._call("remove all" if all_others else "remove_dead")
        removed, self.removed = self.removed, []
        return removed

    async def release_orphans(self) -> list[str]:
        self._call("release orphans")
        return ["orphan"]

    async def wake_postponed(self) -> list[str]:
        self._call("postponed")
        return []

    async def leave(self, unclaimed: Sequence[str] = (), *, all_due: bool = False) -> list[str]:
        self._call("leave, all due" if all_due else "leave")
        self.left.append(self._identity.id)
        return ["left", *unclaimed]

    async def requeue(self, order_ids: Sequence[str]) -> None:
        self._call("requeue")
        self.requeued += order_ids

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


class SweepHarness:
    """A sweep with fakes of its dependencies, and the wake-ups that it sent."""

    available = True

    def __init__(self, rate_limit: int = 0) -> None:
        self.clock = ManualClock()
        self.identity = Identity(self.clock, timeout_ms=4_000)
        self.instances = FakeInstances(self.identity, self.clock)
        self.running, self.woken = list[str](), list[str]()
        self.waiting = 0
        self.last: EntryId | None = None
        self.queue = OrderQueue(self, self.clock)
        self.sweep = Sweep(
            cast("Instances", self.instances),
            self.identity,
            self.clock,
            self.queue,
            cast("Engine", self),
            rate_limit=RateLimit(rate_limit),
            instance_timeout_ms=4_000,
        )

    async def cancel_running(self) -> None:
        self.running = []

    async def send(self, order_ids: Iterable[str]) -> None:
        self.woken += order_ids

    async def last_sent(self) -> EntryId | None:
        return self.last

    def supersede(self, until: EntryId) -> None:
        self.instances.calls.append(f"supersede until {until[0]}")

    async def length(self) -> int | None:
        return self.waiting if self.available else None

    async def start(self) -> None:
        await self.sweep.recover(alone=False)
        self.sweep.start()
        await settle()

    async def after(self, seconds: float, *, stopped: bool = False) -> list[str]:
        """Advance the clock, and return the calls of the store since; the process may have been stopped."""
        self.instances.calls.clear()
        self.woken.clear()
        await (self.clock.jump(seconds) if stopped else self.clock.advance(seconds))
        # Its timer uses the event loop's clock: make it use the manual one.
        self.queue.check_after(10**9)
        await settle()
        return list(self.instances.calls)


@pytest.fixture
async def harness() -> AsyncIterator[SweepHarness]:
    harness = SweepHarness()
    yield harness
    await harness.sweep.stop()


@pytest.mark.parametrize(("alone", "judged"), [(False, []), (True, ["remove all"])])
async def test_recovery_takes_over_orders_of_other_instances(
    harness: SweepHarness, alone: bool, judged: list[str]
) -> None:
    await harness.sweep.recover(alone=alone)
    # A process that was killed does not keep another venue from registering.
    assert harness.instances.calls == [*judged, "register", "heartbeat", "release orphans"]


async def test_a_start_wakes_all_due_orders_at_once(harness: SweepHarness) -> None:
    harness.instances.due = ["a", "b"]
    await harness.start()
    assert (harness.instances.calls[-1], harness.woken) == ("wake again", ["a", "b"])


async def test_each_second_a_sweep_heartbeats_recovers_orphans_and_wakes_due_orders(
    harness: SweepHarness,
) -> None:
    await harness.start()
    harness.instances.due = ["a"]
    assert await harness.after(0.5) == []
    assert await harness.after(0.5) == ["heartbeat", "postponed", "release orphans", "find idle", "wake"]
    assert harness.woken == ["a"]


async def test_an_owned_order_without_a_task_is_released(harness: SweepHarness) -> None:
    await harness.start()
    harness.instances.idle, harness.running = ["idle", "busy"], ["busy"]
    await harness.after(1)
    assert harness.instances.released == ["idle"]


async def test_an_order_that_gets_a_task_during_the_sweep_is_kept(
    harness: SweepHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.start()

    async def find_idle(_running: list[str]) -> list[str]:
        harness.running = ["a"]
        return ["a"]

    monkeypatch.setattr(harness.instances, "find_idle", find_idle)
    await harness.after(1)
    assert harness.instances.released == []


async def test_other_instances_are_declared_dead_only_after_a_full_period(harness: SweepHarness) -> None:
    await harness.start()
    judged = ["remove_dead" in await harness.after(1) for _ in range(5)]
    assert judged == [False, False, False, True, True]


async def test_dead_instances_are_found_at_the_end_of_that_period(harness: SweepHarness) -> None:
    await harness.start()
    for _ in range(4):
        assert "remove_dead" not in await harness.after(0.9)
    assert "remove_dead" in await harness.after(0.4)


async def test_a_slow_start_is_no_outage(harness: SweepHarness) -> None:
    """The period of the others begins when this process is registered, and so does its own heartbeat."""
    await harness.after(3)
    await harness.sweep.recover(alone=False)
    assert await harness.after(3) == ["heartbeat"] * 3
    harness.sweep.start()
    assert "remove_dead" not in await harness.after(0.9)
    assert "remove_dead" in await harness.after(0.2)


@pytest.mark.parametrize("cause", ["postgresql", "this process"])
async def test_after_an_outage_other_instances_get_a_full_period_for_a_heartbeat(
    harness: SweepHarness, cause: str
) -> None:
    await harness.start()
    for _ in range(5):
        await harness.after(1)
    if cause == "postgresql":
        harness.instances.away = True
        for _ in range(3):
            await harness.after(1)
        harness.instances.away = False
        assert "heartbeat" in await harness.after(1)
    else:
        assert "heartbeat" in await harness.after(3, stopped=True)
    assert "remove_dead" not in harness.instances.calls
    judged = ["remove_dead" in await harness.after(1) for _ in range(4)]
    assert judged == [False, False, False, True]


async def test_a_process_declared_dead_releases_its_orders_and_continues_under_a_new_id(
    harness: SweepHarness,
) -> None:
    await harness.start()
    before = harness.identity.id
    harness.instances.dead = True
    assert (await harness.after(1))[:3] == ["heartbeat", "leave", "register"]
    assert harness.identity.id != before
    assert harness.instances.left == [before]
    # Claims under the old id may have been rejected.
    assert harness.instances.calls[-1] == "wake again"
    assert "register" not in await harness.after(1)
    assert harness.instances.calls[-1] == "wake"


async def test_a_process_whose_database_another_venue_has_taken_over_stays_unregistered(
    harness: SweepHarness, caplog: pytest.LogCaptureFixture
) -> None:
    await harness.start()
    harness.instances.due, harness.running = ["a"], ["b"]
    harness.instances.of_another_venue = True
    # It was paused, and continues.
    assert (await harness.after(61, stopped=True))[:2] == ["leave", "register"]
    assert harness.running == harness.woken == []
    assert "stop this process: this database belongs to another venue" in caplog.text
    for _ in range(3):
        assert {*await harness.after(1)} <= {"leave", "register"}
        assert harness.woken == []


async def test_a_dead_instance_makes_the_sweep_wake_all_due_orders(
    harness: SweepHarness,
) -> None:
    await harness.start()
    for _ in range(5):
        await harness.after(1)
    harness.instances.removed = ["b"]
    assert (await harness.after(1))[-1] == "wake again"
    assert (await harness.after(1))[-1] == "wake"


async def test_a_consumed_wake_up_is_put_back_by_the_next_sweep(harness: SweepHarness) -> None:
    await harness.start()
    harness.queue.requeue("a")
    harness.queue.requeue("b")
    assert await harness.after(0.5) == []
    harness.instances.away = True
    await harness.after(1)
    assert harness.instances.requeued == []
    harness.instances.away = False
    assert (await harness.after(1))[-2:] == ["requeue", "wake"]
    assert harness.instances.requeued == ["a", "b"]
    assert "requeue" not in await harness.after(1)


async def test_orders_handed_out_by_a_lost_response_are_woken_again(harness: SweepHarness) -> None:
    await harness.start()
    harness.instances.due, harness.instances.answers_are_lost = ["a"], True
    assert (await harness.after(1))[-1] == "wake"
    assert harness.woken == []
    harness.instances.answers_are_lost = False
    assert (await harness.after(1))[-1] == "wake again"
    assert harness.woken == ["a"]


async def test_a_backlog_is_woken_in_parts(harness: SweepHarness) -> None:
    harness.instances.due = [str(number) for number in range(MAX_PER_SWEEP)]
    await harness.start()
    assert harness.instances.calls[-1] == "wake again"
    harness.waiting = 501
    assert "wake" not in "".join(await harness.after(1))
    harness.waiting, harness.instances.due = 0, ["a"]
    assert (await harness.after(1))[-1] == "wake again"
    assert (await harness.after(1))[-1] == "wake"


async def test_the_wake_ups_before_all_due_orders_had_new_ones_are_superseded(harness: SweepHarness) -> None:
    harness.last = (7, 0)
    harness.instances.due = [str(number) for number in range(MAX_PER_SWEEP)]
    await harness.start()
    # Sent in between: they are not earlier.
    harness.last, harness.instances.due = (8, 0), ["a"]
    calls = await harness.after(1)
    assert calls[-2:] == ["wake again", "supersede until 7"]
    assert (await harness.after(1))[-1] == "wake"


async def test_with_a_rate_limit_earlier_wake_ups_stay() -> None:
    harness = SweepHarness(rate_limit=1)
    harness.last = (7, 0)
    await harness.start()
    assert harness.instances.calls[-1] == "wake again"
    await harness.sweep.stop()


@pytest.mark.parametrize(("absence_s", "renewed"), [(3.9, False), (4.1, True)])
async def test_a_process_renews_its_id_if_it_may_have_been_declared_dead(
    harness: SweepHarness, absence_s: float, renewed: bool
) -> None:
    await harness.start()
    before = harness.identity.id
    await harness.after(absence_s, stopped=True)
    assert (harness.identity.id != before) == renewed


async def test_the_heartbeat_does_not_wait_for_a_sweep(
    harness: SweepHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.start()
    before, ended = harness.identity.id, asyncio.Event()

    async def take_long() -> list[str]:
        await ended.wait()
        return []

    monkeypatch.setattr(harness.instances, "release_orphans", take_long)
    await harness.after(1)
    assert await harness.after(10) == ["heartbeat"] * 10
    ended.set()
    await harness.after(1)
    assert harness.identity.id == before


async def test_a_requested_check_comes_at_its_time(harness: SweepHarness) -> None:
    await harness.start()
    for delay_ms in (600, 300, 600, 300):
        harness.queue.check_after(delay_ms)
    assert await harness.after(0.25) == []
    assert await harness.after(0.06) == ["wake"]
    assert await harness.after(0.25) == []
    assert await harness.after(0.05) == ["wake"]
    assert await harness.after(0.2) == []


async def test_after_a_possible_loss_all_wake_ups_are_sent_again_at_once(harness: SweepHarness) -> None:
    await harness.start()
    await harness.after(0)
    harness.instances.due, harness.waiting = ["a"], 10_000
    harness.queue.enqueue_all_due()
    await settle()
    assert (harness.instances.calls, harness.woken) == (["wake again"], ["a"])
    harness.waiting = 0
    assert (await harness.after(1))[-1] == "wake"


@pytest.mark.parametrize(("waiting", "wakes"), [(None, False), (0, True), (500, True), (501, False)])
async def test_nothing_is_enqueued_while_no_worker_is_available_or_the_queue_is_long(
    harness: SweepHarness, waiting: int | None, wakes: bool
) -> None:
    await harness.start()
    if waiting is None:
        harness.available = False
        harness.queue.close_local()
    else:
        harness.waiting = waiting
    for _sweep in range(2):
        swept = ["postponed", "release orphans", "find idle"]
        assert await harness.after(1) == ["heartbeat", *swept, *["wake"] * wakes]


async def test_a_stop_deregisters_wakes_released_orders_and_ends_the_sweep(harness: SweepHarness) -> None:
    await harness.start()
    await harness.after(0)
    harness.queue.requeue("unclaimed")
    await harness.sweep.stop()
    assert (harness.instances.calls, harness.woken) == (["leave"], ["left", "unclaimed"])
    assert await harness.after(5) == []


async def test_a_stop_while_orders_are_handed_out_leaves_all_due_orders_to_others(
    harness: SweepHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.start()

    async def hand_out(**_options: Any) -> list[str]:
        harness.instances.calls.append("handing out")
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(harness.instances, "wake_due", hand_out)
    assert (await harness.after(1))[-1] == "handing out"
    await harness.sweep.stop()
    assert harness.instances.calls[-1] == "leave, all due"


async def test_a_stop_during_an_outage_of_postgresql_leaves_recovery_to_others(harness: SweepHarness) -> None:
    await harness.start()
    harness.instances.away = True
    await harness.sweep.stop()
    assert harness.instances.left == []


async def test_a_wake_all_survives_an_outage_of_postgresql() -> None:
    harness = SweepHarness()
    await harness.start()
    harness.instances.away = True
    harness.queue.enqueue_all_due()
    await settle()
    harness.instances.away = False
    asked = await harness.after(1) + await harness.after(1)
    await harness.sweep.stop()
    assert "wake again" in asked
