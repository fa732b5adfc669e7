"""On which routes an order may be submitted, to the base unit and to the millionth."""

from dataclasses import replace

import pytest

from service.domain.failures import FailureCode
from service.domain.quote import Choice, Dex, Leg, Path, Route, SwapMode
from service.execution.best_quote import Demand, failure_of, lower_limit

DEMAND = Demand(SwapMode.EXACT_IN, "SOL", "USDC", 10**9, None, None)


def a_choice(amount_out: int = 150_000_000, impact_ppm: int = 0) -> Choice:
    leg = Leg(Dex.RAYDIUM, "pool", "SOL", "USDC", 10**9, amount_out, 0, 0, impact_ppm)
    return Choice((), Route(SwapMode.EXACT_IN, "SOL", "USDC", (Path((leg,)),), impact_ppm), None)


@pytest.mark.parametrize("impact_ppm", [0, 1, 1_000_000])
def test_without_limits_every_route_may_be_used(impact_ppm: int) -> None:
    assert failure_of(DEMAND, a_choice(1, impact_ppm)) is None


@pytest.mark.parametrize(("max_bps", "highest_ppm"), [(0, 0), (1, 100), (125, 12_500), (10_000, 1_000_000)])
def test_a_price_impact_is_compared_exactly(max_bps: int, highest_ppm: int) -> None:
    demand = replace(DEMAND, max_price_impact_bps=max_bps)
    assert failure_of(demand, a_choice(impact_ppm=highest_ppm)) is None
    if highest_ppm < 1_000_000:
        failure = failure_of(demand, a_choice(impact_ppm=highest_ppm + 1))
        assert failure is not None
        assert failure.code is FailureCode.PRICE_IMPACT_TOO_HIGH


def test_a_price_impact_is_told_in_per_cent() -> None:
    failure = failure_of(replace(DEMAND, max_price_impact_bps=125), a_choice(impact_ppm=12_501))
    assert failure is not None
    assert "1.2501 %, is above the limit, 1.25 %." in failure.detail


def test_a_route_has_to_pay_the_limit_whatever_its_impact() -> None:
    demand = replace(DEMAND, limit_out=150_000_001, max_price_impact_bps=0)
    for impact_ppm in (0, 1):
        failure = failure_of(demand, a_choice(impact_ppm=impact_ppm))
        assert failure is not None
        assert failure.code is FailureCode.LIMIT_NOT_REACHED
    assert failure_of(demand, a_choice(150_000_001)) is None


@pytest.mark.parametrize(
    ("limits", "lowest"),
    [((), None), ((None, None), None), ((5, None), 5), ((None, 0), 0), ((0, 5), 0), ((7, 5, None), 5)],
)
def test_the_lower_limit_applies(limits: tuple[int | None, ...], lowest: int | None) -> None:
    assert lower_limit(*limits) == lowest
