"""The limit of what all orders sell in a day, in the statement that stores a transaction."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from service.domain.failures import Failure, FailureCode
from service.domain.key_limits import LargestAmount
from service.domain.lifecycle import Status
from service.domain.quote import Amounts
from service.domain.transaction import Fill, SignedTransaction, TransactionState, TransactionStatus
from service.postgres.database import UnavailableError
from service.postgres.queries import Query, Row
from service.store.claims import Claimed
from service.store.day_sales import DaySales, OverLimitError
from service.store.halt import HaltedError
from service.store.journal import SupersededError
from service.store.transitions import QuotedTransaction, Transition
from tests.support.gem_market import rows
from tests.support.paper import until
from tests.support.servers import TestServers
from tests.support.store import Store, landed, open_store

SOL = 10**9
DAY = {"SOL": LargestAmount(10 * SOL, 9), "JUP": LargestAmount(1, 0)}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"


@pytest.fixture
async def stores(servers: TestServers) -> AsyncIterator[list[Store]]:
    """Return the stores of two instances."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_store(servers, day_limits=DAY)) for _ in range(2)]


@pytest.fixture
def store(stores: list[Store]) -> Store:
    return stores[0]


async def built(store: Store, amount: int = SOL, **changes: Any) -> Transition:
    """Store an order, have it built, and return the step that submits a transaction for it."""
    order = replace(store.new_order(), amount=amount, **changes)
    await store.journal.insert(order, 5)
    claim = await store.claims.claim(order.id)
    assert isinstance(claim, Claimed)
    building = await store.journal.append(store.step(claim, Status.BUILDING))
    signed = SignedTransaction(f"tx of {order.id}", "raydium", b"", amount, 1, 9)
    quoted = QuotedTransaction(signed, Amounts(amount, 1))
    return store.step(claim, Status.SUBMITTED, version=building.sequence, transaction=quoted)


async def submit(*steps: tuple[Store, Transition]) -> list[int | None]:
    """Submit orders at once; return what is left for each that is refused, and None for the others."""
    results = await asyncio.gather(
        *(store.journal.append(step) for store, step in steps), return_exceptions=True
    )
    return [_left(result) for result in results]


def _left(result: object) -> int | None:
    if not isinstance(result, OverLimitError):
        assert not isinstance(result, BaseException), result
        return None
    assert result.failure.code is FailureCode.OVER_LIMIT
    told = re.search("of which ([0-9]+) ", result.failure.detail)
    assert told is not None
    return int(told[1])


async def end(store: Store, step: Transition, outcome: TransactionStatus) -> None:
    status = Status.FAILED if outcome.fill is None else Status.CONFIRMED
    detail = {} if outcome.fill is not None else {"reason": "transaction_rejected"}
    await store.journal.append(
        replace(
            step,
            version=step.version + 1,
            status=status,
            write_id=store.clock.new_write_id(),
            transaction=None,
            outcome=outcome,
            detail=detail,  # type: ignore[arg-type]
        )
    )


async def sold(store: Store) -> int:
    sales = DaySales(store.database, store.clock, group_limit=8)
    amount, none = await asyncio.gather(sales.sold("SOL"), sales.sold("JUP"))
    assert none == 0
    return amount


async def built_many(store: Store, amounts: Sequence[int]) -> list[tuple[Store, Transition]]:
    steps = [(store, await built(store, amount * SOL)) for amount in amounts]
    return sorted(steps, key=lambda each: each[1].order_id)


async def test_orders_that_are_placed_at_once_share_a_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = store.database.read, 0

    async def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*arguments)

    monkeypatch.setattr(store.database, "read", counted)
    sales = DaySales(store.database, store.clock, group_limit=100)
    assert await asyncio.gather(*(sales.sold("SOL") for _ in range(100))) == [0] * 100
    assert reads == 1


async def test_a_group_is_decided_in_the_order_of_the_ids(store: Store, servers: TestServers) -> None:
    steps = await built_many(store, [6, 5, 4, 1])
    # What is refused sells nothing.
    assert await submit(*steps) == [None, 4, None, 0]
    assert await sold(store) == 10 * SOL
    assert rows(servers, "SELECT count(*) FROM transactions") == [(2,)]
    assert rows(servers, "SELECT count(*) FROM orders WHERE status = 'building'") == [(2,)]


async def test_two_instances_never_sell_more(stores: list[Store], servers: TestServers) -> None:
    for store in stores:
        # Many small groups.
        store.journal._appends._largest = 2
    steps = [(store, await built(store)) for store in stores * 15]
    decided = await submit(*steps)
    assert decided.count(None) == 10
    assert {left for left in decided if left is not None} == {0}
    assert await sold(stores[0]) == 10 * SOL
    assert rows(servers, "SELECT count(*), sum(maximum_in) FROM transactions") == [(10, 10 * SOL)]


async def test_a_transaction_is_compared_with_what_is_committed_while_it_waits(
    store: Store, servers: TestServers
) -> None:
    first, second = await built(store, 6 * SOL), await built(store, 6 * SOL)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM over_day_limits('[]', '{}')")
        submitting = asyncio.create_task(submit((store, second)))
        await until(lambda: rows(servers, WAITING) == [(1,)])
        # It has locked no order.
        cursor.execute("SELECT count(*) FROM (SELECT FROM open_orders FOR UPDATE NOWAIT) AS free")
        cursor.execute(
            "UPDATE orders SET status_history = appended(status_history, 'submitted', now(), '{}'),"
            " status = 'submitted', version = version + 1 WHERE id = %s",
            (first.order_id,),
        )
        cursor.execute(
            "INSERT INTO transactions (id, order_id, sequence, venue, raw, maximum_in, minimum_out,"
            " last_valid_slot) VALUES ('x', %s, %s, 'raydium', '', %s, 1, 9)",
            (first.order_id, first.version + 1, 6 * SOL),
        )
        cursor.execute("COMMIT")
    assert await submitting == [4]


