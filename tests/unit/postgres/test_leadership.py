"""Leadership: when this process leads, in which epoch, and when it checks again."""

import asyncio
import time

import pytest

from service.clock import Clock
from service.postgres.database import UnavailableError
from service.postgres.leadership import Leadership, LeaseState
from tests.support.clock import ManualClock


class FakeLease:
    """A lease as this process sees it. While ``away`` is true, PostgreSQL is unavailable."""

    def __init__(self) -> None:
        self.epoch = 0
        self.other_leads = self.away = False
        self.left_s = 1.0
        self.taken: list[int | None] = []
        self.given_up: list[int] = []
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def take(self, epoch: int | None) -> LeaseState:
        self.taken.append(epoch)
        self.asked.set()
        await self.answers.wait()
        if self.away:
            raise UnavailableError("away", unknown=False)
        if self.other_leads:
            return LeaseState(None, self.left_s)
        if epoch != self.epoch or not epoch:
            self.epoch += 1
        return LeaseState(self.epoch, 0.0)

    async def give_up(self, epoch: int) -> None:
        if self.away:
            raise UnavailableError("away", unknown=False)
        self.given_up.append(epoch)


class LeadershipHarness:
    """A lease, its leadership, and the epochs that ``on_change`` saw."""

    def __init__(self) -> None:
        self.lease = FakeLease()
        self.seen: list[int | None] = []
        self.leadership = Leadership(
            self.lease, Clock(), name="test", retry_s=0.2, on_change=lambda: self.seen.append(self.epoch)
        )

    @property
    def epoch(self) -> int | None:
        return self.leadership.epoch

    async def until(self, *seen: int | None, within_s: float = 5) -> float:
        """Wait until ``on_change`` saw these epochs, and return how long that took."""
        began = time.monotonic()
        while self.seen != [*seen]:
            assert time.monotonic() - began < within_s, self.seen
            await asyncio.sleep(0.005)
        return time.monotonic() - began


@pytest.fixture
def harness() -> LeadershipHarness:
    return LeadershipHarness()


async def test_a_free_lease_is_taken_and_renewed_in_its_epoch(harness: LeadershipHarness) -> None:
    for _ in range(3):
        await harness.leadership.check()
    assert (harness.epoch, harness.seen, harness.lease.taken) == (1, [1], [None, 1, 1])


async def test_a_leader_with_a_newer_epoch_of_another_follows(harness: LeadershipHarness) -> None:
    await harness.leadership.check()
    harness.lease.other_leads = True
    await harness.leadership.check()
    assert harness.seen == [1, None]


async def test_a_leader_without_progress_does_not_renew_for_a_while() -> None:
    clock, lease, progress = ManualClock(), FakeLease(), [0.0]
    leadership = Leadership(
        lease, clock, name="test", retry_s=0.2, on_change=lambda: None, progress=lambda: progress[0]
    )
    for _ in range(12):
        await leadership.check()
        progress[0] = clock.monotonic()
        await clock.advance(1)
    assert leadership.epoch == 1
    # New epochs are no progress.
    for _ in range(10):
        leadership.abandon(leadership.epoch or 0)
        await leadership.check()
        await clock.advance(1)
    taken = len(lease.taken)
    await leadership.check()
    stood_aside: int | None = leadership.epoch
    assert (stood_aside, len(lease.taken)) == (None, taken)
    # There is no other process, so it leads again, with the full time to make progress.
    await leadership.check()
    await clock.advance(9)
    await leadership.check()
    assert leadership.epoch is not None


@pytest.mark.parametrize("cause", ["postgresql", "this process"])
async def test_after_an_outage_the_time_for_progress_restarts(cause: str) -> None:
    clock, lease = ManualClock(), FakeLease()
    leadership = Leadership(
        lease, clock, name="test", retry_s=0.2, on_change=lambda: None, progress=lambda: 0.0
    )
    await leadership.check()
    if cause == "postgresql":
        lease.away = True
        for _ in range(12):
            await clock.advance(1)
            with pytest.raises(UnavailableError):
                await leadership.check()
        lease.away = False
    else:
        await clock.jump(60)
    for _ in range(9):
        await leadership.check()
        assert leadership.epoch is not None
        await clock.advance(1)


async def test_without_postgresql_no_process_leads(harness: LeadershipHarness) -> None:
    await harness.leadership.check()
    harness.lease.away = True
    with pytest.raises(UnavailableError):
        await harness.leadership.check()
    assert harness.seen == [1, None]


async def test_an_abandoned_epoch_ends_and_the_next_begins_at_once(harness: LeadershipHarness) -> None:
    harness.leadership.start()
    await harness.until(1)
    harness.leadership.abandon(7)  # not the present one
    assert harness.seen == [1]
    harness.leadership.abandon(1)
    assert harness.seen == [1, None]
    assert await harness.until(1, None, 2) < 0.5
    await harness.leadership.stop()


async def test_an_epoch_abandoned_during_its_renewal_stays_ended(harness: LeadershipHarness) -> None:
    await harness.leadership.check()
    harness.lease.answers.clear()
    harness.lease.asked.clear()
    renewing = asyncio.create_task(harness.leadership.check())
    await harness.lease.asked.wait()
    harness.leadership.abandon(1)
    harness.lease.answers.set()
    await renewing
    assert (harness.seen, harness.lease.taken) == ([1, None, 2], [None, 1, None])


async def test_a_follower_checks_when_the_lease_of_the_leader_expires(harness: LeadershipHarness) -> None:
    harness.lease.other_leads, harness.lease.left_s = True, 0.3
    harness.leadership.start()
    await harness.lease.asked.wait()
    harness.lease.other_leads = False
    assert 0.3 < await harness.until(1) < 0.9
    await harness.leadership.stop()


async def test_after_an_outage_of_postgresql_it_checks_again_soon(harness: LeadershipHarness) -> None:
    harness.lease.away = True
    harness.leadership.start()
    await harness.lease.asked.wait()
    harness.lease.away = False
    assert 0.1 < await harness.until(1) < 0.9
    await harness.leadership.stop()


async def test_a_stop_releases_a_held_lease_once(harness: LeadershipHarness) -> None:
    await harness.leadership.stop()
    assert harness.lease.given_up == []
    await harness.leadership.check()
    for _ in range(2):
        await harness.leadership.stop()
    assert (harness.lease.given_up, harness.epoch) == ([1], None)


async def test_a_stop_without_postgresql_leaves_the_lease_to_expire(harness: LeadershipHarness) -> None:
    await harness.leadership.check()
    harness.lease.away = True
    await harness.leadership.stop()
    assert (harness.lease.given_up, harness.epoch) == ([], None)
