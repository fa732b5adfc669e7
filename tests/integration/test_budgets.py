"""Budgets in the statement that inserts orders: exact in a group, between instances, when it is repeated."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import orjson
import pytest

from service.domain.api_key import Scope
from service.domain.budgets import Rule, Usage
from service.domain.idempotency import IdempotencyKey
from service.domain.lifecycle import Status
from service.domain.order import BudgetUse, NewOrder
from service.domain.transaction import Fill
from service.postgres.database import UnavailableError
from service.postgres.queries import Query, Row
from service.store.api_keys import ApiKeys, NewKey
from service.store.budgets import Budgets, OverBudgetError, budget_row
from service.store.claims import Claimed
from service.store.journal import RepeatedOrderError
from tests.support.gem_market import rows
from tests.support.judge import audit_now
from tests.support.paper import until
from tests.support.servers import TestServers
from tests.support.store import Store, landed, open_store

SOL = 10**9


@pytest.fixture
async def stores(servers: TestServers) -> AsyncIterator[list[Store]]:
    """Return the stores of two instances."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_store(servers)) for _ in range(2)]


@pytest.fixture
def store(stores: list[Store]) -> Store:
    return stores[0]


@pytest.fixture
async def key_id(store: Store) -> str:
    return (await new_key(store))[0]


async def new_key(store: Store) -> tuple[str, str]:
    return await ApiKeys(store.database, store.clock).create(NewKey("default", "bot", Scope.TRADE))


def order_of(store: Store, key_id: str, amount: int = SOL, most: int = 10 * SOL, **changes: Any) -> NewOrder:
    """Return an order that uses an amount of a budget of SOL."""
    budget = BudgetUse("SOL", 9, amount=amount, most_amount=most)
    return replace(store.new_order(), amount=amount, key_id=key_id, **{"budget": budget, **changes})


def keyed(order: NewOrder, key: str) -> NewOrder:
    return replace(order, idempotency=IdempotencyKey(key, b"hash"))


async def insert(*orders: tuple[Store, NewOrder]) -> list[str | BaseException]:
    """Insert orders at once, those of a store in one group."""
    return await asyncio.gather(
        *(store.journal.insert(order, 5) for store, order in orders), return_exceptions=True
    )


def refused(results: Sequence[str | BaseException]) -> list[tuple[Rule, int] | None]:
    """Return the rule and what is used of each refusal, and None for each order that was inserted."""
    assert all(isinstance(result, str | OverBudgetError) for result in results), results
    return [(each.rule, each.used) if isinstance(each, OverBudgetError) else None for each in results]


async def usage(store: Store, key_id: str) -> Usage:
    return await Budgets(store.database, store.clock).usage(key_id)


async def test_a_group_is_decided_in_its_order(store: Store, key_id: str) -> None:
    amounts = [6, 5, 4, 1]
    results = await insert(*((store, order_of(store, key_id, amount * SOL)) for amount in amounts))
    # What is refused uses nothing.
    assert refused(results) == [
        None,
        (Rule.AMOUNT_PER_DAY, 6 * SOL),
        None,
        (Rule.AMOUNT_PER_DAY, 10 * SOL),
    ]
    assert await usage(store, key_id) == Usage({"SOL": 10 * SOL}, 0, 2)


async def test_a_budget_of_each_kind(store: Store, key_id: str) -> None:
    value = BudgetUse("SOL", 9, usd=10**20, most_usd=2**64 - 1)
    assert refused(await insert((store, order_of(store, key_id, budget=value)))) == [(Rule.USD_PER_DAY, 0)]
    value = replace(value, usd=2**63)
    orders = [(store, order_of(store, key_id, budget=value)) for _ in range(3)]
    assert refused(await insert(*orders)) == [
        None,
        (Rule.USD_PER_DAY, 2**63),
        (Rule.USD_PER_DAY, 2**63),
    ]
    # One of them is open.
    few = BudgetUse("SOL", 9, most_open=3)
    orders = [(store, order_of(store, key_id, budget=few)) for _ in range(3)]
    assert refused(await insert(*orders)) == [None, None, (Rule.OPEN_ORDERS, 3)]
    assert await usage(store, key_id) == Usage({"SOL": 0}, 2**63, 3)
    none = BudgetUse("SOL", 9, most_open=0)
    assert refused(await insert((store, order_of(store, key_id, budget=none)))) == [(Rule.OPEN_ORDERS, 3)]


