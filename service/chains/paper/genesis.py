"""The genesis of the paper market: its pools and the funding of its wallets.

Hub pairs have two pools on each DEX, small pairs one; JUP and BONK, and RAY and BONK, trade only through
another token. Depths and parameters are roughly those of the real markets in 2026; CPMM's rates are those of
Raydium's configs, DLMM's those of Meteora's presets. The same seed always makes the same market, and a pair
that is added later does not change the others.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from math import isqrt
from typing import NamedTuple

from service.amm import AmmV4Pool, CpmmPool, DammV2Pool, DlmmPool, PoolState
from service.amm.integers import ceil_div
from service.amm.meteora_damm_v2_curve import Range as PriceRange
from service.amm.meteora_damm_v2_fees import BaseFee, DynamicFee
from service.amm.meteora_dlmm_bins import Bin
from service.amm.meteora_dlmm_fees import DlmmParameters, Volatility
from service.amm.meteora_dlmm_prices import price_of_bin
from service.amm.quote import Ratio
from service.chains.paper.market import TRADERS, USER
from service.chains.paper.pool import PaperPool, owed
from service.chains.paper.pool_json import (
    METEORA_DAMM_V2,
    METEORA_DLMM,
    RAYDIUM_AMM_V4,
    RAYDIUM_CPMM,
    pool_id,
)
from service.chains.paper.reference import BILLION, PICO, PRICES, Reference
from service.clock import Clock
from service.domain.quote import Dex
from service.domain.tokens import TOKENS
from service.settings import Range

FUNDS = 10**18
"""Initial base units of every token in a wallet: enough to move every market, far below u64."""


class _Listing(NamedTuple):
    """A pair and its market.

    Attributes:
        depth_usd: US dollars on each side of a DEX's pools, plus or minus 20 %.
        bin_step: The DLMM pool's, in basis points; 0: a small pair with one pool per DEX.
    """

    token_a: str
    token_b: str
    depth_usd: int
    bin_step: int = 0


_LISTINGS = (
    _Listing("SOL", "USDC", 12_000_000, 10),
    _Listing("SOL", "USDT", 6_000_000, 10),
    _Listing("USDC", "USDT", 8_000_000, 1),
    _Listing("SOL", "JUP", 2_500_000, 20),
    _Listing("SOL", "RAY", 4_000_000, 20),
    _Listing("SOL", "BONK", 3_000_000, 25),
    _Listing("USDC", "JUP", 1_000_000, 20),
    _Listing("USDC", "RAY", 1_000_000, 20),
    _Listing("USDC", "BONK", 1_000_000, 25),
    _Listing("USDT", "JUP", 150_000),
    _Listing("USDT", "RAY", 150_000),
    _Listing("USDT", "BONK", 150_000),
    _Listing("JUP", "RAY", 100_000),
)

# The part of an amount, 1/1000, that a listed DAMM v2 pool may leave unused.
_LEFT_OVER = 1_000

# The bins of a listed DLMM pool, since no reference price bounds its price.
_LISTED_BIN_STEP = 25
_LISTED_REACH_PPM = 300_000

_STABLE = {"USDC", "USDT"}


class _PoolSpec(NamedTuple):
    """A pool's initial values.

    Attributes:
        price: Base units of B for one of A.
        mean_price: The price around which the price will move.
        amount_b: Base units of B; the amount of A has the same value.
        timestamp_s: Unix time.
    """

    listing: _Listing
    price: Ratio
    mean_price: Ratio
    amount_b: int
    timestamp_s: int

    @property
    def amount_a(self) -> int:
        return self.amount_b * self.price.per // self.price.out

    @property
    def stable(self) -> bool:
        return {self.listing.token_a, self.listing.token_b} <= _STABLE


def genesis_pools(seed: int, variance_ppm: Range, clock: Clock, slot: int, slot_ms: int) -> list[PaperPool]:
    """Return the pools of a seed in a slot, each at its target price.

    Args:
        seed: The market's: any integer.
        variance_ppm: The spread between the two DEXs' prices, in parts per million.
        clock: The source of the seeded numbers.
        slot: The slot of the genesis.
        slot_ms: A slot's length.
    """
    reference = Reference(seed, variance_ppm, clock)
    return [
        PaperPool(
            pool_id(program, listing.token_a, listing.token_b),
            dex,
            program,
            listing.token_a,
            listing.token_b,
            state,
            *owed(state),
            opened_slot=slot,
        )
        for listing in _LISTINGS
        for dex, program, state in _initial_pair(listing, seed, reference, clock, slot, slot_ms)
    ]


def initial_state(
    program: str, token_a: str, token_b: str, amount_a: int, amount_b: int, timestamp_s: int
) -> PoolState:
    """Return a pool of a program that holds these amounts, in base units, and trades at their ratio.

    A DAMM v2 pool's state may account for one thousandth and one unit less, since its reserves are derived
    from its liquidity.

    Args:
        program: One of ``pool_json.PROGRAMS``.
        token_a: The pool's first token, which need not have a reference price.
        token_b: Its second token.
        amount_a: Base units of the first.
        amount_b: Base units of the second.
        timestamp_s: Unix time.

    Raises:
        ValueError, ZeroDivisionError: The program cannot hold these amounts at their ratio.
    """
    price = Ratio(amount_b, amount_a)
    listing = _Listing(token_a, token_b, 0, _LISTED_BIN_STEP)
    spec = _PoolSpec(listing, price, price, amount_b, timestamp_s)
    if program == RAYDIUM_CPMM:
        return _initial_cpmm(spec)
    if program == RAYDIUM_AMM_V4:
        return AmmV4Pool(amount_a, amount_b)
    if program == METEORA_DAMM_V2:
        return _listed_damm_v2(spec, amount_a)
    return {METEORA_DLMM: _listed_dlmm}[program](spec, amount_a)


def genesis_wallets(user: Mapping[str, int] | None = None) -> dict[tuple[str, str], int]:
    """Return the wallets' initial balances, in base units by owner and token.

    Args:
        user: The user's initial balances by token, where they differ from ``FUNDS``.
    """
    wallets = {(owner, token): FUNDS for owner in (USER, TRADERS) for token in PRICES}
    return wallets | {(USER, token): amount for token, amount in (user or {}).items()}


def _initial_pair(
    listing: _Listing, seed: int, reference: Reference, clock: Clock, slot: int, slot_ms: int
) -> Iterator[tuple[Dex, str, PoolState]]:
    # A separate random generator per pair, so that a new token does not change other pairs' pools.
    token_a, token_b, depth_usd, bin_step = listing
    draw = clock.seeded(f"pools:{seed}:{token_a}:{token_b}")
    for dex in Dex:
        percent, share = draw.randint(80, 120), draw.randint(35, 65)
        worth = depth_usd * PICO * 10 ** TOKENS[token_b].decimals // PRICES[token_b].base * percent // 100
        price = reference.target(dex, token_a, token_b, slot)
        if price is None:
            raise ValueError(f"{token_a} or {token_b} has no reference price")
        whole = _PoolSpec(
            listing, price, reference.mean_target(dex, token_a, token_b), worth, slot * slot_ms // 1_000
        )
        older = whole._replace(amount_b=worth * share // 100)
        newer = whole._replace(amount_b=worth - older.amount_b)
        match dex, bool(bin_step):
            case Dex.RAYDIUM, True:
                yield dex, RAYDIUM_CPMM, _initial_cpmm(newer)
                yield dex, RAYDIUM_AMM_V4, AmmV4Pool(older.amount_a, older.amount_b)
            case Dex.METEORA, True:
                yield dex, METEORA_DLMM, _initial_dlmm(older, _reach_ppm(token_a, token_b))
                yield dex, METEORA_DAMM_V2, _initial_damm_v2(newer)
            case Dex.RAYDIUM, False:
                yield dex, RAYDIUM_CPMM, _initial_cpmm(whole)
            case Dex.METEORA, False:
                yield dex, METEORA_DAMM_V2, _initial_damm_v2(whole)


def _initial_cpmm(spec: _PoolSpec) -> CpmmPool:
    return CpmmPool(
        spec.amount_a,
        spec.amount_b,
        trade_fee_rate=100 if spec.stable else 2_500,
        protocol_fee_rate=120_000,
        fund_fee_rate=40_000,
    )


_DAMM_V2_SQRT_MIN, _DAMM_V2_SQRT_MAX = 4_295_048_016, 79_226_673_521_066_979_257_578_248_091
"""The program's full price range."""


