"""The limits of a route."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """The limits of a route.

    Attributes:
        max_legs: Maximum number of swaps, since each takes space in the transaction.
        min_split_gain_bps: A route of several swaps must beat the best single pool by more than this.
        hop_margin_bps: How much less than quoted the first leg of a path may pay, see ``domain.leg_limits``.
    """

    max_legs: int = 4
    min_split_gain_bps: int = 1
    hop_margin_bps: int = 5