async def test_keys_of_one_group_do_not_share_a_budget(store: Store, servers: TestServers) -> None:
    keys = [(await new_key(store))[0] for _ in range(3)]
    orders = [(store, order_of(store, keys[number % 3], 4 * SOL)) for number in range(12)]
    without = (store, replace(store.new_order(), key_id=keys[0]))
    results = await insert(*orders, without)
    assert refused(results) == [*[None] * 6, *[(Rule.AMOUNT_PER_DAY, 8 * SOL)] * 6, None]
    for key_id, count in zip(keys, (3, 2, 2), strict=True):
        assert await usage(store, key_id) == Usage({"SOL": 8 * SOL}, 0, count)
    assert rows(servers, "SELECT count(DISTINCT xmin::text) FROM orders") == [(1,)]


@pytest.mark.parametrize(
    ("budget", "rule", "used"),
    [
        (BudgetUse("SOL", 9, amount=SOL, most_amount=10 * SOL), Rule.AMOUNT_PER_DAY, 10 * SOL),
        (BudgetUse("SOL", 9, usd=150, most_usd=1_600), Rule.USD_PER_DAY, 1_500),
        (BudgetUse("SOL", 9, most_open=10), Rule.OPEN_ORDERS, 10),
    ],
)
async def test_two_instances_keep_one_budget(
    stores: list[Store], key_id: str, servers: TestServers, budget: BudgetUse, rule: Rule, used: int
) -> None:
    for store in stores:
        # Many small groups.
        store.journal._inserts._largest = 3
    orders = [(store, order_of(store, key_id, budget=budget)) for store in stores * 50]
    decided = refused(await insert(*orders))
    assert decided.count(None) == 10
    # What an order was told may have been less than all that is used in the end.
    assert {each[0] for each in decided if each is not None} == {rule}
    assert max(each[1] for each in decided if each is not None) == used
    assert (await usage(stores[0], key_id)).open_orders == 10
    assert await audit_now(servers) == []


async def test_an_order_is_compared_with_what_is_committed_while_it_waits(
    store: Store, key_id: str, servers: TestServers
) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM api_keys WHERE id = %s FOR UPDATE", (key_id,))
        inserting = asyncio.create_task(insert((store, order_of(store, key_id))))
        await until(lambda: rows(servers, waiting) == [(1,)])
        cursor.execute(
            "INSERT INTO key_usage VALUES (%s, date_trunc('minute', now()), 'SOL', %s, 0)", (key_id, 10 * SOL)
        )
        cursor.execute("COMMIT")
    assert refused(await inserting) == [(Rule.AMOUNT_PER_DAY, 10 * SOL)]


async def test_an_order_that_is_inserted_again_is_counted_once(store: Store, key_id: str) -> None:
    order = order_of(store, key_id, 10 * SOL, client_order_id="mine")
    for same in (keyed(order, "once"), order, replace(order, client_order_id=None)):
        [first] = await insert((store, same))
        assert isinstance(first, str)
        assert await insert((store, same)) == [first]
        assert await usage(store, key_id) == Usage({"SOL": 10 * SOL}, 0, 1)


async def test_an_order_whose_answer_was_lost_is_counted_once(store: Store, key_id: str) -> None:
    run = store.database.run
    lost = 0

    async def lose(query: Query[Any], parameters: dict[str, object] | None = None) -> list[Row]:
        nonlocal lost
        found: list[Row] = await run(query, parameters)
        if query.name == "insert_budgeted_orders" and lost < 2:
            lost += 1
            raise UnavailableError("the answer was lost", unknown=True)
        return found

    store.database.run = lose  # type: ignore[method-assign, assignment]
    orders = [(store, keyed(order_of(store, key_id, 4 * SOL), str(number))) for number in range(3)]
    decided = refused(await insert(*orders))
    assert (lost, decided) == (2, [None, None, (Rule.AMOUNT_PER_DAY, 8 * SOL)])
    assert await usage(store, key_id) == Usage({"SOL": 8 * SOL}, 0, 2)


