"""A wake-up is consumed without executing its order: in every such case the order soon continues."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg2
import pytest
import redis
from redis.asyncio import Redis

from service.app import Service
from service.domain.mode import TradingMode
from service.domain.order import NewOrder, OrderType, Terms
from service.domain.quote import SwapMode
from service.postgres.database import UnavailableError
from service.postgres.queries import Query, Row
from tests.conftest import service_on
from tests.support.orders import MARKET_ORDER
from tests.support.servers import TestServers

# A sweep every eighth of a second.
TIMEOUT_MS = 500
SOON_S = 2.0
"""More than a second for a busy machine, and less than WAKE_AFTER_MS."""

Before = Callable[[Query[Any]], Awaitable[None]]
Client = Callable[[Any], Awaitable[Any]]


class InterceptedService:
    """A service whose statements a test can record, delay and fail."""

    def __init__(self, servers: TestServers, client: Any, service: Service) -> None:
        self.servers, self.client, self.service = servers, client, service
        self._run = service.storage.database.run
        self.asked: list[str] = []

    def before(self, meddle: Before) -> None:
        """Await a function before each statement; it may delay or fail the statement."""
        self._meddle(before=meddle)

    def after(self, meddle: Before) -> None:
        """Await a function after each statement; it may lose the response."""
        self._meddle(after=meddle)

    def watch(self) -> None:
        """Record the statements."""
        self._meddle()

    def _meddle(self, before: Before | None = None, after: Before | None = None) -> None:
        async def run(query: Query[Any], parameters: Mapping[str, Any] | None = None) -> list[Row]:
            if before is not None:
                await before(query)
            rows = await self._run(query, parameters)
            self.asked.append(query.name)
            if after is not None:
                await after(query)
            return rows

        self.service.storage.database.run = run  # type: ignore[method-assign, assignment]

    def leave_alone(self) -> None:
        """Restore the database's own method."""
        self.service.storage.database.run = self._run  # type: ignore[method-assign]

    async def place(self, **changes: Any) -> str:
        """Place an order; return its id, also of one that may have been stored."""
        async with self.client.post("/api/orders/execute", json={**MARKET_ORDER, **changes}) as answer:
            body = await answer.json()
            assert answer.status in {201, 503}, body
            return str(body["orderId"])

    async def insert(self) -> str:
        """Store an order without a wake-up."""
        order = NewOrder(
            id=self.service.storage.clock.new_order_id(),
            account="default",
            mode=TradingMode.PAPER,
            order_type=OrderType.MARKET,
            token_in="SOL",
            token_out="USDC",
            swap_mode=SwapMode.EXACT_IN,
            amount=10**9,
            amount_text="1",
            terms=Terms(slippage_bps=100),
            client_order_id=None,
            decimals_in=9,
            decimals_out=6,
        )
        await self.service.storage.journal.insert(order, 5)
        return order.id

    async def status(self, order_id: str) -> str:
        order = await self.service.storage.orders.get(order_id)
        return "" if order is None else str(order.status)

    async def comes_to(self, order_id: str, status: str = "confirmed", *, within_s: float = SOON_S) -> float:
        """Wait until an order has a status, and return how long that took."""
        began = time.monotonic()
        while await self.status(order_id) != status:
            assert time.monotonic() - began < within_s, await self.status(order_id)
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    def sql(self, statement: str, *values: object) -> None:
        with self.servers.connect() as link, link.cursor() as cursor:
            cursor.execute(statement, values)


@pytest.fixture
async def open_instance(
    servers: TestServers, aiohttp_client: Client
) -> Callable[..., Awaitable[InterceptedService]]:
    async def open_instance(**environment: str) -> InterceptedService:
        service = service_on(servers, **{"INSTANCE_TIMEOUT_MS": str(TIMEOUT_MS), **environment})
        instance = InterceptedService(servers, await aiohttp_client(service.web), service)
        instance.watch()
        # A start wakes all due orders.
        await until(lambda: instance.asked[-1:] == ["wake_due_orders"] and "heartbeat" in instance.asked)
        return instance

    return open_instance


Open = Callable[..., Awaitable[InterceptedService]]


def failing(*allowed: str, unknown: bool = False) -> Before:
    """Return a function that makes PostgreSQL unavailable for all but some statements."""

    async def fail(query: Query[Any]) -> None:
        if query.name not in allowed:
            raise UnavailableError("away", unknown=unknown)

    return fail


async def until(condition: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.005)


