"""Two instances: the trigger leader dies, or is stopped past its lease; Redis loses wake-ups; races."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import orjson
import pytest

from service.store import journal, resting
from tests.support import report
from tests.support.judge import wait_until
from tests.support.kills import Client
from tests.support.own_servers import OwnServers
from tests.support.process import NO_DELAYS, ServiceFork, ServiceProcess
from tests.support.resting import Book, Kind, Tracked, first_pool, run_steps, second_pool
from tests.support.resting_judge import Books, judge_resting, migrate_and_witness
from tests.support.servers import TestCluster, TestServers

SETTINGS = {
    **NO_DELAYS,
    "WORKER_CONCURRENCY": "100",
    "INSTANCE_TIMEOUT_MS": "1000",
    "PRICE_VARIANCE": "0",
    "LOG_LEVEL": "WARNING",
}

_TAKEN_OVER_WITHIN_S = 10.0
_SWEPT_WITHIN_S = 8.0
_LEASE_S = 3.0
# The leader no longer checks for orders that have rested longer than this.
_FORGOTTEN_AFTER_S = 35.0

# The instances log in with separate roles, so that PostgreSQL records which one fired an order.
_LEFT, _RIGHT = "left_one", "right_one"

# Records attempts to fire that changed nothing, because another instance was first.
_SECONDS = """
CREATE TABLE seconds (role text DEFAULT session_user);
CREATE FUNCTION note_second() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_query() LIKE '%fired = %observed%' AND NOT EXISTS (SELECT 1 FROM changed) THEN
        INSERT INTO seconds DEFAULT VALUES;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_second AFTER UPDATE ON open_orders
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION note_second();
"""


def _spawn(servers: TestServers, role: str = "postgres") -> ServiceProcess:
    url = servers.database_url.replace("user=postgres", f"user={role}")
    return ServiceFork({**SETTINGS, **replace(servers, database_url=url).environment})


def _watcher(servers: TestServers) -> str | None:
    """Return the trigger leader's role; None if the lease has expired."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT leader::text FROM leases"
            " WHERE name = 'triggers' AND renewed_at > now() - %s * interval '1 second'",
            (_LEASE_S,),
        )
        return next((str(holder) for (holder,) in cursor.fetchall()), None)


def _wait_for_another(servers: TestServers, watcher: str | None = None) -> str:
    """Wait until another instance leads, and return its role."""
    wait_until(lambda: _watcher(servers) not in {None, watcher})
    return _watcher(servers) or ""


