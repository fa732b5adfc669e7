"""Feeds: every watcher sees each entry once and in order, whatever happens to the messages."""

import asyncio
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.history import Committed
from service.domain.mode import TradingMode
from service.domain.order import Order, OrderType, Terms
from service.domain.quote import SwapMode
from service.domain.transaction import Fill, Seen, SeenCommitment
from service.events.feed import Feeds, Watch
from service.postgres.database import UnavailableError
from service.store.orders import Orders
from tests.support.clock import ManualClock, settle

MODEST = settings(max_examples=80, deadline=None)

LIFE = ("pending", "routing", "building", "submitted", "confirmed")
STEPS = [
    Committed("one", {"sequence": sequence, "status": status, "timestamp": "2026-11-22T10:00:00.000Z"})
    for sequence, status in enumerate(LIFE, start=1)
]


def order_at(version: int, order_id: str = "one") -> Order:
    return Order(
        id=order_id,
        account="default",
        mode=TradingMode.PAPER,
        client_order_id=None,
        order_type=OrderType.MARKET,
        token_in="SOL",
        token_out="USDC",
        swap_mode=SwapMode.EXACT_IN,
        amount=1,
        amount_text="0.000000001",
        terms=Terms(slippage_bps=100),
        decimals_in=9,
        decimals_out=6,
        history=tuple(step.entry for step in STEPS[:version]),
        created_at="2026-11-22T10:00:00.000Z",
        quoted=None,
        fill=Fill(1, 1, "sig") if version == len(LIFE) else None,
        routing={},
    )


class StoredOrders:
    """The store's orders, each at a version. While it is not ``free``, a read waits."""

    def __init__(self, **versions: int) -> None:
        self.stored = versions
        self.reads = 0
        self.away = False
        self.free = asyncio.Event()
        self.free.set()

    async def get_whole(self, order_id: str) -> Order | None:
        self.reads += 1
        if self.away:
            raise UnavailableError("away", unknown=False)
        version = self.stored.get(order_id)
        await self.free.wait()
        return order_at(version, order_id) if version else None

    async def versions(self, order_ids: list[str]) -> dict[str, int]:
        if self.away:
            raise UnavailableError("away", unknown=False)
        return {order_id: self.stored[order_id] for order_id in order_ids}


class Watcher:
    """A watcher that records what it receives."""

    def __init__(self, watch: Watch | None) -> None:
        assert watch is not None
        self.seen, self._watch = list[int](), watch
        self.sightings: list[Seen | None] = []
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        with self._watch as watch:
            async for order, sequence in watch:
                if sequence is None:
                    self.sightings.append(order.seen)
                    continue
                assert order.version >= sequence
                self.seen.append(sequence)

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


def make(clock: ManualClock | None = None, **versions: int) -> tuple[StoredOrders, Feeds]:
    stored = StoredOrders(**versions)
    return stored, Feeds(cast("Orders", stored), clock or ManualClock())


async def see(feeds: Feeds, after: int = 0) -> Watcher:
    watcher = Watcher(await feeds.watch("one", after))
    await settle()
    return watcher


async def test_a_committed_step_is_delivered_at_once() -> None:
    _, feeds = make(one=1)
    watcher = await see(feeds)
    for step in STEPS[1:]:
        feeds.deliver([step])
        await settle()
        assert watcher.seen == list(range(1, step.sequence + 1))
    assert watcher.task.done()


