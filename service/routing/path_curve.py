"""A path's output as a function of its input, in the one form that splitting needs.

An optimal split puts every path at the same marginal price p. Over the *level* u = 1/sqrt(p), which rises
as more is sold, what has gone into a Moebius piece gain * t / (depth + bend * t) is a straight line::

    p = gain * depth / (depth + bend * t)^2   =>   t = (u * sqrt(gain * depth) - depth) / bend

and what has come out is one over 1/u. A straight piece (a DLMM bin) is a jump at its level. So a path is
a row of knots (level, in, out), and all else is interpolation.

Amounts here are in 2^-32 base units, levels are fixed-point with 128 bits after the point.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

from service.amm import AmmError
from service.amm.curve import Segment
from service.turns import Steps

UNIT_BITS = 32
"""A base unit is 2^32: one unit of a dear token may span many bins of the next pool."""

LEVEL_BITS = 128

SOLD, BOUGHT = 0, 1
"""The sides of a path, and of a ``Point``."""

# The rest of a piece is cut to this width, or its numbers would double with every cut.
_WIDTH = 256

_PIECES_A_STEP = 64
"""So many pieces are pulled before others may get their turn: some tenths of a millisecond."""


class Point(NamedTuple):
    """How much has gone into a path and come out of it, in 2^-32 base units."""

    sold: int
    bought: int


class Chain:
    """One pool's pieces, pulled as they are needed and kept, since many paths share a pool."""

    __slots__ = ("_pieces", "_source")

    def __init__(self, pieces: Iterator[Segment]) -> None:
        self._source = pieces
        self._pieces: list[Segment] = []

    @property
    def first(self) -> Segment | None:
        """The first piece, its amounts in 2^-32 base units; None if the pool does not trade."""
        return self._pieces[0] if self._pieces else next(iter(self), None)

    def __iter__(self) -> Iterator[Segment]:
        pieces, source = self._pieces, self._source
        index = 0
        while True:
            if index == len(pieces):
                try:
                    gain, depth, bend, length = next(source)
                except (StopIteration, AmmError):
                    # An array of bins that was not loaded ends the pool as its last bin would.
                    self._source = iter(())
                    return
                if not length:
                    continue
                pieces.append(Segment(gain << UNIT_BITS, depth << UNIT_BITS, bend, length << UNIT_BITS))
            yield pieces[index]
            index += 1


def composed(first: Chain, second: Chain) -> Iterator[Segment]:
    """Yield the pieces of two pools in a row: what the first pays goes into the second.

    With f(t) = a t / (d + b t) and g(y) = A y / (D + B y), g(f(t)) = A a t / (D d + (D b + B a) t). A piece
    ends where either pool's does.
    """
    ones, others = iter(first), iter(second)
    one, other = next(ones, None), next(others, None)
    while one is not None and other is not None:
        a, d, b, length = one
        paid = a * length // (d + b * length)
        ends_first = paid <= other.length
        if not ends_first:
            # What fills the second's piece: f's inverse, d y / (a - b y).
            length = d * other.length // (a - b * other.length)
        if length:
            yield Segment(a * other.gain, d * other.depth, b * other.depth + other.bend * a, length)
        if ends_first:
            one, other = next(ones, None), _rest(other, paid)
        else:
            one, other = _rest(one, length), next(others, None)


def _rest(piece: Segment, amount: int) -> Segment:
    """Return what is left of a piece: f(s + t) - f(s) = a d t / (D^2 + b D t), with D = d + b s."""
    gain, depth, bend, length = piece
    if not bend:
        return Segment(gain, depth, 0, length - amount)
    after = depth + bend * amount
    gain, depth, bend = gain * depth, after * after, bend * after
    excess = max(gain.bit_length(), depth.bit_length()) - _WIDTH
    if excess > 0:
        gain, depth, bend = gain >> excess, depth >> excess, bend >> excess
    return Segment(gain, depth, bend, length - amount)


