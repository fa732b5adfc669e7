"""Splits compared with an independent solver, which is itself checked by a grid of exact quotes."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from random import Random

import pytest

from service.amm import (
    AmmV4Pool,
    ChainTime,
    CpmmPool,
    DammV2Pool,
    Direction,
    DlmmPool,
    PoolState,
)
from service.amm.errors import AmmError
from service.amm.meteora_damm_v2_curve import Range
from service.amm.meteora_damm_v2_fees import BaseFee
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters
from service.chains.venue import PoolRef, Snapshot
from service.domain.failures import FailureCode
from service.domain.quote import Choice, Dex, SwapMode
from service.routing import NoRouteError, RouteLimits, best_route
from tests.support.split_solver import Curve, CurveSequence, Reduced, best, curve

NOW = ChainTime(1_800_000_000)
DUST = 1_000
TOLERANCE = Decimal("0.00001")
MAX_LEGS = 4
A, B, HUB = "JUP", "BONK", "USDC"


@dataclass(frozen=True)
class Problem:
    snapshots: Sequence[Snapshot]
    mode: SwapMode
    amount: int
    margin_bps: int

    @property
    def kept(self) -> Decimal:
        """The fraction of the first pool's output that the second pool of a path sells."""
        if self.mode is SwapMode.EXACT_IN:
            return 1 - Decimal(self.margin_bps) / 10_000
        return 1 / (1 + Decimal(self.margin_bps) / 10_000)

    def paths(self) -> list[tuple[Curve, frozenset[str]]]:
        """Return all paths for the solver, by their pools' ids."""
        sides = {
            (one, other): [
                (curve(each.state, Direction.A_TO_B), each.pool.id)
                for each in self.snapshots
                if (each.pool.token_a, each.pool.token_b) == (one, other)
            ]
            for one, other in ((A, B), (A, HUB), (HUB, B))
        }
        direct = [(each, frozenset({name})) for each, name in sides[A, B]]
        rows = [
            (CurveSequence(Reduced(first, self.kept), second), frozenset({name, other}))
            for (first, name), (second, other) in product(sides[A, HUB], sides[HUB, B])
        ]
        return [*direct, *rows]

    def choice(self) -> Choice:
        limits = RouteLimits(MAX_LEGS, 0, self.margin_bps)
        return best_route(self.mode, A, B, self.amount, self.snapshots, (), limits)


def random_pool(random: Random, price: Decimal, depth: int) -> PoolState:
    """Return a pool of one of the programs with about this price, and this depth of A."""
    price *= Decimal(random.uniform(0.995, 1.005))
    depth = int(depth * random.uniform(0.2, 2))
    other = max(1, int(depth * price))
    kind = random.randrange(4)
    if kind == 0:
        creator = random.random() < 0.4
        return CpmmPool(
            depth,
            other,
            random.choice([100, 2_500, 10_000]),
            120_000,
            40_000,
            creator_fee_rate=500 * creator,
            creator_fee_on=random.randrange(3),
            enable_creator_fee=creator,
        )
    if kind == 1:
        return AmmV4Pool(depth, other)
    if kind == 2:
        return random_damm_v2(random, depth, other)
    return random_dlmm(random, depth, price)