async def test_a_claim_is_cancelled_when_the_process_was_stopped_for_too_long(open_instance: Open) -> None:
    instance = await open_instance()
    instance.before(failing("insert_orders"))
    order_id = await instance.place()
    await until(lambda: instance.service.storage.identity.lapsed)
    fail = failing()

    async def fail_claims_of_the_old_id(query: Query[Any]) -> None:
        if query.name == "claim_orders" and "register_instance" not in instance.asked:
            await fail(query)

    instance.before(fail_claims_of_the_old_id)
    await instance.comes_to(order_id)


async def test_a_claim_is_rejected_between_the_old_id_and_the_new_one(open_instance: Open) -> None:
    instance = await open_instance()
    placed: list[str] = []

    async def place_before_the_new_id_counts(query: Query[Any]) -> None:
        if query.name == "register_instance" and not placed:
            placed.append(await instance.place())
            await until(lambda: "claim_orders" in instance.asked)

    instance.before(place_before_the_new_id_counts)
    instance.sql("DELETE FROM instances")
    await until(lambda: bool(placed))
    await instance.comes_to(placed[0])


async def test_a_claim_is_rejected_because_the_process_was_declared_dead(open_instance: Open) -> None:
    instance = await open_instance(INSTANCE_TIMEOUT_MS="4000")
    instance.sql("DELETE FROM instances")
    await instance.comes_to(await instance.place())


async def test_a_wake_up_arrives_while_a_claim_is_rejected(open_instance: Open) -> None:
    """The statement sees no instance; before it returns, one registers and a wake-up arrives."""
    instance = await open_instance()
    order_id = await instance.insert()
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def hold(query: Query[Any]) -> None:
        if query.name == "claim_orders" and not asked.is_set():
            asked.set()
            await go_on.wait()

    instance.sql("UPDATE open_orders SET due_at = 'infinity'")
    instance.after(hold)
    refused = asyncio.create_task(instance.service.execution.engine.execute(order_id))
    await asked.wait()
    instance.sql("UPDATE open_orders SET due_at = now()")
    await instance.service.execution.engine.execute(order_id)
    go_on.set()
    await refused
    await instance.comes_to(order_id)


async def test_a_wake_up_arrives_while_the_last_step_is_written(open_instance: Open) -> None:
    """The order waits for its next attempt and is due again, but the response has not arrived."""
    instance = await open_instance(PAPER_FAILURE_RATE="transient=1", RETRY_BASE_DELAY_MS="1")
    engine = instance.service.execution.engine
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(query: Query[Any]) -> None:
        if query.name != "append_transitions" or held.is_set():
            return
        with instance.servers.connect() as link, link.cursor() as cursor:
            cursor.execute("SELECT order_id::text FROM open_orders WHERE owner IS NULL")
            waiting = cursor.fetchone()
            if waiting is None:
                return
            # The sweep hands it out, and the wake-up is consumed.
            cursor.execute("UPDATE open_orders SET wake_at = now() + interval '5 s'")
        held.set()
        assert waiting[0] in engine.running
        await engine.execute(waiting[0])
        await go_on.wait()

    instance.after(hold)
    order_id = await instance.place()
    await held.wait()
    before = instance.asked.count("claim_orders")
    go_on.set()
    await until(lambda: instance.asked.count("claim_orders") > before, SOON_S)
    await instance.comes_to(order_id, "failed", within_s=15)


@pytest.mark.parametrize("rate_limit", ["0", "100"])
async def test_an_order_is_locked_by_a_writer_that_does_not_claim_it(
    open_instance: Open, rate_limit: str
) -> None:
    instance = await open_instance(QUEUE_RATE_LIMIT=rate_limit)
    with psycopg2.connect(instance.servers.database_url) as link, link.cursor() as cursor:

        async def lock(query: Query[Any]) -> None:
            if query.name == "claim_orders_at_rate" and not instance.asked.count(query.name):
                cursor.execute("SELECT FROM open_orders FOR UPDATE")

        instance.before(lock)
        order_id = await instance.place()
        await until(lambda: any(name.startswith("claim") for name in instance.asked))
        link.rollback()
        await instance.comes_to(order_id)
    link.close()


async def test_the_rate_limit_defers_the_order(open_instance: Open) -> None:
    instance = await open_instance(QUEUE_RATE_LIMIT="1")
    instance.sql("UPDATE rate_starts SET started_at = now() - interval '59.7 s'")
    await instance.comes_to(await instance.place())


async def test_the_claim_fails(open_instance: Open) -> None:
    instance = await open_instance()
    failed: list[str] = []

    async def fail_once(query: Query[Any]) -> None:
        if query.name == "claim_orders" and not failed:
            failed.append(query.name)
            raise psycopg2.ProgrammingError("no such function")

    instance.before(fail_once)
    order_id = await instance.place()
    await until(lambda: bool(failed))
    await instance.comes_to(order_id)


