"""Requirements of the paper venue only; test_venue_cards.py has those of every venue."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from service.chains.paper.listing import NewPool, token_of
from service.chains.venue import Balance, VenueRefusedError, VenueUnavailableError
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Dex, SwapMode
from service.domain.tokens import TOKENS, Token
from service.domain.transaction import TransactionState
from service.postgres.database import UnavailableError
from service.postgres.queries import Query
from service.routing import NoRouteError
from service.settings import Range
from tests.support.paper import SOL, Rig, open_rig, until
from tests.support.servers import TestServers


@pytest.fixture
async def rig(servers: TestServers) -> AsyncIterator[Rig]:
    async with open_rig(servers) as rig:
        yield rig


async def test_a_pending_attempt_expires_and_changes_no_pool(servers: TestServers) -> None:
    slow: dict[str, Any] = {"slot_ms": 20, "valid_slots": 5, "execution_delay_ms": Range(300, 300)}
    async with open_rig(servers, **slow) as rig:
        attempt = await rig.prepare()
        assert (await rig.venue.submit(attempt)).state is TransactionState.PENDING
        assert (await rig.venue.outcome(attempt, 5)).state is TransactionState.EXPIRED
        # The chain continues without it; on a busy machine the next needs more than five slots of 20 ms.
        rig.venue._settings = replace(rig.settings, execution_delay_ms=Range(0, 0), valid_slots=500)
        assert (await rig.trade()).fill is not None
        assert (await rig.venue.status(attempt)).state is TransactionState.EXPIRED
        await until(lambda: rig.market is not None)
        market = rig.market
        assert market is not None
        assert market.wallets["user", "SOL"] == 10**18 - SOL


async def test_a_rejected_attempt_never_lands(rig: Rig) -> None:
    attempt = await rig.prepare()
    refused = await rig.venue.refuse(attempt)
    assert refused.state is TransactionState.FAILED
    assert await rig.venue.submit(attempt) == refused
    landed = await rig.prepare()
    await rig.venue.submit(landed)
    await rig.venue.outcome(landed, 5)
    assert (await rig.venue.refuse(landed)).state is TransactionState.LANDED


@pytest.mark.parametrize(
    "fault",
    [
        UnavailableError("lost", unknown=True),
        psycopg2.DataError("refused"),
        KeyError("a fault of the program's own"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after it"])
async def test_the_chain_loses_nothing_after_a_fault(rig: Rig, fault: Exception, committed: bool) -> None:
    broken = True

    async def break_down(query: Query[Any]) -> None:
        if broken and query.name in {"paper_settle", "paper_get_pools"}:
            raise fault

    attempts = [await rig.prepare(SOL + number) for number in range(3)]
    if committed:
        # The commit succeeds, and its response is lost.
        run, rig.run = rig.run, rig.database.run

        async def run_and_lose(query: Query[Any], parameters: object = None) -> object:
            rows = await run(query, parameters)  # type: ignore[arg-type]
            await break_down(query)
            return rows

        rig.database.run = run_and_lose  # type: ignore[method-assign, assignment]
    else:
        rig.meddle(break_down)
    await asyncio.gather(*map(rig.venue.submit, attempts))
    early = await rig.venue.outcome(attempts[0], 0.3)
    assert committed or not early.final
    broken = False
    statuses = await asyncio.gather(*(rig.venue.outcome(attempt, 10) for attempt in attempts))
    assert [status.state for status in statuses] == [TransactionState.LANDED] * 3
    assert (await rig.trade()).fill is not None
    market = rig.market
    assert market is not None
    assert market.wallets["user", "SOL"] == 10**18 - sum(SOL + number for number in range(3)) - SOL


async def test_a_swap_through_a_pool_that_was_delisted_is_not_signed(rig: Rig) -> None:
    # No other pool has the token, so every route goes through this one, whatever the market's traders do.
    gem = token_of("GEM", 6)
    pool = await rig.venue.list_pool(NewPool("raydium_cpmm", gem, TOKENS["USDC"], 10**12, 10**12))
    route = (await rig.quote(10**6, "GEM", "USDC")).route
    assert pool.id in {leg.pool_id for path in route.paths for leg in path.legs}
    assert (await rig.sign(route)).maximum_in == 10**6
    await rig.venue.delist_pool(pool.id)
    with pytest.raises(VenueRefusedError) as refusal:
        await rig.sign(route)
    assert refusal.value.failure == Failure(FailureCode.POOL_DISABLED, f"The pool {pool.id} was delisted.")


async def test_an_unavailable_venue_raises_an_error(rig: Rig) -> None:
    attempt = await rig.prepare()

    async def away(_query: Query[Any]) -> None:
        raise UnavailableError("away", unknown=False)

    rig.meddle(away)
    with pytest.raises(VenueUnavailableError):
        await rig.venue.submit(attempt)
    with pytest.raises(VenueUnavailableError):
        await rig.venue.status(attempt)
    # Quoting does not need PostgreSQL.
    assert (await rig.quote()).route.amount_in == SOL


async def test_a_delayed_quote_uses_the_state_at_its_end(servers: TestServers) -> None:
    async with open_rig(servers, quote_delay_ms=Range(200, 200)) as rig:
        quoting = asyncio.create_task(rig.quote())
        await asyncio.sleep(0)
        rig.venue._settings = replace(rig.settings, quote_delay_ms=Range(0, 0))
        assert not quoting.done()
        assert (await rig.trade(20_000 * SOL)).fill is not None
        now = (await rig.quote()).route
        # Requested before the trade, returned after it.
        assert (await quoting).route == now


async def test_the_market_keeps_its_seed(servers: TestServers, caplog: pytest.LogCaptureFixture) -> None:
    async with open_rig(servers, seed=None) as first:
        pools = first.pools
    assert "PAPER_SEED" not in caplog.text
    async with open_rig(servers, seed=99) as second:
        assert second.pools == pools
        attempt = await second.prepare()
    assert "PAPER_SEED has no effect" in caplog.text
    async with open_rig(servers, seed=None) as third:
        # Signed by the wallet of the market's seed, which all instances share.
        assert (await third.venue.submit(attempt)).state is not TransactionState.EXPIRED
        assert (await third.venue.outcome(attempt, 10)).fill is not None


async def test_each_dex_has_pools_of_its_programs(rig: Rig) -> None:
    programs = {(view.pool.dex, view.program) for view in rig.venue.all_views()[1]}
    assert programs == {
        (Dex.RAYDIUM, "raydium_cpmm"),
        (Dex.RAYDIUM, "raydium_amm_v4"),
        (Dex.METEORA, "meteora_dlmm"),
        (Dex.METEORA, "meteora_damm_v2"),
    }


async def test_a_pair_without_pools_for_two_swaps_has_no_route(rig: Rig) -> None:
    with pytest.raises(NoRouteError):
        await rig.quote(1, "SOL", "SOL")
    with pytest.raises(NoRouteError):
        await rig.quote(1, "SOL", "DOGE", SwapMode.EXACT_OUT)


async def test_what_a_transaction_may_still_take_is_in_flight(servers: TestServers) -> None:
    late = Range(600_000, 600_000)
    async with open_rig(servers, balances={"SOL": 3 * SOL}, execution_delay_ms=late) as rig:
        route = (await rig.quote()).route
        await rig.venue.submit(await rig.sign(route, maximum_in=2 * SOL))
        assert await rig.venue.balance("SOL") == Balance(SOL, in_flight=2 * SOL)
        assert await rig.venue.balance("USDC") == Balance(10**18)
        # No more than the wallet holds can leave it.
        await rig.venue.submit(await rig.sign(route, maximum_in=2 * SOL))
        assert await rig.venue.balance("SOL") == Balance(0, in_flight=3 * SOL)
        assert (TOKENS["SOL"], Balance(0, in_flight=3 * SOL)) in await rig.venue.balances(100)
        # What can no longer land takes nothing, although nothing has asked for its outcome.
        with servers.connect() as link, link.cursor() as cursor:
            cursor.execute("UPDATE paper_transactions SET last_valid_slot = 1")
        assert await rig.venue.balance("SOL") == Balance(3 * SOL)


async def test_reads_of_balances_share_a_statement_and_fail_together(rig: Rig) -> None:
    reads, away = 0, False

    async def count(query: Query[Any]) -> None:
        nonlocal reads
        reads += query.name == "paper_get_balances"
        if away:
            raise UnavailableError("away", unknown=False)

    rig.meddle(count)
    tokens = ["SOL", "USDC", "NOBODY"] * 30
    held = await asyncio.gather(*map(rig.venue.balance, tokens))
    assert [each.total for each in held] == [10**18, 10**18, 0] * 30
    assert reads == 1
    away = True
    failed = await asyncio.gather(*map(rig.venue.balance, tokens), return_exceptions=True)
    assert {type(each) for each in failed} == {VenueUnavailableError}
    assert reads == 2
    with pytest.raises(VenueUnavailableError):
        await rig.venue.balances(10)


async def test_a_token_that_no_pool_trades_here_has_a_balance(rig: Rig, servers: TestServers) -> None:
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("INSERT INTO paper_tokens (symbol, mint, decimals) VALUES ('ELSE', 'its mint', 3)")
        cursor.execute("INSERT INTO paper_wallets VALUES ('user', 'ELSE', 5, 0), ('traders', 'NONE', 5, 0)")
    held = dict(await rig.venue.balances(100))
    assert held[Token("ELSE", "its mint", 3)] == Balance(5) == await rig.venue.balance("ELSE")
    assert "ELSE" not in TOKENS
    # It is another wallet's.
    assert "NONE" not in {token.symbol for token in held}
    assert await rig.venue.balance("NONE") == Balance()
    # The market gave none of it.
    assert not rig.venue.is_unlimited("ELSE")
    assert rig.venue.is_unlimited("SOL")
