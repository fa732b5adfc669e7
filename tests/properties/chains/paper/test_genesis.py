"""The paper market's genesis: its tokens, pools and wallets."""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, Direction, DlmmPool
from service.amm.meteora_dlmm_prices import price_of_bin
from service.chains.paper import genesis
from service.chains.paper.genesis import FUNDS, genesis_pools, genesis_wallets
from service.chains.paper.market import TRADERS, USER
from service.chains.paper.pool import PaperPool, owed
from service.chains.paper.pool_json import PROGRAMS
from service.chains.paper.reference import PRICES, Reference
from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.quote import Dex
from service.domain.tokens import TOKENS, Token
from service.settings import PPM, Range
from tests.support.market import SLOT, SLOT_MS, VARIANCE, a_market, band_ppm, distance_ppm

MODEST = settings(max_examples=15, deadline=None)

seeds = st.integers(0, 10**18 - 1)

# Written out a second time: most typing errors in a key leave 32 bytes of another one.
MINTS = {
    "SOL": ("So11111111111111111111111111111111111111112", 9),
    "USDC": ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", 6),
    "USDT": ("Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", 6),
    "JUP": ("JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN", 6),
    "RAY": ("4k3Dyjzvzp8eMZWUXbBCjEvwSkkk59S5iCNLY3QrkX6R", 6),
    "BONK": ("DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263", 5),
}

HUBS = {
    "SOL-USDC",
    "SOL-USDT",
    "USDC-USDT",
    "SOL-JUP",
    "SOL-RAY",
    "SOL-BONK",
    "USDC-JUP",
    "USDC-RAY",
    "USDC-BONK",
}
SMALL = {"USDT-JUP", "USDT-RAY", "USDT-BONK", "JUP-RAY"}


def founded(seed: int = 1, variance: Range = VARIANCE, slot: int = SLOT) -> list[PaperPool]:
    return genesis_pools(seed, variance, Clock(), slot, SLOT_MS)


@pytest.mark.parametrize("symbol", TOKENS)
def test_a_mint_is_the_public_key_of_its_token(symbol: str) -> None:
    token = TOKENS[symbol]
    assert token == Token(symbol, *MINTS[symbol])
    key = Pubkey.from_string(token.mint)
    assert len(bytes(key)) == 32
    assert str(key) == token.mint


def test_no_two_tokens_share_a_mint() -> None:
    assert len({token.mint for token in TOKENS.values()}) == len(TOKENS)


def test_hub_pairs_have_four_pools_small_pairs_two_and_two_pairs_none() -> None:
    names = defaultdict(set)
    for pool in founded():
        dex, pair, program = pool.id.split(":")
        assert pair == f"{pool.token_a}-{pool.token_b}"
        assert Dex(dex) is pool.dex is PROGRAMS[pool.program]
        names[pair].add(f"{dex}:{program}")
    assert names.keys() == HUBS | SMALL
    for pair, pools in names.items():
        if pair in HUBS:
            assert pools == {"raydium:cpmm", "raydium:amm-v4", "meteora:dlmm", "meteora:damm-v2"}
        else:
            assert pools == {"raydium:cpmm", "meteora:damm-v2"}
    every = {f"{one}-{other}" for one, other in combinations(TOKENS, 2)}
    assert every - names.keys() == {"JUP-BONK", "RAY-BONK"}


def test_every_pair_can_be_traded_in_two_legs_at_most() -> None:
    direct = {frozenset((pool.token_a, pool.token_b)) for pool in founded()}
    for one, other in combinations(TOKENS, 2):
        assert frozenset((one, other)) in direct or any(
            {frozenset((one, between)), frozenset((between, other))} <= direct for between in TOKENS
        )


@MODEST
@given(seeds)
def test_the_same_seed_makes_the_same_pools(seed: int) -> None:
    assert founded(seed) == genesis_pools(seed, VARIANCE, Clock(seed=3), SLOT, SLOT_MS)


def test_another_seed_makes_other_pools() -> None:
    assert all(one != other for one, other in zip(founded(1), founded(2), strict=True))