@asynccontextmanager
async def answer_lost_of(instance: InterceptedService, name: str) -> AsyncIterator[None]:
    """Lose the response of a statement once, after its execution."""
    lost: list[str] = []

    async def lose(query: Query[Any]) -> None:
        if query.name == name and not lost and instance.asked:
            lost.append(query.name)
            raise UnavailableError("the answer was lost", unknown=True)

    instance.after(lose)
    yield
    await until(lambda: bool(lost))


async def test_the_sweep_hands_out_the_order_and_the_response_is_lost(open_instance: Open) -> None:
    instance = await open_instance()
    order_id = await instance.insert()
    async with answer_lost_of(instance, "wake_due_orders"):
        instance.sql("UPDATE open_orders SET wake_at = now()")
    await instance.comes_to(order_id)


async def test_a_trigger_fires_the_order_and_the_response_is_lost(open_instance: Open) -> None:
    instance = await open_instance()
    await until(lambda: instance.service.execution.triggers.watching)
    async with answer_lost_of(instance, "fire_orders"):
        order_id = await instance.place(orderType="limit", limitPrice="1")
    await instance.comes_to(order_id)


async def test_the_order_is_stored_after_its_client_has_stopped_waiting(open_instance: Open) -> None:
    instance = await open_instance(INSERT_TIMEOUT_MS="100")
    stored = asyncio.Event()

    async def hold(query: Query[Any]) -> None:
        if query.name == "insert_orders":
            await stored.wait()

    instance.before(hold)
    order_id = await instance.place()
    stored.set()
    await instance.comes_to(order_id)


async def test_the_process_stops_during_its_claim(open_instance: Open) -> None:
    stopping, staying = await open_instance(SHUTDOWN_GRACE_S="0"), await open_instance()
    # Only the stopping instance takes wake-ups.
    await staying.service.execution.receiver.stop_reading()
    claims: list[str] = []

    async def hold(query: Query[Any]) -> None:
        if query.name == "claim_orders":
            claims.append(query.name)
            raise UnavailableError("away", unknown=False)

    stopping.before(hold)
    order_id = await stopping.place()
    await until(lambda: bool(claims))
    staying.service.execution.receiver.start()
    await stopping.client.close()
    await staying.comes_to(order_id)


async def sent_and_not_heard(instance: InterceptedService) -> str:
    """Make Redis send an instance the wake-up of a new order that the instance does not receive."""
    service = instance.service
    await service.execution.receiver.stop_reading()
    order_id = await instance.place()
    stream = service.storage.deployment.name("wake-ups")
    reading = (
        "XREADGROUP",
        "GROUP",
        "workers",
        service.storage.identity.id,
        "COUNT",
        1,
        "STREAMS",
        stream,
        ">",
    )
    async with Redis.from_url(instance.servers.redis_url) as client:
        assert await client.execute_command(*reading)  # type: ignore[no-untyped-call]
    return order_id


async def read_without_acknowledging(instance: InterceptedService, consumer: str, count: int) -> None:
    """Send wake-ups of an unknown order, have a consumer read them, and stop this process from reading."""
    await instance.service.execution.receiver.stop_reading()
    broker, stream = instance.service.storage.broker, instance.servers.wake_ups
    await broker.send([instance.service.storage.clock.new_order_id()] * count)
    reading = ("XREADGROUP", "GROUP", "workers", consumer, "COUNT", count, "STREAMS", stream, ">")
    async with Redis.from_url(instance.servers.redis_url) as client:
        while (await client.xpending(stream, "workers"))["pending"] < count:
            await client.execute_command(*reading)  # type: ignore[no-untyped-call]


async def test_acknowledgements_are_lost_of_more_wake_ups_than_are_read_at_once(open_instance: Open) -> None:
    instance = await open_instance()
    await read_without_acknowledging(instance, instance.service.storage.identity.id, 2_500)
    instance.service.execution.receiver.start()
    with redis.Redis.from_url(instance.servers.redis_url) as client:
        # Soon, and not when they count as lost, after five seconds.
        await until(lambda: client.xlen(instance.servers.wake_ups) == 0, within_s=4)


async def test_wake_ups_that_starts_have_left_behind_are_discarded(open_instance: Open) -> None:
    instance = await open_instance(QUEUE_RATE_LIMIT="0")
    storage, receiver = instance.service.storage, instance.service.execution.receiver
    await receiver.stop_reading()
    order_id, executed = await instance.place(), list[str]()
    with redis.Redis.from_url(instance.servers.redis_url) as client:
        await storage.broker.send([order_id] * 2_500)
        await until(lambda: client.xlen(instance.servers.wake_ups) == 2_501)
        storage.queue.enqueue_all_due()
        await until(lambda: client.xlen(instance.servers.wake_ups) == 2_502 and not storage.queue.all_due)

        async def execute(order: str) -> None:
            executed.append(order)
            await instance.service.execution.engine.execute(order)

        receiver._execute = execute
        receiver.start()
        await until(lambda: client.xlen(instance.servers.wake_ups) == 0)
    await instance.comes_to(order_id)
    # The new one.
    assert executed == [order_id]


