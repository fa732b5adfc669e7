"""The limits of legs: worked examples. ``tests/properties/domain`` has the laws."""

from itertools import pairwise

import pytest

from service.domain.amounts import U64_MAX
from service.domain.leg_limits import (
    HopMargin,
    LegLimits,
    bought_before,
    leg_limits,
    shared_limits,
    sold_after,
)
from service.domain.quote import Dex, Leg, Path, Route, SwapMode


def path(*amounts: int) -> Path:
    """Return a path whose legs trade the first amount for the second, the second for the third, and so on."""
    legs = [
        Leg(Dex.RAYDIUM, f"{amounts}-{hop}", f"T{hop}", f"T{hop + 1}", amount_in, amount_out, 0, 0, 0)
        for hop, (amount_in, amount_out) in enumerate(pairwise(amounts))
    ]
    return Path(tuple(legs))


def route(mode: SwapMode, *paths: Path) -> Route:
    return Route(mode, "T0", "T9", paths, 0)


def test_each_path_must_pay_its_share_rounded_up() -> None:
    split = route(SwapMode.EXACT_IN, path(100, 1_000), path(50, 499))
    # 1490 * 1000 / 1499 = 993.99..., 1490 * 499 / 1499 = 496.003...
    assert leg_limits(split, 150, 1_490, 5) == ((LegLimits(100, 994),), (LegLimits(50, 497),))


def test_each_path_may_cost_its_share_rounded_down() -> None:
    split = route(SwapMode.EXACT_OUT, path(1_000, 100), path(499, 50))
    # 1510 * 1000 / 1499 = 1007.3..., 1510 * 499 / 1499 = 502.66...
    assert leg_limits(split, 1_510, 150, 5) == ((LegLimits(1_007, 100),), (LegLimits(502, 50),))


def test_the_second_leg_sells_less_than_the_first_is_quoted_to_pay() -> None:
    hops = route(SwapMode.EXACT_IN, path(100, 20_000, 7))
    assert leg_limits(hops, 100, 6, 5) == ((LegLimits(100, 19_990), LegLimits(19_990, 6)),)


def test_the_first_leg_buys_more_than_the_second_is_quoted_to_need() -> None:
    hops = route(SwapMode.EXACT_OUT, path(100, 20_001, 7))
    # 20001 * 10005 / 10000 = 20011.0005
    assert leg_limits(hops, 103, 7, 5) == ((LegLimits(103, 20_012), LegLimits(20_012, 7)),)


def test_a_margin_never_makes_an_amount_impossible() -> None:
    assert sold_after(1, 9_999) == 1
    assert bought_before(U64_MAX, 1) == U64_MAX


def test_a_margin_lowers_what_is_sold_and_raises_what_is_bought() -> None:
    sells, buys = HopMargin(SwapMode.EXACT_IN, 5), HopMargin(SwapMode.EXACT_OUT, 5)
    assert (sells.applied(20_001), buys.applied(20_001)) == (19_990, 20_012)
    assert (sells.kept, buys.kept) == ((9_995, 10_000), (10_000, 10_005))


def test_a_route_that_does_not_keep_the_orders_limits_has_a_path_that_misses_its_own() -> None:
    split = route(SwapMode.EXACT_IN, path(100, 1_000), path(50, 499))
    # 1500 * 1000 / 1499 = 1000.66..., 1500 * 499 / 1499 = 499.33...
    assert shared_limits(split, 150, 1_500, 5) == ((LegLimits(100, 1_001),), (LegLimits(50, 500),))
    split = route(SwapMode.EXACT_OUT, path(1_000, 100), path(499, 50))
    # 1498 * 1000 / 1499 = 999.33..., 1498 * 499 / 1499 = 498.66...
    assert shared_limits(split, 1_498, 150, 5) == ((LegLimits(999, 100),), (LegLimits(498, 50),))


@pytest.mark.parametrize(
    ("maximum_in", "minimum_out", "margin_bps"), [(99, 1, 0), (100, 8, 0), (100, 7, -1), (100, 7, 10_000)]
)
def test_limits_that_the_quote_does_not_keep_are_refused(
    maximum_in: int, minimum_out: int, margin_bps: int
) -> None:
    with pytest.raises(ValueError, match=r"does not keep|a margin of"):
        leg_limits(route(SwapMode.EXACT_IN, path(100, 7)), maximum_in, minimum_out, margin_bps)