@pytest.mark.parametrize("gone", range(13))
def test_a_pair_more_or_less_changes_no_other(gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    every = {pool.id: pool for pool in founded()}
    listings = genesis._LISTINGS
    monkeypatch.setattr(genesis, "_LISTINGS", listings[:gone] + listings[gone + 1 :])
    rest = {pool.id: pool for pool in founded()}
    assert len(every) - len(rest) in {2, 4}
    assert rest.items() <= every.items()


@MODEST
@given(seeds, st.sampled_from([Range(0, 0), Range(300, 300), VARIANCE, Range(0, PPM), Range(PPM, PPM)]))
def test_a_founded_pool_is_at_its_target_and_owes_what_it_holds(seed: int, variance: Range) -> None:
    pools = founded(seed, variance)
    market = a_market(seed, pools=pools, variance=variance)
    assert market.shortfalls() == []
    for pool in pools:
        assert abs(distance_ppm(market, pool, SLOT)) <= band_ppm(pool)
        assert owed(pool.state) == (pool.vault_a, pool.vault_b)
        assert 0 < pool.vault_a < U64_MAX // 100
        assert 0 < pool.vault_b < U64_MAX // 100
        assert pool.opened_slot == SLOT
    market.move(SLOT)
    assert market.take_changes().pools == []


@MODEST
@given(seeds)
def test_a_dex_holds_about_the_depth_of_a_pair_on_either_side(seed: int) -> None:
    held: dict[tuple[Dex, str, str, str], Fraction] = defaultdict(Fraction)
    for pool in founded(seed):
        for token, amount in ((pool.token_a, pool.vault_a), (pool.token_b, pool.vault_b)):
            worth = Fraction(amount * PRICES[token].base, 10 ** (12 + TOKENS[token].decimals))
            held[pool.dex, pool.token_a, pool.token_b, token] += worth
    depths = {(listing.token_a, listing.token_b): listing.depth_usd for listing in genesis._LISTINGS}
    for (_, token_a, token_b, _), worth in held.items():
        # DLMM's bins are centred on the mean, so its sides differ by how far the price is from that.
        assert depths[token_a, token_b] * 3 // 10 < worth < depths[token_a, token_b] * 2


@MODEST
@given(seeds, st.sampled_from([Range(0, 0), VARIANCE, Range(PPM, PPM)]))
def test_a_dlmm_pools_bins_hold_every_target_that_can_ever_be(seed: int, variance: Range) -> None:
    reference = Reference(seed, variance, Clock())
    for pool in founded(seed, variance):
        if not isinstance(pool.state, DlmmPool):
            continue
        ids = [
            array.index * 70 + offset
            for array in pool.state.arrays.values()
            for offset, bin_ in enumerate(array.bins)
            if bin_.amount_x or bin_.amount_y
        ]
        assert 100 <= len(ids) <= 250
        assert len(ids) == max(ids) - min(ids) + 1
        step = pool.state.parameters.bin_step
        lowest, highest = (Fraction(price_of_bin(end, step), 2**64) for end in (min(ids), max(ids)))
        swing_a, swing_b = (Fraction(PRICES[t].swing_ppb, 10**9) for t in (pool.token_a, pool.token_b))
        mean = Fraction(*reference.mean_target(pool.dex, pool.token_a, pool.token_b))
        # And what an order of 30 bins may move on top.
        margin = Fraction(10_000 + step, 10_000) ** 30
        assert lowest * margin < mean * (1 - swing_a) / (1 + swing_b)
        assert highest / margin > mean * (1 + swing_a) / (1 - swing_b)


def test_the_fees_are_the_programs_fee_tiers() -> None:
    for pool in founded():
        stable = {pool.token_a, pool.token_b} == {"USDC", "USDT"}
        match pool.state:
            case CpmmPool() as state:
                assert state.trade_fee_rate == (100 if stable else 2_500)
                assert (state.protocol_fee_rate, state.fund_fee_rate) == (120_000, 40_000)
            case AmmV4Pool() as state:
                assert (state.fee_numerator, state.fee_denominator) == (25, 10_000)
            case DlmmPool() as state:
                parameters = state.parameters
                assert parameters.base_rate == parameters.bin_step * (200_000 if stable else 100_000)
                assert parameters.variable_fee_control > 0
            case DammV2Pool() as state:
                assert state.base_fee.cliff_rate == (400_000 if stable else 2_500_000)
                assert state.dynamic_fee is not None
                worst = replace(state.dynamic_fee, accumulator=state.dynamic_fee.max_volatility)
                assert worst.rate() <= state.base_fee.cliff_rate // 5


def test_a_market_may_begin_with_time() -> None:
    # The programs' memory of volatility must not depend on how long ago 1970 was.
    market = a_market(pools=founded(slot=0))
    for slot in range(0, 1_000, 5):
        market.move(slot)
    for pool in market.pools.values():
        assert abs(distance_ppm(market, pool, 999)) <= band_ppm(pool)
        assert pool.state.quote_exact_in(Direction.A_TO_B, 10**6, market.now(999)).amount_in == 10**6


def test_wallets_start_with_the_endowment_or_with_what_the_user_is_given() -> None:
    assert genesis_wallets() == {(owner, token): FUNDS for owner in (USER, TRADERS) for token in TOKENS}
    wallets = genesis_wallets({"SOL": 5, "BONK": 0})
    assert (wallets[USER, "SOL"], wallets[USER, "BONK"]) == (5, 0)
    assert wallets[USER, "USDC"] == wallets[TRADERS, "SOL"] == 10**18
