"""What is computed of a pool's curve is kept until the pool changes, and not longer."""

from dataclasses import replace

import pytest

from service.amm import ChainTime, CpmmPool
from service.chains.venue import PoolRef, Snapshot
from service.domain.leg_limits import HopMargin
from service.domain.quote import Dex, SwapMode
from service.routing import RouteLimits
from service.routing.hops import _KEPT, KeptHops
from service.routing.paths import PathFinder

NOW = ChainTime(1_800_000_000)
MARGIN = HopMargin(SwapMode.EXACT_IN, 50)


def snapshot(name: str = "1", sold: str = "SOL", bought: str = "USDC") -> Snapshot:
    state = CpmmPool(10**12, 10**12, 2_500)
    return Snapshot(PoolRef(f"{sold}-{bought}-{name}", Dex.RAYDIUM, sold, bought), state, NOW)


POOL = snapshot()


@pytest.mark.parametrize(
    "other",
    [
        replace(POOL, state=CpmmPool(10**12, 10**12, 2_500)),
        replace(POOL, now=ChainTime(NOW.timestamp_s + 1)),
        replace(POOL, pool=replace(POOL.pool, dex=Dex.METEORA)),
    ],
    ids=["another state", "another time", "another pool of this id"],
)
def test_a_hop_is_kept_until_its_pool_changes(other: Snapshot) -> None:
    hops = KeptHops()
    hop = hops.of(POOL, "SOL", "USDC", None)
    assert hops.of(replace(POOL), "SOL", "USDC", None) is hop
    changed = hops.of(other, "SOL", "USDC", None)
    assert changed is not hop
    assert changed.snapshot is other
    assert hops.of(other, "SOL", "USDC", None) is changed


def test_directions_and_margins_have_hops_of_their_own() -> None:
    hops = KeptHops()
    there, back = hops.of(POOL, "SOL", "USDC", None), hops.of(POOL, "USDC", "SOL", None)
    assert there.direction is not back.direction
    assert hops.of(POOL, "SOL", "USDC", MARGIN).margin == MARGIN
    assert hops.of(POOL, "SOL", "USDC", None) is there


def test_the_hops_that_were_not_used_for_longest_are_dropped() -> None:
    hops = KeptHops()
    first = hops.of(POOL, "SOL", "USDC", None)
    for number in range(2, _KEPT + 1):
        hops.of(snapshot(str(number)), "SOL", "USDC", None)
    assert hops.of(POOL, "SOL", "USDC", None) is first
    for number in range(_KEPT):
        hops.of(snapshot(f"other {number}"), "SOL", "USDC", None)
    assert hops.of(POOL, "SOL", "USDC", None) is not first


def test_a_path_keeps_its_curve_while_neither_of_its_pools_changes() -> None:
    first, second, other = (
        snapshot("1", "JUP", "SOL"),
        snapshot("1", "SOL", "BONK"),
        snapshot("2", "SOL", "BONK"),
    )
    hops = KeptHops()
    before = PathFinder("JUP", "BONK", [first, second, other], RouteLimits(), hops=hops)
    kept, lost = before.better_than(None)
    changed = replace(other, state=replace(other.state))  # type: ignore[type-var]
    after = PathFinder("JUP", "BONK", [first, second, changed], RouteLimits(), hops=hops, previous=before)
    again, new = after.better_than(None)
    assert again is kept
    assert new is not lost
    assert new.hops[1].snapshot is changed
