"""The limits of a route's legs, where each leg's amount is fixed when the transaction is signed.

On a chain no program passes one leg's output on to the next leg, and none looks at the sum of parallel paths.
So each path gets its share of the order's limit, and the second leg of a path sells a fixed amount: the first
leg's quoted output less a margin. What the first leg pays above that stays in the wallet: the residue.
"""

from dataclasses import dataclass
from typing import NamedTuple

from service.domain.amounts import U64_MAX
from service.domain.quote import Path, Route, SwapMode

_ALL_BPS = 10_000


class LegLimits(NamedTuple):
    """What one leg pays and receives, in base units.

    Exact-in: ``amount_in`` is exact, ``amount_out`` is a minimum. Exact-out: ``amount_in`` is a maximum,
    ``amount_out`` is exact.
    """

    amount_in: int
    amount_out: int


def sold_after(quoted_out: int, margin_bps: int) -> int:
    """Return what the next leg of an exact-in path sells: the leg's quote less the margin, at least one.

    A router must quote the next leg with this amount; otherwise it promises what cannot be executed.
    """
    return max(1, quoted_out * (_ALL_BPS - margin_bps) // _ALL_BPS)


def bought_before(quoted_in: int, margin_bps: int) -> int:
    """Return what the leg before in an exact-out path buys: the leg's quote plus the margin, rounded up."""
    return min(U64_MAX, -(-quoted_in * (_ALL_BPS + margin_bps) // _ALL_BPS))


@dataclass(frozen=True, slots=True)
class HopMargin:
    """The margin between a path's leg and the next one.

    Attributes:
        mode: Which side of the path is fixed.
        bps: Basis points, 0 to 9,999.
    """

    mode: SwapMode
    bps: int

    def applied(self, quoted: int) -> int:
        """Return the amount of the leg that is quoted later.

        Exact-in: what the next leg sells, if this one is quoted to pay ``quoted``. Exact-out: what this leg
        buys, if the next one is quoted to need ``quoted``.
        """
        if self.mode is SwapMode.EXACT_IN:
            return sold_after(quoted, self.bps)
        return bought_before(quoted, self.bps)

    @property
    def kept(self) -> tuple[int, int]:
        """The fraction of this leg's output that the next leg sells, without rounding."""
        if self.mode is SwapMode.EXACT_IN:
            return _ALL_BPS - self.bps, _ALL_BPS
        return _ALL_BPS, _ALL_BPS + self.bps


Limits = tuple[tuple[LegLimits, ...], ...]
"""The limits of each leg, path by path."""


def leg_limits(route: Route, maximum_in: int, minimum_out: int, margin_bps: int) -> Limits:
    """Return the limits of each leg, path by path.

    The paths' minimum outputs add up to at least ``minimum_out``, their maximum inputs to at most
    ``maximum_in``. Every path's limit is one that its quote keeps.

    Args:
        route: The route as quoted.
        maximum_in: The order's maximum input in base units, at least the route's.
        minimum_out: The order's minimum output in base units, at most the route's.
        margin_bps: The margin between the legs of one path, 0 to 9,999 basis points.

    Raises:
        ValueError: The route's own quote does not keep the limits, or the margin is out of range.
    """
    if maximum_in < route.amount_in or minimum_out > route.amount_out:
        raise ValueError(
            f"a route that pays {route.amount_out} for {route.amount_in} does not keep "
            f"at least {minimum_out} for at most {maximum_in}"
        )
    if not 0 <= margin_bps < _ALL_BPS:
        raise ValueError(f"a margin of {margin_bps} bps between two legs")
    return shared_limits(route, maximum_in, minimum_out, margin_bps)


def shared_limits(route: Route, maximum_in: int, minimum_out: int, margin_bps: int) -> Limits:
    """Return the limits of each leg as ``leg_limits`` does, also if the route's own quote does not keep them.

    Then some path's quote does not keep its own limit either: the transaction fails, unless the pools have
    moved in its favour.
    """
    if route.mode is SwapMode.EXACT_IN:
        return tuple(
            _exact_in(path, -(-minimum_out * path.amount_out // route.amount_out), margin_bps)
            for path in route.paths
        )
    return tuple(
        _exact_out(path, maximum_in * path.amount_in // route.amount_in, margin_bps) for path in route.paths
    )


def _exact_in(path: Path, minimum_out: int, margin_bps: int) -> tuple[LegLimits, ...]:
    limits: list[LegLimits] = []
    sold = path.amount_in
    for leg in path.legs[:-1]:
        passed_on = sold_after(leg.amount_out, margin_bps)
        limits.append(LegLimits(sold, passed_on))
        sold = passed_on
    limits.append(LegLimits(sold, minimum_out))
    return tuple(limits)


def _exact_out(path: Path, maximum_in: int, margin_bps: int) -> tuple[LegLimits, ...]:
    limits: list[LegLimits] = []
    bought = path.amount_out
    for leg in reversed(path.legs[1:]):
        needed = bought_before(leg.amount_in, margin_bps)
        limits.append(LegLimits(needed, bought))
        bought = needed
    limits.append(LegLimits(maximum_in, bought))
    return tuple(reversed(limits))
