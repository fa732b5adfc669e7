"""One instance at a time executes on the paper market; all quote the same, and nothing is lost."""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from service.api.problems import InsufficientBalanceError
from service.chains.paper import chain
from service.chains.paper.genesis import FUNDS
from service.chains.paper.market import Market
from service.chains.paper.records import Arrival, CommitId, Settlement, Submission
from service.chains.paper.transaction import decode, message_of
from service.chains.venue import VenueUnavailableError
from service.domain.tokens import TOKENS
from service.domain.transaction import TransactionState
from service.postgres import leadership
from service.postgres.database import UnavailableError
from service.postgres.queries import Query
from service.settings import Range
from tests.support.judge import audit_now, wait_until_none_is_open
from tests.support.orders import Client, Json, order_of
from tests.support.paper import NO_REDIS, SOL, Rig, open_rig, settings, until
from tests.support.servers import TestServers
from tests.support.statements import Gate

Start = Callable[..., Awaitable[Client]]

USER_SELLS = [
    ("SOL", "USDC", SOL),
    ("USDC", "SOL", 10**9),
    ("JUP", "BONK", 10**8),
    ("SOL", "USDC", 20_000 * SOL),
]


@asynccontextmanager
async def open_rigs(servers: TestServers, number: int, **changes: Any) -> AsyncIterator[list[Rig]]:
    """Start venues on one database, the first of which leads."""
    async with AsyncExitStack() as stack:
        rigs = [await stack.enter_async_context(open_rig(servers, **changes)) for _ in range(number)]
        assert [rig.leading for rig in rigs] == [True] + [False] * (number - 1)
        yield rigs


@asynccontextmanager
async def open_mortal(servers: TestServers, **changes: Any) -> AsyncIterator[Rig]:
    """Start a venue that ends as if killed, at the latest at the end of the block."""
    rig = Rig(servers, settings(servers, **changes))
    await rig.start()
    try:
        yield rig
    finally:
        await rig.die()


def ask(servers: TestServers, statement: str, *values: object) -> Any:
    """Return the one value, or row, that a statement finds."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(statement, values)
        row = cursor.fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def do(servers: TestServers, statement: str) -> None:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(statement)


def stored_commit_id(servers: TestServers) -> CommitId:
    return CommitId(*ask(servers, "SELECT epoch, sequence FROM paper_leader"))


def balances(servers: TestServers, owner: str = "user") -> dict[str, int]:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT token, balance FROM paper_wallets WHERE owner = %s", (owner,))
        return {token: int(balance) for token, balance in cursor.fetchall()}


def gains(servers: TestServers) -> dict[str, int]:
    """Return for each token the amount that was created or lost; it must be zero."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT token_a, token_b, vault_a - initial_a, vault_b - initial_b FROM paper_pools")
        pools = cursor.fetchall()
        cursor.execute("SELECT token, balance - funded FROM paper_wallets")
        wallets = cursor.fetchall()
    total = dict.fromkeys(TOKENS, 0)
    for token_a, token_b, gain_a, gain_b in pools:
        total[token_a] += int(gain_a)
        total[token_b] += int(gain_b)
    for token, gain in wallets:
        total[token] += int(gain)
    return {token: gain for token, gain in total.items() if gain}


