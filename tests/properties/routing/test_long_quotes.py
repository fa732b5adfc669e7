"""No quote blocks the event loop for long, for any amount; and cached curves change no quote."""

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from itertools import product
from random import Random
from typing import cast

import pytest

from service.amm import ChainTime
from service.chains.paper.pool import PaperPool
from service.chains.venue import PoolRef, Snapshot, Venue
from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.quote import Choice, NoQuote, PoolQuote, SwapMode
from service.routing import NoRouteError, RouteLimits, find_route
from service.routing.paths import PathFinder
from service.routing.quoting import Quoter
from tests.support.market import SLOT, SLOT_MS, a_market

LIMITS = RouteLimits()
HELD_AT_MOST_S = 0.005
AMOUNTS = (10**9, 10**11, 10**13, 10**16, U64_MAX)
PAIRS = [("JUP", "BONK"), ("BONK", "RAY"), ("USDT", "JUP"), ("SOL", "USDC"), ("RAY", "SOL"), ("USDC", "USDT")]
SIDES = list(product(SwapMode, PAIRS, AMOUNTS))


class MovableMarket:
    """A venue whose states are at hand, at a moment that can be moved."""

    def __init__(self, slot: int = SLOT) -> None:
        self.market = a_market()
        self.slot = slot

    def move(self, slot: int) -> None:
        self.market.move(slot)
        self.slot = slot

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        return [ref_of(pool) for pool in self.market.pools_of(token_in, token_out)]

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        now = ChainTime(self.slot * SLOT_MS // 1_000, self.slot)
        return [Snapshot(pool, self.market.pools[pool.id].state, now) for pool in pools]

    def all_snapshots(self) -> Sequence[Snapshot]:
        return self.snapshot([ref_of(pool) for pool in self.market.pools.values()])


def ref_of(pool: PaperPool) -> PoolRef:
    return PoolRef(pool.id, pool.dex, pool.token_a, pool.token_b)


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """What other tests left to collect is not the quote's."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def times_of_steps(
    mode: SwapMode, pair: tuple[str, str], amount: int, snapshots: Sequence[Snapshot]
) -> list[float]:
    """Return how much of the processor's time each step of a quote takes, in seconds."""
    steps = find_route(amount, PathFinder(*pair, snapshots, LIMITS, mode), ())
    times: list[float] = []
    while True:
        began = time.thread_time()
        try:
            next(steps)
        except (StopIteration, NoRouteError):
            return times
        finally:
            times.append(time.thread_time() - began)


def test_every_step_of_a_quote_is_short() -> None:
    snapshots = MovableMarket().all_snapshots()
    steps = 0
    for mode, pair, amount in SIDES:
        # The same steps each time. What was interrupted once is not interrupted thrice.
        runs = [times_of_steps(mode, pair, amount, snapshots) for _ in range(3)]
        longest = max(map(min, zip(*runs, strict=True)))
        assert longest < HELD_AT_MOST_S, (mode, pair, amount, longest)
        steps += len(runs[0])
    assert steps > 10 * len(SIDES)


async def test_quotes_of_absurd_amounts_at_once_leave_the_event_loop_its_turns() -> None:
    quoter = quoter_of(MovableMarket())
    quotes = asyncio.gather(
        *(quoter.best(mode, *pair, amount) for mode, pair, amount in SIDES), return_exceptions=True
    )
    held = []
    while not quotes.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        held.append(time.thread_time() - began)
    assert all(isinstance(each, Choice | NoRouteError) for each in await quotes)
    held.sort()
    # The processor's time, of which a busy machine may make a turn or two longer.
    # Together they take some tenths of a second.
    assert len(held) > 10
    assert held[-3] < HELD_AT_MOST_S


async def test_what_is_kept_of_curves_changes_no_quote() -> None:
    venue = MovableMarket()
    keeping = quoter_of(venue)
    random = Random(1)
    for slot in (SLOT, SLOT, SLOT + 1, SLOT + 100_000):
        venue.move(slot)
        for _ in range(12):
            mode, pair = random.choice(list(SwapMode)), random.choice(PAIRS[:3])
            amount = int(10 ** random.uniform(3, 15))
            at_first = await answer(quoter_of(venue), mode, pair, amount)
            assert await answer(keeping, mode, pair, amount) == at_first


def quoter_of(venue: MovableMarket) -> Quoter:
    return Quoter(cast("Venue", venue), timeout_ms=1_000, limits=LIMITS, clock=Clock())


async def answer(
    quoter: Quoter, mode: SwapMode, pair: tuple[str, str], amount: int
) -> Choice | Sequence[PoolQuote | NoQuote]:
    try:
        return await quoter.best(mode, *pair, amount)
    except NoRouteError as error:
        return error.quotes
