"""The trigger leader, with and without messages: every order fires, and none fires twice."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest

from service.app import Service
from service.domain.history import Committed, HistoryEntry
from service.postgres.database import UnavailableError
from service.postgres.queries import Query
from service.store.resting import Fired, RestingOrder
from tests.conftest import service_on
from tests.support.gem_market import (
    FIRED_LIFE,
    best_price,
    buy,
    ended,
    following,
    forget_listed_tokens,
    limit,
    list_pool,
    open_state,
    poll,
    rows,
    sell,
    sniper,
    until_status,
)
from tests.support.orders import Client, Json, get, statuses
from tests.support.paper import NO_REDIS
from tests.support.servers import TestServers
from tests.support.statements import Gate, meddle

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

NEVER = "1000"
"""A limit that is never reached."""


@dataclass
class Instance:
    """A service, and a client of it."""

    service: Service
    client: Client

    @property
    def watching(self) -> bool:
        return self.service.execution.triggers.watching

    def hold_lease(self) -> Gate:
        """Hold its statements about the lease from now on, as if it had been stopped."""
        return Gate(self.service.storage.database, "take_lease")

    async def lose_lease(self) -> None:
        """Make it lose its lease: its statements about the lease fail from now on."""

        async def lose(query: Query[Any]) -> None:
            if query.name in {"take_lease", "give_up_lease"}:
                raise UnavailableError("cut off", unknown=False)

        meddle(self.service.storage.database, lose)
        await poll(lambda: not self.watching)


Begin = Callable[..., Awaitable[Instance]]


@pytest.fixture
def begin(servers: TestServers, aiohttp_client: Any) -> Begin:
    """Return a starter of instances on the same servers."""

    async def begin(*, redis: bool = True, **environment: str) -> Instance:
        service = service_on(servers if redis else replace(servers, redis_url=NO_REDIS), **environment)
        return Instance(service, await aiohttp_client(service.web))

    return begin


async def two(begin: Begin, **second: Any) -> tuple[Instance, Instance]:
    """Start two instances, of which the first watches; GEM is listed, and has been bought."""
    first = await begin()
    await poll(lambda: first.watching)
    other = await begin(**second)
    await list_pool(first.client)
    await buy(first.client, "5000")
    return first, other


def firings(servers: TestServers) -> dict[str, int]:
    """Return how often each resting order started execution."""
    return dict(
        rows(
            servers,
            "SELECT id::text, (SELECT count(*)::int FROM jsonb_array_elements(status_history) AS entry"
            " WHERE entry ->> 'status' = 'routing') FROM orders WHERE order_type <> 'market'",
        )
    )


async def test_one_of_two_instances_watches_and_receives_the_orders_of_the_other(
    begin: Begin, servers: TestServers
) -> None:
    first, other = await two(begin)
    price = await best_price(first.client)
    assert (first.watching, other.watching) == (True, False)
    paid = await limit(other.client, price)
    assert statuses(await ended(other.client, paid, within_s=1)) == FIRED_LIFE
    near = await limit(other.client, price * Fraction(101, 100))
    wish = await sniper(other.client, {"price": {"above": str(float(price) * 1.01)}})
    for each in (near, wish):
        await until_status(first.client, each, "open")
    await sell(other.client, "20000")
    for each in (near, wish):
        assert statuses(await ended(first.client, each, within_s=2)) == FIRED_LIFE
    assert set(firings(servers).values()) == {1}


async def test_an_order_cancelled_at_another_instance_is_removed(begin: Begin) -> None:
    first, other = await two(begin)
    placed = [await limit(other.client, NEVER) for _ in range(3)]
    placed.append(await sniper(other.client, {"price": {"above": NEVER}}))
    await poll(lambda: first.service.execution.triggers.resting == 4)
    for each in placed:
        async with other.client.delete(f"/api/orders/{each['id']}") as answer:
            assert answer.status == 200
    await poll(lambda: first.service.execution.triggers.resting == 0)
    assert other.service.execution.triggers.resting == 0


async def test_an_order_amended_at_another_instance_is_updated(begin: Begin) -> None:
    first, other = await two(begin)
    placed = await limit(first.client, NEVER)
    async with other.client.patch(f"/api/orders/{placed['id']}", json={"limitPrice": "5"}) as answer:
        assert answer.status == 200
    assert statuses(await ended(first.client, placed, within_s=2)) == ["pending", "open", *FIRED_LIFE[1:]]


async def test_without_redis_orders_of_another_instance_are_found_in_seconds(
    begin: Begin, servers: TestServers
) -> None:
    first, other = await two(begin, redis=False)
    paid = await limit(other.client, "5")
    wish = await sniper(other.client, {"price": {"above": "5"}})
    amended = await limit(first.client, NEVER)
    async with other.client.patch(f"/api/orders/{amended['id']}", json={"limitPrice": "5"}) as answer:
        assert answer.status == 200
    for each in (paid, wish, amended):
        assert statuses(await ended(first.client, each, within_s=7))[-4:] == FIRED_LIFE[2:]
    assert set(firings(servers).values()) == {1}


async def test_another_instance_takes_over_at_once_after_a_stop(begin: Begin) -> None:
    first, other = await two(begin)
    placed = await limit(other.client, await best_price(first.client) * Fraction(101, 100))
    await first.client.close()
    assert await poll(lambda: other.watching, within_s=2) < 2
    await sell(other.client, "20000")
    assert statuses(await ended(other.client, placed, within_s=2)) == FIRED_LIFE


async def test_another_instance_takes_over_within_ten_seconds_after_a_death(
    begin: Begin, servers: TestServers
) -> None:
    first, other = await two(begin)
    price = await best_price(first.client)
    near = [await limit(first.client, price * Fraction(1000 + number, 1000)) for number in range(1, 6)]
    fired = await limit(first.client, price)
    assert statuses(await ended(first.client, fired)) == FIRED_LIFE
    await first.lose_lease()
    await sell(other.client, "30000")
    assert await poll(lambda: other.watching, within_s=10) < 10
    for each in near:
        assert statuses(await ended(other.client, each)) == FIRED_LIFE
    assert set(firings(servers).values()) == {1}


async def test_an_update_that_arrives_while_an_order_is_fired_is_not_lost(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await begin()
    triggers = instance.service.execution.triggers
    resting = instance.service.storage.resting
    fire, get = resting.fire, resting.get
    heard: list[str] = []
    read: list[str] = []

    async def fire_and_hear(orders: Sequence[Fired]) -> list[str]:
        fired = await fire(orders)
        # As if it had been amended at once, before the response of the write arrives.
        entry: HistoryEntry = {"sequence": 4, "status": "open", "timestamp": ""}
        triggers.apply_steps([Committed(order_id, entry) for order_id in fired])
        heard.extend(fired)
        return fired

    async def note_and_get(order_ids: Sequence[str]) -> list[RestingOrder]:
        read.extend({*order_ids}.intersection(heard))
        return await get(order_ids)

    await poll(lambda: triggers.watching)
    await list_pool(instance.client)
    monkeypatch.setattr(resting, "fire", fire_and_hear)
    monkeypatch.setattr(resting, "get", note_and_get)
    price = await best_price(instance.client)
    placed = await limit(instance.client, price * Fraction(9, 10), amountIn="1")
    await poll(lambda: read == [placed["orderId"]])
    await ended(instance.client, placed)


async def test_two_instances_that_both_watch_fire_an_order_once(begin: Begin, servers: TestServers) -> None:
    first, other = await two(begin)
    gate = first.hold_lease()
    await gate.reached.wait()
    rows(servers, "UPDATE leases SET renewed_at = '-infinity'")
    await poll(lambda: other.watching)
    assert first.watching
    price = await best_price(first.client)
    placed = [
        await limit(instance.client, price * Fraction(1000 + number, 1000), amountIn="1")
        for number in range(1, 11)
        for instance in (first, other)
    ]
    placed += [
        await sniper(first.client, {"price": {"above": str(float(price) * 1.02)}}, amountIn="1")
        for _ in range(5)
    ]
    await sell(first.client, "40000")
    for each in placed:
        assert statuses(await ended(first.client, each)) == FIRED_LIFE
    assert set(firings(servers).values()) == {1}


async def test_a_leader_that_was_stopped_for_long_reads_missed_changes(
    begin: Begin, servers: TestServers
) -> None:
    stopped = await begin(redis=False)
    await poll(lambda: stopped.watching)
    gate = stopped.hold_lease()
    other = await begin()
    await list_pool(other.client)
    await buy(other.client, "5000")
    await poll(lambda: other.watching)
    price = await best_price(stopped.client)

    async def other_knows_price() -> bool:
        return await best_price(other.client) == price

    # The market's leader cannot publish trades without Redis: the other sees them up to a second late.
    await poll(other_knows_price)
    near = await limit(other.client, price * Fraction(101, 100))
    await until_status(other.client, near, "open")
    rows(servers, "UPDATE open_orders SET rested_at = now() - interval '1 hour'")
    # The other instance has stopped and released its lease before the stopped one continues.
    await other.service.execution.triggers.stop()
    gate.open()
    await sell(other.client, "20000")
    assert statuses(await ended(other.client, near, within_s=8)) == FIRED_LIFE


async def test_a_pause_ends_by_itself(begin: Begin, servers: TestServers) -> None:
    instance = await begin(PAPER_FAILURE_RATE="slippage=1")
    await list_pool(instance.client)
    placed = await limit(instance.client, "5")
    rested_at: list[str] = []
    fired_at: list[str] = []
    async with following(instance.client, placed) as follower:
        await follower.until("open")
        for _ in range(2):
            order = await follower.until("open")
            rested_at.append(order["updatedAt"])
            fired_at.append((await follower.until("routing"))["updatedAt"])
    pauses = [
        rows(servers, "SELECT extract(epoch FROM %s::timestamptz - %s::timestamptz)::float8", fired, rested)[
            0
        ][0]
        for rested, fired in zip(rested_at, fired_at, strict=True)
    ]
    assert 1 <= pauses[0] < 1.6
    assert 2 <= pauses[1] < 2.6


async def test_nothing_fires_before_its_pause_is_over(begin: Begin, servers: TestServers) -> None:
    first, other = await two(begin)
    placed = await limit(first.client, await best_price(first.client) * Fraction(101, 100))
    await until_status(first.client, placed, "open")
    rows(servers, "UPDATE open_orders SET not_before = now() + interval '2 seconds'")
    # A new leader, with a new book, respects it too.
    await first.service.execution.triggers.stop()
    await poll(lambda: other.watching)
    not_before = (await open_state(servers, placed))["not_before"]
    await sell(other.client, "20000")
    order = await ended(other.client, placed)
    [routing] = [entry for entry in order["statusHistory"] if entry["status"] == "routing"]
    assert rows(servers, "SELECT %s::timestamptz >= %s::timestamptz", routing["timestamp"], not_before) == [
        (True,)
    ]


@pytest.mark.parametrize(
    ("committed", "error"),
    [
        (True, UnavailableError("the answer was lost", unknown=True)),
        (False, UnavailableError("it was never sent", unknown=False)),
        (False, RuntimeError("an error of its own")),
    ],
)
async def test_a_failed_firing_is_repeated(
    begin: Begin, servers: TestServers, monkeypatch: pytest.MonkeyPatch, committed: bool, error: Exception
) -> None:
    instance = await begin()
    await list_pool(instance.client)
    await buy(instance.client, "5000")
    price = await best_price(instance.client)
    placed = [
        await limit(instance.client, price * Fraction(101, 100)),
        await sniper(instance.client, {"price": {"above": str(float(price) * 1.02)}}),
    ]
    await poll(lambda: instance.service.execution.triggers.resting == 2)
    # They have rested so long that no check for new orders finds them.
    rows(servers, "UPDATE open_orders SET rested_at = now() - interval '1 hour'")
    resting = instance.service.storage.resting
    fire = resting.fire
    lost: list[Sequence[Fired]] = []

    async def fire_and_lose(orders: Sequence[Fired]) -> list[str]:
        if lost:
            return await fire(orders)
        lost.append(orders)
        if committed:
            await fire(orders)
        raise error

    monkeypatch.setattr(resting, "fire", fire_and_lose)
    scan = resting.scan
    scans: list[bool] = []

    def note_and_scan() -> AsyncGenerator[list[RestingOrder], None]:
        scans.append(True)
        return scan()

    monkeypatch.setattr(resting, "scan", note_and_scan)
    await sell(instance.client, "20000")
    for each in placed:
        assert statuses(await ended(instance.client, each, within_s=8)) == FIRED_LIFE
    assert lost
    assert set(firings(servers).values()) == {1}
    # The books are rebuilt only after an internal error, not after an ordinary conflict.
    assert bool(scans) == isinstance(error, RuntimeError)


async def test_an_internal_error_loses_no_order(
    begin: Begin, servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await begin()
    await list_pool(instance.client)
    broken: list[bool] = []
    queue = instance.service.storage.queue
    enqueue = queue.enqueue

    async def break_once(order_ids: list[str]) -> None:
        if not broken:
            broken.append(True)
            raise RuntimeError("on purpose")
        await enqueue(order_ids)

    monkeypatch.setattr(queue, "enqueue", break_once)
    placed = [await limit(instance.client, "5") for _ in range(3)]
    for each in placed:
        assert statuses(await ended(instance.client, each, within_s=8)) == FIRED_LIFE
    assert broken


async def test_a_lost_wake_up_is_sent_again(
    begin: Begin, servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await begin()
    await list_pool(instance.client)

    enqueue = instance.service.storage.queue.enqueue
    lost: list[str] = []

    async def lose_first(order_ids: Sequence[str]) -> None:
        if lost:
            await enqueue(order_ids)
        lost.extend(order_ids)

    monkeypatch.setattr(instance.service.storage.queue, "enqueue", lose_first)
    placed = await limit(instance.client, "5")
    assert statuses(await ended(instance.client, placed, within_s=8)) == FIRED_LIFE
    assert firings(servers) == {placed["id"]: 1}
    assert lost[:2] == [placed["id"]] * 2


async def test_listing_on_one_instance_is_seen_on_the_other(begin: Begin) -> None:
    first = await begin()
    await poll(lambda: first.watching)
    other = await begin()
    placed: list[Json] = [
        await sniper(each.client, {"poolCreated": {"venue": "any"}}) for each in (first, other)
    ]
    await list_pool(other.client)
    for each in placed:
        for instance in (first, other):
            assert statuses(await ended(instance.client, each, within_s=3)) == FIRED_LIFE
            order = await get(instance.client, each["id"])
            assert order["amountOut"]
