"""Reference prices: each token's price at each slot, and each DEX's target price.

A price moves around its base by value noise: a sum of octaves, each drawn at lattice points with linear
interpolation between them. An octave with four times the period has twice the amplitude, like a random walk,
whose moves grow with the square root of time; unlike a random walk, the sum is bounded. So the price of any
slot can be computed in any order and by any process, with the same result.

Integers only; the base prices are roughly those of the real markets in 2026.
"""

from functools import lru_cache
from typing import NamedTuple

from service.amm.quote import Ratio
from service.clock import Clock
from service.domain.quote import Dex
from service.domain.tokens import TOKENS
from service.settings import PPM, Range

REFERENCE_STEP_SLOTS = 5
"""Prices are constant for this many slots: a second with Solana's slots."""

PICO = 10**12
BILLION = 10**9

# The shortest octave has a new value every step, the longest every 4**7 steps, nine hours.
OCTAVES = 8
_PERIODS = tuple(4**octave for octave in range(OCTAVES))


class TokenPrice(NamedTuple):
    """A token's base price and volatility.

    Attributes:
        base: US dollars for one display unit, in pico-dollars, since BONK's smallest moves are finer than a
            nano-dollar.
        shortest_ppb: The amplitude of the shortest octave, in billionths.
    """

    base: int
    shortest_ppb: int

    @property
    def swing_ppb(self) -> int:
        """The maximum distance of the price from its base, in billionths."""
        return self.shortest_ppb * ((1 << OCTAVES) - 1)


# 4 % at most, and 1.5 basis points in a typical step.
_VOLATILE_PPB = 156_000
# 0.05 % at most.
_PEGGED_PPB = 1_960

PRICES: dict[str, TokenPrice] = {
    "SOL": TokenPrice(150 * PICO, _VOLATILE_PPB),
    "USDC": TokenPrice(PICO, 0),
    "USDT": TokenPrice(PICO, _PEGGED_PPB),
    "JUP": TokenPrice(85 * PICO // 100, _VOLATILE_PPB),
    "RAY": TokenPrice(24 * PICO // 10, _VOLATILE_PPB),
    "BONK": TokenPrice(21 * PICO // 1_000_000, _VOLATILE_PPB),
}

_RANK = {token: rank for rank, token in enumerate(PRICES)}


class Spread(NamedTuple):
    """The spread between the two DEXs' prices of a pair, in parts per million, and the dearer DEX.

    The dearer DEX has the higher price of A, the token that comes first in ``PRICES`` unless stated
    otherwise.
    """

    ppm: int
    dearer: Dex


class Reference:
    """The reference prices of one market, a pure function of its seed.

    Args:
        seed: The market's seed.
        variance_ppm: The range from which each pair's spread is drawn.
        clock: The source of the seeded numbers.
    """

    def __init__(self, seed: int, variance_ppm: Range, clock: Clock) -> None:
        self._seed = seed
        self._variance_ppm = variance_ppm
        self._clock = clock
        self._node = lru_cache(maxsize=4_096)(self._draw_node)
        self._price_at = lru_cache(maxsize=64)(self._compute_price)
        self._target_at = lru_cache(maxsize=256)(self._compute_target)
        self._spread = lru_cache(maxsize=256)(self._draw_spread)

    def price(self, token: str, slot: int) -> int:
        """Return a token's price at a slot: pico-dollars for one display unit.

        Raises:
            KeyError: The token has no reference price.
        """
        return self._price_at(token, slot // REFERENCE_STEP_SLOTS)

    def target(self, dex: Dex, token_a: str, token_b: str, slot: int) -> Ratio | None:
        """Return the target price of a DEX's pools of a pair: base units of B for one of A.

        Returns:
            None if one of the tokens has no reference price; there is no arbitrage in such pools.
        """
        return self._target_at(dex, token_a, token_b, slot // REFERENCE_STEP_SLOTS)

    def anchors(self, token_a: str, token_b: str) -> bool:
        """Return whether a pair has a target price, that is, both tokens have a reference price."""
        return token_a in PRICES and token_b in PRICES

    def mean_target(self, dex: Dex, token_a: str, token_b: str) -> Ratio:
        """Return the price around which a DEX's target price moves.

        Raises:
            KeyError: A token has no reference price.
        """
        return self._ratio(dex, token_a, token_b, PRICES[token_a].base, PRICES[token_b].base)

    def spread(self, token_a: str, token_b: str) -> Spread:
        """Return a pair's spread.

        Raises:
            KeyError: A token has no reference price.
        """
        # One draw for both orders of a pair: the DEX with the higher price of A has the lower one of B.
        if _RANK[token_a] <= _RANK[token_b]:
            return self._spread(token_a, token_b)
        ppm, dearer = self._spread(token_b, token_a)
        return Spread(ppm, Dex.METEORA if dearer is Dex.RAYDIUM else Dex.RAYDIUM)

    def _compute_target(self, dex: Dex, token_a: str, token_b: str, step: int) -> Ratio | None:
        if not self.anchors(token_a, token_b):
            return None
        price_a, price_b = self._price_at(token_a, step), self._price_at(token_b, step)
        return self._ratio(dex, token_a, token_b, price_a, price_b)

    def _ratio(self, dex: Dex, token_a: str, token_b: str, price_a: int, price_b: int) -> Ratio:
        """Return a DEX's price for a pair: half the spread above or below the reference."""
        if _RANK[token_a] > _RANK[token_b]:
            out, per = self._ratio(dex, token_b, token_a, price_b, price_a)
            return Ratio(per, out)
        spread = self.spread(token_a, token_b)
        low_ppm = spread.ppm // 2
        shift_ppm = spread.ppm - low_ppm if dex is spread.dearer else -low_ppm
        return Ratio(
            price_a * 10 ** TOKENS[token_b].decimals * (PPM + shift_ppm),
            price_b * 10 ** TOKENS[token_a].decimals * PPM,
        )

    def _compute_price(self, token: str, step: int) -> int:
        base, shortest_ppb = PRICES[token]
        if not shortest_ppb:
            return base
        noise_ppb = 0
        for octave, period in enumerate(_PERIODS):
            node, past = divmod(step, period)
            value = self._node(token, octave, node) * (period - past)
            if past:
                value += self._node(token, octave, node + 1) * past
            noise_ppb += (shortest_ppb << octave) * value // (period * BILLION)
        return base + base * noise_ppb // BILLION

    def _draw_node(self, token: str, octave: int, node: int) -> int:
        """Return a lattice point's value, from -1 to 1 in billionths."""
        draw = self._clock.seeded(f"reference:{self._seed}:{token}:{octave}:{node}")
        return draw.randint(-BILLION, BILLION)

    def _draw_spread(self, token_a: str, token_b: str) -> Spread:
        draw = self._clock.seeded(f"spread:{self._seed}:{token_a}:{token_b}")
        ppm = draw.randint(self._variance_ppm.low, self._variance_ppm.high)
        return Spread(ppm, draw.choice(list(Dex)))
