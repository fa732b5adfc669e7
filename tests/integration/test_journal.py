"""The journal on a real PostgreSQL: durable, fenced, idempotent, with a result for every row of a group."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg2
import pytest

from service.domain import history
from service.domain.amounts import U64_MAX
from service.domain.failures import Failure, FailureCode
from service.domain.history import Committed
from service.domain.idempotency import IdempotencyKey
from service.domain.lifecycle import Status
from service.domain.quote import Amounts, Choice, Dex, Leg, Path, PoolQuote, Route, SwapMode
from service.domain.routing_record import RoutingRecord, record_choice
from service.domain.transaction import (
    Fill,
    Landing,
    NetworkCost,
    Residue,
    SignedTransaction,
    TransactionState,
    TransactionStatus,
)
from service.postgres.database import UnavailableError
from service.postgres.queries import Row
from service.store.claims import Claimed
from service.store.journal import RepeatedOrderError, SupersededError
from service.store.rate_limit import RateLimit
from service.store.transitions import QuotedTransaction
from tests.support.gem_market import rows
from tests.support.paper import until
from tests.support.servers import TestServers
from tests.support.store import Store, landed, open_store


@pytest.fixture
async def store(servers: TestServers) -> AsyncIterator[Store]:
    async with open_store(servers) as store:
        yield store


async def test_orders_inserted_at_once_share_a_commit(store: Store, servers: TestServers) -> None:
    await asyncio.gather(*(store.insert() for _ in range(100)))
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT xmin::text) FROM orders")
        count, transactions = cursor.fetchone() or (0, 0)
    assert count == 100
    assert transactions <= 2


async def test_one_of_many_concurrent_inserts_gets_a_client_order_id(store: Store) -> None:
    results = await asyncio.gather(
        *(store.insert("mine") for _ in range(20)), store.insert("another"), return_exceptions=True
    )
    assert sum(isinstance(result, RepeatedOrderError) for result in results) == 19
    there = await store.orders.find_by_client_id("default", "mine")
    assert there is not None
    assert there.id in results


async def test_a_repeated_insert_stores_one_order(store: Store) -> None:
    order = store.new_order("again")
    assert await store.journal.insert(order, 5) == await store.journal.insert(order, 5)


async def test_idempotency_keys_are_taken_before_client_order_ids(store: Store, servers: TestServers) -> None:
    """Otherwise groups with the same ids could wait for each other."""
    keyed = replace(store.new_order(), idempotency=IdempotencyKey("once", b"hash"))
    taken = "INSERT INTO idempotency_keys VALUES ('default', 'once', '', now(), gen_random_uuid())"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(taken)
        orders = store.new_order("mine"), keyed
        inserting = asyncio.gather(
            *(store.journal.insert(order, 5) for order in orders), return_exceptions=True
        )
        await until(lambda: rows(servers, waiting) == [(1,)])
        # The other group takes its client order id last.
        cursor.execute("SET lock_timeout = '500ms'")
        cursor.execute("INSERT INTO client_orders VALUES ('default', 'mine', gen_random_uuid())")
        cursor.execute("COMMIT")
    assert [type(result) for result in await inserting] == [RepeatedOrderError] * 2


async def test_a_transition_is_published_after_it_is_durable(store: Store) -> None:
    claim = await store.start()
    store.told.clear()
    step = await store.journal.append(store.step(claim, Status.BUILDING, detail={"venue": "raydium"}))
    assert step.entry["sequence"] == 3
    assert step.entry["venue"] == "raydium"
    assert "writeId" not in step.entry
    assert store.told == [step]
    order = await store.orders.get(claim.order_id)
    assert order is not None
    assert order.history[-1] == step.entry


async def test_a_stale_version_changes_nothing(store: Store) -> None:
    claim = await store.start()
    await store.journal.append(store.step(claim, Status.BUILDING))
    with pytest.raises(SupersededError):
        await store.journal.append(store.step(claim, Status.BUILDING))
    order = await store.orders.get(claim.order_id)
    assert order is not None
    assert order.version == 3


async def test_a_process_that_lost_the_order_changes_nothing(store: Store, servers: TestServers) -> None:
    claim = await store.start()
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("UPDATE open_orders SET owner = NULL WHERE order_id = %s", (claim.order_id,))
    with pytest.raises(SupersededError):
        await store.journal.append(store.step(claim, Status.BUILDING))


async def test_two_writers_of_one_version_cannot_both_win(store: Store) -> None:
    claim = await store.start()
    steps = [store.step(claim, Status.BUILDING) for _ in range(5)]
    results = await asyncio.gather(*map(store.journal.append, steps), return_exceptions=True)
    assert [type(result) for result in results] == [Committed, *[SupersededError] * 4]


async def test_a_bad_row_does_not_fail_its_neighbours(store: Store) -> None:
    good, bad = await store.start(), await store.start()
    # A confirmed order must have a fill: PostgreSQL rejects the row.
    results = await asyncio.gather(
        store.journal.append(store.step(good, Status.BUILDING)),
        store.journal.append(store.step(bad, Status.CONFIRMED)),
        return_exceptions=True,
    )
    assert isinstance(results[0], Committed)
    assert isinstance(results[1], psycopg2.IntegrityError)


async def test_a_quote_may_be_more_than_one_account_holds(store: Store) -> None:
    # In one group: a large quote must not fail the other row.
    quotes = [Amounts(2**64, 3 * 2**64), Amounts(7, 8)]
    claims = [await store.start() for _ in quotes]
    building = [await store.journal.append(store.step(claim, Status.BUILDING)) for claim in claims]
    steps = [
        store.step(
            claim,
            Status.SUBMITTED,
            version=before.sequence,
            transaction=QuotedTransaction(
                SignedTransaction(claim.order_id, "raydium", b"raw", 1, 1, 9), quoted
            ),
        )
        for claim, before, quoted in zip(claims, building, quotes, strict=True)
    ]
    committed = await asyncio.gather(*map(store.journal.append, steps))
    assert [step.quoted for step in committed] == quotes
    orders = await store.orders.get_many([claim.order_id for claim in claims])
    assert [orders[claim.order_id].quoted for claim in claims] == quotes


async def test_a_commit_with_a_lost_response_is_recognised_by_its_write_id(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await store.start()
    store.told.clear()
    run = store.database.run
    answers_lost = 0

    async def run_and_lose_the_first_answer(*arguments: object) -> list[Row]:
        nonlocal answers_lost
        rows: list[Row] = await run(*arguments)  # type: ignore[arg-type]
        if answers_lost == 0:
            answers_lost += 1
            raise UnavailableError("the answer was lost", unknown=True)
        return rows

    monkeypatch.setattr(store.database, "run", run_and_lose_the_first_answer)
    step = await store.journal.append(store.step(claim, Status.BUILDING))
    assert step.entry["sequence"] == 3
    assert store.told == [step]


async def test_an_attempt_and_its_order_move_together(store: Store) -> None:
    claim = await store.start()
    building = await store.journal.append(store.step(claim, Status.BUILDING))
    signed = SignedTransaction("signature", "raydium", b"\x00bytes\xff", 101, 99, 123, blockhash_slot=2**40)
    other = QuotedTransaction(SignedTransaction("other", "raydium", b"", 1, 1, 1), Amounts(1, 1))
    stale = store.step(claim, Status.SUBMITTED, transaction=other)
    with pytest.raises(SupersededError):
        await store.journal.append(stale)
    assert await store.orders.latest_transaction(claim.order_id) is None
    step = store.step(
        claim,
        Status.SUBMITTED,
        version=building.sequence,
        transaction=QuotedTransaction(signed, Amounts(101, 100)),
    )
    assert (await store.journal.append(step)).quoted == Amounts(101, 100)
    assert await store.orders.latest_transaction(claim.order_id) == signed
    order = await store.orders.get(claim.order_id)
    assert order is not None
    assert order.quoted == Amounts(101, 100)


async def test_a_process_that_may_have_been_declared_dead_makes_no_new_attempt(
    store: Store, servers: TestServers
) -> None:
    claim = await store.start()
    building = await store.journal.append(store.step(claim, Status.BUILDING))
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("UPDATE instances SET seen_at = now() - interval '1 hour'")
    signed = SignedTransaction("signature", "raydium", b"", 101, 99, 123)
    quoted = QuotedTransaction(signed, Amounts(101, 100))
    submitted = store.step(claim, Status.SUBMITTED, version=building.sequence, transaction=quoted)
    with pytest.raises(SupersededError):
        await store.journal.append(submitted)
    await store.instances.heartbeat()
    assert (await store.journal.append(submitted)).sequence == 4


async def test_outcomes_are_stored_with_their_transactions_and_costs_with_their_order(
    store: Store, servers: TestServers
) -> None:
    claim = await store.start()
    slipped = Failure.of(FailureCode.SLIPPAGE_EXCEEDED)
    expired = Failure.of(FailureCode.ATTEMPT_EXPIRED)
    outcomes = [
        TransactionStatus(
            TransactionState.FAILED, failure=slipped, landing=Landing(900, "x"), cost=NetworkCost(5_000, 7, 0)
        ),
        TransactionStatus(TransactionState.EXPIRED, failure=expired),
        landed(
            Fill(8, 7, "tx 2"),
            landing=Landing(2**40, "x"),
            cost=NetworkCost(6_000, 0, 2_039_280),
            residue=(Residue("USDC", 2**53 + 1),),
        ),
    ]
    for number, outcome in enumerate(outcomes):
        transaction = QuotedTransaction(
            SignedTransaction(f"tx {number}", "raydium", b"", 8, 7, 9), Amounts(8, 7)
        )
        await store.journal.append(store.step(claim, Status.BUILDING))
        version = claim.version + 1
        submitted = store.step(claim, Status.SUBMITTED, version=version, transaction=transaction)
        await store.journal.append(submitted)
        status = Status.PENDING if outcome.fill is None else Status.CONFIRMED
        step = store.step(claim, status, version=version + 1, outcome=outcome, retry_in_ms=0)
        assert (await store.journal.append(step)).fill == outcome.fill
        if status is Status.PENDING:
            again = await store.claims.claim(claim.order_id)
            assert isinstance(again, Claimed)
            claim = again
    found = rows(
        servers,
        "SELECT id, slot, network_fee, tip, rent, error, settled_at IS NOT NULL"
        " FROM transactions ORDER BY id",
    )
    assert found == [
        ("tx 0", 900, 5_000, 7, 0, slipped.detail, True),
        ("tx 1", None, None, None, None, expired.detail, True),
        ("tx 2", 2**40, 6_000, 0, 2_039_280, None, True),
    ]
    [order] = rows(servers, "SELECT network_cost, residue FROM orders")
    assert order == (5_007 + 2_045_280, [{"token": "USDC", "amount": 2**53 + 1}])


async def test_an_order_without_costs_has_none(store: Store, servers: TestServers) -> None:
    claim = await store.start()
    transaction = QuotedTransaction(SignedTransaction("tx", "raydium", b"", 8, 7, 9), Amounts(8, 7))
    await store.journal.append(store.step(claim, Status.BUILDING))
    await store.journal.append(store.step(claim, Status.SUBMITTED, version=3, transaction=transaction))
    assert rows(servers, "SELECT settled_at FROM transactions") == [(None,)]
    outcome = landed(Fill(8, 7, "tx"))
    await store.journal.append(store.step(claim, Status.CONFIRMED, version=4, outcome=outcome))
    assert rows(servers, "SELECT network_cost, residue FROM orders") == [(None, None)]
    found = rows(servers, "SELECT settled_at IS NOT NULL, slot, network_fee, error FROM transactions")
    assert found == [(True, None, None, None)]


async def test_an_ended_order_is_listed_and_no_longer_open(store: Store, servers: TestServers) -> None:
    claim = await store.start()
    for version, status in ((2, Status.BUILDING), (3, Status.SUBMITTED)):
        await store.journal.append(store.step(claim, status, version=version))
    outcome = landed(Fill(8, 7, "hash"))
    await store.journal.append(store.step(claim, Status.CONFIRMED, version=4, outcome=outcome))
    order = await store.orders.get(claim.order_id)
    assert order is not None
    assert (order.ended, order.fill) == (True, Fill(8, 7, "hash"))
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT (SELECT count(*) FROM open_orders), (SELECT count(*) FROM finished_orders)")
        assert cursor.fetchone() == (0, 1)


async def test_the_quotes_of_an_attempt_are_stored_with_it(store: Store) -> None:
    claim = await store.start()
    refused = RoutingRecord([{"venue": "raydium", "poolId": "p", "reason": "amount_too_small"}], None)
    waiting = await store.journal.append(
        store.step(claim, Status.PENDING, retry_in_ms=0, detail={"reason": "x"}, routing=refused)
    )
    again = await store.claims.claim(claim.order_id)
    assert isinstance(again, Claimed)
    leg = Leg(Dex.RAYDIUM, "p", "SOL", "USDC", 10**9, 7, 0, 0, 0)
    route = Route(SwapMode.EXACT_IN, "SOL", "USDC", (Path((leg,)),), 0)
    chosen = record_choice(Choice((PoolQuote(Dex.RAYDIUM, "p", 10**9, 7, 0, 0, 0),), route, None))
    building = await store.journal.append(
        store.step(claim, Status.BUILDING, version=again.version, routing=chosen)
    )
    assert (waiting.routing, building.routing) == (refused, chosen)
    order = await store.orders.get_whole(claim.order_id)
    assert order is not None
    assert order.routing == {waiting.sequence: refused, building.sequence: chosen}
    latest = await store.orders.get(claim.order_id)
    assert latest is not None
    assert latest.routing == {building.sequence: chosen}


@pytest.mark.parametrize("mode", SwapMode)
async def test_an_order_is_read_as_it_was_placed(store: Store, mode: SwapMode) -> None:
    placed = replace(store.new_order(), swap_mode=mode, amount=U64_MAX, amount_text="18446744073.709551615")
    await store.journal.insert(placed, 5)
    claim = await store.claims.claim(placed.id)
    assert isinstance(claim, Claimed)
    assert (claim.swap_mode, claim.amount) == (mode, U64_MAX)
    order = await store.orders.get(placed.id)
    assert order is not None
    assert (order.swap_mode, order.amount, order.amount_text) == (mode, U64_MAX, placed.amount_text)
    assert type(order.amount) is type(claim.amount) is int


async def test_a_waiting_retry_has_no_owner_and_is_not_due(store: Store) -> None:
    claim = await store.start()
    await store.journal.append(
        store.step(claim, Status.PENDING, retry_in_ms=60_000, detail={"reason": "slippage_exceeded"})
    )
    assert await store.claims.claim(claim.order_id) is None


@pytest.mark.parametrize("starts", [0, 100])
async def test_a_claim_tells_how_many_transactions_of_the_order_have_expired(
    servers: TestServers, starts: int
) -> None:
    """Whichever process claims it: the next one offers more to be preferred."""
    reasons = FailureCode.ATTEMPT_EXPIRED, FailureCode.SLIPPAGE_EXCEEDED, FailureCode.ATTEMPT_EXPIRED
    limit = RateLimit(starts)
    async with open_store(servers, limit) as first, open_store(servers, limit) as second:
        owner, other = first, second
        claim = await owner.start()
        counted = [claim.expired_attempts]
        for number, reason in enumerate(reasons, 1):
            detail = history.attempt_failed(number, Failure.of(reason), None)
            await owner.journal.append(owner.step(claim, Status.PENDING, detail=detail, retry_in_ms=0))
            owner, other = other, owner
            again = await owner.claims.claim(claim.order_id)
            assert isinstance(again, Claimed)
            claim = again
            counted.append(claim.expired_attempts)
    assert counted == [0, 1, 1, 2]


async def test_a_repeated_claim_appends_nothing(store: Store) -> None:
    claim = await store.start()
    assert await store.claims.claim(claim.order_id) == claim


async def test_a_released_order_continues_from_its_status(store: Store, servers: TestServers) -> None:
    claim = await store.start()
    await store.journal.append(store.step(claim, Status.BUILDING))
    await store.instances.release([claim.order_id])
    async with open_store(servers) as other:
        taken = await other.claims.claim(claim.order_id)
        assert isinstance(taken, Claimed)
        assert (taken.status, taken.version, taken.owner) == (Status.BUILDING, 3, other.identity.id)
    with pytest.raises(SupersededError):
        await store.journal.append(store.step(claim, Status.SUBMITTED, version=3))


async def test_orders_of_a_dead_instance_are_released_and_others_are_not(
    store: Store, servers: TestServers
) -> None:
    async with open_store(servers) as dead:
        mine, orphan = await store.start(), await dead.start()
        with servers.connect() as link, link.cursor() as cursor:
            cursor.execute(
                "UPDATE instances SET seen_at = now() - interval '2 seconds' WHERE id = %s",
                (dead.identity.id,),
            )
        assert await store.instances.remove_dead() == [dead.identity.id]
        assert await store.instances.release_orphans() == [orphan.order_id]
        assert not await dead.instances.heartbeat()
        assert await store.instances.find_idle([]) == [mine.order_id]
        assert await store.instances.find_idle([mine.order_id]) == []