@pytest.fixture
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable polling of the ledger: instances learn of changes from messages only."""
    monkeypatch.setattr(chain, "_CHECK_EVERY_S", 3_600.0)


# --- followers


async def test_one_instance_leads_and_the_others_quote_its_commits(
    servers: TestServers, no_checks: None
) -> None:
    async with open_rigs(servers, 3) as rigs:
        leader, *followers = rigs
        for token_in, token_out, amount in USER_SELLS:
            assert (await leader.trade(amount, token_in, token_out)).state is TransactionState.LANDED
            assert leader.commit_id == stored_commit_id(servers)
            await until(lambda: {rig.commit_id for rig in rigs} == {leader.commit_id})
            for follower in followers:
                assert follower.pools == leader.pools
                assert (await follower.quote()).route == (await leader.quote()).route
        assert [rig.leading for rig in rigs] == [True, False, False]


async def test_a_follower_without_redis_catches_up_from_the_ledger(servers: TestServers) -> None:
    async with open_rigs(servers, 2, redis_url=NO_REDIS) as [leader, follower]:
        for _ in range(2):
            await leader.trade()
            took_s = await until(lambda: follower.commit_id == leader.commit_id)
            assert took_s < 2.5
            assert follower.pools == leader.pools


async def test_missed_messages_are_read_from_the_ledger(servers: TestServers, no_checks: None) -> None:
    async with open_rigs(servers, 2) as [leader, follower]:
        with patch.object(leader.link, "send", lambda *_command: None):
            await leader.trade()
        assert follower.commit_id < leader.commit_id
        # The next commit's number shows that one is missing.
        await leader.trade()
        await until(lambda: follower.commit_id == leader.commit_id)
        assert follower.pools == leader.pools


@pytest.mark.parametrize("message", [b"", b"x" * 60, b"{}", b'{"commit_id":[1]}', b'{"submitted":[["a"]]}'])
async def test_invalid_market_messages_are_dropped(
    servers: TestServers, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_rig(servers) as rig:
        rig.venue.chain.announcements.receive(b"0" * 36 + message)
        assert "malformed message" in caplog.text
        assert (await rig.trade()).fill is not None


async def test_a_transaction_submitted_at_a_follower_lands_without_polling(
    servers: TestServers, no_checks: None
) -> None:
    async with open_rigs(servers, 2) as [leader, follower]:
        status = await follower.trade()
        assert status.fill is not None
        await until(lambda: follower.commit_id == leader.commit_id)
        assert leader.commit_id.sequence == 1


async def test_a_transaction_submitted_at_a_follower_without_redis_lands_soon(servers: TestServers) -> None:
    async with open_rigs(servers, 2, redis_url=NO_REDIS) as [leader, follower]:
        attempt = await follower.prepare()
        await follower.venue.submit(attempt)
        landed = "SELECT count(*) FROM paper_transactions WHERE status = 'landed'"
        assert await until(lambda: ask(servers, landed) == 1) < 2.5
        assert (await follower.venue.outcome(attempt, 10)).fill is not None
        assert leader.commit_id.sequence == 1


async def test_a_transaction_submitted_at_both_instances_lands_once(servers: TestServers) -> None:
    async with open_rigs(servers, 2) as [leader, follower]:
        attempts = [await leader.prepare(SOL + number) for number in range(40)]
        before = balances(servers)
        await asyncio.gather(
            *(rig.venue.submit(attempt) for attempt in attempts for rig in (leader, follower))
        )
        statuses = await asyncio.gather(*(follower.venue.outcome(attempt, 10) for attempt in attempts))
        fills = [status.fill for status in statuses if status.fill]
        assert [fill.tx_hash for fill in fills] == [attempt.id for attempt in attempts]
        after = balances(servers)
        assert before["SOL"] - after["SOL"] == sum(fill.amount_in for fill in fills)
        assert after["USDC"] - before["USDC"] == sum(fill.amount_out for fill in fills)
        assert gains(servers) == {}


# --- takeover


async def test_another_instance_leads_at_once_after_a_stop(servers: TestServers) -> None:
    async with open_rigs(servers, 2) as [leader, other]:
        await leader.trade()
        await leader.venue.stop()
        # At its next check, within a second; the lease would take three.
        assert await until(lambda: other.leading) < 2
        assert (await other.trade()).fill is not None
        assert stored_commit_id(servers) == CommitId(2, 2)


async def test_a_start_after_a_stop_leads_at_once(servers: TestServers) -> None:
    epochs = []
    for _ in range(3):
        async with open_rig(servers) as rig:
            assert rig.leading
            epochs.append(rig.commit_id.epoch)
            assert (await rig.trade()).fill is not None
    assert epochs == [1, 2, 3]
    assert stored_commit_id(servers).sequence == 3


async def test_another_instance_leads_after_the_lease_of_a_dead_leader(servers: TestServers) -> None:
    async with open_mortal(servers, slot_ms=50) as dead, open_rig(servers, slot_ms=50) as survivor:
        assert (dead.leading, survivor.leading) == (True, False)
        await dead.trade()
        died_at = time.monotonic()
        await dead.die()
        slot, _views = survivor.venue.all_views()
        # Transactions submitted without a leader wait.
        attempt = await survivor.prepare()
        assert (await survivor.venue.submit(attempt)).state is TransactionState.PENDING
        assert not survivor.leading
        await until(lambda: survivor.leading, 10)
        took_s = time.monotonic() - died_at
        assert 1.5 < took_s < 8
        assert (await survivor.venue.outcome(attempt, 10)).fill is not None
        # Slots depend on time only: all of them have passed.
        passed = survivor.venue.all_views()[0] - slot
        assert int(took_s * 1000) // 50 <= passed <= (time.monotonic() - died_at) * 1000 / 50 + 2
        assert survivor.commit_id.epoch == 2


async def test_a_suspended_leader_that_was_replaced_lands_nothing(
    servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rigs(servers, 2) as [suspended, successor]:
        settle = suspended.venue._ledger.settle
        answers: list[Settlement | None] = []

        async def note(*arguments: Any) -> Settlement | None:
            answers.append(await settle(*arguments))
            return answers[-1]

        monkeypatch.setattr(suspended.venue._ledger, "settle", note)
        before = suspended.pools
        attempt = await suspended.prepare(20_000 * SOL)
        gate = Gate(suspended.database, "paper_settle", "paper_renew", "paper_read_leader", "paper_get_pools")
        await suspended.venue.submit(attempt)
        await gate.reached.wait()
        market = suspended.market
        assert market is not None
        assert dict(market.pools) != before  # executed, in memory
        do(servers, "UPDATE paper_leader SET renewed_at = now() - interval '1 minute'")
        await until(lambda: successor.leading)
        landed = await successor.venue.outcome(attempt, 10)
        assert landed.fill is not None
        later = await successor.trade(3 * SOL)
        gate.open()
        # It learns that its epoch is over, and loads the other leader's market.
        await until(lambda: suspended.commit_id == successor.commit_id)
        assert answers == [None]
        assert not suspended.leading
        assert suspended.market is None
        assert suspended.pools == successor.pools
        assert await suspended.venue.outcome(attempt, 10) == landed
        assert (await suspended.trade()).fill is not None
    assert later.fill is not None
    assert ask(servers, "SELECT count(*) FROM paper_transactions WHERE status = 'landed'") == 3
    assert gains(servers) == {}


async def test_a_leader_whose_large_statements_hang_is_replaced(
    servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "_STALLED_AFTER_S", 1.5)
    async with open_rigs(servers, 2) as [stalled, successor]:
        # It renews its lease meanwhile.
        gate = Gate(stalled.database, "paper_settle", "paper_find_pending")
        attempt = await stalled.prepare()
        await stalled.venue.submit(attempt)
        await gate.reached.wait()
        await until(lambda: successor.leading)
        landed = await successor.venue.outcome(attempt, 10)
        assert landed.fill is not None
        gate.open()
        assert await stalled.venue.outcome(attempt, 10) == landed
    assert gains(servers) == {}


async def test_the_statements_of_an_ended_epoch_cannot_be_committed_later(servers: TestServers) -> None:
    async with open_rigs(servers, 2) as [leader, other]:
        funded: list[object] = []
        run = other.database.run

        async def lose_first(query: Query[Any], parameters: Any = None) -> Any:
            if query.name == "paper_fund_wallets":
                funded.append(parameters["epoch"])
                if len(funded) == 1:
                    raise UnavailableError("the answer was lost", unknown=True)
            return await run(query, parameters)

        other.database.run = lose_first  # type: ignore[method-assign]
        await leader.venue.stop()
        await until(lambda: other.leading)
        assert len(funded) == len(set(funded)) == 2
        assert stored_commit_id(servers).epoch == funded[1]


async def test_only_one_of_many_followers_takes_over(servers: TestServers) -> None:
    async with open_rigs(servers, 4) as [leader, *others]:
        await leader.venue.stop()
        await until(lambda: any(rig.leading for rig in others))
        assert sum(rig.leading for rig in others) == 1
        assert (await others[0].trade()).fill is not None
        assert stored_commit_id(servers).epoch == 2
        await until(lambda: len({rig.commit_id for rig in others}) == 1)


# --- groups and delays


async def test_without_a_delay_waiting_transactions_execute_in_one_group_and_one_commit(
    servers: TestServers,
) -> None:
    async with open_rig(servers) as rig:
        attempts = [await rig.prepare(SOL + number) for number in range(101)]
        gate = Gate(rig.database, "paper_settle")
        await rig.venue.submit(attempts[0])
        await gate.reached.wait()
        await asyncio.gather(*map(rig.venue.submit, attempts[1:]))
        gate.open()
        statuses = await asyncio.gather(*(rig.venue.outcome(attempt, 10) for attempt in attempts))
        assert all(status.fill for status in statuses)
        assert rig.commit_id.sequence == 2
    commits = "SELECT count(DISTINCT xmin::text), count(DISTINCT settled_at) FROM paper_transactions"
    assert ask(servers, commits) == (2, 2)


async def test_with_a_delay_each_lands_in_the_first_slot_after_it(
    servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: dict[str, int] = {}
    execute = Market.execute

    def note(market: Market, transaction: Any, slot: int) -> Any:
        executed[transaction.signature] = slot
        return execute(market, transaction, slot)

    monkeypatch.setattr(Market, "execute", note)
    async with open_rig(servers, slot_ms=50, execution_delay_ms=Range(130, 130)) as rig:
        attempts = [await rig.prepare(SOL + number) for number in range(12)]
        for attempt in attempts:
            assert (await rig.venue.submit(attempt)).state is TransactionState.PENDING
            await rig.clock.sleep(0.01)
        statuses = await asyncio.gather(*(rig.venue.outcome(attempt, 10) for attempt in attempts))
        assert all(status.fill for status in statuses)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT signature, lands_slot,"
            " floor((extract(epoch FROM submitted_at) * 1000 + 130) / 50)::bigint + 1,"
            " floor(extract(epoch FROM settled_at) * 1000 / 50)::bigint FROM paper_transactions"
        )
        rows = cursor.fetchall()
    assert len(rows) == 12
    for signature, lands_slot, first_slot, settled_slot in rows:
        assert lands_slot == first_slot
        assert lands_slot <= executed[signature] <= settled_slot
    # Neither all at once nor later than necessary, except on a slow machine.
    assert len({lands_slot for _signature, lands_slot, *_rest in rows}) > 1
    late = [executed[signature] - lands_slot for signature, lands_slot, *_rest in rows]
    assert sorted(late)[len(late) // 2] == 0


async def test_transactions_land_in_order_of_slot_and_arrival(
    servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    execute = Market.execute

    def note(market: Market, transaction: Any, slot: int) -> Any:
        order.append(transaction.signature)
        return execute(market, transaction, slot)

    monkeypatch.setattr(Market, "execute", note)
    async with open_rig(servers, slot_ms=200, execution_delay_ms=Range(1, 700)) as rig:
        attempts = [await rig.prepare(SOL + number) for number in range(30)]
        for attempt in attempts:
            await rig.venue.submit(attempt)
        await asyncio.gather(*(rig.venue.outcome(attempt, 10) for attempt in attempts))
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT signature FROM paper_transactions ORDER BY lands_slot, submitted_at")
        assert order == [signature for (signature,) in cursor.fetchall()]


# --- restarts


async def test_pools_wallets_and_pending_transactions_survive_a_restart(servers: TestServers) -> None:
    async with open_rig(servers) as rig:
        assert (await rig.trade()).fill is not None
        pending = [await rig.prepare(SOL), await rig.prepare(20_000 * SOL)]
        gate = Gate(rig.database, "paper_settle")
        for attempt in pending:
            assert (await rig.venue.submit(attempt)).state is TransactionState.PENDING
        await gate.reached.wait()
    async with open_rig(servers) as quiet:
        statuses = [await quiet.venue.outcome(attempt, 10) for attempt in pending]
        assert all(status.fill for status in statuses)
        market = quiet.market
        assert market is not None
        pools, wallets, commit_id = quiet.pools, dict(market.wallets), quiet.commit_id
    async with open_rig(servers) as again:
        market = again.market
        assert market is not None
        assert (again.pools, dict(market.wallets)) == (pools, wallets)
        assert again.commit_id == CommitId(commit_id.epoch + 1, commit_id.sequence)
        assert [await again.venue.status(attempt) for attempt in pending] == statuses
    assert gains(servers) == {}


async def test_a_crash_between_two_commits_leaves_complete_commits(servers: TestServers) -> None:
    async with open_mortal(servers) as rig:
        done = await rig.trade()
        attempt = await rig.prepare(20_000 * SOL)
        gate = Gate(rig.database, "paper_settle")
        await rig.venue.submit(attempt)
        await gate.reached.wait()
    assert ask(servers, "SELECT status FROM paper_transactions WHERE signature = %s", attempt.id) == "pending"
    do(servers, "UPDATE paper_leader SET leader = NULL")
    async with open_rig(servers) as other:
        assert (await other.venue.outcome(attempt, 10)).fill is not None
    assert done.fill is not None
    assert gains(servers) == {}


async def test_a_changed_balance_is_applied_at_the_next_start(servers: TestServers) -> None:
    async def start_with(**held: int) -> dict[str, int]:
        async with open_rig(servers, balances=held) as rig:
            await until(lambda: rig.leading)
            assert (await rig.trade(1_000, "SOL", "BONK")).state in {
                TransactionState.LANDED,
                TransactionState.FAILED,
            }
        assert gains(servers) == {}
        return balances(servers)

    first = await start_with()
    assert first["SOL"] == FUNDS - 1_000
    # No trade goes through USDT, so none leaves any of it.
    poorer = await start_with(SOL=5_000, USDT=7)
    # The first start's trade has already cost 1,000, and this one costs the same.
    assert (poorer["SOL"], poorer["USDT"]) == (5_000 - 2_000, 7)
    richer = await start_with(SOL=10**12)
    assert (richer["SOL"], richer["USDT"]) == (10**12 - 3_000, FUNDS)
    same = await start_with(SOL=10**12)
    assert same["SOL"] == 10**12 - 4_000
    # No more can be taken than the wallet has: the rest is taken when it has enough.
    assert (await start_with(SOL=3_999))["SOL"] == 10**12 - 5_000
    assert (await start_with(SOL=2**64 - 1))["SOL"] == 2**64 - 1 - 6_000


async def test_a_balance_does_not_change_the_wallet_of_another_owner(servers: TestServers) -> None:
    async with open_rig(servers, balances={"SOL": 1}):
        pass
    assert set(balances(servers, "traders").values()) == {FUNDS}
    assert balances(servers) == {**dict.fromkeys(TOKENS, FUNDS), "SOL": 1}


# --- faults


async def test_a_group_that_postgresql_rejects_blocks_no_other_group(
    servers: TestServers, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the transaction that cannot be stored fails: the others land."""
    caplog.set_level(logging.CRITICAL)
    async with open_rig(servers) as rig:
        good = [await rig.prepare(SOL + number) for number in range(3)]
        bad = await rig.prepare(4 * SOL)
        do(
            servers,
            "ALTER TABLE paper_transactions ADD CONSTRAINT refused CHECK"
            f" (status <> 'landed' OR signature <> '{bad.id}')",
        )
        await asyncio.gather(*map(rig.venue.submit, [*good[:2], bad, *good[2:]]))
        statuses = [await rig.venue.outcome(attempt, 10) for attempt in good]
        assert all(status.fill for status in statuses)
        assert (await rig.venue.status(bad)).state is TransactionState.PENDING
        do(servers, "ALTER TABLE paper_transactions DROP CONSTRAINT refused")
        assert (await rig.venue.outcome(bad, 10)).fill is not None
    assert gains(servers) == {}


