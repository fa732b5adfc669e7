"""Quotes: what a pool would pay, and what a DEX answered when it was asked."""

from dataclasses import dataclass
from enum import StrEnum

from service.domain.failures import FailureCode


class Dex(StrEnum):
    """Where pools are. The values are the API's words."""

    RAYDIUM = "raydium"
    METEORA = "meteora"


@dataclass(frozen=True, slots=True)
class Quote:
    """An exact-in quote of one pool: pure mathematics on one state of it.

    Amounts are base units; ``fee`` is in the token paid in, and ``amount_out`` is net of it.
    ``price_impact_ppm`` is how far, in millionths, the swap's price before fees lies below the
    pool's price before the swap.
    """

    dex: Dex
    pool_id: str
    amount_in: int
    amount_out: int
    fee: int
    price_impact_ppm: int


@dataclass(frozen=True, slots=True)
class NoQuote:
    """A DEX that did not quote, and why."""

    dex: Dex
    reason: FailureCode


Offer = Quote | NoQuote
"""What one DEX answered."""