@pytest.mark.parametrize(
    "release", ["UPDATE open_orders SET owner = NULL", "UPDATE open_orders SET expires_at = now()"]
)
async def test_an_order_that_is_released_while_it_waits_is_not_stored_without_a_comparison(
    store: Store, servers: TestServers, release: str
) -> None:
    over = await built(store, 11 * SOL)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM over_day_limits('[]', '{}')")
        submitting = asyncio.create_task(store.journal.append(over))
        await until(lambda: rows(servers, WAITING) == [(1,)])
        # The statement has begun, and does not see this.
        cursor.execute(release)
        cursor.execute("COMMIT")
    with pytest.raises(SupersededError):
        await submitting
    assert rows(servers, "SELECT count(*) FROM transactions") == [(0,)]


async def test_transactions_of_an_earlier_version_are_not_in_the_index(
    store: Store, servers: TestServers
) -> None:
    step = await built(store)
    assert await submit((store, step)) == [None]
    rows(servers, "UPDATE transactions SET signed_at = NULL")
    rows(servers, "REINDEX INDEX transactions_signed")
    size = "SELECT pg_relation_size('transactions_signed') / current_setting('block_size')::integer"
    # An empty index is one page, which says so.
    assert rows(servers, size) == [(1,)]
    assert await sold(store) == 0


async def test_a_fill_counts_with_what_it_sold_and_a_failure_with_nothing(store: Store) -> None:
    [(_, lands), (_, fails), (_, over)] = [(store, await built(store, amount * SOL)) for amount in (6, 4, 1)]
    assert await submit((store, lands), (store, fails)) == [None, None]
    assert await submit((store, over)) == [0]
    assert lands.transaction is not None
    await end(store, lands, landed(Fill(5 * SOL, 7, lands.transaction.signed.id)))
    assert await sold(store) == 9 * SOL
    failure = Failure.of(FailureCode.TRANSACTION_REJECTED)
    await end(store, fails, TransactionStatus(TransactionState.FAILED, failure=failure))
    assert await sold(store) == 5 * SOL
    assert await submit((store, over)) == [None]


async def test_after_24_hours_it_counts_no_more(store: Store, servers: TestServers) -> None:
    old, new = await built(store, 10 * SOL), await built(store)
    assert await submit((store, old)) == [None]
    for hours, expected in ((23.999, 0), (24.001, None)):
        rows(servers, "UPDATE transactions SET signed_at = now() - %s * interval '1 hour'", hours)
        assert await submit((store, new)) == [expected]


async def test_other_tokens_are_not_limited_and_those_of_the_limits_apart(store: Store) -> None:
    others = [await built(store, 10**18, token_in=token, token_out="SOL") for token in ("USDC", "BONK")]
    jup = [await built(store, amount, token_in="JUP", decimals_in=6) for amount in (10**6, 1)]
    steps = [*others, *jup, await built(store, 10 * SOL)]
    assert await submit(*((store, step) for step in steps)) == [None, None, None, 0, None]


async def test_a_lost_answer_is_not_taken_for_a_second_sale(store: Store) -> None:
    run, lost = store.database.run, 0

    async def lose(query: Query[Any], parameters: dict[str, object] | None = None) -> list[Row]:
        nonlocal lost
        found: list[Row] = await run(query, parameters)
        if query.name == "append_transitions" and lost < 2:
            lost += 1
            raise UnavailableError("the answer was lost", unknown=True)
        return found

    steps = await built_many(store, [6, 5, 4])
    store.database.run = lose  # type: ignore[method-assign, assignment]
    # What is refused is decided anew, after the others were stored.
    assert await submit(*steps) == [None, 0, None]
    assert lost == 2
    assert await sold(store) == 10 * SOL


async def test_what_is_not_stored_for_another_reason_uses_nothing_of_the_limit(
    store: Store, servers: TestServers
) -> None:
    expired, stolen, last = [await built(store, 10 * SOL) for _ in range(3)]
    rows(servers, "UPDATE open_orders SET expires_at = now() WHERE order_id = %s", expired.order_id)
    rows(servers, "UPDATE open_orders SET owner = gen_random_uuid() WHERE order_id = %s", stolen.order_id)
    results = await asyncio.gather(
        *(store.journal.append(step) for step in (expired, stolen, last)), return_exceptions=True
    )
    assert [type(result) for result in results[:2]] == [SupersededError] * 2
    assert not isinstance(results[2], BaseException)


async def test_a_halt_comes_first(store: Store) -> None:
    steps = [await built(store, 10 * SOL) for _ in range(2)]
    assert await submit((store, steps[0])) == [None]
    await store.halt.halt("enough")
    with pytest.raises(HaltedError):
        await store.journal.append(steps[1])


async def test_without_limits_nothing_waits(servers: TestServers) -> None:
    async with open_store(servers) as store:
        step = await built(store, 10**18)
        with servers.connect() as link, link.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM over_day_limits('[]', '{}')")
            assert await asyncio.wait_for(submit((store, step)), 5) == [None]
