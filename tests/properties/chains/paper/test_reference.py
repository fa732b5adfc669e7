"""Reference prices: deterministic, bounded, moving; and each DEX's target price."""

from fractions import Fraction
from itertools import combinations, pairwise
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.chains.paper.reference import PICO, PRICES, REFERENCE_STEP_SLOTS, Reference, Spread
from service.clock import Clock
from service.domain.quote import Dex
from service.domain.tokens import TOKENS
from service.settings import PPM, Range
from tests.support.market import SLOT, VARIANCE

MODEST = settings(max_examples=40, deadline=None)

DAY_SLOTS = 24 * 3_600_000 // 400
VOLATILE = ("SOL", "JUP", "RAY", "BONK")

seeds = st.integers(0, 10**18 - 1)
slots = st.integers(0, 2 * SLOT)
tokens = st.sampled_from(list(TOKENS))
dexes = st.sampled_from(Dex)
variances = st.sampled_from([Range(0, 0), Range(300, 300), VARIANCE, Range(0, PPM), Range(PPM, PPM)])


def a_reference(seed: int = 1, variance: Range = VARIANCE) -> Reference:
    return Reference(seed, variance, Clock(seed=7))


def moves_ppm(token: str, steps: int, count: int = 1_000) -> list[Fraction]:
    """Return how far a price moves in so many steps, again and again."""
    reference = a_reference()
    path = [reference.price(token, SLOT + index * steps * REFERENCE_STEP_SLOTS) for index in range(count)]
    return [Fraction(after - before, before) * PPM for before, after in pairwise(path)]


@MODEST
@given(seeds, st.lists(st.tuples(tokens, slots), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_any_slot_s_price_can_be_computed_in_any_order(
    seed: int, questions: list[tuple[str, int]], draw: Random
) -> None:
    one, other = a_reference(seed), a_reference(seed)
    answers = {question: one.price(*question) for question in questions}
    draw.shuffle(questions)
    assert {question: other.price(*question) for question in questions} == answers
    assert {question: one.price(*question) for question in questions} == answers


def test_a_markets_prices_outlive_this_version() -> None:
    # Markets are kept in databases: other numbers here would be a jump in all of them.
    assert [a_reference().price(token, SLOT) for token in TOKENS] == [
        149_433_120_300_000,
        1_000_000_000_000,
        999_866_750_000,
        857_243_566_550,
        2_386_413_424_800,
        20_931_407,
    ]
    assert a_reference().spread("SOL", "USDC") == Spread(20_050, Dex.RAYDIUM)


@MODEST
@given(seeds, tokens, slots)
def test_a_price_stands_still_for_a_step(seed: int, token: str, slot: int) -> None:
    reference = a_reference(seed)
    first = slot - slot % REFERENCE_STEP_SLOTS
    assert len({reference.price(token, first + past) for past in range(REFERENCE_STEP_SLOTS)}) == 1


@MODEST
@given(seeds, tokens, slots)
def test_a_price_stays_near_its_base(seed: int, token: str, slot: int) -> None:
    bound_ppm = {"USDC": 0, "USDT": 500}.get(token, 40_000)
    base = PRICES[token].base
    assert PRICES[token].swing_ppb <= bound_ppm * 1_000
    assert abs(a_reference(seed).price(token, slot) - base) * PPM <= base * bound_ppm + PPM


def test_every_token_has_a_price_in_pico_dollars() -> None:
    assert PRICES.keys() == TOKENS.keys()
    assert PRICES["SOL"].base == 150 * PICO
    assert PRICES["USDC"] == (PICO, 0)


@pytest.mark.parametrize("token", VOLATILE)
def test_a_step_moves_a_price_by_a_basis_point_or_two(token: str) -> None:
    assert 80 < mean(map(abs, moves_ppm(token, 1))) < 250


@pytest.mark.parametrize("token", VOLATILE)
def test_moves_grow_with_the_root_of_time(token: str) -> None:
    a_step, sixteen, many = (float(mean(map(abs, moves_ppm(token, steps)))) for steps in (1, 16, 256))
    assert 2 < sixteen / a_step < 6
    assert 2 < many / sixteen < 6


@pytest.mark.parametrize("token", VOLATILE)
def test_in_a_day_a_price_goes_somewhere(token: str) -> None:
    reference = a_reference()
    path = [reference.price(token, slot) for slot in range(SLOT, SLOT + DAY_SLOTS, 500)]
    assert max(path) - min(path) > PRICES[token].base // 100


def test_tokens_and_seeds_move_apart() -> None:
    assert len({tuple(moves_ppm(token, 1, 50)) for token in VOLATILE}) == len(VOLATILE)
    assert a_reference(1).price("SOL", SLOT) != a_reference(2).price("SOL", SLOT)


@MODEST
@given(
    seeds, st.sampled_from([Range(0, 0), Range(300, 300), VARIANCE, Range(0, PPM), Range(PPM, PPM)]), slots
)
def test_a_pairs_targets_lie_its_spread_apart_around_the_reference(
    seed: int, variance: Range, slot: int
) -> None:
    reference = a_reference(seed, variance)
    for token_a, token_b in combinations(TOKENS, 2):
        spread = reference.spread(token_a, token_b)
        assert variance.low <= spread.ppm <= variance.high
        worth = Fraction(reference.price(token_a, slot), reference.price(token_b, slot)) / Fraction(10) ** (
            TOKENS[token_a].decimals - TOKENS[token_b].decimals
        )
        targets = {dex: reference.target(dex, token_a, token_b, slot) for dex in Dex}
        prices = {dex: Fraction(*target) / worth for dex, target in targets.items() if target}
        cheaper = next(dex for dex in Dex if dex is not spread.dearer)
        assert prices[spread.dearer] - prices[cheaper] == Fraction(spread.ppm, PPM)
        assert abs(prices[spread.dearer] + prices[cheaper] - 2) <= Fraction(1, PPM)
        assert prices[cheaper] > 0


def test_either_dex_may_be_the_dearer() -> None:
    assert {a_reference(seed).spread("SOL", "USDC").dearer for seed in range(20)} == set(Dex)


@MODEST
@given(seeds, dexes, slots)
def test_a_pair_written_the_other_way_has_the_inverse_target(seed: int, dex: Dex, slot: int) -> None:
    reference = a_reference(seed)
    one = reference.target(dex, "SOL", "USDC", slot)
    other = reference.target(dex, "USDC", "SOL", slot)
    assert one is not None
    assert other is not None
    assert Fraction(*one) * Fraction(*other) == 1
    assert reference.spread("SOL", "USDC").dearer is not reference.spread("USDC", "SOL").dearer


@MODEST
@given(seeds, dexes)
def test_the_mean_target_is_the_one_at_base_prices(seed: int, dex: Dex) -> None:
    reference = a_reference(seed)
    mean_price = Fraction(*reference.mean_target(dex, "SOL", "USDC"))
    shift = mean_price / Fraction(150 * 10**6, 10**9) - 1
    assert Fraction(VARIANCE.low // 2, PPM) <= abs(shift) <= Fraction(VARIANCE.high // 2 + 1, PPM)


def test_a_token_without_a_price_has_no_target() -> None:
    assert a_reference().target(Dex.RAYDIUM, "SOL", "WIF", SLOT) is None
    assert a_reference().target(Dex.RAYDIUM, "WIF", "SOL", SLOT) is None
