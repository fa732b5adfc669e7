"""The market feed: one quote for all watchers of a pair, the newest state for each, nothing for none."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from service.amm import ChainTime, CpmmPool, Direction, PoolState
from service.chains.venue import MarketChange, MarketData, PoolRef, Snapshot
from service.domain.failures import FailureCode
from service.domain.quote import Dex
from service.events.market_feed import MarketFeed, MarketWatch, PairState, QuotedPair, TooManyQuotesError
from service.routing import RouteLimits
from tests.support.clock import START_S, ManualClock, settle

UNIT = 10**6
EVERY_MS = 100
GEM_POOL = PoolRef("gem", Dex.RAYDIUM, "GEM", "USDC")
ORE_POOL = PoolRef("ore", Dex.METEORA, "ORE", "USDC")
SELL_GEM = QuotedPair("GEM", "USDC", UNIT)
SELL_TEN = QuotedPair("GEM", "USDC", 10 * UNIT)
SELL_ORE = QuotedPair("ORE", "USDC", UNIT)
ORE_TO_GEM = QuotedPair("ORE", "GEM", UNIT)


class MovingPools:
    """A venue whose pools the test moves."""

    def __init__(self) -> None:
        self.states: dict[PoolRef, PoolState] = {ref: pool(1_000_000) for ref in (GEM_POOL, ORE_POOL)}
        self.slot = 7
        self.snapshots = 0
        self.broken = False

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        return [ref for ref in self.states if {ref.token_a, ref.token_b} == {token_in, token_out}]

    def local_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        self.snapshots += 1
        if self.broken:
            raise RuntimeError("broken")
        return [Snapshot(ref, self.states[ref], ChainTime(int(START_S), self.slot)) for ref in pools]

    def all_views(self) -> tuple[int, Iterator[object]]:
        return self.slot, iter(())


def pool(usdc: int) -> CpmmPool:
    """Return a pool with a million tokens and these USDC, with a fee of 0.25 %."""
    return CpmmPool(1_000_000 * UNIT, usdc * UNIT, trade_fee_rate=2_500)


class FeedRig:
    """A feed on a market."""

    def __init__(self, most_quotes: int = 3) -> None:
        self.market, self.clock = MovingPools(), ManualClock()
        self.feed = MarketFeed(
            cast("MarketData", self.market),
            self.clock,
            RouteLimits(),
            every_ms=EVERY_MS,
            most_quotes=most_quotes,
        )

    def move(self, usdc: int, ref: PoolRef = GEM_POOL) -> None:
        """Change a pool, and tell the feed."""
        self.market.states[ref] = pool(usdc)
        self.market.slot += 1
        self.feed.apply(MarketChange(frozenset({ref.id}), ()))

    def remove(self, ref: PoolRef) -> None:
        """Remove a pool, and tell the feed."""
        del self.market.states[ref]
        self.feed.apply(MarketChange(frozenset({ref.id}), (), added_or_removed=(ref,)))


@asynccontextmanager
async def running(most_quotes: int = 3) -> AsyncIterator[FeedRig]:
    rig = FeedRig(most_quotes)
    rig.feed.start()
    yield rig
    await rig.feed.stop()


def waiting(watch: MarketWatch) -> "asyncio.Task[list[PairState]]":
    """Wait for a watch's next states, in a task."""
    return asyncio.create_task(watch.next())


async def test_a_watch_begins_with_the_current_state_of_all_its_pairs() -> None:
    async with running() as rig:
        asked = [SELL_ORE, SELL_GEM, ORE_TO_GEM]
        with await rig.feed.watch(asked) as watch:
            states = await watch.next()
        assert [state.quoted for state in states] == asked
        for state in states:
            assert (state.sequence, state.slot, state.at, state.reason) == (1, 7, START_S, None)
            assert state.route is not None
            assert state.route.amount_in == UNIT
        gem = states[1]
        assert gem.route is not None
        expected = rig.market.states[GEM_POOL].quote_exact_in(
            Direction.A_TO_B, UNIT, ChainTime(int(START_S), 7)
        )
        assert gem.route.amount_out == expected.amount_out
        assert gem.price is not None
        # The price of a pool with as many tokens as USDC, less the fee.
        assert gem.price.out * 10_000 == gem.price.per * 9_975


async def test_two_watchers_of_a_pair_cost_one_quote_and_get_the_same_state() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM]) as one, await rig.feed.watch([SELL_GEM]) as other:
            assert await one.next() == await other.next()
            assert rig.feed.quotes == 1
            rig.move(2_000_000)
            await settle()
            assert await one.next() == await other.next()
            assert rig.feed.quotes == 2


async def test_many_that_ask_for_a_pair_at_once_cost_one_quote() -> None:
    async with running() as rig:
        watches = await asyncio.gather(*(rig.feed.watch([SELL_GEM]) for _ in range(50)))
        assert rig.feed.quotes == 1
        for watch in watches:
            [state] = await watch.next()
            assert state.sequence == 1
            with watch:
                pass


