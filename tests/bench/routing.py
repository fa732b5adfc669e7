"""Median CPU time to find a route: ``python -m tests.bench.routing``.

One of the pools has changed since the last route, as on a market that trades; or all of them, as at a start.
"""

from dataclasses import replace
from statistics import median
from time import process_time
from timeit import repeat
from typing import NamedTuple

from service.amm import AmmV4Pool, ChainTime, CpmmPool, DammV2Pool, DlmmPool, PoolState
from service.amm.meteora_damm_v2_fees import BaseFee
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters
from service.chains.venue import PoolRef, Snapshot
from service.domain.quote import Dex, SwapMode
from service.routing import RouteLimits, find_route
from service.routing.hops import KeptHops
from service.routing.paths import PathFinder
from service.turns import finished

NOW = ChainTime(1_800_000_000)
ROUNDS, ROUTES = 9, 30
DEEP = 10**13


def dlmm_pool(depth: int, bin_step: int, bins: int = 200) -> DlmmPool:
    """Return a pool around a price of one, with half of its bins on each side."""
    held = depth // bins
    by_id = {
        bin_id: Bin(amount_x=held if bin_id >= 0 else 0, amount_y=held if bin_id <= 0 else 0)
        for bin_id in range(-bins // 2, bins // 2 + 1)
    }
    parameters = DlmmParameters(bin_step, 10_000, variable_fee_control=40_000)
    return DlmmPool.of_bins(parameters, 0, by_id.items())


def damm_v2_pool(depth: int) -> DammV2Pool:
    return DammV2Pool(depth << 64, 1 << 64, 1 << 50, 1 << 78, depth, depth, BaseFee(2_500_000))


def pools_of(pair: tuple[str, str], depth: int) -> list[Snapshot]:
    """Return five pools of a pair: two of Raydium, three of Meteora, all with prices near one."""
    states: list[tuple[Dex, PoolState]] = [
        (Dex.RAYDIUM, CpmmPool(depth, depth, 2_500, 120_000, 40_000)),
        (Dex.RAYDIUM, AmmV4Pool(depth // 2, depth * 5_005 // 10_000)),
        (Dex.METEORA, dlmm_pool(depth, 10)),
        (Dex.METEORA, dlmm_pool(depth // 3, 25)),
        (Dex.METEORA, damm_v2_pool(depth * 2)),
    ]
    return [
        Snapshot(PoolRef(f"{pair[0]}-{pair[1]}-{number}", dex, *pair), state, NOW)
        for number, (dex, state) in enumerate(states)
    ]


DIRECT = pools_of(("JUP", "BONK"), DEEP)
HUBS = [
    snapshot
    for pair in (("SOL", "JUP"), ("SOL", "BONK"), ("JUP", "USDC"), ("BONK", "USDC"))
    for snapshot in pools_of(pair, DEEP)
]


class RoutingCase(NamedTuple):
    name: str
    snapshots: list[Snapshot]
    amount: int
    limit_ms: float


CASES = [
    RoutingCase("one pool wins, direct", DIRECT, 10**7, 0.25),
    RoutingCase("one pool wins, hubs looked at", DIRECT + HUBS, 10**7, 0.25),
    RoutingCase("split, 1 % of the depth", DIRECT, DEEP // 100, 1),
    RoutingCase("split, 10 % of the depth", DIRECT, DEEP // 10, 1),
    RoutingCase("split, 30 % of the depth", DIRECT, DEEP * 3 // 10, 1),
    RoutingCase("hubs, 1 % of the depth", DIRECT + HUBS, DEEP // 100, 3),
    RoutingCase("hubs, 10 % of the depth", DIRECT + HUBS, DEEP // 10, 3),
    RoutingCase("hubs, 30 % of the depth", DIRECT + HUBS, DEEP * 3 // 10, 3),
    RoutingCase("hubs only, one path wins", HUBS, 10**7, 3),
    RoutingCase("hubs only, 1 % of the depth", HUBS, DEEP // 100, 3),
    RoutingCase("hubs only, 10 % of the depth", HUBS, DEEP // 10, 3),
]


def routes(snapshots: list[Snapshot], amount: int, mode: SwapMode, *, all_change: bool) -> tuple[float, int]:
    """Return the median CPU time of a route in microseconds, and the number of its legs."""
    hops, paths, legs, number = KeptHops(), None, 0, 0

    def route() -> None:
        nonlocal paths, legs, number
        number += 1
        changed = range(len(snapshots)) if all_change else [number % len(snapshots)]
        for index in changed:
            state = snapshots[index].state
            snapshots[index] = replace(snapshots[index], state=replace(state))  # type: ignore[type-var]
        paths = PathFinder("JUP", "BONK", snapshots, RouteLimits(), mode, hops=hops, previous=paths)
        legs = len(finished(find_route(amount, paths, ())).route.legs)

    route()
    return median(repeat(route, number=ROUTES, repeat=ROUNDS, timer=process_time)) / ROUTES * 1e6, legs


def main() -> None:
    print("us, median               one pool has changed   all have  ")
    print(f"{'order':30} {'legs':>4} {'in':>6} {'out':>6} {'in':>6} {'out':>6} {'limit':>6}")
    for name, snapshots, amount, limit_ms in CASES:
        times = [
            routes([*snapshots], amount, mode, all_change=all_change)
            for all_change in (False, True)
            for mode in SwapMode
        ]
        figures = " ".join(f"{time_us:6.0f}" for time_us, _ in times)
        print(f"{name:30} {times[0][1]:4} {figures} {limit_ms * 1000:6.0f}")


if __name__ == "__main__":
    main()
