"""Ids, times and random numbers; and the manual clock of the tests."""

import asyncio
import time
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from service.clock import Clock
from tests.support.clock import START_S, ManualClock, settle

MODEST = settings(max_examples=25, deadline=None)


class ClockAt(Clock):
    """A clock that shows one time."""

    def __init__(self, now_ms: int, seed: int | None = None) -> None:
        super().__init__(seed)
        self.now_ms = now_ms

    def time_ms(self) -> int:
        return self.now_ms


times_ms = st.integers(0, 2**48 - 1)


@MODEST
@given(times_ms)
def test_an_order_id_is_a_uuid_of_version_7_that_holds_its_time(now_ms: int) -> None:
    text = ClockAt(now_ms).new_order_id()
    order_id = UUID(text)
    assert (order_id.version, order_id.variant) == (7, "specified in RFC 4122")
    assert order_id.int >> 80 == now_ms
    assert str(order_id) == text


@MODEST
@given(st.lists(times_ms, unique=True, max_size=20))
def test_order_ids_sort_by_their_time(all_ms: list[int]) -> None:
    clock = ClockAt(0)
    ids = []
    for clock.now_ms in sorted(all_ms):
        ids.append(clock.new_order_id())
    assert ids == sorted(ids)


def test_ids_of_the_same_millisecond_differ() -> None:
    clock = ClockAt(1_800_000_000_000)
    assert len({clock.new_order_id() for _ in range(1_000)}) == 1_000


def test_an_order_id_has_the_time_of_the_machine() -> None:
    before = time.time_ns() // 1_000_000
    created_ms = UUID(Clock().new_order_id()).int >> 80
    assert before <= created_ms <= time.time_ns() // 1_000_000


@MODEST
@given(st.integers())
def test_a_seeded_clock_is_deterministic(seed: int) -> None:
    def draw(clock: Clock) -> list[object]:
        return [
            clock.new_order_id(),
            clock.new_instance_id(),
            clock.new_write_id(),
            clock.between(0, 10**9),
            clock.seeded("key").random(),
        ]

    assert draw(ClockAt(5, seed)) == draw(ClockAt(5, seed))
    assert draw(ClockAt(5, seed))[:4] != draw(ClockAt(5, seed + 1))[:4]


def test_without_a_seed_nothing_repeats() -> None:
    one, other = ClockAt(5), ClockAt(5)
    assert one.new_order_id() != other.new_order_id()
    assert one.new_instance_id() != other.new_instance_id()
    assert one.new_write_id() != other.new_write_id()


def test_numbers_for_markets_repeat_even_without_a_seed() -> None:
    assert Clock().seeded("pools:1").random() == Clock().seeded("pools:1").random()
    assert Clock().seeded("pools:1").random() != Clock().seeded("pools:2").random()


def test_an_instance_id_is_a_random_uuid() -> None:
    ids = [UUID(Clock(seed).new_instance_id()) for seed in range(20)]
    assert {(each.version, each.variant) for each in ids} == {(4, "specified in RFC 4122")}
    assert len(set(ids)) == 20


def test_a_write_id_is_16_hexadecimal_digits() -> None:
    clock = Clock(seed=0)
    ids = {clock.new_write_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in ids)


@MODEST
@given(st.integers(0, 5), st.integers(0, 5))
def test_between_respects_both_bounds(low: int, more: int) -> None:
    clock = Clock(seed=low)
    drawn = {clock.between(low, low + more) for _ in range(200)}
    assert drawn == set(range(low, low + more + 1))


def test_the_time_of_postgresql_advances_from_its_last_reading() -> None:
    clock = Clock()
    assert abs(clock.database_time() - time.time()) < 60
    clock.observe_database_time(1_000.0)
    assert 1_000.0 <= clock.database_time() < 1_060.0


def test_only_a_long_jump_back_of_postgresql_is_counted() -> None:
    clock = Clock()
    for epoch_s, jumps_back in ((10_000.0, 0), (13_600.0, 0), (13_595.0, 0), (10_000.0, 1), (10_000.0, 1)):
        clock.observe_database_time(epoch_s)
        assert clock.jumps_back == jumps_back, epoch_s


def test_a_wait_of_zero_does_not_yield_to_the_loop() -> None:
    for seconds in (0, -1):
        waiting = Clock().sleep(seconds)
        try:
            waiting.send(None)  # no loop runs here: a wait would fail
        except StopIteration:
            continue
        raise AssertionError(f"{seconds} s waited")


async def test_the_manual_clock_wakes_due_sleepers_in_order() -> None:
    clock, woken = ManualClock(), list[tuple[str, float]]()

    async def sleeper(name: str, *pauses_s: float) -> None:
        for pause_s in pauses_s:
            await clock.sleep(pause_s)
            woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper("a", 2, 2)), asyncio.create_task(sleeper("b", 1, 9))]
    await clock.advance(5)
    assert woken == [("b", 1), ("a", 2), ("a", 4)]
    assert (clock.monotonic(), clock.database_time()) == (5, START_S + 5)
    tasks[1].cancel()
    await settle()
    assert clock._sleepers == []