async def test_watchers_are_told_where_the_transaction_is_seen_after_its_entry() -> None:
    _, feeds = make(one=3)
    watcher = await see(feeds)
    processed, confirmed = (Seen(905, commitment) for commitment in SeenCommitment)
    feeds.deliver_seen("one", 4, processed)  # of an entry that is not known yet
    feeds.deliver_seen("other", 3, processed)
    await settle()
    assert watcher.sightings == []
    feeds.deliver(STEPS[3:4])
    feeds.deliver_seen("one", 4, processed)
    await settle()
    assert (watcher.seen, watcher.sightings) == ([1, 2, 3, 4], [processed])
    # Repeated, replaced before anyone looked, and of an earlier attempt.
    feeds.deliver_seen("one", 4, processed)
    await settle()
    feeds.deliver_seen("one", 4, confirmed)
    feeds.deliver_seen("one", 4, None)
    feeds.deliver_seen("one", 3, confirmed)
    await settle()
    assert watcher.sightings == [processed, None]
    feeds.deliver_seen("one", 4, confirmed)
    late = await see(feeds, after=4)
    assert (late.seen, late.sightings) == ([], [confirmed])
    feeds.deliver(STEPS[4:])
    await settle()
    assert watcher.task.done()
    assert (watcher.seen, watcher.sightings) == ([1, 2, 3, 4, 5], [processed, None, confirmed])
    assert late.seen == [5]


async def test_steps_that_arrive_during_a_read_are_delivered_once() -> None:
    stored, feeds = make(one=2)
    stored.free.clear()
    seeing = asyncio.create_task(see(feeds))
    await settle()
    feeds.deliver(STEPS[1:4])  # the running read includes the first one
    stored.free.set()
    watcher = await seeing
    assert watcher.seen == [1, 2, 3, 4]
    await watcher.leave()


@pytest.mark.parametrize("read", [2, 4])
async def test_a_sighting_that_arrives_during_a_read_is_told(read: int) -> None:
    stored, feeds = make(one=read)
    stored.free.clear()
    seeing = asyncio.create_task(see(feeds))
    await settle()
    where = Seen(905, SeenCommitment.CONFIRMED)
    feeds.deliver(STEPS[1:4])
    feeds.deliver_seen("one", 4, Seen(904, SeenCommitment.PROCESSED))
    feeds.deliver_seen("one", 4, where)
    feeds.deliver_seen("one", 3, None)
    stored.free.set()
    watcher = await seeing
    assert (watcher.seen, watcher.sightings) == ([1, 2, 3, 4], [where])
    feeds.deliver(STEPS[4:])
    await settle()
    assert watcher.sightings == [where]


async def test_a_duplicate_step_is_delivered_once() -> None:
    _, feeds = make(one=1)
    watcher = await see(feeds)
    feeds.deliver([STEPS[1], STEPS[1], STEPS[0]])
    await settle()
    assert watcher.seen == [1, 2]
    await watcher.leave()


async def test_a_gap_is_filled_from_the_store() -> None:
    stored, feeds = make(one=1)
    watcher = await see(feeds)
    stored.stored["one"] = 3
    feeds.deliver([STEPS[2]])
    await settle()
    assert watcher.seen == [1, 2, 3]
    await watcher.leave()


async def test_a_gap_whose_read_fails_is_read_at_the_next_step() -> None:
    stored, feeds = make(one=1)
    watcher = await see(feeds)
    stored.stored["one"] = 4
    for stored.away, seen in ((True, [1]), (False, [1, 2, 3, 4])):
        feeds.deliver([STEPS[3]])
        await settle()
        assert watcher.seen == seen
    await watcher.leave()


async def test_a_read_older_than_the_messages_reverts_nothing() -> None:
    stored, feeds = make(one=1)
    watcher = await see(feeds)
    stored.free.clear()
    feeds.deliver([STEPS[2]])  # a gap: the order is read, in the store's older version
    await settle()
    feeds.deliver(STEPS[1:4])
    stored.free.set()
    await settle()
    stored.away = True
    feeds.deliver([STEPS[4]])
    await settle()
    assert watcher.seen == [1, 2, 3, 4, 5]


async def test_watchers_of_an_order_share_one_read() -> None:
    stored, feeds = make(one=1)
    first = await see(feeds)
    feeds.deliver(STEPS[1:3])
    second = await see(feeds)
    assert second.seen == [1, 2, 3]
    feeds.deliver(STEPS[3:])
    await settle()
    assert first.seen == second.seen == [1, 2, 3, 4, 5]
    assert stored.reads == 1


