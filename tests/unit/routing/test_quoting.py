"""Quoting: both DEXs are queried at once, and one that does not respond costs an order only its quotes."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from service.amm import ChainTime, CpmmPool
from service.chains.venue import PoolRef, Snapshot, Venue, VenueUnavailableError
from service.clock import Clock
from service.domain.failures import FailureCode
from service.domain.quote import Choice, Dex, NoQuote, SwapMode
from service.routing import NoRouteError, RouteLimits
from service.routing.quoting import Quoter

NOW = ChainTime(1_800_000_000, 4_500_000_000)
SOL, USDC = 10**9, 10**6
SOLD, BOUGHT = "SOL", "USDC"

RAYDIUM = PoolRef("raydium:SOL-USDC", Dex.RAYDIUM, "SOL", "USDC")
METEORA = PoolRef("meteora:SOL-USDC", Dex.METEORA, "SOL", "USDC")
SECOND = PoolRef("meteora:SOL-USDC:2", Dex.METEORA, "SOL", "USDC")

Answer = Sequence[Snapshot] | Awaitable[Sequence[Snapshot]]
Reply = Callable[[Sequence[Snapshot]], Answer]


def pool(usdc: int, sol: int = 10_000) -> CpmmPool:
    """Return a pool with these reserves in display units."""
    return CpmmPool(sol * SOL, usdc * USDC, trade_fee_rate=2_500)


class FakeVenue:
    """Fixed states. ``replies`` delay or fail the snapshots of a DEX; the default is immediate."""

    def __init__(self, states: dict[PoolRef, CpmmPool], replies: dict[Dex, Reply] | None = None) -> None:
        self._states = states
        self._replies = replies or {}
        self.asked: list[tuple[Dex, list[str]]] = []
        self.news: dict[PoolRef, CpmmPool] = {}
        self.away = False

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        return [ref for ref in self._states if {ref.token_a, ref.token_b} == {token_in, token_out}]

    def snapshot(self, pools: Sequence[PoolRef]) -> Answer:
        [dex] = {ref.dex for ref in pools}
        self.asked.append((dex, [ref.id for ref in pools]))
        snapshots = [Snapshot(ref, self._states[ref], NOW) for ref in pools]
        return self._replies[dex](snapshots) if dex in self._replies else snapshots

    async def refresh(self) -> bool:
        if self.away:
            raise VenueUnavailableError("away")
        news, self.news = self.news, {}
        self._states = {**self._states, **news}
        return bool(news)


async def soon(snapshots: Sequence[Snapshot]) -> Sequence[Snapshot]:
    return snapshots


async def never(_snapshots: Sequence[Snapshot]) -> Sequence[Snapshot]:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def away(_snapshots: Sequence[Snapshot]) -> Sequence[Snapshot]:
    raise VenueUnavailableError("away")


async def broken(_snapshots: Sequence[Snapshot]) -> Sequence[Snapshot]:
    raise RuntimeError("cannot decode the account")


def away_at_once(_snapshots: Sequence[Snapshot]) -> Answer:
    raise VenueUnavailableError("away")


def broken_at_once(_snapshots: Sequence[Snapshot]) -> Answer:
    raise RuntimeError("cannot decode the account")


def best(
    venue: FakeVenue, token_in: str = SOLD, token_out: str = BOUGHT, amount: int = SOL
) -> Awaitable[Choice]:
    # A time-out of zero: a DEX that is not ready at once is too slow, without a wait in the test.
    quoter = Quoter(cast("Venue", venue), timeout_ms=0, limits=RouteLimits(4, 1), clock=Clock())
    return quoter.best(SwapMode.EXACT_IN, token_in, token_out, amount)


def quotes(choice: Choice) -> dict[str, FailureCode | None]:
    """Return for each pool the reason for no quote; None: it quoted."""
    return {quote.pool_id: quote.reason if isinstance(quote, NoQuote) else None for quote in choice.quotes}


def chosen(choice: Choice) -> list[str]:
    return [leg.pool_id for leg in choice.route.legs]


BOTH = {METEORA: pool(1_510_000), RAYDIUM: pool(1_500_000), SECOND: pool(1_400_000)}


async def test_available_states_are_quoted_without_a_task_or_an_iteration_of_the_loop() -> None:
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    choice = await best(FakeVenue(BOTH))
    assert not turned.is_set()
    assert quotes(choice) == {METEORA.id: None, RAYDIUM.id: None, SECOND.id: None}
    assert chosen(choice) == [METEORA.id]


async def test_states_that_arrive_soon_give_the_same_quotes() -> None:
    at_hand = await best(FakeVenue(BOTH))
    assert await best(FakeVenue(BOTH, {Dex.RAYDIUM: soon})) == at_hand
    assert await best(FakeVenue(BOTH, dict.fromkeys(Dex, soon))) == at_hand


async def test_a_quote_that_is_cancelled_at_once_leaves_nothing_behind() -> None:
    """Nor a warning that a coroutine was never awaited, which would be an error here."""
    quoting = asyncio.ensure_future(best(FakeVenue(BOTH, dict.fromkeys(Dex, never))))
    await asyncio.sleep(0)
    quoting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await quoting
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()


async def test_a_dex_is_queried_once_for_all_of_its_pools() -> None:
    venue = FakeVenue(BOTH)
    await best(venue)
    assert sorted(venue.asked) == [(Dex.METEORA, [METEORA.id, SECOND.id]), (Dex.RAYDIUM, [RAYDIUM.id])]


@pytest.mark.parametrize("dex", Dex)
@pytest.mark.parametrize(
    "reply", [never, away, broken, away_at_once, broken_at_once], ids=lambda reply: reply.__name__
)
@pytest.mark.parametrize("others", [None, soon], ids=["others at hand", "others soon"])
async def test_a_dex_without_a_response_neither_delays_nor_fails_the_order(
    dex: Dex, reply: Reply, others: Reply | None
) -> None:
    replies = {**({} if others is None else dict.fromkeys(Dex, others)), dex: reply}
    choice = await best(FakeVenue(BOTH, replies))
    assert quotes(choice) == {
        ref.id: FailureCode.QUOTES_UNAVAILABLE if ref.dex is dex else None for ref in BOTH
    }
    # As if only the other DEX existed.
    rest = {ref: state for ref, state in BOTH.items() if ref.dex is not dex}
    assert choice.route == (await best(FakeVenue(rest))).route


async def test_an_unexpected_error_of_a_dex_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    await best(FakeVenue(BOTH, {Dex.METEORA: broken}))
    assert "cannot decode the account" in caplog.text


async def test_both_dexs_are_queried_before_either_is_awaited() -> None:
    venue = FakeVenue(BOTH)

    async def when_both_are_asked(snapshots: Sequence[Snapshot]) -> Sequence[Snapshot]:
        assert len(venue.asked) == 2
        return snapshots

    venue._replies.update(dict.fromkeys(Dex, when_both_are_asked))
    assert set(quotes(await best(venue)).values()) == {None}


async def test_the_time_outs_of_both_dexs_run_concurrently() -> None:
    turns = 0

    async def count(snapshots: Sequence[Snapshot]) -> Sequence[Snapshot]:
        nonlocal turns
        turns += 1
        while turns < 2:  # noqa: ASYNC110 - each goes on when the other has begun
            await asyncio.sleep(0)
        return snapshots

    quoter = Quoter(
        cast("Venue", FakeVenue(BOTH, dict.fromkeys(Dex, count))),
        timeout_ms=10_000,
        limits=RouteLimits(),
        clock=Clock(),
    )
    choice = await quoter.best(SwapMode.EXACT_IN, "SOL", "USDC", SOL)
    assert set(quotes(choice).values()) == {None}


@pytest.mark.parametrize("reply", [never, away, broken])
async def test_no_response_at_all_is_a_transient_failure(reply: Reply) -> None:
    with pytest.raises(NoRouteError) as end:
        await best(FakeVenue(BOTH, dict.fromkeys(Dex, reply)))
    assert end.value.failure.code is FailureCode.QUOTES_UNAVAILABLE
    assert [(type(quote), quote.pool_id) for quote in end.value.quotes] == [(NoQuote, ref.id) for ref in BOTH]


async def test_a_pair_without_pools_has_no_route_and_no_dex_is_queried() -> None:
    venue = FakeVenue(BOTH)
    with pytest.raises(NoRouteError) as end:
        await best(venue, "JUP", "BONK")
    assert (end.value.failure.code, list(end.value.quotes)) == (FailureCode.NO_ROUTE, [])
    assert venue.asked == []


JUP_SOL = PoolRef("raydium:JUP-SOL", Dex.RAYDIUM, "JUP", "SOL")
SOL_BONK = PoolRef("meteora:SOL-BONK", Dex.METEORA, "SOL", "BONK")
JUP_BONK = PoolRef("raydium:JUP-BONK", Dex.RAYDIUM, "JUP", "BONK")
HUB = {
    JUP_SOL: CpmmPool(10**12, 10**12, trade_fee_rate=2_500),
    SOL_BONK: CpmmPool(10**12, 10**14, trade_fee_rate=2_500),
    METEORA: pool(1_500_000),
}


async def test_pools_of_paths_through_a_hub_are_queried_too_and_no_others() -> None:
    venue = FakeVenue(HUB)
    choice = await best(venue, "JUP", "BONK", 10**6)
    assert chosen(choice) == [JUP_SOL.id, SOL_BONK.id]
    assert choice.quotes == ()
    assert sorted(venue.asked) == [(Dex.METEORA, [SOL_BONK.id]), (Dex.RAYDIUM, [JUP_SOL.id])]


@pytest.mark.parametrize("dexes", [[Dex.RAYDIUM], [Dex.METEORA], [*Dex]], ids=str)
@pytest.mark.parametrize("reply", [never, away, away_at_once])
async def test_an_unavailable_path_through_a_hub_is_a_transient_failure(
    dexes: list[Dex], reply: Reply
) -> None:
    with pytest.raises(NoRouteError) as end:
        await best(FakeVenue(HUB, dict.fromkeys(dexes, reply)), "JUP", "BONK", 10**6)
    assert end.value.failure.code is FailureCode.QUOTES_UNAVAILABLE


async def test_an_unavailable_dex_is_reported_for_its_direct_pools_only() -> None:
    venue = FakeVenue({**HUB, JUP_BONK: CpmmPool(10**12, 10**13, trade_fee_rate=2_500)}, {Dex.METEORA: never})
    choice = await best(venue, "JUP", "BONK", 10**6)
    assert quotes(choice) == {JUP_BONK.id: None}
    assert chosen(choice) == [JUP_BONK.id]


# --- quoting again from the latest states


async def best_of_latest(venue: FakeVenue, at_least: int, token_out: str = BOUGHT) -> Choice:
    quoter = Quoter(cast("Venue", venue), timeout_ms=0, limits=RouteLimits(4, 1), clock=Clock())
    return await quoter.best_of_latest(
        SwapMode.EXACT_IN, SOLD, token_out, SOL, lambda choice: choice.route.amount_out >= at_least
    )


async def test_a_sufficient_choice_is_taken_unchanged() -> None:
    venue = FakeVenue({METEORA: pool(1_500_000)})
    venue.news = {METEORA: pool(3_000_000)}
    assert (await best_of_latest(venue, 149 * USDC)).route.amount_out < 150 * USDC
    assert len(venue.asked) == 1


async def test_an_insufficient_choice_is_quoted_again_if_the_market_has_changed() -> None:
    venue = FakeVenue({METEORA: pool(1_500_000)})
    assert (await best_of_latest(venue, 200 * USDC)).route.amount_out < 150 * USDC
    assert len(venue.asked) == 1
    venue.news = {METEORA: pool(3_000_000)}
    assert (await best_of_latest(venue, 200 * USDC)).route.amount_out > 200 * USDC


async def test_a_pool_that_was_unknown_to_this_instance_may_be_the_route() -> None:
    venue = FakeVenue({METEORA: pool(1_500_000)})
    with pytest.raises(NoRouteError):
        await best_of_latest(venue, 1, "BONK")
    venue.news = {SOL_BONK: HUB[SOL_BONK]}
    assert chosen(await best_of_latest(venue, 1, "BONK")) == [SOL_BONK.id]


async def test_an_unavailable_ledger_changes_nothing() -> None:
    venue = FakeVenue({METEORA: pool(1_500_000)})
    venue.away = True
    assert (await best_of_latest(venue, 200 * USDC)).route.amount_out < 150 * USDC
    with pytest.raises(NoRouteError):
        await best_of_latest(venue, 1, "BONK")
