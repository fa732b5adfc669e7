"""The triggers' view of past volumes, and how often they read them."""

from collections.abc import Sequence
from typing import cast

import pytest

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


class OnePool(Past):
    """A venue with one pool."""

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        pool = PoolRef("direct", Dex.RAYDIUM, "SOL", "USDC")
        return [pool] if {token_in, token_out} == {"SOL", "USDC"} else []


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


@pytest.mark.parametrize(
    "change",
    [
        MarketChange(frozenset({"direct"}), ()),
        MarketChange(frozenset({"elsewhere"}), ()),
        MarketChange(frozenset(), (), added_or_removed=(PoolRef("new", Dex.RAYDIUM, "SOL", "USDC"),)),
        MarketChange(frozenset(), (), added_or_removed=(PoolRef("new", Dex.RAYDIUM, "RAY", "JUP"),)),
    ],
)
def test_whether_a_pair_has_changed_is_known_before_the_changes_are_read(change: MarketChange) -> None:
    view = MarketView(cast("Venue", OnePool()), ManualClock(), RouteLimits())
    pair = ("SOL", "USDC")
    assert not view.has_changed(pair)
    view.apply(change, watching=True)
    known = view.has_changed(pair)
    assert view.has_changed(pair) == known == (pair in view.pop_changed([pair])[0])
    assert not view.has_changed(pair)
    view.mark_changed(pair)
    assert view.has_changed(pair)
