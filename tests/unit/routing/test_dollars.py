"""What an amount is worth in dollars: by the pools, rounded up, for a second."""

from collections.abc import Sequence
from typing import cast

import pytest

from service.amm import ChainTime
from service.chains.venue import MarketData, PoolRef, Snapshot
from service.routing.dollars import ReferencePrices
from service.routing.quoting import pools_for
from service.routing.routes import marginal_price
from tests.support.clock import ManualClock
from tests.support.market import SLOT, SLOT_MS, founded

NOW = ChainTime(SLOT * SLOT_MS // 1000, SLOT)


class Pools:
    """A market whose pools the test chooses; it counts how often they are read."""

    def __init__(self) -> None:
        self.seed = 1
        self.listed = True
        self.readings = 0

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        wanted = {token_in, token_out}
        found = [pool for pool in founded(self.seed) if {pool.token_a, pool.token_b} == wanted]
        return [PoolRef(pool.id, pool.dex, pool.token_a, pool.token_b) for pool in found if self.listed]

    def local_snapshots(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        self.readings += 1
        states = {pool.id: pool.state for pool in founded(self.seed)}
        return [Snapshot(pool, states[pool.id], NOW) for pool in pools]


def venue_of(pools: Pools) -> MarketData:
    return cast("MarketData", pools)


@pytest.mark.parametrize(("token", "amount"), [("SOL", 10**9), ("JUP", 1), ("BONK", 2**64 - 1), ("USDT", 7)])
def test_a_value_is_that_of_the_best_marginal_price(token: str, amount: int) -> None:
    pools = Pools()
    venue = venue_of(pools)
    price = marginal_price(token, "USDC", venue.local_snapshots(pools_for(venue, token, "USDC")))
    assert price is not None
    value = ReferencePrices(venue, ManualClock()).value(token, amount)
    assert value is not None
    # The next whole millionth.
    assert (value - 1) * price.per < amount * price.out <= value * price.per


def test_usdc_is_the_dollar() -> None:
    pools = Pools()
    assert ReferencePrices(venue_of(pools), ManualClock()).value("USDC", 123) == 123
    assert pools.readings == 0


async def test_a_price_is_kept_for_a_second_and_its_absence_is_not() -> None:
    pools, clock = Pools(), ManualClock()
    prices = ReferencePrices(venue_of(pools), clock)
    pools.listed = False
    assert prices.value("SOL", 10**9) is None
    pools.listed = True
    first = prices.value("SOL", 10**9)
    assert first is not None
    pools.seed = 2
    await clock.advance(0.9)
    assert prices.value("SOL", 10**9) == first
    assert pools.readings == 2
    await clock.advance(0.2)
    assert prices.value("SOL", 10**9) != first
    pools.listed = False
    await clock.advance(1.1)
    assert prices.value("SOL", 10**9) is None
