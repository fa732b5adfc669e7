"""Laws of the limits of legs: together they keep the order's, and each one's own quote keeps it."""

from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.amounts import U64_MAX
from service.domain.leg_limits import HopMargin, LegLimits, leg_limits
from service.domain.quote import Dex, Leg, Path, Route, SwapMode

AMOUNTS = st.integers(1, U64_MAX // 8)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """Up to six paths of one or two legs, with any amounts."""
    paths = []
    for number in range(draw(st.integers(1, 6))):
        amounts = draw(st.lists(AMOUNTS, min_size=2, max_size=3))
        legs = [
            Leg(Dex.METEORA, f"{number}.{hop}", "A", "B", amount_in, amount_out, 0, 0, 0)
            for hop, (amount_in, amount_out) in enumerate(pairwise(amounts))
        ]
        paths.append(Path(tuple(legs)))
    return Route(draw(st.sampled_from(SwapMode)), "A", "Z", tuple(paths), 0)


@st.composite
def ordered(draw: st.DrawFn) -> tuple[Route, int, int, tuple[tuple[LegLimits, ...], ...]]:
    """A route, the limits of its order, and those of its legs."""
    route = draw(routes())
    maximum_in, minimum_out = route.amount_in, draw(st.integers(1, route.amount_out))
    if route.mode is SwapMode.EXACT_OUT:
        maximum_in, minimum_out = draw(st.integers(route.amount_in, U64_MAX)), route.amount_out
    limits = leg_limits(route, maximum_in, minimum_out, draw(st.integers(0, 9_999)))
    return route, maximum_in, minimum_out, limits


@settings(deadline=None)
@given(ordered())
def test_if_every_leg_keeps_its_limits_the_order_does(
    case: tuple[Route, int, int, tuple[tuple[LegLimits, ...], ...]],
) -> None:
    _route, maximum_in, minimum_out, limits = case
    assert sum(path[0].amount_in for path in limits) <= maximum_in
    assert sum(path[-1].amount_out for path in limits) >= minimum_out


@settings(deadline=None)
@given(ordered())
def test_the_quote_of_a_path_keeps_the_limits_of_its_ends(
    case: tuple[Route, int, int, tuple[tuple[LegLimits, ...], ...]],
) -> None:
    route, _maximum_in, _minimum_out, limits = case
    for path, legs in zip(route.paths, limits, strict=True):
        assert legs[0].amount_in >= path.amount_in
        assert legs[-1].amount_out <= path.amount_out
        if route.mode is SwapMode.EXACT_IN:
            assert legs[0].amount_in == path.amount_in
        else:
            assert legs[-1].amount_out == path.amount_out


@settings(deadline=None)
@given(ordered())
def test_a_leg_sells_exactly_what_the_one_before_surely_buys(
    case: tuple[Route, int, int, tuple[tuple[LegLimits, ...], ...]],
) -> None:
    route, _maximum_in, _minimum_out, limits = case
    for path, legs in zip(route.paths, limits, strict=True):
        for (first, second), quoted in zip(pairwise(legs), path.legs[1:], strict=True):
            assert 1 <= first.amount_out == second.amount_in <= U64_MAX
            if route.mode is SwapMode.EXACT_OUT:
                assert second.amount_in >= quoted.amount_in


@settings(deadline=None)
@given(AMOUNTS, st.integers(0, 1_000), st.sampled_from(SwapMode))
def test_a_margin_is_its_fraction_rounded_to_the_safe_side(quoted: int, bps: int, mode: SwapMode) -> None:
    margin = HopMargin(mode, bps)
    kept, whole = margin.kept
    if mode is SwapMode.EXACT_IN:
        exact = Fraction(quoted * kept, whole)
        assert exact - 1 < margin.applied(quoted) <= max(exact, Fraction(1))
    else:
        exact = Fraction(quoted * whole, kept)
        assert exact <= margin.applied(quoted) < exact + 1
