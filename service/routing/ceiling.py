"""An upper bound on a pair's output for any amount, at the cost of a multiplication.

For any price p a set of paths pays for an amount x at most p x + the sum of the paths' surpluses, where a
path's surplus is the maximum of F(t) - p t (Lagrange duality, as in ``routing.search``). With the largest sum
over all sets, D(p), the line p x + D(p) is an upper bound on *any* route's output, for *every* x. A few such
lines, computed on demand, rule out nearly every order that cannot be paid yet; the others need an exact
quote.

A curve is below its pool only for tiny amounts: AMM v4 charges no fee where it would be less than half a
unit, and the second pool of a path sells one unit at least, whatever the margin before it. So every line is
raised by one unit of input for each leg that a route may have, and by one of the second pools' for each.
"""

from bisect import bisect_right
from math import isqrt
from typing import NamedTuple

from service.domain.limit_price import KEY_BITS
from service.routing.best_set import Cut, max_sum_set
from service.routing.path_curve import LEVEL_BITS, UNIT_BITS
from service.routing.paths import Candidate, PathFinder
from service.turns import finished

# The first line is 1/1024 of a level beyond the market's best price, and each next one twice as far.
_FIRST_STEP_BITS = 10
_WIDEST_STEP_BITS = 40

# The maximum number of lines to decide about one order; each at least halves the undecided range.
_REFINEMENTS = 24

_CLOSE_BITS = 20

# A bound on the curves' rounding errors, 2^-12 base units of output, in Q64.
_ROUNDINGS = 1 << (KEY_BITS - 12)


class _Line(NamedTuple):
    """A supporting line: the output for x is at most (price * x + offset) / 2^64.

    ``sold`` and ``bought`` are the point of contact, in 2^-32 base units.
    """

    level: int
    price: int
    offset: int
    sold: int
    bought: int

    def at(self, amount: int) -> int:
        return self.price * amount + self.offset >> KEY_BITS


class _Share(NamedTuple):
    """A path's part at a price: its surplus, and its input; in 2^-32 base units."""

    pools: frozenset[str]
    surplus: int
    sold: int
    bought: int


class Ceiling:
    """An upper bound on a pair's market at one moment.

    Args:
        paths: The paths from one token to the other.
        max_legs: Maximum number of swaps in a route.
    """

    def __init__(self, paths: PathFinder, max_legs: int) -> None:
        self._max_legs = max_legs
        # The best path last. A path's curve is computed only when a price is reached at which it is used.
        self._ahead = sorted(paths.better_than(None), key=lambda path: path.level, reverse=True)
        self._candidates: list[Candidate] = []
        self._lines: list[_Line] = []
        self._sold: list[int] = []
        self._steps = 0
        self._slack = _ROUNDINGS
        if self._ahead:
            best = self._ahead[-1].level
            # For the first leg of two, one unit of the second pool's input.
            seconds = [path.hops[1].level or best for path in self._ahead if len(path.hops) > 1]
            self._slack += max_legs * (_price(best) + _price(min(seconds, default=best)))
            self._draw(0, best)

    def bound(self, amount: int) -> int:
        """Return an upper bound on any route's output in base units, from the lines drawn so far."""
        if not self._lines:
            return 0
        index = bisect_right(self._sold, amount << UNIT_BITS)
        return min(line.at(amount) for line in self._lines[index - 1 : index + 1])

    def least_bound(self, amount: int) -> int:
        """Return the tightest such bound that lines can give, within a millionth.

        Draws up to ``_REFINEMENTS`` lines: some milliseconds for pools with many bins.
        """
        for _ in range(_REFINEMENTS):
            bound = self.bound(amount)
            if not bound or not self._draw_for(amount, bound - (bound >> _CLOSE_BITS)):
                break
        return self.bound(amount)

    def may_reach(self, amount: int, out: int) -> bool:
        """Return whether a route may pay this output: False is certain, True needs an exact quote.

        Args:
            amount: Base units in, positive.
            out: Base units out.
        """
        for _ in range(_REFINEMENTS):
            if self.bound(amount) < out:
                return False
            if not self._lines or not self._draw_for(amount, out):
                break
        return True

    def _draw_for(self, amount: int, out: int) -> bool:
        """Draw a line that may rule out this output for an amount; return False if no line can."""
        index = bisect_right(self._sold, amount << UNIT_BITS)
        if index == len(self._lines):
            return self._extend()
        left, right = self._lines[index - 1 : index + 1]
        run, rise = right.sold - left.sold, right.bought - left.bought
        done, wanted = (amount << UNIT_BITS) - left.sold, (out << UNIT_BITS) - left.bought
        if rise <= 0 or done * rise >= wanted * run:
            return False  # every point between two points of the market is attainable, apart from rounding
        # The line parallel to the chord leaves at most half of the range undecided.
        level = isqrt((run << 2 * LEVEL_BITS) // rise)
        if not left.level < level < right.level:
            return False
        self._draw(index, level)
        return True

    def _extend(self) -> bool:
        """Draw a line beyond the last, at a lower price; return False at the end of the market."""
        best = self._lines[0].level
        if self._steps > _WIDEST_STEP_BITS:
            return False
        self._draw(len(self._lines), best + (best << self._steps >> _FIRST_STEP_BITS))
        self._steps += 1
        return True

    def _draw(self, index: int, level: int) -> None:
        """Draw the line of a level's price p = 1/level^2, and insert it at an index of the lines."""
        while self._ahead and self._ahead[-1].level <= level:
            self._candidates.append(self._ahead.pop())
        square = level * level
        shares = []
        for candidate in self._candidates:
            finished(candidate.curve.reach_level(level))
            sold, bought = candidate.curve.before(level)
            surplus = bought - (sold << 2 * LEVEL_BITS) // square
            if surplus > 0:
                shares.append(_Share(candidate.pools, surplus, sold, bought))
        chosen = max_sum_set(Cut([share.surplus for share in shares], 0), shares, self._max_legs) or ()
        surplus, sold, bought = (
            sum(column) for column in zip((0, 0, 0), *(shares[each][1:] for each in chosen), strict=True)
        )
        price = _price(level)
        offset = (surplus << KEY_BITS - UNIT_BITS) + self._slack
        # The first line's point of contact is zero. The points of equally good sets may not be in the order
        # of their levels; the lines stay in the order of levels.
        sold = max(sold, self._sold[index - 1]) if index else 0
        if index < len(self._sold):
            sold = min(sold, self._sold[index])
        self._lines.insert(index, _Line(level, price, offset, sold, bought))
        self._sold.insert(index, sold)


def _price(level: int) -> int:
    """Return a level's price in Q64, rounded up."""
    return -(-(1 << 2 * LEVEL_BITS + KEY_BITS) // (level * level))
