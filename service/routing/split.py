"""The optimal split of an amount over paths, by water filling.

Selling x_p on each path p pays sum F_p(x_p), every F_p concave. At the optimum all used paths have the same
marginal price (Karush, Kuhn and Tucker; Angeris et al., "Optimal Routing for Constant Function Market
Makers", 2022). As a function of the level u = 1/sqrt(price) the total sold is piecewise linear with jumps, so
the level is found among the knots and by one interpolation between two of them: no iteration, no floats.
For an exact output the same holds for the total bought, which is linear in 1/u.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from service.routing.path_curve import (
    LEVEL_BITS,
    UNIT_BITS,
    PathCurve,
    Point,
    level_between,
)
from service.turns import Steps


@dataclass(frozen=True, slots=True)
class Split:
    """The optimal split of an amount over paths.

    Attributes:
        shares: Base units of the amount for each path, in the order given; they add up to it.
        level: The level at which all used paths end.
        other: The other side, in 2^-32 base units: the total output for an exact input, the total input for
            an exact output. From the curves, without rounding.
    """

    shares: tuple[int, ...]
    level: int
    other: int


def split(
    curves: Sequence[PathCurve], side: int, amount: int, likely_level: int | None = None
) -> Steps[Split | None]:
    """Split an amount to buy the most (side 0: it is sold) or to sell the least (side 1: it is bought).

    Args:
        curves: The paths, which share no pool.
        side: Which side ``amount`` fixes.
        amount: Base units, positive.
        likely_level: A level that the split is unlikely to exceed. It avoids pulling segments beyond it, and
            does not change the result.

    Returns:
        The split; of equally good paths the first is filled first. None if the paths together cannot take
        the amount.
    """
    whole = amount << UNIT_BITS
    levels = yield from _levels(curves, side, whole, likely_level)
    index = _first_enough(curves, side, whole, levels)
    if index is None:
        return None
    level = levels[index]
    before = [curve.before(level) for curve in curves]
    left = whole - sum(point[side] for point in before)
    if left >= 0:
        parts = []
        for curve, point in zip(curves, before, strict=True):
            jump = min(left, curve.after(level)[side] - point[side])
            parts.append(point[side] + jump)
            left -= jump
    else:
        low = levels[index - 1]
        lows = [curve.after(low)[side] for curve in curves]
        low_sum, high_sum = sum(lows), whole - left
        done, span = whole - low_sum, high_sum - low_sum
        parts = [part + (point[side] - part) * done // span for part, point in zip(lows, before, strict=True)]
        level = level_between(side, low, level, done, span)
        before = [curve.before(level) for curve in curves]
    rooms = [(curve.end[side] if curve.is_whole else whole) >> UNIT_BITS for curve in curves]
    return Split(_in_units(parts, rooms, amount), level, _other_side(before, side, whole, level))


def _levels(curves: Sequence[PathCurve], side: int, whole: int, likely_level: int | None) -> Steps[list[int]]:
    """Return the levels of all knots, ascending, up to one at which the paths take the whole amount."""
    cap = None
    if likely_level is not None:
        for curve in curves:
            yield from curve.reach_level(likely_level)
        if sum(curve.after(likely_level)[side] for curve in curves) >= whole:
            cap = likely_level
    if cap is None:
        for curve in curves:
            if cap is not None:
                yield from curve.reach_level(cap)
                continue
            yield from curve.reach_amount(side, whole)
            if curve.holds(side, whole):
                # Plus two, since the interpolation rounds down.
                cap = curve.level_for(side, whole) + 2
    if cap is None:
        return sorted(level for curve in curves for level in curve.levels)
    below = [level for curve in curves for level in curve.levels[: bisect_left(curve.levels, cap)]]
    below.sort()
    below.append(cap)
    return below


def _first_enough(curves: Sequence[PathCurve], side: int, whole: int, levels: list[int]) -> int | None:
    """Return the index of the first level at which the paths take the whole amount."""
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        level = levels[middle]
        if sum(curve.after(level)[side] for curve in curves) >= whole:
            high = middle
        else:
            low = middle + 1
    return low if low < len(levels) else None


def _in_units(parts: list[int], rooms: list[int], amount: int) -> tuple[int, ...]:
    """Round parts to base units; the remainder goes to the largest with room, on ties to the first."""
    shares = [part >> UNIT_BITS for part in parts]
    left = amount - sum(shares)
    if left:
        roomy = [index for index, share in enumerate(shares) if share + left <= rooms[index]]
        largest = max(roomy or range(len(shares)), key=lambda index: (parts[index], -index))
        shares[largest] += left
    return tuple(shares)


def _other_side(before: list[Point], side: int, whole: int, level: int) -> int:
    """Return the other side's total: up to the level from the knots, the rest at the level's price."""
    left = whole - sum(point[side] for point in before)
    total = sum(point[1 - side] for point in before)
    square = level * level
    return total + ((left * square >> 2 * LEVEL_BITS) if side else (left << 2 * LEVEL_BITS) // square)