async def test_copies_use_nothing(store: Store, key_id: str, servers: TestServers) -> None:
    copies = [(store, keyed(order_of(store, key_id, 9 * SOL), "once")) for _ in range(5)]
    named = [(store, order_of(store, key_id, SOL, client_order_id="mine")) for _ in range(5)]
    for _ in range(2):
        results = await insert(*copies, *named)
        assert sum(isinstance(each, RepeatedOrderError) for each in results) == 8
        assert [isinstance(results[at], str) for at in (0, 5)] == [True, True]
        assert await usage(store, key_id) == Usage({"SOL": 10 * SOL}, 0, 2)
    assert rows(servers, "SELECT count(*) FROM idempotency_keys") == [(1,)]


async def test_a_key_that_is_used_twice_does_not_let_a_large_order_pass(
    stores: list[Store], key_id: str, servers: TestServers
) -> None:
    """Two requests under one key in one group: which of them is inserted must not depend on chance."""
    for turn in range(20):
        name = f"key {turn}"
        large, small = (keyed(order_of(stores[0], key_id, amount, most=SOL), name) for amount in (2 * SOL, 1))
        orders = [(store, order) for store in stores for order in (small, large)[:: 1 if turn % 2 else -1]]
        results = await insert(*orders)
        assert sum(isinstance(each, str) for each in results) == 2  # the same order, of both stores
        assert rows(servers, "SELECT order_id::text FROM idempotency_keys WHERE key = %s", name) == [
            (small.id,)
        ]
    assert rows(servers, "SELECT max(amount), count(*) FROM orders") == [(1, 20)]
    assert await usage(stores[1], key_id) == Usage({"SOL": 20}, 0, 20)


async def test_a_taken_client_order_id_takes_its_new_key_and_no_budget(
    store: Store, key_id: str, servers: TestServers
) -> None:
    await insert((store, order_of(store, key_id, client_order_id="mine")))
    over = keyed(order_of(store, key_id, 10 * SOL, client_order_id="mine"), "another")
    assert [type(each) for each in await insert((store, over))] == [RepeatedOrderError]
    assert rows(servers, "SELECT key FROM idempotency_keys") == [("another",)]
    assert await usage(store, key_id) == Usage({"SOL": SOL}, 0, 1)


async def test_copies_of_a_client_order_id_in_one_group_take_their_keys(
    store: Store, key_id: str, servers: TestServers
) -> None:
    """Each request has used its key, though only the first with each client order id is inserted."""
    copies = [
        (store, keyed(order_of(store, key_id, 1, client_order_id=f"mine {number % 3}"), f"key {number}"))
        for number in range(40)
    ]
    results = await insert(*copies)
    assert [type(each) for each in results] == [str] * 3 + [RepeatedOrderError] * 37
    # The copies after the three are known to be copies once those are stored.
    assert rows(servers, "SELECT count(*), count(DISTINCT xmin::text) FROM idempotency_keys") == [(40, 2)]
    others = [(store, keyed(order_of(store, key_id, 1), f"key {number}")) for number in range(40)]
    assert {type(each) for each in await insert(*others)} == {RepeatedOrderError}
    assert rows(servers, "SELECT count(*) FROM orders") == [(3,)]
    assert await usage(store, key_id) == Usage({"SOL": 3}, 0, 3)


async def test_an_order_does_not_depend_on_one_that_another_key_kept_out(
    store: Store, servers: TestServers
) -> None:
    """Two API keys use one idempotency key at once, and one of the orders has a copy under another."""
    # The first of them takes it.
    first, second = sorted([(await new_key(store))[0] for _ in range(2)])
    winner = keyed(order_of(store, first), "once")
    loser = keyed(order_of(store, second, client_order_id="mine"), "once")
    copy = keyed(order_of(store, second, client_order_id="mine"), "twice")
    results = await insert((store, winner), (store, loser), (store, copy))
    assert [type(each) for each in results] == [str, RepeatedOrderError, str]
    assert taken(servers) == {"once": winner.id, "twice": copy.id}
    assert [(await usage(store, key_id)).open_orders for key_id in (first, second)] == [1, 1]