@pytest.mark.parametrize("stored", [2, 5])
@pytest.mark.parametrize(("after", "seen"), [(0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (9, [])])
async def test_a_watch_resumes_after_a_sequence_and_ends_with_the_order(
    stored: int, after: int, seen: list[int]
) -> None:
    _, feeds = make(one=stored)
    watcher = await see(feeds, after)
    feeds.deliver(STEPS[stored:])
    await settle()
    assert (watcher.seen, watcher.task.done()) == (seen, True)


async def test_an_order_that_does_not_exist_or_cannot_be_read_is_not_watched() -> None:
    stored, feeds = make()
    assert await feeds.watch("one") is None
    stored.away = True
    with pytest.raises(UnavailableError):
        await feeds.watch("one")
    assert feeds._watched == {}


async def test_nothing_is_kept_of_an_order_without_watchers() -> None:
    _, feeds = make(one=1)
    feeds.deliver(STEPS)
    for watcher in [await see(feeds), await see(feeds)]:
        assert "one" in feeds._watched
        await watcher.leave()
    feeds.deliver(STEPS)
    assert feeds._watched == {}


async def test_a_lost_last_message_is_found_by_the_comparison() -> None:
    stored, feeds = make(one=4)
    watcher = await see(feeds)
    stored.stored["one"] = 5
    await feeds.compare()
    await settle()
    assert (watcher.seen, stored.reads) == ([1, 2, 3, 4, 5], 2)


async def test_the_comparison_continues_after_an_outage_of_postgresql() -> None:
    stored, feeds = make(clock := ManualClock(), one=4)
    feeds.start()
    watcher = await see(feeds)
    stored.away, stored.stored["one"] = True, 5
    await clock.advance(1)
    stored.away = False
    await clock.advance(0.9)
    assert watcher.seen == [1, 2, 3, 4]
    await clock.advance(0.1)
    assert watcher.seen == [1, 2, 3, 4, 5]
    await feeds.stop()


@MODEST
@given(st.lists(st.sampled_from(range(5))), st.integers(1, 5), st.integers(0, 5))
def test_messages_in_any_order_deliver_each_entry_once_in_order(
    arrivals: list[int], read_at: int, after: int
) -> None:
    async def run() -> list[int]:
        stored, feeds = make(one=read_at)
        stored.free.clear()
        seeing = asyncio.create_task(see(feeds, after))
        await settle()
        half = len(arrivals) // 2
        feeds.deliver(STEPS[place] for place in arrivals[:half])
        stored.free.set()
        watcher = await seeing
        stored.stored["one"] = 5
        feeds.deliver(STEPS[place] for place in arrivals[half:])
        await feeds.compare()
        await watcher.task
        return watcher.seen

    assert asyncio.run(run()) == list(range(after + 1, 6))


async def test_nothing_is_kept_of_a_closed_watch_while_another_is_open() -> None:
    _, feeds = make(one=1)
    stays = await see(feeds)
    for _ in range(100):
        await (await see(feeds)).leave()
    kept = len(feeds._watched["one"]._changed)
    await stays.leave()
    assert kept == 1


async def test_early_steps_out_of_order_are_all_delivered() -> None:
    stored, feeds = make(one=1)
    stored.free.clear()
    seeing = asyncio.create_task(see(feeds))
    await settle()
    stored.stored["one"] = 3
    feeds.deliver([STEPS[2], STEPS[1]])
    stored.free.set()
    watcher = await seeing
    seen = list(watcher.seen)
    await watcher.leave()
    assert seen == [1, 2, 3]


async def test_a_gap_found_while_another_is_being_read_is_filled() -> None:
    stored, feeds = make(one=1)
    watcher = await see(feeds)
    stored.free.clear()
    stored.stored["one"] = 3
    feeds.deliver([STEPS[2]])
    await settle()
    stored.stored["one"] = 5
    feeds.deliver([STEPS[4]])
    await settle()
    stored.free.set()
    await settle()
    seen = list(watcher.seen)
    await watcher.leave()
    assert seen == [1, 2, 3, 4, 5]