def _rest(book: Book, services: list[ServiceProcess], number: int) -> str:
    """Place orders that rest until their token's second pool is listed; return the token."""
    token = book.new_token()
    client = Client(services[-1])
    assert book.list_pool(client, first_pool(token)), book.wrong
    client.close()
    kinds = [Kind.LATER] * number + [Kind.SNIPE_PRICE] * (number // 10) + [Kind.NEVER] * 3
    orders = book.mixed(token, kinds)
    for place, service in enumerate(services):
        _wait_until_listed(service, token)
        run_steps(service, [partial(book.place, order=order) for order in orders[place :: len(services)]])
    assert not book.wrong, book.wrong
    assert not book.unsent
    return token


def _wait_until_listed(service: ServiceProcess, token: str) -> None:
    client = Client(service)
    wait_until(lambda: token in {each["symbol"] for each in client.ask("GET", "/api/tokens").body["tokens"]})
    client.close()


def _list_second(book: Book, service: ServiceProcess, token: str) -> None:
    """Make a token's orders executable."""
    client = Client(service)
    assert book.list_pool(client, second_pool(token)), book.wrong
    client.close()


def _amend_to_payable(client: Client, order: Tracked) -> None:
    answer = client.ask("PATCH", f"/api/orders/{order.id}", {"limitPrice": "1000"})
    assert answer.status == 200, answer
    order.may = frozenset({"confirmed"})


def _wait_until_settled(servers: TestServers, book: Book, within_s: float) -> float:
    """Wait until every order has an allowed status; return how long that took."""
    began = time.monotonic()
    with servers.connect() as link, link.cursor() as cursor:
        while True:
            cursor.execute("SELECT id::text, status FROM orders")
            left = book.astray(dict(cursor.fetchall()))
            took_s = time.monotonic() - began
            if not left:
                return took_s
            assert took_s < within_s, "\n".join([f"{len(left)} orders did not fire:", *left[:10]])
            time.sleep(0.02)


def _look(servers: TestServers, book: Book) -> Books:
    books = judge_resting(servers)
    assert not books.wrong + book.wrong, "\n".join(books.wrong + book.wrong)
    assert books.orders == len(book.orders)
    return books


def _check(service: ServiceProcess) -> None:
    assert service.process.poll() is None, service.output
    assert "Traceback" not in service.output, service.output


def _kill_watchers(servers: TestServers, deaths: int) -> tuple[Books, float]:
    """Kill the leader, before the market moves or while orders fire; the other instance continues."""
    migrate_and_witness(servers)
    book, rng, slowest = Book(random.Random(deaths)), random.Random(deaths + 1), 0.0
    with ExitStack() as running:
        watching = running.enter_context(_spawn(servers)).wait_until_ready()
        name = _wait_for_another(servers)
        for number in range(deaths):
            other = running.enter_context(_spawn(servers)).wait_until_ready()
            token = _rest(book, [watching, other], 30)
            assert _watcher(servers) == name
            if number % 2:
                _list_second(book, other, token)
                time.sleep(rng.uniform(0, 0.06))
                watching.kill()
            else:
                watching.kill()
                _list_second(book, other, token)
            slowest = max(slowest, _wait_until_settled(servers, book, _TAKEN_OVER_WITHIN_S))
            watching, name = other, _wait_for_another(servers, name)
            _check(watching)
    return _look(servers, book), slowest


@dataclass(frozen=True)
class Stopped:
    """The results of stopping leaders.

    Attributes:
        books: The result of the final check.
        slowest_s: The longest time until all orders had fired.
        both: The number of markets in which both instances fired orders.
        seconds: Attempts to fire that came second and changed nothing.
    """

    books: Books
    slowest_s: float
    both: int
    seconds: int


def _stop_watchers(servers: TestServers, stops: int, orders: int) -> Stopped:
    """Stop the leader while it is firing, past its lease, and let it continue."""
    migrate_and_witness(servers)
    book, rng, slowest = Book(random.Random(stops)), random.Random(stops + 1), 0.0
    with ExitStack() as running, servers.connect() as link, link.cursor() as cursor:
        cursor.execute(_SECONDS)
        watching = running.enter_context(_spawn(servers, _LEFT)).wait_until_ready()
        name = _wait_for_another(servers)
        other = running.enter_context(_spawn(servers, _RIGHT)).wait_until_ready()
        for _ in range(stops):
            first, second = (_rest(book, [watching, other], orders) for _ in range(2))
            assert _watcher(servers) == name
            # From another thread, so that the leader is stopped while the market moves.
            with ThreadPoolExecutor(1) as pool:
                listing = pool.submit(_list_second, book, other, first)
                time.sleep(rng.uniform(0.01, 0.1))
                watching.process.send_signal(signal.SIGSTOP)
                began = time.monotonic()
                try:
                    listing.result()
                    name = _wait_for_another(servers, name)
                    time.sleep(max(0.0, began + _LEASE_S + 0.5 - time.monotonic()))
                    _list_second(book, other, second)
                    time.sleep(rng.uniform(0, 0.04))
                finally:
                    watching.process.send_signal(signal.SIGCONT)
            slowest = max(slowest, _wait_until_settled(servers, book, _TAKEN_OVER_WITHIN_S))
            watching, other = other, watching
        _check(watching)
        _check(other)
        cursor.execute(
            "SELECT o.token_out FROM fire_witness AS w JOIN orders AS o ON o.id = w.order_id"
            " GROUP BY o.token_out HAVING count(DISTINCT w.role) = 2"
        )
        both = len(cursor.fetchall())
        cursor.execute("SELECT FROM seconds")
        return Stopped(_look(servers, book), slowest, both, cursor.rowcount)


@pytest.mark.parametrize(("times", "orders"), [(1, 60), pytest.param(20, 450, marks=pytest.mark.long)])
def test_orders_survive_a_leader_that_dies_or_is_stopped_past_its_lease(
    cluster: TestCluster, times: int, orders: int
) -> None:
    # Concurrently, since most of the time is spent waiting for the lease.
    with ThreadPoolExecutor(2) as pool:
        dying = pool.submit(_kill_watchers, cluster.new(), times)
        stopping = pool.submit(_stop_watchers, cluster.new(), times, orders)
        died, died_s = dying.result()
        stopped = stopping.result()
    row = report.Row("the one of two that watches dies", times, died.orders, slowest_recovery_s=died_s)
    row.note = f"{died.fires:,} fires, none twice"
    report.add(row)
    row = report.Row("the one of two that watches stops past its lease", times, stopped.books.orders)
    row.slowest_recovery_s = stopped.slowest_s
    row.note = (
        f"{stopped.books.fires:,} fires, none twice; {stopped.both} markets fired by both,"
        f" {stopped.seconds} times one came second and changed nothing"
    )
    report.add(row)


@pytest.fixture(scope="module")
def own() -> Iterator[OwnServers]:
    servers = OwnServers()
    yield servers
    servers.stop()


def _flush(own: OwnServers, _servers: TestServers, market: threading.Thread) -> None:
    with own.redis() as redis:
        market.start()
        for _ in range(20):
            redis.flushall()
            time.sleep(0.01)
    market.join()


def _be_away(own: OwnServers, servers: TestServers, market: threading.Thread) -> None:
    own.end(own.valkey, signal.SIGKILL)
    try:
        market.start()
        market.join()
        wait_until(lambda: _all_are_fired(servers))
    finally:
        own.start_again()


def _lose_wake_ups(own: OwnServers, servers: TestServers, market: threading.Thread) -> None:
    """Lose only the wake-ups, so that only the sweep finds the orders."""
    stream = servers.wake_ups
    with own.redis() as redis:
        # Redis may have just returned empty: the service creates the stream again when it detects that.
        wait_until(lambda: bool(redis.exists(stream)))
        redis.xgroup_setid(stream, "workers", "99999999999999-0")
        market.start()
        market.join()
        wait_until(lambda: _all_are_fired(servers))
        redis.xgroup_setid(stream, "workers", "$")


def _all_are_fired(servers: TestServers) -> bool:
    """Return whether only orders that can never execute are resting."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT FROM open_orders AS p JOIN orders AS o ON o.id = p.order_id"
            " WHERE p.resting AND p.fired IS NULL AND coalesce(o.limit_price::numeric, 0) < 9000"
        )
        return cursor.rowcount == 0


Loss = Callable[[OwnServers, TestServers, threading.Thread], None]


@pytest.mark.parametrize(
    ("losses", "rounds"),
    [
        ((_flush, _be_away), 1),
        pytest.param((_flush, _be_away, _lose_wake_ups), 10, marks=pytest.mark.long),
    ],
)
def test_orders_survive_failures_of_redis_while_they_fire(
    own: OwnServers, losses: tuple[Loss, ...], rounds: int
) -> None:
    servers, book, slowest = own.new(), Book(random.Random(7)), 0.0
    migrate_and_witness(servers)
    with _spawn(servers).wait_until_ready() as service:
        for loss in losses * rounds:
            token = _rest(book, [service], 40)
            never = [order for order in book.orders if order.kind is Kind.NEVER][-1]
            client = Client(service)

            def move(token: str = token, never: Tracked = never, client: Client = client) -> None:
                _list_second(book, service, token)
                _amend_to_payable(client, never)

            loss(own, servers, threading.Thread(target=move))
            client.close()
            slowest = max(slowest, _wait_until_settled(servers, book, _SWEPT_WITHIN_S))
        _check(service)
    books = _look(servers, book)
    what = f"Redis while orders fire: {', '.join(loss.__name__.strip('_') for loss in losses)}"
    note = f"{books.fires} fires, none twice"
    report.add(report.Row(what, len(losses) * rounds, books.orders, slowest_recovery_s=slowest, note=note))


@pytest.mark.long
def test_orders_accepted_by_another_instance_without_redis_are_found(own: OwnServers) -> None:
    servers, book = own.new(), Book(random.Random(8))
    migrate_and_witness(servers)
    with _spawn(servers).wait_until_ready() as watching, _spawn(servers) as other:
        name = _wait_for_another(servers)
        other.wait_until_ready()
        token = _rest(book, [watching, other], 10)
        own.end(own.valkey, signal.SIGKILL)
        try:
            client = Client(other)
            for order in book.mixed(token, [Kind.PAID] * 5 + [Kind.NEVER] * 2):
                book.place(client, order)
            dropped, changed = book.orders[-2:]
            _amend_to_payable(client, changed)
            book.cancel(client, dropped)
            assert dropped.may == {"cancelled"}
            client.close()
            _list_second(book, other, token)
            began = time.monotonic()
            wait_until(lambda: _all_are_fired(servers), _TAKEN_OVER_WITHIN_S)
            found_s = time.monotonic() - began
            assert _watcher(servers) == name
        finally:
            own.start_again()
        _wait_until_settled(servers, book, _SWEPT_WITHIN_S)
        _check(watching)
        _check(other)
    books = _look(servers, book)
    what = "orders accepted by another instance while Redis is away"
    report.add(report.Row(what, 1, books.orders, slowest_recovery_s=found_s))


@pytest.mark.long
def test_an_instance_that_leads_again_reads_all_orders_again(own: OwnServers) -> None:
    servers, book = own.new(), Book(random.Random(9))
    migrate_and_witness(servers)
    with _spawn(servers).wait_until_ready() as watching, _spawn(servers) as other:
        name = _wait_for_another(servers)
        other.wait_until_ready()
        token = _rest(book, [watching, other], 3)
        watching.process.send_signal(signal.SIGSTOP)
        try:
            _wait_for_another(servers, name)
            client = Client(other)
            for order in book.mixed(token, [Kind.LATER] * 5):
                book.place(client, order)
            client.close()
            # They are not announced: neither by the channel, nor by the comparison with recently rested
            # orders.
            with own.redis() as redis:
                redis.client_kill_filter(_type="pubsub", skipme=True)
            other.kill()
            time.sleep(_FORGOTTEN_AFTER_S)
        finally:
            watching.process.send_signal(signal.SIGCONT)
        wait_until(lambda: _watcher(servers) == name)
        _list_second(book, watching, token)
        took_s = _wait_until_settled(servers, book, _TAKEN_OVER_WITHIN_S)
        _check(watching)
    books = _look(servers, book)
    what = "the one that watches stops, another does meanwhile and dies"
    report.add(report.Row(what, 1, books.orders, slowest_recovery_s=took_s))


def test_a_late_trigger_does_not_fire_an_amended_order(cluster: TestCluster) -> None:
    servers = cluster.new()
    migrate_and_witness(servers)
    order_id = "00000000-0000-7000-8000-000000000001"
    order = {
        "id": order_id,
        "account": "default",
        "order_type": "sniper",
        "token_in": "SOL",
        "token_out": "USDC",
        "swap_mode": "exactIn",
        "amount": 10**9,
        "amount_text": "1",
        "slippage_bps": 100,
        "sniper_conditions": {"price": {"above": "100"}},
        "opens": True,
        "mode": "paper",
        "write_id": "first",
    }
    amendment = {
        "id": order_id,
        "version": 2,
        "slippage_bps": 100,
        "time_in_force": None,
        "limit_price": None,
        "limit_out": None,
        "sniper_conditions": '{"price": {"above": "1000"}}',
        "expires_at": None,
        "detail": '{"amended": {}, "writeId": "second"}',
        "max_price_impact_bps": None,
        "approve_within_s": None,
    }
    seen = {"id": order_id, "version": 2, "observed": {"triggeredBy": {"price": "150"}}}

    def fire() -> list[tuple[str]]:
        with servers.connect() as link, link.cursor() as cursor:
            parameters = {
                "rows": orjson.dumps([seen]).decode(),
                "wake_after_ms": 5_000,
                "market_order_age_s": 0,
            }
            cursor.execute(resting._FIRE.sql, parameters)
            return cursor.fetchall()

    with servers.connect() as link, link.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        parameters = {"rows": orjson.dumps([order]).decode(), "wake_after_ms": 5_000}
        cursor.execute(journal._INSERT.sql, parameters)
        link.autocommit = False
        cursor.execute(resting._AMEND.sql, amendment)
        assert cursor.rowcount == 1
        firing = pool.submit(fire)
        # It has read the order, and waits for the lock of the row that is being written.
        wait_until(lambda: _somebody_waits(servers))
        link.commit()
        assert firing.result() == []


def _somebody_waits(servers: TestServers) -> bool:
    """Return whether a statement is waiting for a lock."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.rowcount > 0