async def test_a_leader_reloads_the_market_after_an_outage_of_postgresql(servers: TestServers) -> None:
    async with open_rig(servers) as rig:
        attempt = await rig.prepare()

        async def away(query: Query[Any]) -> None:
            if query.name.startswith("paper_"):
                raise UnavailableError("away", unknown=True)

        rig.meddle(away)
        with pytest.raises(VenueUnavailableError):
            await rig.venue.submit(attempt)
        rig.leave_alone()
        assert (await rig.trade()).fill is not None
        await rig.venue.submit(attempt)
        assert (await rig.venue.outcome(attempt, 10)).fill is not None


async def test_a_landed_transaction_announced_again_does_not_land_again(
    servers: TestServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rig(servers) as rig:
        attempt = await rig.prepare(20_000 * SOL)
        await rig.venue.submit(attempt)
        landed = await rig.venue.outcome(attempt, 10)
        before, pools = balances(servers), rig.pools
        arrival = Arrival(decode(attempt), 0)
        settle, answers = rig.venue._ledger.settle, []

        async def note(*arguments: Any) -> Settlement | None:
            answers.append(await settle(*arguments))
            return answers[-1]

        monkeypatch.setattr(rig.venue._ledger, "settle", note)
        rig.venue.chain.execute([Submission(arrival.transaction, message_of(attempt), 0)], [arrival])
        # Its changes in memory were not committed: the leader reloads the market and continues to lead.
        await until(lambda: answers == [None])
        await until(lambda: rig.market is not None and dict(rig.market.pools) == pools)
        assert (balances(servers), rig.pools) == (before, pools)
        assert await rig.venue.status(attempt) == landed
        assert (await rig.trade()).fill is not None
        assert stored_commit_id(servers).epoch == 1
    assert gains(servers) == {}


async def test_a_transaction_that_expires_before_execution_does_not_change_the_leader(
    servers: TestServers,
) -> None:
    async with open_rig(servers) as rig:
        attempt = await rig.prepare()
        gate = Gate(rig.database, "paper_settle")
        # Its last slot has passed before it is executed.
        arrival = Arrival(replace(decode(attempt), last_valid_slot=0), 0)
        rig.venue.chain.execute([Submission(arrival.transaction, message_of(attempt), 0)], [arrival])
        expired = await rig.venue.chain.outcome(attempt.id, 5)
        assert expired is not None
        assert expired.state is TransactionState.EXPIRED
        assert not gate.reached.is_set()
        gate.open()
        assert (await rig.trade()).fill is not None
        assert stored_commit_id(servers).epoch == 1


# --- heavy mixed trading

_MIXED: list[Json] = [
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.5"},
    {"tokenIn": "USDC", "tokenOut": "SOL", "amountIn": "2500", "slippageBps": 50},
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "25000"},
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountOut": "1000.000001"},
    {"tokenIn": "USDC", "tokenOut": "BONK", "amountOut": "1000000", "slippageBps": 300},
    {"tokenIn": "JUP", "tokenOut": "BONK", "amountIn": "400"},
    {"tokenIn": "RAY", "tokenOut": "BONK", "amountOut": "5000000"},
    {"tokenIn": "USDT", "tokenOut": "USDC", "amountIn": "100000", "slippageBps": 1},
    {"tokenIn": "USDC", "tokenOut": "USDT", "amountIn": "100000", "slippageBps": 0},
    # Worth less than one unit of the bought token.
    {"tokenIn": "BONK", "tokenOut": "SOL", "amountIn": "0.00001"},
    # More than the wallet holds.
    {"tokenIn": "SOL", "tokenOut": "USDC", "amountOut": "18446744073709"},
    {"tokenIn": "RAY", "tokenOut": "USDC", "amountIn": "1000"},
]