async def test_an_order_does_not_depend_on_one_that_another_group_kept_out(
    store: Store, key_id: str, servers: TestServers
) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    orders = [
        keyed(order_of(store, key_id, 2 * SOL, 2 * SOL, client_order_id="mine"), name)
        for name in ("once", "twice", "once more")
    ]
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(
            "INSERT INTO idempotency_keys VALUES ('default', 'once', '', now(), gen_random_uuid())"
        )
        inserting = asyncio.create_task(insert(*((store, order) for order in orders)))
        await until(lambda: rows(servers, waiting) == [(1,)])
        cursor.execute("COMMIT")
    assert [type(each) for each in await inserting] == [RepeatedOrderError, str, RepeatedOrderError]
    # What has lost its idempotency key has used nothing. The copy has used its own, and its order is there.
    assert taken(servers).items() >= {"twice": orders[1].id, "once more": orders[2].id}.items()
    assert await usage(store, key_id) == Usage({"SOL": 2 * SOL}, 0, 1)


async def test_whatever_keys_and_ids_requests_share_each_has_an_order_to_be_answered_with(
    stores: list[Store], servers: TestServers
) -> None:
    """Requests of three API keys, one of them without budgets, on two instances."""
    rng = random.Random(7)
    api_keys = [(await new_key(stores[0]))[0] for _ in range(3)]
    for turn in range(15):
        requests = []
        for number in range(40):
            key_id, name = rng.choice(api_keys), f"id-{turn}-{rng.randrange(4)}"
            order = order_of(stores[0], key_id, 1, 10**6, client_order_id=name)
            order = order if key_id in api_keys[:2] else replace(order, budget=None)
            requests.append((stores[number % 2], keyed(order, f"key {turn} {rng.randrange(6)}")))
        assert {type(each) for each in await insert(*requests)} == {str, RepeatedOrderError}
        named = {name for (name,) in rows(servers, "SELECT client_order_id FROM orders")}
        sent = {order.id: order for _store, order in requests}
        keys = {key: sent[order_id] for key, order_id in taken(servers).items() if order_id in sent}
        assert set(keys) == {order.idempotency.key for order in sent.values() if order.idempotency}
        assert {order.client_order_id for order in keys.values()} <= named
    assert await audit_now(servers) == []


async def test_a_session_does_not_keep_the_plans_for_small_tables(
    store: Store, key_id: str, servers: TestServers
) -> None:
    group = orjson.dumps([budget_row(0, keyed(order_of(store, key_id, client_order_id="mine"), "once"))])
    tables = ["client_orders", "idempotency_keys", "key_usage", "key_refunds"]
    with servers.connect() as link, link.cursor() as cursor:

        def judge() -> dict[str, int]:
            """Return how often the tables have been read whole, after a verdict."""
            cursor.execute("SELECT verdict FROM budget_verdicts(%s)", (group.decode(),))
            assert cursor.fetchall() == [("new",)]
            cursor.execute(
                "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname = ANY(%s)", (tables,)
            )
            return dict(cursor.fetchall())

        def fill(count: int) -> None:
            for statement in (
                "INSERT INTO client_orders SELECT count, n, gen_random_uuid() FROM numbers",
                "INSERT INTO idempotency_keys (account, key, request_hash, created_at, order_id)"
                " SELECT count, n, '', now(), gen_random_uuid() FROM numbers",
                "INSERT INTO key_usage SELECT count || ' ' || n, now(), 'SOL', 1, 1 FROM numbers",
                "INSERT INTO key_refunds SELECT count || ' ' || n, now(), 'SOL', 1, 1 FROM numbers",
            ):
                numbers = "WITH numbers AS (SELECT %s AS count, n FROM generate_series(1, %s) AS n) "
                cursor.execute(numbers + statement, (str(count), count))

        cursor.execute("BEGIN")
        fill(1)
        cursor.execute(f"ANALYZE {', '.join(tables)}")
        for _ in range(10):
            judge()
        fill(20_000)
        before = judge()
        assert judge() == before