def _sqrt_price(spec: _PoolSpec) -> int:
    return isqrt((spec.price.out << 128) // spec.price.per)


def _initial_damm_v2(spec: _PoolSpec, liquidity: int | None = None) -> DammV2Pool:
    """Create a pool over the full range; without ``liquidity``, with that of its amount of B."""
    sqrt_price = _sqrt_price(spec)
    if liquidity is None:
        liquidity = (spec.amount_b << 128) // (sqrt_price - _DAMM_V2_SQRT_MIN)
    whole = PriceRange(sqrt_price, liquidity, _DAMM_V2_SQRT_MIN, _DAMM_V2_SQRT_MAX)
    amount_a, amount_b = whole.reserves()
    base_rate = 400_000 if spec.stable else 2_500_000
    return DammV2Pool(
        liquidity,
        sqrt_price,
        _DAMM_V2_SQRT_MIN,
        _DAMM_V2_SQRT_MAX,
        amount_a,
        amount_b,
        BaseFee(base_rate),
        # Like the program's SDK: at most a fifth of the base fee, after a move of 15 %.
        DynamicFee(
            bin_step=1,
            bin_step_q64=1_844_674_407_370_955,
            variable_fee_control=base_rate * 20_000_000_000 // 14_460_000**2,
            max_volatility=14_460_000,
            filter_period_s=10,
            decay_period_s=120,
            reduction_factor=5_000,
            last_update_s=spec.timestamp_s,
            sqrt_price_reference=sqrt_price,
        ),
    )


class _Preset(NamedTuple):
    """The fee parameters of a DLMM pool, by its bin step."""

    base_factor: int
    variable_fee_control: int
    max_volatility: int = 350_000
    filter_period_s: int = 30
    decay_period_s: int = 600


_PRESETS = {
    1: _Preset(20_000, 2_000_000, 100_000, 10, 120),
    10: _Preset(10_000, 40_000),
    20: _Preset(10_000, 20_000),
    25: _Preset(10_000, 15_000),
}

# Additional bins on each side of the reference price's range, for the moves caused by orders.
_MARGIN_BINS = 60


def _initial_dlmm(spec: _PoolSpec, reach_ppm: int) -> DlmmPool:
    """Spread the liquidity over the price's range, with the same value in each bin."""
    step = spec.listing.bin_step
    reach = reach_ppm // (step * 100) + _MARGIN_BINS
    middle = _bin_at(spec.mean_price, step)
    active = _bin_at(spec.price, step)
    share = 2 * spec.amount_b // (2 * reach + 1)
    bins: dict[int, Bin] = {}
    for bin_id in range(middle - reach, middle + reach + 1):
        worth = (share << 64) // price_of_bin(bin_id, step)
        if bin_id == active:
            bins[bin_id] = Bin(worth // 2, share // 2)
        else:
            bins[bin_id] = Bin(amount_x=worth) if bin_id > active else Bin(amount_y=share)
    return DlmmPool.of_bins(
        DlmmParameters(step, **_PRESETS[step]._asdict()),
        active,
        bins.items(),
        Volatility(index_reference=active, last_update_s=spec.timestamp_s),
    )


def _listed_damm_v2(spec: _PoolSpec, amount_a: int) -> DammV2Pool:
    """Create a pool with the maximum liquidity of these amounts.

    Raises:
        ValueError: Too much of one of them would be left unused.
    """
    price, least, most = _sqrt_price(spec), _DAMM_V2_SQRT_MIN, _DAMM_V2_SQRT_MAX
    if not least < price < most:
        raise ValueError("the price is out of range")
    of_a = amount_a * price * most // (most - price)
    pool = _initial_damm_v2(spec, min(of_a, (spec.amount_b << 128) // (price - least)))
    for held, amount in ((pool.amount_a, amount_a), (pool.amount_b, spec.amount_b)):
        if held < 1 or held < amount - amount // _LEFT_OVER - 1:
            raise ValueError(f"only {held} of {amount} would be used")
    return pool


def _listed_dlmm(spec: _PoolSpec, amount_a: int) -> DlmmPool:
    """Spread A evenly above the price, and B evenly below it."""
    step = spec.listing.bin_step
    reach = _LISTED_REACH_PPM // (step * 100)
    active = _bin_at(spec.price, step)
    # The active bin holds half a share of each, and the remainder of the division.
    share_a, share_b = (2 * amount // (2 * reach + 1) for amount in (amount_a, spec.amount_b))
    bins = {active: Bin(amount_a - share_a * reach, spec.amount_b - share_b * reach)}
    for distance in range(1, reach + 1):
        bins[active + distance] = Bin(amount_x=share_a)
        bins[active - distance] = Bin(amount_y=share_b)
    return DlmmPool.of_bins(
        DlmmParameters(step, **_PRESETS[step]._asdict()),
        active,
        bins.items(),
        Volatility(index_reference=active, last_update_s=spec.timestamp_s),
    )


def _reach_ppm(token_a: str, token_b: str) -> int:
    """Return the maximum distance of a pair's price from its mean, in parts per million, rounded up."""
    swing_a, swing_b = PRICES[token_a].swing_ppb, PRICES[token_b].swing_ppb
    return ceil_div((swing_a + swing_b) * 1_000_000, BILLION - swing_b)


def _bin_at(price: Ratio, step: int) -> int:
    """Return the bin with the highest price that is not above this one.

    Raises:
        ValueError: The price is not between about 1e-10 and 1e10.
    """
    widest = 230_000 // step
    wanted = (price.out << 64) // price.per
    ids = range(-widest, widest + 1)
    index = bisect_right(ids, wanted, key=lambda bin_id: price_of_bin(bin_id, step))
    if not 0 < index < len(ids):
        raise ValueError("the price is out of range")
    return ids[index - 1]
