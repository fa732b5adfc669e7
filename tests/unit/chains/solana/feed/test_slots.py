"""The slot now, extrapolated; the length of slots, measured by the chain's clock."""

import pytest

from service.chains.solana.feed.slots import SlotClock
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_slots_pass_between_reads(clock: ManualClock) -> None:
    slots = SlotClock(clock)
    assert (slots.now(), slots.slot_ms) == (0, 400)
    slots.observe(1_000, 5_000)
    await clock.jump(0.9)
    assert slots.now() == 1_002
    # A read from a node that lags does not set it back, for ten seconds.
    slots.observe(1_001, 5_000)
    assert slots.now() == 1_002
    await clock.jump(9.5)
    assert slots.now() == 1_026
    slots.observe(1_010, 5_009)
    assert slots.now() == 1_001 + 23


@pytest.mark.parametrize("slot_ms", [200, 400, 1_000])
async def test_the_length_is_measured_over_a_minute_of_the_chains_clock(
    clock: ManualClock, slot_ms: int
) -> None:
    slots = SlotClock(clock)
    for second in range(10):
        slots.observe(1_000 + second * 1_000 // slot_ms, 5_000 + second)
    assert slots.slot_ms == 400
    for second in range(10, 200):
        slots.observe(1_000 + second * 1_000 // slot_ms, 5_000 + second)
        assert slots.slot_ms == pytest.approx(slot_ms, rel=0.02)
    # A change is seen whole after a minute.
    for second in range(200, 261):
        slots.observe(1_000 + 200_000 // slot_ms + (second - 200) * 10, 5_000 + second)
    assert slots.slot_ms == 100
    # Slots of earlier answers and times that go back are left out.
    last = 1_000 + 200_000 // slot_ms + 600
    slots.observe(last - 150, 9_000)
    slots.observe(10**6, 5_000)
    assert slots.slot_ms == 100


async def test_an_absurd_slot_does_not_stop_the_measuring(clock: ManualClock) -> None:
    slots = SlotClock(clock)
    slots.observe(10**9, 4_000)
    for second in range(20):
        slots.observe(1_000 + second * 5, 5_000 + second)
    assert slots.slot_ms == 200


async def test_an_absurd_time_is_not_believed_unless_the_next_one_agrees(clock: ManualClock) -> None:
    slots = SlotClock(clock)
    assert slots.observe(1_000, 5_000)
    for absurd in (10**15, 0):
        assert not slots.observe(1_005, absurd)
        assert slots.observe(1_010, 5_001)
    # The chain has stood still.
    assert not slots.observe(1_015, 9_000)
    assert slots.observe(1_020, 9_001)


@pytest.mark.parametrize("absurd", [10**15, 0, -(2**63)])
async def test_a_first_absurd_time_does_not_stop_the_measuring(clock: ManualClock, absurd: int) -> None:
    slots = SlotClock(clock)
    slots.observe(1_000, absurd)
    for second in range(1, 21):
        slots.observe(1_000 + second * 5, 5_000 + second)
    assert slots.slot_ms == 200


async def test_a_hint_is_believed_if_it_is_plausible(clock: ManualClock) -> None:
    slots = SlotClock(clock)
    slots.observe(1_000, 5_000)
    slots.hint(1_151)
    assert slots.now() == 1_000
    slots.hint(1_150)
    assert slots.now() == 1_150
