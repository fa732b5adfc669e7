"""The pump: every socket gets the events of its filter once and in order, whenever it joins or resumes."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from service.domain.lifecycle import Status
from service.events import message_queue
from service.events.event_reader import MessagePart, matches
from service.events.message_queue import SlowReaderError
from service.events.pump import EraChangedError, EventPump
from service.postgres.database import UnavailableError
from service.postgres.deployment import Deployment
from service.store.endings import Filter
from service.store.event_position import EventPosition, EventSnapshot, decode_position, hashed
from service.store.order_events import EventPage, OrderEvent, OrderEvents
from service.store.orders import ListFilter
from tests.support.clock import START_S, ManualClock, settle

DEPLOYMENT = Deployment("oee")
DEPLOYMENT._id = "0190a8f5-0000-4000-8000-000000000000"
ALL = ListFilter(Filter())
MINE = ListFilter(Filter(account="mine"))
PAGE = 3
STEP_S = 0.3


def event(number: int, account: str = "mine", **changes: Any) -> OrderEvent:
    made = OrderEvent(
        id=number,
        order_id=f"order {number}",
        account=account,
        client_order_id="grid-7",
        label="grid",
        order_type="limit",
        token_in="SOL",
        token_out="USDC",
        swap_mode="exactIn",
        amount_text="1",
        decimals_in=9,
        decimals_out=6,
        amount_in=None,
        amount_out=None,
        entry={"sequence": 1, "status": "open", "timestamp": "2026-11-22T10:00:00.000Z"},
    )
    return made._replace(**changes)


class StoredEvents:
    """Stored events, each of a transaction of its own. While it is not ``free``, a read of them waits."""

    def __init__(self) -> None:
        self.events: list[OrderEvent] = []
        self.era = hashed("one")
        self.away = False
        self.broken = False
        self.horizons = 0
        self.pages = 0
        self.free = asyncio.Event()
        self.free.set()

    def commit(self, count: int = 1, account: str = "mine") -> None:
        for _ in range(count):
            self.events.append(event(len(self.events) + 1, account))

    def now(self) -> EventPosition:
        last = len(self.events)
        return EventPosition(EventSnapshot(100 + last, 100 + last, (), last), START_S, self.era)

    async def horizon(self) -> EventPosition:
        self.horizons += 1
        if self.away:
            raise UnavailableError("away", unknown=False)
        return self.now()

    async def page(
        self, done: EventPosition, until: EventPosition, accounts: Collection[str] | None
    ) -> EventPage:
        self.pages += 1
        target = done.target or until.base
        after = max(done.after, done.base.last_id)
        found = [
            each
            for each in self.events[after : target.last_id]
            if accounts is None or each.account in accounts
        ][:PAGE]
        await self.free.wait()
        await asyncio.sleep(0)
        if self.away:
            raise UnavailableError("away", unknown=True)
        if self.broken:
            raise KeyError("broken")
        start = EventPosition(done.base, done.at, until.era, target, after)
        if len(found) < PAGE:
            return EventPage(found, EventPosition(target, until.at, until.era), start)
        return EventPage(found, replace(start, after=found[-1].id), start)


class Writer:
    """Writes an event as its number; counts the messages."""

    def __init__(self) -> None:
        self.messages = 0

    def event(self, event: OrderEvent) -> bytes:
        return str(event.id).encode()

    def message(self, events: Sequence[bytes], position: str) -> bytes:
        self.messages += 1
        return b",".join(events) + b" " + position.encode()


class PumpClient:
    """A socket's client: what it has seen, and the position of its last message."""

    def __init__(
        self, world: "World", wanted: ListFilter = ALL, position: EventPosition | None = None
    ) -> None:
        self.seen: list[int] = []
        self.position = position
        self.messages = 0
        self.most: int | None = None
        self.reads = asyncio.Event()
        self.reads.set()
        self._world, self._wanted = world, wanted
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        horizon = await self._world.pump.horizon()
        await self._world.pump.follow(self._wanted, self.position or horizon, horizon, self._receive)

    async def _receive(self, message: bytes) -> None:
        await self.reads.wait()
        events, _, token = message.decode().rpartition(" ")
        self.seen += map(int, filter(None, events.split(",")))
        self.position = decode_position(token, DEPLOYMENT.id)
        self.messages += 1
        if self.messages == self.most:
            self.reads.clear()

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class World:
    """A pump over stored events, with a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.stored, self.writer = StoredEvents(), Writer()
        self.pump = EventPump(cast("OrderEvents", self.stored), self.clock, DEPLOYMENT, self.writer)
        self.pump.start()

    async def join(self, wanted: ListFilter = ALL, position: EventPosition | None = None) -> PumpClient:
        client = PumpClient(self, wanted, position)
        await self.clock.advance(STEP_S)
        return client

    async def step(self) -> None:
        await self.clock.advance(STEP_S)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.pump.stop()


async def test_each_event_is_sent_once_to_each_client_and_written_once(world: World) -> None:
    world.stored.commit(5)
    clients = [await world.join() for _ in range(3)]
    assert [client.seen for client in clients] == [[], [], []]
    written = world.writer.messages
    for count in (1, 7, 2):
        world.stored.commit(count)
        await world.step()
    for client in clients:
        assert client.seen == list(range(6, 16))
        assert client.position == world.stored.now()
    # Of the seven, three and three and one fit into a page.
    assert world.writer.messages - written == 5


async def test_a_commit_wakes_the_pump(world: World) -> None:
    client = await world.join()
    world.stored.commit()
    world.pump.wake()
    await settle()
    assert client.seen == [1]


async def test_without_sockets_nothing_is_read(world: World) -> None:
    for _ in range(5):
        world.pump.wake()
        await world.step()
    assert world.stored.horizons == 0
    client = await world.join()
    await client.leave()
    horizons = world.stored.horizons
    await world.step()
    assert world.stored.horizons == horizons


async def test_clients_that_connect_together_share_a_read(world: World) -> None:
    world.stored.commit(2)
    clients = [PumpClient(world) for _ in range(50)]
    await world.step()
    assert world.stored.horizons < 5
    world.stored.commit()
    await world.step()
    assert all(client.seen == [3] for client in clients)


async def test_a_client_resumes_wherever_it_left(world: World) -> None:
    client = await world.join()
    world.stored.commit(8)
    # It leaves in the middle of the pages.
    client.most = 2
    await world.step()
    await client.leave()
    assert client.seen == [1, 2, 3]
    assert client.position is not None
    assert client.position.target is not None
    world.stored.commit(20)
    later = await world.join(position=client.position)
    world.stored.commit(2)
    await world.step()
    assert client.seen + later.seen == list(range(1, 31))


async def test_a_client_that_joins_while_others_are_served_misses_nothing(world: World) -> None:
    first = await world.join()
    world.stored.free.clear()
    world.stored.commit(5)
    world.pump.wake()
    await settle()
    # The pump reads now; this client asks how far the events are, and is answered afterwards.
    second = PumpClient(
        world, position=EventPosition(EventSnapshot(102, 102, (), 2), START_S, world.stored.era)
    )
    await settle()
    world.stored.commit(2)
    world.stored.free.set()
    await world.step()
    world.stored.commit()
    await world.step()
    assert first.seen == list(range(1, 9))
    assert second.seen == list(range(3, 9))


async def test_clients_that_resume_together_share_the_reads(world: World) -> None:
    world.stored.commit(30)
    start = EventPosition(EventSnapshot(100, 100, (), 0), START_S, world.stored.era)
    clients = [PumpClient(world, position=start) for _ in range(50)]
    await world.clock.advance(2)
    assert all(client.seen == list(range(1, 31)) for client in clients)
    assert world.stored.pages <= 11


async def test_a_client_that_leaves_does_not_disturb_others_that_share_a_read(world: World) -> None:
    world.stored.commit(5)
    start = EventPosition(EventSnapshot(100, 100, (), 0), START_S, world.stored.era)
    world.stored.free.clear()
    leaves, stays = PumpClient(world, position=start), PumpClient(world, position=start)
    await world.step()
    await leaves.leave()
    world.stored.free.set()
    await world.step()
    assert stays.seen == [1, 2, 3, 4, 5]


async def test_a_filter_selects_events(world: World) -> None:
    everything = await world.join()
    mine = await world.join(MINE)
    world.stored.commit(2, "other")
    world.stored.commit(1, "mine")
    world.stored.commit(1, "other")
    await world.step()
    assert (everything.seen, mine.seen) == ([1, 2, 3, 4], [3])
    await everything.leave()
    world.stored.commit(1, "other")
    await world.step()
    assert mine.seen == [3]
    late = await world.join(MINE, EventPosition(EventSnapshot(100, 100, (), 0), START_S, world.stored.era))
    assert late.seen == [3]


async def test_a_position_is_sent_every_ten_seconds_if_nothing_else_is(world: World) -> None:
    client = await world.join(MINE)
    assert client.messages == 1
    world.stored.commit(3, "other")
    await world.clock.advance(9)
    assert client.messages == 1
    await world.clock.advance(2)
    assert (client.messages, client.seen, client.position) == (2, [], world.stored.now())
    world.stored.commit()
    await world.clock.advance(9)
    assert (client.messages, client.seen) == (3, [4])
    await world.clock.advance(2)
    assert client.messages == 4


async def test_a_backlog_without_matches_moves_the_position_every_ten_seconds(world: World) -> None:
    await world.join()  # so that the pump knows the horizon
    start = world.stored.now()
    nothing = ListFilter(Filter(label="another"))
    world.stored.commit(4 * PAGE)
    world.stored.free.clear()
    client = await world.join(nothing, start)
    assert (client.messages, client.position) == (1, start)
    await world.clock.advance(10)
    world.stored.free.set()
    await world.step()
    assert client.seen == []
    assert client.messages >= 2
    assert client.position is not None
    assert client.position != start


async def test_filters_that_match_nothing_do_not_block_the_event_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await world.join(ListFilter(Filter(label=f"none {number}")))
    in_turn: Counter[int] = Counter()
    turn = 0
    matching = MessagePart.matching

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(next_turn)

    def counted(part: MessagePart, wanted: ListFilter) -> list[bytes]:
        in_turn[turn] += 1
        return matching(part, wanted)

    next_turn()
    monkeypatch.setattr(MessagePart, "matching", counted)
    world.stored.commit()
    await world.step()
    assert in_turn.total() == 20
    assert max(in_turn.values()) == 1


async def test_a_client_that_does_not_read_fails_and_affects_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_queue, "MOST_WAITING_BYTES", 500)
    slow, fast = await world.join(), await world.join()
    slow.reads.clear()
    for _ in range(20):
        world.stored.commit()
        await world.step()
    slow.reads.set()
    await settle()
    with pytest.raises(SlowReaderError):
        await slow.task
    assert fast.seen == list(range(1, 21))
    # It resumes.
    again = await world.join(position=slow.position)
    assert slow.seen + again.seen == fast.seen


async def test_nothing_is_lost_while_postgresql_is_away(world: World) -> None:
    client = await world.join()
    world.stored.free.clear()
    world.stored.commit(8)
    world.pump.wake()
    await settle()
    world.stored.away = True
    world.stored.free.set()
    await world.clock.advance(3)
    with pytest.raises(UnavailableError):
        await asyncio.gather(world.pump.horizon(), world.clock.advance(2))
    assert client.seen == []
    world.stored.away = False
    world.stored.commit(2)
    await world.clock.advance(3)
    assert client.seen == list(range(1, 11))


async def test_another_era_ends_all_streams(world: World) -> None:
    client = await world.join()
    world.stored.era = hashed("two")
    world.stored.commit()
    await world.step()
    with pytest.raises(EraChangedError):
        await client.task
    assert client.seen == []
    fresh = await world.join()
    world.stored.commit()
    await world.step()
    assert fresh.seen == [2]


@pytest.mark.usefixtures("caplog")
async def test_an_error_ends_the_streams_that_would_miss_events(world: World) -> None:
    client = await world.join()
    world.stored.broken = True
    world.stored.commit()
    await world.step()
    with pytest.raises(KeyError):
        await client.task
    world.stored.broken = False
    again = await world.join(position=client.position)
    await world.clock.advance(1)
    assert again.seen == [1]


async def test_a_stop_fails_those_who_wait(world: World) -> None:
    world.stored.free.clear()
    await world.pump.stop()
    waiting = asyncio.create_task(world.pump.horizon())
    await settle()
    await world.pump.stop()
    with pytest.raises(UnavailableError):
        await waiting


@pytest.mark.parametrize("seed", range(30))
async def test_restless_clients_see_every_event_once_and_in_order(world: World, seed: int) -> None:
    rng = random.Random(seed)
    clients = [await world.join(rng.choice([ALL, MINE])) for _ in range(4)]
    seen: list[list[int]] = [[] for _ in clients]
    for _ in range(40):
        world.stored.commit(rng.choice([0, 1, 2, 9]), rng.choice(["mine", "other"]))
        if rng.random() < 0.5:
            world.pump.wake()
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        if rng.random() < 0.4:
            await world.step()
        if rng.random() < 0.5:
            number = rng.randrange(len(clients))
            await clients[number].leave()
            seen[number] += clients[number].seen
            clients[number] = PumpClient(world, clients[number]._wanted, clients[number].position)
    await world.clock.advance(2)
    for client, before in zip(clients, seen, strict=True):
        wanted = [each.id for each in world.stored.events if matches(client._wanted, each)]
        assert before + client.seen == wanted


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (ListFilter(Filter()), True),
        (ListFilter(Filter(account="mine")), True),
        (ListFilter(Filter(account="other")), False),
        (ListFilter(Filter(order_type="limit", token_in="SOL", token_out="USDC", label="grid")), True),
        (ListFilter(Filter(order_type="market")), False),
        (ListFilter(Filter(token_in="USDC")), False),
        (ListFilter(Filter(token_out="SOL")), False),
        (ListFilter(Filter(label="Grid")), False),
        (ListFilter(Filter(), frozenset({Status.OPEN, Status.FAILED})), True),
        (ListFilter(Filter(), frozenset({Status.FAILED})), False),
        (ListFilter(Filter(), client_order_id_prefix="grid-"), True),
        (ListFilter(Filter(), client_order_id_prefix="grid_"), False),
    ],
)
def test_what_a_filter_selects(wanted: ListFilter, chosen: bool) -> None:
    assert matches(wanted, event(1)) is chosen


def test_an_order_without_an_own_id_has_no_prefix() -> None:
    assert not matches(
        ListFilter(Filter(), client_order_id_prefix="g"), event(1, client_order_id=None, label=None)
    )