def random_damm_v2(random: Random, depth: int, other: int) -> DammV2Pool:
    fee = BaseFee(random.choice([500_000, 2_500_000, 10_000_000]))
    mode = random.randrange(3)
    root = Decimal(other) / Decimal(depth)
    sqrt_price = int(root.sqrt() * 2**64)
    liquidity = (other << 128) // sqrt_price
    if mode == 2:
        return DammV2Pool(
            liquidity,
            sqrt_price,
            1,
            1 << 127,
            depth,
            other,
            fee,
            collect_fee_mode=mode,
            compounding_fee_bps=5_000,
        )
    width = random.choice([2, 20])
    reserves = Range(sqrt_price, liquidity, sqrt_price // width, sqrt_price * width).reserves()
    return DammV2Pool(
        liquidity, sqrt_price, sqrt_price // width, sqrt_price * width, *reserves, fee, collect_fee_mode=mode
    )


def random_dlmm(random: Random, depth: int, price: Decimal) -> DlmmPool:
    bin_step = random.choice([5, 10, 25, 80])
    step = 1 + Decimal(bin_step) / 10_000
    active_id = int(price.ln() / step.ln())
    ahead = random.choice([10, 60, 200])
    bins = {}
    for bin_id in range(active_id - ahead, active_id + 1):
        held = int(depth * random.uniform(0.2, 2) / ahead * float(step) ** bin_id)
        if random.random() < 0.9:
            bins[bin_id] = Bin(0, held)
    parameters = DlmmParameters(
        bin_step,
        random.choice([1_000, 10_000]),
        variable_fee_control=random.choice([0, 40_000]),
        collect_fee_mode=random.randrange(2),
    )
    return DlmmPool.of_bins(parameters, active_id, bins.items())


def random_problem(seed: int) -> Problem:
    random = Random(seed)
    depth = 10 ** random.randrange(7, 15)
    price = Decimal(10) ** random.randrange(-4, 4) * Decimal(random.uniform(1, 9))
    pairs = [(A, B)] * random.randint(2, 6)
    prices = {(A, B): price}
    if random.random() < 0.4:
        # Through the hub it is a little dearer or cheaper than directly.
        hub_price = Decimal(10) ** random.randrange(-3, 3)
        prices |= {(A, HUB): hub_price, (HUB, B): price / hub_price * Decimal(random.uniform(0.99, 1.01))}
        pairs = pairs[: random.randrange(4)] + [(A, HUB), (HUB, B)] * random.randint(1, 2)
    depths = {(A, B): depth, (A, HUB): depth, (HUB, B): int(depth * prices.get((A, HUB), Decimal(1)))}
    snapshots = [
        Snapshot(
            PoolRef(f"pool-{number}", random.choice(list(Dex)), *pair),
            random_pool(random, prices[pair], depths[pair]),
            NOW,
        )
        for number, pair in enumerate(pairs)
    ]
    mode = random.choice(list(SwapMode))
    share = Decimal(10) ** Decimal(random.uniform(-6, 0)) * Decimal("0.3")
    sold = max(1, int(depth * share))
    amount = sold if mode is SwapMode.EXACT_IN else max(1, int(sold * price))
    return Problem(snapshots, mode, amount, random.choice([0, 5, 5, 300]))


def roundings(problem: Problem, choice: Choice) -> Decimal:
    """Return what units may be lost: in every leg a few of its input and output, and so in every bin.

    A unit of a dear hub token may be worth many of output, and is lost also by a route that was therefore
    not chosen.
    """
    by_id = {each.pool.id: each for each in problem.snapshots}
    total = Decimal(0)
    for path in choice.route.paths:
        worth = Decimal(1)
        for leg in reversed(path.legs):
            state = by_id[leg.pool_id].state
            bins = 1
            if isinstance(state, DlmmPool):
                end = state.quote_exact_in(Direction.A_TO_B, leg.amount_in, NOW).next_state().active_id
                bins += state.active_id - end
            rate = Decimal(leg.amount_out) / leg.amount_in
            total += worth * (bins + 1) * (1 + rate)
            worth *= rate
    rate = Decimal(choice.route.amount_out) / choice.route.amount_in
    slack = 2 * total + 2 * rate * len(choice.route.paths)
    through_hub = [each for each in problem.snapshots if each.pool.token_a == HUB]
    if through_hub:
        hub = through_hub[0].state.price(Direction.A_TO_B)
        slack += 8 * Decimal(hub.out) / Decimal(hub.per)
    return slack if problem.mode is SwapMode.EXACT_IN else slack / rate


def check(problem: Problem) -> None:
    exact_out = problem.mode is SwapMode.EXACT_OUT
    optimum = best(problem.paths(), problem.amount, MAX_LEGS, exact_out)
    if optimum is None:
        with pytest.raises(NoRouteError) as caught:
            problem.choice()
        assert caught.value.failure.code is FailureCode.INSUFFICIENT_LIQUIDITY
        return
    try:
        choice = problem.choice()
    except NoRouteError as error:
        # Of dust the fees, each rounded up to a unit, may take all.
        dust = error.failure.code is FailureCode.AMOUNT_TOO_SMALL and (
            optimum < DUST or problem.amount < DUST
        )
        if not dust:
            raise
        return
    slack = roundings(problem, choice)
    if exact_out:
        assert choice.route.amount_out == problem.amount
        assert choice.route.amount_in <= optimum * (1 + TOLERANCE) + slack
        assert choice.route.amount_in >= optimum * (1 - TOLERANCE / 100) - slack
    else:
        assert choice.route.amount_in == problem.amount
        assert choice.route.amount_out >= optimum * (1 - TOLERANCE) - slack
        assert choice.route.amount_out <= optimum * (1 + TOLERANCE / 100) + slack


@pytest.mark.parametrize("seed", range(50))
def test_a_route_is_the_optimum(seed: int) -> None:
    check(random_problem(seed))


@pytest.mark.long
@pytest.mark.parametrize("block", range(10))
def test_a_thousand_routes_are_the_optimum(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        check(random_problem(10_000 + seed))


@pytest.mark.parametrize("seed", range(30))
def test_the_solver_agrees_with_a_grid_over_exact_quotes(seed: int) -> None:
    random = Random(seed)
    # So deep that a unit is nothing: the grid's own coarseness is what remains.
    price = Decimal(random.uniform(0.1, 10))
    count = random.randint(2, 3)
    states = [random_pool(random, price, 10**15) for _ in range(count)]
    amount = random.randint(10**12, 5 * 10**13)
    steps = 200 if count == 2 else 40
    found = 0
    for parts in product(range(steps + 1), repeat=count - 1):
        last = steps - sum(parts)
        if last < 0:
            continue
        try:
            found = max(
                found,
                sum(
                    out_of(state, amount * part // steps)
                    for state, part in zip(states, (*parts, last), strict=True)
                ),
            )
        except AmmError:
            continue
    solved = best(
        [(curve(state, Direction.A_TO_B), frozenset({str(i)})) for i, state in enumerate(states)],
        amount,
        4,
        exact_out=False,
    )
    assert solved is not None
    assert found <= solved + 1_000
    # Off the optimum by a part e of the amount, the loss is of the order of e^2.
    assert found >= solved * (1 - Decimal(1) / steps**2)


def out_of(state: PoolState, amount: int) -> int:
    return state.quote_exact_in(Direction.A_TO_B, amount, NOW).amount_out if amount else 0