async def test_redis_comes_back_as_a_server_whose_clock_is_behind(open_instance: Open) -> None:
    # With a rate limit the sweep does not say soon which ones it has replaced on the new server.
    instance = await open_instance(QUEUE_RATE_LIMIT="100")
    # On the server before, whose clock was ahead, every wake-up until now was replaced.
    instance.service.storage.broker.supersede((2**62, 0))
    changes: list[bool] = []
    instance.service.storage.link.on_change(lambda: changes.append(instance.service.storage.link.available))
    with redis.Redis.from_url(instance.servers.redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    await until(lambda: changes == [False, True])
    await instance.comes_to(await instance.place())


async def test_many_wake_ups_are_left_unacknowledged_by_dead_processes(open_instance: Open) -> None:
    instance = await open_instance()
    await read_without_acknowledging(instance, "dead", 1_000)
    instance.service.execution.receiver.start()
    order_id = await instance.insert()
    instance.sql("UPDATE open_orders SET wake_at = now()")
    # The sweep wakes the order although the stream is long: nothing in it waits for a worker.
    await instance.comes_to(order_id)
    with redis.Redis.from_url(instance.servers.redis_url) as client:
        await until(lambda: client.xlen(instance.servers.wake_ups) == 0, within_s=15)


async def test_the_connection_breaks_while_it_carries_the_wake_up(open_instance: Open) -> None:
    instance = await open_instance()
    order_id = await sent_and_not_heard(instance)
    instance.service.execution.receiver.start()
    await instance.comes_to(order_id)


async def test_the_process_stops_before_the_wake_up_is_handled(open_instance: Open) -> None:
    stopping, staying = await open_instance(), await open_instance()
    await staying.service.execution.receiver.stop_reading()
    order_id = await sent_and_not_heard(stopping)
    staying.service.execution.receiver.start()
    await stopping.client.close()
    await staying.comes_to(order_id)


async def test_the_process_dies_during_its_claim(open_instance: Open) -> None:
    dying, staying = await open_instance(), await open_instance()
    staying.watch()
    await staying.service.execution.receiver.stop_reading()
    dying.before(failing("insert_orders"))
    order_id = await dying.place()
    await until(lambda: bool(dying.service.execution.engine.running))
    await dying.service.execution.receiver.stop_reading()
    staying.service.execution.receiver.start()
    # Only its inserts arrive, so its heartbeat stops.
    staying.asked.clear()
    await until(lambda: "remove_dead_instances" in staying.asked)
    await staying.comes_to(order_id)
    dying.leave_alone()


async def test_no_more_orders_of_a_dead_instance_are_claimed_than_can_start(open_instance: Open) -> None:
    instance = await open_instance()
    receiver, stream = instance.service.execution.receiver, instance.servers.wake_ups
    await receiver.stop_reading()
    placed = [await instance.place() for _ in range(3)]
    async with Redis.from_url(instance.servers.redis_url) as client:
        reading = ("XREADGROUP", "GROUP", "workers", "dead", "COUNT", 3, "STREAMS", stream, ">")
        assert await client.execute_command(*reading)  # type: ignore[no-untyped-call]
        assert await instance.service.storage.broker.claim_lost(client, 2, idle_ms=0) == 2
        assert (await client.xpending(stream, "workers"))["pending"] == 3
    # Orders claimed and not started, and orders not claimed, are executed all the same.
    receiver.start()
    for order_id in placed:
        await instance.comes_to(order_id, within_s=15)


async def test_the_process_dies_before_the_wake_up_is_handled(open_instance: Open) -> None:
    dying, staying = await open_instance(), await open_instance()
    await staying.service.execution.receiver.stop_reading()
    order_id = await sent_and_not_heard(dying)
    staying.service.execution.receiver.start()
    # Without heartbeats, as after SIGSTOP.
    dying.before(failing())
    staying.asked.clear()
    await until(lambda: "remove_dead_instances" in staying.asked)
    await staying.comes_to(order_id)
    # It is also removed from the stream, where it would stay for good.
    with redis.Redis.from_url(staying.servers.redis_url) as client:
        await until(lambda: client.xlen(staying.servers.wake_ups) == 0, within_s=15)
