"""Pools by pair, as they come and go."""

from service.chains.pool_index import PoolIndex
from service.chains.venue import PoolRef
from service.domain.quote import Dex

FIRST = PoolRef("b", Dex.RAYDIUM, "SOL", "USDC")
SECOND = PoolRef("a", Dex.METEORA, "USDC", "SOL")
THIRD = PoolRef("c", Dex.METEORA, "SOL", "JUP")


def test_a_pair_has_the_pools_of_both_directions_ordered_by_id() -> None:
    index = PoolIndex()
    for ref in FIRST, SECOND, THIRD:
        index.add(ref)
    assert list(index.between("SOL", "USDC")) == list(index.between("USDC", "SOL")) == [SECOND, FIRST]
    assert list(index.between("JUP", "SOL")) == [THIRD]
    assert list(index.between("JUP", "USDC")) == []


def test_a_removed_pool_leaves_a_list_that_is_being_read_as_it_is() -> None:
    index = PoolIndex()
    for ref in FIRST, SECOND, THIRD:
        index.add(ref)
    known = index.between("SOL", "USDC")
    index.remove(FIRST)
    assert list(known) == [SECOND, FIRST]
    assert list(index.between("SOL", "USDC")) == [SECOND]
    assert [index.trades(token) for token in ("SOL", "USDC", "JUP")] == [True, True, True]
    index.remove(SECOND)
    assert list(index.between("SOL", "USDC")) == []
    assert [index.trades(token) for token in ("SOL", "USDC", "JUP")] == [True, False, True]
