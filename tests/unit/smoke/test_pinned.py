"""Routes through chosen pools of a local chain."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from service.clock import Clock
from service.domain.failures import FailureCode
from service.domain.quote import PoolQuote, SwapMode
from service.routing import NoRouteError, RouteLimits
from service.smoke.pinned import PinnedQuoter
from tests.support.local_chain import SOL
from tests.support.served_chain import FeedStand, feed_stand

PAIR = ("SOL", "USDC")


@pytest_asyncio.fixture
async def one() -> AsyncIterator[FeedStand]:
    async with feed_stand() as stand:
        yield stand


def quoter_of(one: FeedStand) -> PinnedQuoter:
    return PinnedQuoter(one.feed, timeout_ms=5_000, limits=RouteLimits(), clock=Clock())


async def test_a_pool_that_pays_less_is_taken_while_it_is_pinned(one: FeedStand) -> None:
    quoter = quoter_of(one)
    best = await quoter.best(SwapMode.EXACT_IN, *PAIR, SOL // 100)
    paid = {quote.pool_id: quote.amount_out for quote in best.quotes if isinstance(quote, PoolQuote)}
    worst = min(paid, key=lambda pool: paid[pool])
    quoter.pinned = [worst]
    for mode in SwapMode:
        choice = await quoter.best(mode, *PAIR, SOL // 100)
        assert [leg.pool_id for leg in choice.route.legs] == [worst]
    quoter.pinned = []
    assert await quoter.best(SwapMode.EXACT_IN, *PAIR, SOL // 100) == best


async def test_an_amount_is_split_into_equal_shares_whatever_the_pools_pay(one: FeedStand) -> None:
    quoter = quoter_of(one)
    pools = [pool.id for pool in one.feed.pools(*PAIR)][:3]
    quoter.pinned = pools
    route = (await quoter.best(SwapMode.EXACT_IN, *PAIR, 1_000_001)).route
    assert [(leg.pool_id, leg.amount_in) for leg in route.legs] == [
        (pools[0], 333_335),
        (pools[1], 333_333),
        (pools[2], 333_333),
    ]
    assert (route.amount_in, len(route.paths)) == (1_000_001, 3)


async def test_no_other_pool_stands_in_for_one_that_is_not_there(one: FeedStand) -> None:
    quoter = quoter_of(one)
    first, *_ = one.feed.pools(*PAIR)
    quoter.pinned = [first.id, "a pool that is gone"]
    with pytest.raises(NoRouteError) as raised:
        await quoter.best(SwapMode.EXACT_IN, *PAIR, SOL)
    assert raised.value.failure.code is FailureCode.NO_ROUTE
    quoter.pinned = [first.id]
    with pytest.raises(NoRouteError) as raised:
        await quoter.best(SwapMode.EXACT_IN, *PAIR, 1)
    assert raised.value.failure.code is FailureCode.AMOUNT_TOO_SMALL
