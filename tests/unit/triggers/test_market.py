"""The triggers' view of past volumes, and how often they read them."""

from collections.abc import Sequence
from typing import cast

from service.chains.venue import MarketChange, PoolRef, Traded, Venue
from service.domain.quote import Dex
from service.routing import RouteLimits
from service.triggers.market import MarketView
from tests.support.clock import ManualClock


class Past:
    """A venue that counts requests for volumes."""

    def __init__(self) -> None:
        self.readings = 0

    def pools(self, _token_in: str, _token_out: str) -> Sequence[PoolRef]:
        return ()

    async def traded_since(self, _seconds: int) -> Sequence[Traded]:
        self.readings += 1
        return [Traded("pool", 1, 5, 7)]


async def test_missed_changes_are_read_at_most_once_a_second() -> None:
    past, clock = Past(), ManualClock()
    view = MarketView(cast("Venue", past), clock, RouteLimits())
    for _ in range(3):
        for _ in range(10):
            view.apply(MarketChange(frozenset({"pool"}), (), complete=False), watching=True)
            if view.must_load_trades:
                await view.load_trades()
        await clock.advance(1)
        assert view.must_load_trades
    assert past.readings == 3
    await view.load_trades()
    await clock.advance(1)
    view.apply(MarketChange(frozenset({"pool"}), (Traded("pool", 2, 1, 1),)), watching=True)
    assert not view.must_load_trades
    assert view._tapes["pool"].total(3_600, 2) == (6, 8)


def test_unread_changes_do_not_accumulate() -> None:
    view = MarketView(cast("Venue", Past()), ManualClock(), RouteLimits())
    pool = PoolRef("pool", Dex.RAYDIUM, "SOL", "USDC")
    came = MarketChange(frozenset({"pool"}), (), added_or_removed=(pool,))
    for _ in range(10):
        view.apply(came, watching=False)
    assert view.pop_changed([("SOL", "USDC")])[1] == set()
    view.apply(came, watching=True)
    assert view.pop_changed([("SOL", "USDC")])[1] == {("SOL", "USDC")}
