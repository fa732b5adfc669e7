"""Which pairs a change of the market affects, also those that are not asked for all the time."""

from collections.abc import Sequence
from typing import cast

from service.chains.venue import MarketChange, MarketData, PoolRef
from service.domain.quote import Dex
from service.routing.changes import PairChanges

GEM_USDC, SOL_USDC = ("GEM", "USDC"), ("SOL", "USDC")


class ListedPools:
    """A venue that has only pools."""

    def __init__(self, *refs: PoolRef) -> None:
        self.refs = list(refs)

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        return [ref for ref in self.refs if {ref.token_a, ref.token_b} == {token_in, token_out}]


def pool(name: str, token_a: str, token_b: str) -> PoolRef:
    return PoolRef(name, Dex.RAYDIUM, token_a, token_b)


def moved(*pool_ids: str) -> MarketChange:
    return MarketChange(frozenset(pool_ids), ())


def test_only_pairs_whose_pools_have_changed_are_returned_and_only_once() -> None:
    venue = ListedPools(pool("gem", *GEM_USDC), pool("sol", *SOL_USDC))
    changes = PairChanges(cast("MarketData", venue))
    changes.add(moved("gem"))
    assert changes.waiting
    assert changes.has_changed(GEM_USDC)
    assert not changes.has_changed(SOL_USDC)
    assert changes.pop([GEM_USDC, SOL_USDC]) == ({GEM_USDC}, set())
    assert changes.pop([GEM_USDC, SOL_USDC]) == (set(), set())


def test_a_pair_follows_a_pool_that_was_added_while_nobody_asked_for_the_pair() -> None:
    venue = ListedPools(pool("first", *GEM_USDC))
    changes = PairChanges(cast("MarketData", venue))
    assert changes.pop([GEM_USDC]) == (set(), set())
    second = pool("second", *GEM_USDC)
    venue.refs.append(second)
    changes.add(MarketChange(frozenset({"second"}), (), added_or_removed=(second,)))
    assert changes.pop([SOL_USDC]) == (set(), set())
    changes.add(moved("second"))
    assert changes.pop([GEM_USDC]) == ({GEM_USDC}, set())


def test_a_restart_forgets_pools_that_may_have_changed_meanwhile() -> None:
    venue = ListedPools(pool("first", *GEM_USDC))
    changes = PairChanges(cast("MarketData", venue))
    assert changes.pools(GEM_USDC) == {"first"}
    venue.refs.append(pool("second", *GEM_USDC))
    changes.restart(["second"])
    assert changes.pop([GEM_USDC]) == ({GEM_USDC}, set())
