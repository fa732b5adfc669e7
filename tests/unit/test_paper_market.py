"""What the paper market starts with, its tokens, and the transactions its wallet signs."""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from service.clock import Clock
from service.domain.amounts import U64_MAX
from service.domain.quote import Dex
from service.domain.tokens import TOKENS, Token
from service.settings import PPM, Range
from service.venues.paper import market
from service.venues.paper.market import found_pools
from service.venues.paper.transaction import Wallet, decode, market_signature
from service.venues.venue import Swap
from solders.pubkey import Pubkey
from solders.signature import Signature

MODEST = settings(max_examples=25, deadline=None)

SOL, USDC = "SOL", "USDC"

VARIANCE = Range(20_000, 50_000)
SWAP = Swap(
    order_id="0190a8f5-0000-7000-8000-000000000000",
    attempt=2,
    dex=Dex.METEORA,
    pool_id="meteora:SOL-USDC",
    token_in=SOL,
    token_out=USDC,
    amount_in=U64_MAX,
    minimum_out=1,
)

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


@pytest.mark.parametrize("symbol", TOKENS)
def test_a_mint_is_the_public_key_of_its_token(symbol: str) -> None:
    token = TOKENS[symbol]
    assert token == Token(symbol, *MINTS[symbol])
    key = Pubkey.from_string(token.mint)
    assert len(bytes(key)) == 32
    assert str(key) == token.mint


def test_no_two_tokens_share_a_mint() -> None:
    assert len({token.mint for token in TOKENS.values()}) == len(TOKENS)


def test_each_pair_has_a_pool_on_each_dex() -> None:
    pools = found_pools(1, VARIANCE, Clock())
    assert len(pools) == 30
    assert len({pool.id for pool in pools}) == 30
    assert {(pool.dex, frozenset({pool.token_a, pool.token_b})) for pool in pools} == {
        (dex, frozenset(pair)) for dex in Dex for pair in combinations(TOKENS, 2)
    }


@MODEST
@given(seeds)
def test_the_same_seed_founds_the_same_pools(seed: int) -> None:
    assert found_pools(seed, VARIANCE, Clock()) == found_pools(seed, VARIANCE, Clock(seed=3))


def test_another_seed_founds_other_pools() -> None:
    one, other = found_pools(1, VARIANCE, Clock()), found_pools(2, VARIANCE, Clock())
    assert all(a != b for a, b in zip(one, other, strict=True))


@MODEST
@given(seeds, st.sampled_from([Range(0, 0), VARIANCE, Range(0, PPM), Range(PPM, PPM)]))
def test_a_pairs_prices_start_the_variance_apart_around_the_reference(seed: int, variance: Range) -> None:
    prices: dict[tuple[str, str], list[Fraction]] = defaultdict(list)
    for pool in found_pools(seed, variance, Clock()):
        reference = Fraction(market._PRICES[pool.token_a], 10 ** TOKENS[pool.token_a].decimals) / Fraction(
            market._PRICES[pool.token_b], 10 ** TOKENS[pool.token_b].decimals
        )
        prices[pool.token_a, pool.token_b].append(Fraction(pool.reserve_b, pool.reserve_a) / reference)
    rounding = Fraction(2, PPM)
    for pair in prices.values():
        low, high = sorted(pair)
        assert variance.low - 2 <= (high - low) * PPM <= variance.high + 2
        assert low - rounding <= 1 <= high + rounding
        assert abs((low + high) / 2 - 1) <= rounding


@MODEST
@given(seeds)
def test_a_founded_pool_is_at_home_and_can_trade(seed: int) -> None:
    for pool in found_pools(seed, VARIANCE, Clock()):
        assert (pool.home_a, pool.home_b, pool.version) == (pool.reserve_a, pool.reserve_b, 1)
        assert 0 < pool.reserve_a < U64_MAX // 1_000
        assert 0 < pool.reserve_b < U64_MAX // 1_000
        assert 0 < pool.fee_ppm < PPM
        assert pool.restoring_trade() is None


def test_every_token_has_a_price_and_every_depth_a_pair() -> None:
    assert market._PRICES.keys() == TOKENS.keys()
    assert all(pair <= TOKENS.keys() and len(pair) == 2 for pair in market._DEPTHS)


@MODEST
@given(
    amount_in=st.integers(1, U64_MAX),
    minimum_out=st.integers(1, U64_MAX),
    attempt=st.integers(1, 11),
    slot=st.integers(0, 2**63 - 1),
)
def test_a_signed_transaction_reads_as_the_swap_it_is(
    amount_in: int, minimum_out: int, attempt: int, slot: int
) -> None:
    swap = replace(SWAP, amount_in=amount_in, minimum_out=minimum_out, attempt=attempt)
    signed = Wallet(seed=1).sign(swap, slot)
    read = decode(signed)
    assert (signed.id, signed.venue, signed.minimum_out, signed.last_valid_height) == (
        read.signature,
        read.venue,
        read.minimum_out,
        read.last_valid_slot,
    )
    assert (read.order_id, read.attempt, read.pool_id) == (swap.order_id, attempt, swap.pool_id)
    assert (read.token_in, read.token_out, read.amount_in) == (SOL, USDC, amount_in)
    assert (read.venue, read.minimum_out, read.last_valid_slot) == (Dex.METEORA, minimum_out, slot)


def test_an_attempts_id_is_the_signature_of_its_bytes_in_base58() -> None:
    wallet = Wallet(seed=1)
    signed = wallet.sign(SWAP, 100)
    signature = Signature.from_string(signed.id)
    assert bytes(signature) == signed.transaction[:64]
    assert signature.verify(wallet._keypair.pubkey(), signed.transaction[64:])


def test_signing_is_repeatable_and_every_difference_gives_another_id() -> None:
    ids = [
        Wallet(1).sign(SWAP, 100).id,
        Wallet(2).sign(SWAP, 100).id,
        Wallet(1).sign(SWAP, 101).id,
        Wallet(1).sign(replace(SWAP, attempt=3), 100).id,
        Wallet(1).sign(replace(SWAP, minimum_out=2), 100).id,
    ]
    assert len(set(ids)) == len(ids)
    assert Wallet(1).sign(SWAP, 100).id == ids[0]


def test_the_markets_own_trades_have_signatures_of_their_own() -> None:
    signatures = {
        market_signature(pool, version) for pool in ("raydium:A-B", "meteora:A-B") for version in (1, 2, 11)
    }
    assert len(signatures) == 6
    assert all(len(bytes(Signature.from_string(each))) == 64 for each in signatures)
    assert market_signature("raydium:A-B", 1) in signatures
