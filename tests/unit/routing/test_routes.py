"""Routes: never worse than one pool, within their limits, and executable exactly, leg by leg."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.amm import AmmV4Pool, ChainTime, CpmmPool, DammV2Pool, Direction, DlmmPool, PoolState
from service.amm.integers import U64_MAX
from service.amm.meteora_damm_v2_fees import BaseFee
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters
from service.chains.venue import PoolRef, Snapshot
from service.domain.failures import FailureCode
from service.domain.leg_limits import bought_before, leg_limits, sold_after
from service.domain.quote import Choice, Dex, NoQuote, PoolQuote, Route, SwapMode
from service.routing import NoRouteError, RouteLimits, best_route, marginal_price
from service.routing.paths import PathFinder
from service.turns import finished
from tests.properties.routing.test_split import random_problem

NOW = ChainTime(1_800_000_000)
MODEST = settings(max_examples=60, deadline=None)
LIMITS = RouteLimits()
IN, OUT = SwapMode.EXACT_IN, SwapMode.EXACT_OUT
DEEP = 10**12

seeds = st.integers(0, 10**6)


def snapshot(name: str, state: PoolState, pair: tuple[str, str] = ("JUP", "BONK")) -> Snapshot:
    return Snapshot(PoolRef(name, Dex.RAYDIUM, *pair), state, NOW)


def cpmm(depth: int = DEEP, other: int | None = None, fee: int = 2_500) -> CpmmPool:
    return CpmmPool(depth, depth if other is None else other, fee, 120_000, 40_000)


def route(
    snapshots: Sequence[Snapshot],
    amount: int,
    mode: SwapMode = IN,
    limits: RouteLimits = LIMITS,
    pair: tuple[str, str] = ("JUP", "BONK"),
) -> Choice:
    return best_route(mode, *pair, amount, snapshots, (), limits)


def execute(
    choice: Choice, snapshots: Sequence[Snapshot], margin_bps: int = LIMITS.hop_margin_bps
) -> tuple[int, int]:
    """Execute a route on the states with the limits of its legs, as a chain does: in and out.

    Each leg trades the amount that is signed for it, whatever the one before it has paid.
    """
    states = {each.pool.id: each.state for each in snapshots}
    sides = {each.pool.id: each.pool for each in snapshots}
    taken = paid = 0
    exact_in = choice.route.mode is IN
    # No slippage at all.
    limits = leg_limits(choice.route, *choice.route.amounts, margin_bps)
    for path, bounds in zip(choice.route.paths, limits, strict=True):
        swaps = []
        for leg, bound in zip(path.legs, bounds, strict=True):
            a_to_b = sides[leg.pool_id].token_a == leg.token_in
            direction = Direction.A_TO_B if a_to_b else Direction.B_TO_A
            state = states[leg.pool_id]
            ask = state.quote_exact_in if exact_in else state.quote_exact_out
            quoted = ask(direction, bound.amount_in if exact_in else bound.amount_out, NOW)
            assert (quoted.amount_in, quoted.amount_out) == (leg.amount_in, leg.amount_out)
            assert quoted.amount_in <= bound.amount_in
            assert quoted.amount_out >= bound.amount_out
            states[leg.pool_id] = quoted.next_state()
            swaps.append(quoted)
        taken += swaps[0].amount_in
        paid += swaps[-1].amount_out
    return taken, paid


@MODEST
@given(seeds, st.integers(1, 5), st.sampled_from([0, 1, 50]), st.sampled_from([0, 1, 5, 1_000]))
def test_a_route_keeps_its_limits_and_executes_as_quoted(
    seed: int, max_legs: int, gain_bps: int, margin_bps: int
) -> None:
    problem = random_problem(seed)
    limits = RouteLimits(max_legs, gain_bps, margin_bps)
    try:
        choice = route(problem.snapshots, problem.amount, problem.mode, limits)
    except NoRouteError:
        return
    chosen = choice.route
    assert 1 <= len(chosen.legs) <= max_legs
    assert len({leg.pool_id for leg in chosen.legs}) == len(chosen.legs)
    assert (chosen.token_in, chosen.token_out) == ("JUP", "BONK")
    for path in chosen.paths:
        tokens = [path.legs[0].token_in, *(leg.token_out for leg in path.legs)]
        assert tokens in (["JUP", "BONK"], ["JUP", "USDC", "BONK"])
        for one, other in zip(path.legs, path.legs[1:], strict=False):
            assert one.token_out == other.token_in
            if problem.mode is IN:
                assert other.amount_in == sold_after(one.amount_out, margin_bps)
            else:
                assert one.amount_out == bought_before(other.amount_in, margin_bps)
    fixed = chosen.amount_in if problem.mode is IN else chosen.amount_out
    assert fixed == problem.amount
    assert execute(choice, problem.snapshots, margin_bps) == (chosen.amount_in, chosen.amount_out)
    _check_gain(choice, gain_bps)
    assert route(problem.snapshots, problem.amount, problem.mode, limits) == choice


@MODEST
@given(seeds, st.sampled_from([1, 10, 100]))
def test_only_routes_that_gain_less_than_the_limit_are_given_up(seed: int, gain_bps: int) -> None:
    """The search ends early if none can gain that much: it must be right about that."""
    problem = random_problem(seed)
    try:
        best = route(problem.snapshots, problem.amount, problem.mode, RouteLimits(min_split_gain_bps=0))
    except NoRouteError:
        return
    quotes = [quote for quote in best.quotes if isinstance(quote, PoolQuote)]
    if not quotes:
        return
    limited = route(problem.snapshots, problem.amount, problem.mode, RouteLimits(min_split_gain_bps=gain_bps))
    if problem.mode is IN:
        single = max(quote.amount_out for quote in quotes)
        gained, kept = best.route.amount_out - single, limited.route.amount_out - single
    else:
        single = min(quote.amount_in for quote in quotes)
        gained, kept = single - best.route.amount_in, single - limited.route.amount_in
    assert kept in ({gained} if gained * 10_000 > single * gain_bps else {0})


def _check_gain(choice: Choice, gain_bps: int) -> None:
    quotes = [quote for quote in choice.quotes if isinstance(quote, PoolQuote)]
    if not quotes:
        return
    chosen = choice.route
    if chosen.mode is IN:
        best = max(quote.amount_out for quote in quotes)
        gained, of = chosen.amount_out - best, best
    else:
        best = min(quote.amount_in for quote in quotes)
        gained, of = best - chosen.amount_in, best
    if len(chosen.legs) == 1:
        assert gained == 0
    else:
        assert gained * 10_000 > of * gain_bps
        assert choice.runner_up is not None
        assert best == (choice.runner_up.amount_out if chosen.mode is IN else choice.runner_up.amount_in)


@MODEST
@given(seeds, st.sampled_from(SwapMode))
def test_more_paths_are_never_worse(seed: int, mode: SwapMode) -> None:
    random = Random(seed)
    problem = random_problem(seed)
    fewer = random.sample(list(problem.snapshots), random.randint(1, len(problem.snapshots)))
    limits = RouteLimits(4, 0)
    try:
        one = route(fewer, problem.amount, mode, limits).route
        other = route(problem.snapshots, problem.amount, mode, limits).route
    except NoRouteError:
        return
    # Except for rounding: the curves that compare sets of paths do not round.
    slack = 50 + 50 * max(one.amount_in, one.amount_out) // min(one.amount_in, one.amount_out)
    if mode is IN:
        assert other.amount_out + slack + one.amount_out // 10**6 >= one.amount_out
    else:
        assert other.amount_in <= one.amount_in + slack + one.amount_in // 10**6


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize("amount", [1, 2, 3, 1_000, 10**6, U64_MAX // 2, U64_MAX])
def test_any_amount_is_routed_or_rejected_with_a_code(mode: SwapMode, amount: int) -> None:
    pools = [snapshot("one", cpmm()), snapshot("two", AmmV4Pool(DEEP, DEEP)), snapshot("three", cpmm(50))]
    refused = None
    try:
        chosen = route(pools, amount, mode).route
        assert (chosen.amount_in if mode is IN else chosen.amount_out) == amount
    except NoRouteError as error:
        refused = error
    if refused is not None:
        assert refused.failure.code in {FailureCode.AMOUNT_TOO_SMALL, FailureCode.INSUFFICIENT_LIQUIDITY}
        assert len(refused.quotes) == 3


def test_two_equal_pools_take_half_each() -> None:
    pools = [snapshot("one", cpmm()), snapshot("two", cpmm())]
    choice = route(pools, DEEP // 10)
    assert [leg.amount_in for leg in choice.route.legs] == [DEEP // 20, DEEP // 20]
    assert choice.runner_up is not None
    assert choice.runner_up.legs[0].pool_id == "one"


def test_an_odd_unit_goes_to_the_first_of_equal_pools() -> None:
    pools = [snapshot("one", cpmm()), snapshot("two", cpmm())]
    assert [leg.amount_in for leg in route(pools, DEEP // 10 + 1).route.legs] == [DEEP // 20 + 1, DEEP // 20]


def test_equal_bins_are_filled_in_order() -> None:
    def pool() -> DlmmPool:
        bins = {bin_id: Bin(0, 10**9) for bin_id in range(-5, 1)}
        return DlmmPool.of_bins(DlmmParameters(10, 10_000), 0, bins.items())

    pools = [snapshot(name, pool()) for name in ("one", "two", "three")]
    choice = route(pools, 15 * 10**8)
    capacity = next(iter(pool().ahead(Direction.A_TO_B, NOW))).capacity
    assert [leg.amount_in for leg in choice.route.legs] == [capacity, 15 * 10**8 - capacity]


def test_a_small_order_goes_to_one_pool_and_the_next_is_the_runner_up() -> None:
    pools = [snapshot("dear", cpmm(fee=10_000)), snapshot("good", cpmm(fee=100)), snapshot("fair", cpmm())]
    choice = route(pools, 10**6)
    assert [leg.pool_id for leg in choice.route.legs] == ["good"]
    assert choice.runner_up is not None
    assert [leg.pool_id for leg in choice.runner_up.legs] == ["fair"]


def test_the_only_pool_has_no_runner_up() -> None:
    assert route([snapshot("only", cpmm())], 10**6).runner_up is None


def test_a_split_needs_a_minimum_gain() -> None:
    pools = [snapshot("one", cpmm()), snapshot("two", cpmm())]
    # Half of 0.1 % of impact is gained.
    assert len(route(pools, DEEP // 1_000, limits=RouteLimits(4, 4)).route.legs) == 2
    assert len(route(pools, DEEP // 1_000, limits=RouteLimits(4, 6)).route.legs) == 1


def test_a_split_fills_an_amount_that_no_single_pool_holds() -> None:
    pools = [snapshot("one", cpmm()), snapshot("two", cpmm())]
    choice = route(pools, DEEP + 10**6, OUT)
    assert choice.route.amount_out == DEEP + 10**6
    assert choice.runner_up is None
    assert {quote.reason for quote in choice.quotes if isinstance(quote, NoQuote)} == {
        FailureCode.INSUFFICIENT_LIQUIDITY
    }
    with pytest.raises(NoRouteError) as caught:
        route(pools, 2 * DEEP + 1, OUT)
    assert caught.value.failure.code is FailureCode.INSUFFICIENT_LIQUIDITY


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize("collect_fee_mode", [0, 1])
def test_a_pool_is_emptied_except_for_rounding(mode: SwapMode, collect_fee_mode: int) -> None:
    # By its curve the pool pays a few units more than its bins do, each of which rounds.
    bins = [(bin_id, Bin(0, 10**9 + 7 * bin_id)) for bin_id in range(-60, 1)]
    parameters = DlmmParameters(10, 1_000, collect_fee_mode=collect_fee_mode)
    pools = [snapshot("bins", DlmmPool.of_bins(parameters, 0, bins)), snapshot("deep", cpmm())]
    first, second = route(pools, DEEP // 2, mode).route.legs
    assert (first.pool_id, second.pool_id) == ("bins", "deep")
    held = sum(bin_.amount_y for _, bin_ in bins)
    assert held * 99_999 // 100_000 < first.amount_out + first.fee_out <= held


HUB_POOLS = [
    snapshot("jup-usdc", cpmm(fee=100), ("JUP", "USDC")),
    snapshot("bonk-usdc", cpmm(fee=100), ("BONK", "USDC")),
    snapshot("sol-jup", cpmm(fee=500), ("SOL", "JUP")),
    snapshot("sol-bonk", cpmm(fee=500), ("SOL", "BONK")),
]


@pytest.mark.parametrize("mode", SwapMode)
def test_without_a_direct_pool_the_path_goes_through_a_hub(mode: SwapMode) -> None:
    choice = route(HUB_POOLS, 10**6, mode)
    assert [leg.pool_id for leg in choice.route.legs] == ["jup-usdc", "bonk-usdc"]
    assert choice.quotes == ()
    assert choice.runner_up is not None
    assert [leg.pool_id for leg in choice.runner_up.legs] == ["sol-jup", "sol-bonk"]
    execute(choice, HUB_POOLS)


@pytest.mark.parametrize("mode", SwapMode)
def test_a_large_order_mixes_direct_pools_and_hubs(mode: SwapMode) -> None:
    pools = [snapshot("direct", cpmm()), *HUB_POOLS]
    choice = route(pools, DEEP // 5, mode, RouteLimits(5))
    assert {path.legs[0].pool_id for path in choice.route.paths} == {"direct", "jup-usdc", "sol-jup"}
    assert execute(choice, pools) == (choice.route.amount_in, choice.route.amount_out)
    assert len(route(pools, DEEP // 5, mode, RouteLimits(4)).route.legs) == 3
    assert [leg.pool_id for leg in route(pools, DEEP // 5, mode, RouteLimits(1)).route.legs] == ["direct"]


def test_a_partly_filled_bin_takes_the_rest_of_a_better_path() -> None:
    # The bin's price is the route's marginal price: at that price, the bin itself gains nothing.
    wide = DlmmPool.of_bins(DlmmParameters(10, 10_000), 0, [(0, Bin(0, 10 * DEEP))])
    pools = [snapshot("wide", wide), *HUB_POOLS[:2]]
    paths = route(pools, DEEP // 2, limits=RouteLimits(4, 0)).route.paths
    assert [path.legs[0].pool_id for path in paths] == ["wide", "jup-usdc"]


def test_the_second_pool_sells_less_than_the_first_is_quoted_to_pay() -> None:
    first, second = route(HUB_POOLS[:2], DEEP // 10).route.legs
    # 0.1 of the depth, less 0.01 % of fee: 0.09999 / 1.09999 = 0.0909008263...; 0.05 % less of it.
    assert first.amount_out == 90_900_826_371
    assert second.amount_in == 90_855_375_957
    without = route(HUB_POOLS[:2], DEEP // 10, limits=RouteLimits(hop_margin_bps=0)).route.legs
    assert without[1].amount_in == first.amount_out


def test_the_first_pool_buys_more_than_the_second_is_quoted_to_need() -> None:
    first, second = route(HUB_POOLS[:2], DEEP // 10, OUT).route.legs
    assert second.amount_out == DEEP // 10
    assert first.amount_out == -(-second.amount_in * 10_005 // 10_000)


@pytest.mark.parametrize("mode", SwapMode)
def test_the_margin_changes_no_route_without_two_hops(mode: SwapMode) -> None:
    pools = [snapshot("one", cpmm()), snapshot("two", cpmm(fee=100)), *HUB_POOLS]
    routes = {
        route(pools, DEEP // 10, mode, RouteLimits(1, hop_margin_bps=margin)).route
        for margin in (0, 5, 1_000)
    }
    assert len(routes) == 1
    routes = {
        route(pools[:2], DEEP // 10, mode, RouteLimits(hop_margin_bps=margin)).route
        for margin in (0, 5, 1_000)
    }
    assert len(routes) == 1


@pytest.mark.parametrize("mode", SwapMode)
def test_a_path_is_chosen_by_what_it_pays_after_the_margin(mode: SwapMode) -> None:
    # Two fees of 0.01 % are less than one of 0.25 %, but not with a margin of 0.3 %.
    pools = [snapshot("direct", cpmm()), *HUB_POOLS[:2]]

    def chosen(margin_bps: int) -> list[str]:
        limits = RouteLimits(max_legs=2, hop_margin_bps=margin_bps)
        return [leg.pool_id for leg in route(pools, 10**8, mode, limits).route.legs]

    assert chosen(0) == chosen(20) == ["jup-usdc", "bonk-usdc"]
    assert chosen(30) == ["direct"]


def test_the_marginal_price_has_no_margin() -> None:
    prices = {
        finished(PathFinder("JUP", "BONK", HUB_POOLS, RouteLimits(hop_margin_bps=margin)).marginal_price())
        for margin in (0, 5)
    }
    found = [Fraction(*price) for price in prices if price is not None]
    assert found == [Fraction(9_999**2, 10_000**2)] * len(prices)


def test_two_paths_do_not_share_a_pool() -> None:
    pools = [*HUB_POOLS[:2], snapshot("bonk-usdc-2", cpmm(fee=100), ("BONK", "USDC"))]
    choice = route(pools, DEEP // 5)
    assert len(choice.route.paths) == 1


def test_a_hub_itself_is_traded_through_the_other_hub() -> None:
    pools = [
        snapshot("sol-usdc", cpmm(), ("SOL", "USDC")),
        snapshot("usdc-jup", cpmm(), ("USDC", "JUP")),
    ]
    choice = route(pools, 10**6, pair=("SOL", "JUP"))
    assert [leg.pool_id for leg in choice.route.legs] == ["sol-usdc", "usdc-jup"]


def test_price_impact_is_weighted_and_compounds() -> None:
    direct = route([snapshot("one", cpmm()), snapshot("two", cpmm())], DEEP // 10).route
    assert direct.price_impact_ppm == direct.legs[0].price_impact_ppm
    row = route(HUB_POOLS[:2], DEEP // 10).route
    first, second = (leg.price_impact_ppm for leg in row.legs)
    kept = (10**6 - first) * (10**6 - second)
    assert row.price_impact_ppm == 10**6 - kept // 10**6


def test_the_price_impact_of_a_route_is_computed_by_hand() -> None:
    whole = route([snapshot("one", cpmm(fee=2_500))], 10**9).route
    # 997,500,000 after fees: 0.0009975 / 1.0009975.
    assert whole.price_impact_ppm == 997
    # Half of it in each of two equal pools: 0.00049875 / 1.00049875.
    halves = route([snapshot("one", cpmm(fee=2_500)), snapshot("two", cpmm(fee=2_500))], 10**9).route
    assert [path.amount_in for path in halves.paths] == [10**9 // 2, 10**9 // 2]
    assert halves.price_impact_ppm == 499
    # Two hops of a tenth, each after a fee of a hundredth of a per cent: 0.09999 / 1.09999 = 0.09090083.
    row = route(HUB_POOLS[:2], DEEP // 10).route
    first, second = (leg.price_impact_ppm for leg in row.legs)
    assert first == 90_901
    # The second pool sells 0.9995 of what the first one pays, 0.09090083; after its fee 0.09084629:
    # 0.09084629 / 1.09084629.
    assert second == 83_281
    # 1 - 0.909099 * 0.916719 = 0.16661167, rounded up.
    assert row.price_impact_ppm == 166_612


@pytest.mark.parametrize(
    ("states", "unavailable", "code"),
    [
        ([], [], FailureCode.NO_ROUTE),
        ([], [FailureCode.QUOTES_UNAVAILABLE], FailureCode.QUOTES_UNAVAILABLE),
        ([replace(cpmm(), status=4)], [], FailureCode.POOL_DISABLED),
        ([replace(cpmm(), open_time_s=NOW.timestamp_s + 1)], [], FailureCode.POOL_NOT_OPEN),
        ([cpmm(fee=0)], [], FailureCode.UNSUPPORTED_POOL),
        ([cpmm(fee=0), replace(cpmm(), status=4)], [], FailureCode.POOL_DISABLED),
        ([cpmm(DEEP, 5)], [], FailureCode.AMOUNT_TOO_SMALL),
        ([cpmm(DEEP, 5)], [FailureCode.QUOTES_UNAVAILABLE], FailureCode.QUOTES_UNAVAILABLE),
    ],
)
def test_without_a_route_the_failure_is_transient(
    states: list[PoolState], unavailable: list[FailureCode], code: FailureCode
) -> None:
    pools = [snapshot(str(number), state) for number, state in enumerate(states)]
    missing = [NoQuote(Dex.METEORA, "away", reason) for reason in unavailable]
    with pytest.raises(NoRouteError) as caught:
        best_route(IN, "JUP", "BONK", 1_000, pools, missing, LIMITS)
    assert caught.value.failure.code is code
    assert len(caught.value.quotes) == len(pools) + len(missing)


def test_a_disabled_pool_is_reported_and_not_used() -> None:
    pools = [snapshot("off", replace(cpmm(fee=1), status=4)), snapshot("on", cpmm()), snapshot("too", cpmm())]
    missing = [NoQuote(Dex.METEORA, "away", FailureCode.QUOTES_UNAVAILABLE)]
    choice = best_route(IN, "JUP", "BONK", DEEP // 10, pools, missing, LIMITS)
    assert [quote.pool_id for quote in choice.quotes] == ["off", "on", "too", "away"]
    assert {leg.pool_id for leg in choice.route.legs} == {"on", "too"}


def test_the_marginal_price_is_the_best_of_direct_and_two_hop_paths() -> None:
    pools = [snapshot("direct", cpmm(fee=2_500)), *HUB_POOLS]
    price = marginal_price("JUP", "BONK", pools)
    assert price is not None
    # Two fees of 0.01 % through USDC are less than one of 0.25 %.
    assert price.out * 10_000**2 == price.per * 9_999**2
    assert marginal_price("JUP", "WIF", pools) is None
    assert marginal_price("JUP", "BONK", [snapshot("off", replace(cpmm(), status=4))]) is None


def test_the_best_four_of_eight_pools_are_found() -> None:
    random = Random(5)
    pools = [
        snapshot(str(number), cpmm(random.randint(DEEP // 9, DEEP), fee=random.choice([100, 2_500, 10_000])))
        for number in range(8)
    ]

    def best_of(chosen: list[Snapshot]) -> Route:
        return route(chosen, DEEP // 5, limits=RouteLimits(4, 0)).route

    found = best_of(pools)
    fours = [best_of(list(four)) for four in combinations(pools, 4)]
    assert len(found.legs) == 4
    assert found == max(fours, key=lambda each: each.amount_out)


def test_a_pool_without_a_curve_sells_its_last_unit() -> None:
    spent = DammV2Pool(
        993_044_963_401_395_873_694,
        342_665_618_841_061_377,
        171_332_809_420_530_688,
        685_331_237_682_122_754,
        1_450,
        1,
        BaseFee(500_000),
    )
    chosen = route([snapshot("spent", spent)], 1, OUT, pair=("BONK", "JUP")).route
    assert [leg.pool_id for leg in chosen.legs] == ["spent"]
    assert chosen.amount_out == 1
