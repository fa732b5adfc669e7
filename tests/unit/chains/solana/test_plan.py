"""Plans that are refused, because they could not be executed or their result not be read."""

from dataclasses import replace

import pytest

from service.amm import Direction
from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.plan import InvalidPlanError, PlannedLeg, SwapPlan, plan_of_route
from service.chains.solana.programs.pool import LegSwap
from service.chains.solana.programs.registry import MAINNET
from service.domain.amounts import U64_MAX
from service.domain.leg_limits import LegLimits, leg_limits
from service.domain.quote import Dex, Leg, Path, Route, SwapMode
from tests.support.executed import USDC
from tests.support.solana_pools import elsewhere, made_up

TOKEN = made_up("token")
ONE = elsewhere(MAINNET.raydium_cpmm, "one", WRAPPED_SOL, USDC)
TWO = elsewhere(MAINNET.meteora_damm_v2, "two", USDC, TOKEN)
OTHER = elsewhere(MAINNET.raydium_amm_v4, "other", WRAPPED_SOL, TOKEN)
SWAP = LegSwap(Direction.A_TO_B, SwapMode.EXACT_IN, 1_000, 900)
FIRST = PlannedLeg(ONE, SWAP)
SECOND = PlannedLeg(TWO, replace(SWAP, amount_in=900, amount_out=1))


def test_a_plan_that_can_be_executed_is_accepted() -> None:
    SwapPlan(((FIRST, SECOND), (PlannedLeg(OTHER, SWAP),))).check()


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ((), "a path without a leg"),
        (((FIRST,), ()), "a path without a leg"),
        (((FIRST,), (FIRST,)), "a pool is used twice"),
        (((FIRST,), (PlannedLeg(OTHER, SWAP),)), "different pairs"),
        (((SECOND, FIRST),), "before one that sells another token"),
        # It would sell what the wallet holds besides.
        (((FIRST, replace(SECOND, swap=replace(SWAP, amount_in=901))),), "may sell 901"),
        (((replace(FIRST, swap=replace(SWAP, amount_in=0)),),), "0 for 900"),
        (((replace(FIRST, swap=replace(SWAP, amount_out=0)),),), "1000 for 0"),
        (((replace(FIRST, swap=replace(SWAP, amount_in=U64_MAX + 1)),),), "in one leg"),
    ],
)
def test_a_plan_that_cannot_be_executed_is_refused(
    paths: tuple[tuple[PlannedLeg, ...], ...], reason: str
) -> None:
    with pytest.raises(InvalidPlanError, match=reason):
        SwapPlan(paths).check()


def leg(pool_id: str, token_in: str, token_out: str, amount_in: int, amount_out: int) -> Leg:
    return Leg(Dex.RAYDIUM, pool_id, token_in, token_out, amount_in, amount_out, 0, 0, 0)


def test_the_plan_of_a_route_has_its_legs_directions_and_limits() -> None:
    pools = {"one": ONE, "two": TWO, "other": OTHER}
    mints = {"SOL": WRAPPED_SOL, "USDC": USDC, "TOKEN": TOKEN}
    paths = (
        Path((leg("two", "TOKEN", "USDC", 500, 10_000), leg("one", "USDC", "SOL", 9_995, 700))),
        Path((leg("other", "TOKEN", "SOL", 500, 710),)),
    )
    route = Route(SwapMode.EXACT_IN, "TOKEN", "SOL", paths, 0)
    plan = plan_of_route(route, leg_limits(route, 1_000, 1_400, 5), pools, mints, {})
    back = Direction.B_TO_A
    assert [(each.pool, each.swap) for each in plan.legs] == [
        (TWO, LegSwap(back, SwapMode.EXACT_IN, 500, 9_995)),
        (ONE, LegSwap(back, SwapMode.EXACT_IN, 9_995, 696)),
        (OTHER, LegSwap(back, SwapMode.EXACT_IN, 500, 705)),
    ]


def test_a_pool_that_does_not_trade_the_pair_is_refused() -> None:
    route = Route(SwapMode.EXACT_IN, "SOL", "TOKEN", (Path((leg("one", "SOL", "TOKEN", 5, 5),)),), 0)
    with pytest.raises(InvalidPlanError, match="does not trade"):
        plan_of_route(route, ((LegLimits(5, 5),),), {"one": ONE}, {"SOL": WRAPPED_SOL, "TOKEN": TOKEN}, {})
