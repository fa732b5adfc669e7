"""What the paper market starts with: two pools a pair, with prices a variance apart.

Reference prices and depths are those of the real markets, roughly, in 2026. The same seed founds
the same market.
"""

from collections.abc import Iterator
from itertools import combinations

from service.clock import Clock
from service.domain.quote import Dex
from service.domain.tokens import TOKENS, Token
from service.settings import PPM, Range
from service.venues.paper.constant_product import ConstantProductPool

_NANO = 10**9

# US dollars for one display unit, in nano-dollars.
_PRICES: dict[str, int] = {
    "SOL": 150 * _NANO,
    "USDC": _NANO,
    "USDT": _NANO,
    "JUP": 850_000_000,
    "RAY": 2_400_000_000,
    "BONK": 21_000,
}

# US dollars on either side of a pool: of the pairs that traders use most, and of the rest.
_DEPTHS: dict[frozenset[str], int] = {
    frozenset({"SOL", "USDC"}): 12_000_000,
    frozenset({"SOL", "USDT"}): 6_000_000,
    frozenset({"USDC", "USDT"}): 8_000_000,
    frozenset({"SOL", "JUP"}): 2_500_000,
    frozenset({"SOL", "RAY"}): 4_000_000,
    frozenset({"SOL", "BONK"}): 3_000_000,
}
_DEPTH_OF_THE_REST = 1_000_000

_FEES_PPM = {Dex.RAYDIUM: 2_500, Dex.METEORA: 2_000}


def found_pools(seed: int, variance_ppm: Range, clock: Clock) -> list[ConstantProductPool]:
    """Return the pools that a seed founds.

    Args:
        seed: any integer.
        variance_ppm: how far apart the two pools' prices of a pair may start, in millionths.
        clock: the source of the seeded numbers.
    """
    return [
        pool
        for token_a, token_b in combinations(TOKENS.values(), 2)
        for pool in _found_pair(token_a, token_b, seed, variance_ppm, clock)
    ]


def _found_pair(
    token_a: Token, token_b: Token, seed: int, variance_ppm: Range, clock: Clock
) -> Iterator[ConstantProductPool]:
    # A generator for each pair: a token listed later changes no other pair's pools.
    draw = clock.seeded(f"pools:{seed}:{token_a.symbol}:{token_b.symbol}")
    variance = draw.randint(variance_ppm.low, variance_ppm.high)
    dearer = draw.choice(list(Dex))
    for dex in Dex:
        depth = _DEPTHS.get(frozenset({token_a.symbol, token_b.symbol}), _DEPTH_OF_THE_REST)
        depth = depth * draw.randint(80, 120) // 100
        # Half the variance above the reference, half below.
        shift_ppm = variance - variance // 2 if dex is dearer else -(variance // 2)
        reserve_a = depth * _NANO * 10**token_a.decimals // _PRICES[token_a.symbol]
        at_reference = depth * _NANO * 10**token_b.decimals // _PRICES[token_b.symbol]
        reserve_b = at_reference * (PPM + shift_ppm) // PPM
        yield ConstantProductPool(
            id=f"{dex}:{token_a.symbol}-{token_b.symbol}",
            dex=dex,
            token_a=token_a.symbol,
            token_b=token_b.symbol,
            fee_ppm=_FEES_PPM[dex],
            reserve_a=reserve_a,
            reserve_b=reserve_b,
            home_a=reserve_a,
            home_b=reserve_b,
            version=1,
        )
