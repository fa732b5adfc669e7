"""Conservation over a hundred thousand random trades and a whole day of arbitrage."""

import pytest

from service.chains.paper.pool_json import PROGRAMS
from tests.support.market import (
    EVERY_OUTCOME,
    SLOT,
    SLOT_MS,
    RandomTrader,
    a_market,
    band_ppm,
    distance_ppm,
)

pytestmark = pytest.mark.long

TRADES_PER_SEED = 25_000
DAY_SLOTS = 24 * 3_600_000 // SLOT_MS


@pytest.mark.parametrize("seed", range(1, 5))
def test_random_trades_conserve_every_token(seed: int) -> None:
    crowd = RandomTrader(a_market(seed, user={"BONK": 10**16, "RAY": 10**13}), seed=seed)
    crowd.trade(TRADES_PER_SEED)
    crowd.check_books()
    assert crowd.outcomes.keys() == EVERY_OUTCOME | PROGRAMS.keys()
    assert all(count >= 100 for count in crowd.outcomes.values()), crowd.outcomes


def test_a_whole_day_of_steps_leaves_every_pool_at_its_target() -> None:
    market = a_market(seed=3)
    totals = market.totals()
    for slot in range(SLOT, SLOT + DAY_SLOTS, 5):
        market.move(slot)
        for pool in market.take_changes().pools:
            assert abs(distance_ppm(market, pool, slot)) <= band_ppm(pool)
    assert market.totals() == totals
    assert market.shortfalls() == []
    for pool in market.pools.values():
        assert abs(distance_ppm(market, pool, SLOT + DAY_SLOTS - 5)) <= band_ppm(pool)