def level_of(piece: Segment) -> int:
    """Return the level at which a piece begins, 1/sqrt(gain/depth)."""
    return isqrt((piece.depth << 2 * LEVEL_BITS) // piece.gain)


class PathCurve:
    """The knots of a path, as far as they have been asked for.

    Between two knots ``sold`` is linear in the level and ``bought`` in its inverse; two knots of one
    level are a jump.
    """

    __slots__ = ("_bought", "_pieces", "_sold", "is_whole", "levels")

    def __init__(self, pieces: Iterator[Segment]) -> None:
        self._pieces = pieces
        self.is_whole = False
        self.levels: list[int] = []
        self._sold: list[int] = []
        self._bought: list[int] = []
        self._pull()

    @property
    def end(self) -> Point:
        """All that the knots so far hold."""
        return Point(self._sold[-1], self._bought[-1]) if self.levels else Point(0, 0)

    def reach_level(self, level: int) -> Steps[None]:
        """Pull pieces until the knots go beyond a level, or the path ends."""
        pulled = 0
        while not self.is_whole and self.levels[-1] <= level:
            self._pull()
            pulled += 1
            if not pulled % _PIECES_A_STEP:
                yield

    def reach_amount(self, side: int, amount: int) -> Steps[None]:
        """Pull pieces until an amount is sold (side 0) or bought (side 1), or the path ends."""
        amounts = self._bought if side else self._sold
        pulled = 0
        while not self.is_whole and amounts[-1] < amount:
            self._pull()
            pulled += 1
            if not pulled % _PIECES_A_STEP:
                yield

    def holds(self, side: int, amount: int, pieces: int = 0) -> bool:
        """Return whether the knots hold an amount, at most so many more pieces pulled for it."""
        amounts = self._bought if side else self._sold
        while not self.is_whole and amounts[-1] < amount and pieces:
            self._pull()
            pieces -= 1
        return bool(amounts) and amounts[-1] >= amount

    def level_for(self, side: int, amount: int) -> int:
        """Return the level at which an amount that the knots hold is sold (side 0) or bought (side 1)."""
        amounts = self._bought if side else self._sold
        index = bisect_left(amounts, amount)
        if not index:
            return self.levels[0]
        low, high = self.levels[index - 1], self.levels[index]
        done, whole = amount - amounts[index - 1], amounts[index] - amounts[index - 1]
        return level_between(side, low, high, done, whole)

    def at(self, side: int, amount: int) -> Point:
        """Return the point at which an amount that the knots hold is sold (side 0) or bought (side 1)."""
        amounts = self._bought if side else self._sold
        index = bisect_left(amounts, amount)
        if not index:
            return Point(0, 0)
        if self.levels[index - 1] != self.levels[index]:
            return self._between(index, self.level_for(side, amount))
        done, whole = amount - amounts[index - 1], amounts[index] - amounts[index - 1]
        sold, bought = (
            each[index - 1] + (each[index] - each[index - 1]) * done // whole
            for each in (self._sold, self._bought)
        )
        return Point(sold, bought)

    def ending_at(self, side: int, amount: int) -> "PathCurve":
        """Return the path as if it could not take more than an amount, which the knots hold."""
        cut = PathCurve(iter(()))
        index = bisect_left(self._bought if side else self._sold, amount)
        if not index or amount <= 0:
            return cut
        end = self.at(side, amount)
        cut.levels = [*self.levels[:index], self.level_for(side, amount)]
        cut._sold = [*self._sold[:index], end.sold]
        cut._bought = [*self._bought[:index], end.bought]
        return cut

    def before(self, level: int) -> Point:
        """Return the point where a level begins, no jump at it made."""
        index = bisect_left(self.levels, level)
        if index == len(self.levels):
            return self.end
        if not index or self.levels[index] == level:
            return Point(self._sold[index], self._bought[index])
        return self._between(index, level)

    def after(self, level: int) -> Point:
        """Return the point where a level ends, all jumps at it made."""
        index = bisect_right(self.levels, level)
        if index == len(self.levels):
            return self.end
        if not index or self.levels[index - 1] == level:
            index = max(index - 1, 0)
            return Point(self._sold[index], self._bought[index])
        return self._between(index, level)

    def surplus(self, level: int) -> int | None:
        """Return the most that F(x) - p x comes to at a level's price p = 1/level^2, divided by p.

        It is 2^-32 base units of what is sold: what the path pays at prices above p, more than p. None if
        the knots do not reach the level yet.
        """
        if not self.levels or self.levels[0] >= level:
            return 0
        if not self.is_whole and self.levels[-1] <= level:
            return None
        sold, bought = self.before(level)
        return max(0, (bought * level * level >> 2 * LEVEL_BITS) - sold)

    def _between(self, index: int, level: int) -> Point:
        low, high = self.levels[index - 1], self.levels[index]
        sold, bought = self._sold[index - 1], self._bought[index - 1]
        risen, span = level - low, high - low
        return Point(
            sold + (self._sold[index] - sold) * risen // span,
            # The part of the way from 1/low to 1/high that 1/level has come.
            bought + (self._bought[index] - bought) * risen * high // (level * span),
        )

    def _pull(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self.is_whole = True
            return
        # Once for every bin that is looked at, so written out.
        gain, depth, bend, length = piece
        levels, sold, bought = self.levels, self._sold, self._bought
        level = isqrt((depth << 2 * LEVEL_BITS) // gain)
        if not levels:
            levels.append(level)
            sold.append(0)
            bought.append(0)
        elif level > levels[-1]:
            levels.append(level)
            sold.append(sold[-1])
            bought.append(bought[-1])
        else:
            # A rounding may put a piece a hair above where the last one ended.
            level = levels[-1]
        bent = depth + bend * length
        levels.append(level * bent // depth if bend else level)
        sold.append(sold[-1] + length)
        bought.append(bought[-1] + gain * length // bent)


def level_between(side: int, low: int, high: int, done: int, whole: int) -> int:
    """Return the level at a part ``done / whole`` of what lies between two levels.

    What is sold (side 0) is linear in the level, what is bought (side 1) in its inverse.
    """
    if side:
        return low * high * whole // (high * whole - (high - low) * done)
    return low + (high - low) * done // whole