async def place_if_paid(client: Client, **changes: Any) -> None:
    """Place an order, unless the wallet cannot pay it now."""
    async with client.post("/api/orders/execute", json=order_of(**changes)) as answer:
        body = await answer.json()
        assert answer.status == 201 or body["type"] == InsufficientBalanceError.type, body


async def trade_heavily(servers: TestServers, clients: list[Client], orders: int) -> None:
    rng = random.Random(4)
    for client, group in zip(itertools.cycle(clients), range(0, orders, 20), strict=False):
        assert group < orders
        await asyncio.gather(*(place_if_paid(client, **rng.choice(_MIXED)) for _ in range(20)))
    await asyncio.to_thread(wait_until_none_is_open, servers, within_s=40)


async def test_heavy_mixed_trading_conserves_every_token(start: Start, servers: TestServers) -> None:
    environment = {
        "SLOT_MS": "20",
        "EXECUTION_DELAY_MS": "0-60",
        "QUOTE_DELAY_MS": "0-5",
        "PAPER_FAILURE_RATE": "transient=0.1,slippage=0.05,permanent=0.02",
        "PAPER_BALANCES": "RAY=5000",
        "RETRY_BASE_DELAY_MS": "20",
        "WORKER_CONCURRENCY": "50",
        "PAPER_SEED": "11",
        "LOG_LEVEL": "ERROR",
    }
    clients = [await start(**environment), await start(**environment)]
    logging.getLogger("service").setLevel(logging.ERROR)
    try:
        await trade_heavily(servers, clients, 400)
    finally:
        logging.getLogger("service").setLevel(logging.NOTSET)
    statuses = dict.fromkeys(("confirmed", "failed"), 0)
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT status, count(*) FROM orders GROUP BY status")
        statuses.update(cursor.fetchall())
        cursor.execute("SELECT count(DISTINCT swap_mode), count(DISTINCT amount_in) FROM orders")
        assert (cursor.fetchone() or (0,))[0] == 2
    assert statuses.keys() == {"confirmed", "failed"}
    # The wallet runs out of RAY; a sale of it after that is not accepted.
    assert 300 < sum(statuses.values()) < 400
    assert min(statuses.values()) > 10
    assert gains(servers) == {}
    assert await audit_now(servers) == []
    # The audit finds a difference of one unit, in a wallet or in a pool.
    for client in clients:
        await client.close()
    for spoil, mend in (
        ("UPDATE paper_wallets SET balance = balance {} 1 WHERE owner = 'traders' AND token = 'USDC'", "+-"),
        ("UPDATE paper_wallets SET balance = balance {} 1 WHERE owner = 'user' AND token = 'SOL'", "-+"),
        ("UPDATE paper_pools SET vault_b = vault_b {} 1 WHERE id = 'meteora:SOL-BONK:dlmm'", "+-"),
    ):
        do(servers, spoil.format(mend[0]))
        [finding] = await audit_now(servers)
        assert finding.endswith("1 base units of it came from nowhere"), finding
        do(servers, spoil.format(mend[1]))
    assert await audit_now(servers) == []