async def test_the_window_of_24_hours_rolls(store: Store, key_id: str, servers: TestServers) -> None:
    def pass_by(interval: str) -> None:
        rows(servers, "UPDATE key_usage SET minute = minute - %s::interval", interval)
        rows(servers, "UPDATE open_orders SET created_at = created_at - %s::interval", interval)

    full = order_of(store, key_id, 10 * SOL)
    assert refused(await insert((store, full))) == [None]
    pass_by("23 hours 57 minutes")
    assert refused(await insert((store, order_of(store, key_id)))) == [(Rule.AMOUNT_PER_DAY, 10 * SOL)]
    pass_by("4 minutes")
    assert await usage(store, key_id) == Usage({}, 0, 1)
    assert refused(await insert((store, order_of(store, key_id, 9 * SOL)))) == [None]
    # What no longer counts is not given back.
    claim = await store.claims.claim(full.id)
    assert isinstance(claim, Claimed)
    await store.journal.append(store.step(claim, Status.FAILED, detail={"reason": "no_route"}))
    assert await usage(store, key_id) == Usage({"SOL": 9 * SOL}, 0, 1)
    budgets = Budgets(store.database, store.clock)
    pass_by("1 minute")
    assert await budgets.delete_old() == 1
    assert rows(servers, "SELECT sum(amount) FROM key_usage") == [(9 * SOL,)]
    assert rows(servers, "SELECT count(*) FROM key_refunds") == [(0,)]


async def test_an_order_that_fails_gives_back_what_it_uses_and_a_filled_one_does_not(
    store: Store, key_id: str, servers: TestServers
) -> None:
    budget = BudgetUse("SOL", 9, amount=SOL, most_amount=2 * SOL, usd=7, most_usd=14, most_open=2)
    orders = [(store, order_of(store, key_id, budget=budget)) for _ in range(2)]
    assert refused(await insert(*orders)) == [None, None]
    failing, filled = [await store.claims.claim(order.id) for _store, order in orders]
    assert isinstance(failing, Claimed)
    assert isinstance(filled, Claimed)
    await store.journal.append(store.step(failing, Status.FAILED, detail={"reason": "no_route"}))
    for version, status in ((2, Status.BUILDING), (3, Status.SUBMITTED)):
        await store.journal.append(store.step(filled, status, version=version))
    outcome = landed(Fill(SOL, 7, "hash"))
    await store.journal.append(store.step(filled, Status.CONFIRMED, version=4, outcome=outcome))
    assert await usage(store, key_id) == Usage({"SOL": SOL}, 7, 0)
    [refund] = rows(servers, "SELECT token, amount, usd FROM key_refunds")
    assert refund == ("SOL", SOL, 7)
    # A repeated write gives nothing back again.
    await store.journal.append(
        store.step(failing, Status.FAILED, write_id=_write_id(servers, failing.order_id))
    )
    assert await usage(store, key_id) == Usage({"SOL": SOL}, 7, 0)
    # A later order takes it off.
    rows(servers, "UPDATE key_usage SET minute = minute - interval '2 minutes'")
    rows(servers, "UPDATE key_refunds SET minute = minute - interval '2 minutes'")
    assert await usage(store, key_id) == Usage({"SOL": SOL}, 7, 0)
    assert refused(await insert((store, order_of(store, key_id, budget=budget)))) == [None]
    assert await usage(store, key_id) == Usage({"SOL": 2 * SOL}, 14, 1)
    assert rows(servers, "SELECT count(*) FROM key_refunds") == [(0,)]
    assert rows(servers, "SELECT amount FROM key_usage") == [(SOL,), (SOL,)]


def taken(servers: TestServers) -> dict[str, str]:
    """Return which order has taken each idempotency key, stored or not."""
    return dict(rows(servers, "SELECT key, order_id::text FROM idempotency_keys"))


def _write_id(servers: TestServers, order_id: str) -> str:
    query = "SELECT status_history -> -1 ->> 'writeId' FROM orders WHERE id = %s"
    [[write_id]] = rows(servers, query, order_id)
    return str(write_id)