async def test_amounts_of_one_pair_share_its_price() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM]) as one, await rig.feed.watch([SELL_TEN]) as ten:
            await one.next(), await ten.next()
            before = rig.market.snapshots
            rig.move(2_000_000)
            await settle()
            [small], [large] = await one.next(), await ten.next()
            assert rig.market.snapshots == before + 1
            assert small.price == large.price
            assert small.route is not None
            assert large.route is not None
            assert 9 * small.route.amount_out < large.route.amount_out < 10 * small.route.amount_out


async def test_the_event_loop_runs_between_two_quotes() -> None:
    async with running() as rig:
        quotes_seen = set()

        async def look() -> None:
            while True:
                quotes_seen.add(rig.feed.quotes)
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        with await rig.feed.watch([SELL_GEM, SELL_TEN, SELL_ORE]):
            pass
        looking.cancel()
        assert quotes_seen >= {1, 2}


async def test_only_pairs_whose_pools_have_changed_are_updated() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM, SELL_ORE, ORE_TO_GEM]) as watch:
            await watch.next()
            rig.move(2_000_000)
            await settle()
            changed = await watch.next()
            assert [(state.quoted, state.sequence, state.slot) for state in changed] == [
                (SELL_GEM, 2, 8),
                (ORE_TO_GEM, 2, 8),
            ]


async def test_changes_within_an_interval_are_one_update() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM]) as watch:
            await watch.next()
            rig.move(1_100_000)
            await settle()
            [first] = await watch.next()
            for usdc in range(1_200_000, 1_900_000, 100_000):
                rig.move(usdc)
                await settle()
            assert rig.feed.quotes == 2
            await rig.clock.advance(EVERY_MS / 1000)
            [last] = await watch.next()
            assert (first.sequence, last.sequence, rig.feed.quotes) == (2, 3, 3)
            assert last.price is not None
            assert last.price.out * 10_000 * 10 == last.price.per * 9_975 * 18


async def test_a_watcher_that_takes_nothing_for_a_while_gets_the_newest_only() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM]) as watch:
            await watch.next()
            for usdc in range(1_100_000, 3_000_000, 20_000):
                rig.move(usdc)
                await rig.clock.advance(EVERY_MS / 1000)
            [state] = await watch.next()
            assert state.slot == rig.market.slot
            assert state.sequence == rig.feed.quotes == 96
            nothing = waiting(watch)
            await settle()
            assert not nothing.done()
            nothing.cancel()


async def test_nothing_is_computed_without_watchers() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM]) as watch:
            await watch.next()
        before = rig.market.snapshots, rig.feed.quotes
        for usdc in (1_100_000, 1_200_000):
            rig.move(usdc)
            await rig.clock.advance(1)
        assert (rig.market.snapshots, rig.feed.quotes) == before
        # The next watcher gets the current state nevertheless.
        with await rig.feed.watch([SELL_GEM]) as watch:
            [state] = await watch.next()
            assert (state.slot, state.sequence) == (rig.market.slot, 1)


async def test_a_pair_that_loses_its_pools_has_neither_price_nor_quote_until_one_comes() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM]) as watch:
            await watch.next()
            rig.remove(GEM_POOL)
            await settle()
            [state] = await watch.next()
            assert (state.price, state.route, state.reason) == (None, None, FailureCode.NO_ROUTE)
            assert state.slot == rig.market.slot
            rig.market.states[GEM_POOL] = pool(1_000_000)
            rig.feed.apply(MarketChange(frozenset({"gem"}), (), added_or_removed=(GEM_POOL,)))
            await rig.clock.advance(1)
            [state] = await watch.next()
            assert state.price is not None
            assert state.route is not None


async def test_no_more_than_so_many_different_quotes_are_watched() -> None:
    async with running(most_quotes=2) as rig:
        with await rig.feed.watch([SELL_GEM, SELL_ORE]):
            with pytest.raises(TooManyQuotesError):
                await rig.feed.watch([SELL_GEM, SELL_TEN])
            # What is watched already costs nothing more.
            with await rig.feed.watch([SELL_ORE, SELL_GEM]):
                pass
        with await rig.feed.watch([SELL_GEM, SELL_TEN]):
            pass


async def test_an_internal_error_reaches_the_watchers_of_the_pair_and_no_others() -> None:
    async with running() as rig:
        with await rig.feed.watch([SELL_GEM]) as gem, await rig.feed.watch([SELL_ORE]) as ore:
            await gem.next(), await ore.next()
            rig.market.broken = True
            rig.move(2_000_000)
            await settle()
            with pytest.raises(RuntimeError, match="broken"):
                await gem.next()
            with pytest.raises(RuntimeError, match="broken"):
                await rig.feed.watch([SELL_TEN])
            rig.market.broken = False
            rig.move(2_000_000, ORE_POOL)
            await rig.clock.advance(1)
            [state] = await ore.next()
            assert state.sequence == 2
        assert rig.feed.watched == 0
