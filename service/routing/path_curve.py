"""A path's output as a function of its input, in the form that splitting needs.

In an optimal split every path has the same marginal price p. As a function of the *level* u = 1/sqrt(p),
which rises as more is sold, the input of a Moebius segment gain * t / (depth + bend * t) is linear::

    p = gain * depth / (depth + bend * t)^2   =>   t = (u * sqrt(gain * depth) - depth) / bend

and the output is linear in 1/u. A linear segment (a DLMM bin) is a jump at its level. So a path is a sequence
of knots (level, in, out), with interpolation between them.

Amounts here are in 2^-32 base units, levels are fixed-point with 128 fractional bits.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

from service.amm import AmmError
from service.amm.curve import Segment
from service.turns import Steps

UNIT_BITS = 32
"""A base unit is 2^32 here: one unit of a valuable token may span many bins of the next pool."""

LEVEL_BITS = 128

SOLD, BOUGHT = 0, 1
"""The sides of a path, and of a ``Point``."""

# The rest of a segment is truncated to this width; otherwise its numbers would double in size with every cut.
_WIDTH = 256

_SEGMENTS_PER_STEP = 64
"""Segments pulled between two yields to the event loop: some tenths of a millisecond."""


class Point(NamedTuple):
    """A path's input and output, in 2^-32 base units."""

    sold: int
    bought: int


class Segments:
    """One pool's segments, computed on demand and kept, since many paths share a pool."""

    __slots__ = ("_segments", "_source")

    def __init__(self, segments: Iterator[Segment]) -> None:
        self._source = segments
        self._segments: list[Segment] = []

    @property
    def first(self) -> Segment | None:
        """The first segment, its amounts in 2^-32 base units; None if the pool does not trade."""
        return self._segments[0] if self._segments else next(iter(self), None)

    def __iter__(self) -> Iterator[Segment]:
        segments, source = self._segments, self._source
        index = 0
        while True:
            if index == len(segments):
                try:
                    gain, depth, bend, length = next(source)
                except (StopIteration, AmmError):
                    # A bin array that was not loaded ends the curve like the last bin.
                    self._source = iter(())
                    return
                if not length:
                    continue
                segments.append(Segment(gain << UNIT_BITS, depth << UNIT_BITS, bend, length << UNIT_BITS))
            yield segments[index]
            index += 1


def reduced(segments: Iterator[Segment], kept: int, whole: int) -> Iterator[Segment]:
    """Yield the segments of a pool of whose output only the fraction ``kept / whole`` is passed on."""
    for gain, depth, bend, length in segments:
        yield Segment(gain * kept, depth * whole, bend * whole, length)


def composed(first: Segments, second: Segments) -> Iterator[Segment]:
    """Yield the segments of two pools in sequence: the first pool's output is the second's input.

    With f(t) = a t / (d + b t) and g(y) = A y / (D + B y), g(f(t)) = A a t / (D d + (D b + B a) t). A segment
    ends where either pool's segment ends.
    """
    ones, others = iter(first), iter(second)
    one, other = next(ones, None), next(others, None)
    while one is not None and other is not None:
        a, d, b, length = one
        paid = a * length // (d + b * length)
        ends_first = paid <= other.length
        if not ends_first:
            # The input that fills the second pool's segment: f's inverse, d y / (a - b y).
            length = d * other.length // (a - b * other.length)
        if length:
            yield Segment(a * other.gain, d * other.depth, b * other.depth + other.bend * a, length)
        if ends_first:
            one, other = next(ones, None), _rest(other, paid)
        else:
            one, other = _rest(one, length), next(others, None)


def _rest(segment: Segment, amount: int) -> Segment:
    """Return the rest of a segment: f(s + t) - f(s) = a d t / (D^2 + b D t), with D = d + b s."""
    gain, depth, bend, length = segment
    if not bend:
        return Segment(gain, depth, 0, length - amount)
    after = depth + bend * amount
    gain, depth, bend = gain * depth, after * after, bend * after
    excess = max(gain.bit_length(), depth.bit_length()) - _WIDTH
    if excess > 0:
        gain, depth, bend = gain >> excess, depth >> excess, bend >> excess
    return Segment(gain, depth, bend, length - amount)


def level_of(segment: Segment) -> int:
    """Return the level at which a segment begins, 1/sqrt(gain/depth)."""
    return isqrt((segment.depth << 2 * LEVEL_BITS) // segment.gain)


class PathCurve:
    """The knots of a path, computed on demand.

    Between two knots ``sold`` is linear in the level and ``bought`` in its inverse; two knots of one
    level are a jump.
    """

    __slots__ = ("_bought", "_segments", "_sold", "is_whole", "levels")

    def __init__(self, segments: Iterator[Segment]) -> None:
        self._segments = segments
        self.is_whole = False
        self.levels: list[int] = []
        self._sold: list[int] = []
        self._bought: list[int] = []
        self._pull()

    @property
    def end(self) -> Point:
        """The last knot computed so far."""
        return Point(self._sold[-1], self._bought[-1]) if self.levels else Point(0, 0)

    def reach_level(self, level: int) -> Steps[None]:
        """Pull segments until the knots go beyond a level, or the path ends."""
        pulled = 0
        while not self.is_whole and self.levels[-1] <= level:
            self._pull()
            pulled += 1
            if not pulled % _SEGMENTS_PER_STEP:
                yield

    def reach_amount(self, side: int, amount: int) -> Steps[None]:
        """Pull segments until an amount is sold (side 0) or bought (side 1), or the path ends."""
        amounts = self._bought if side else self._sold
        pulled = 0
        while not self.is_whole and amounts[-1] < amount:
            self._pull()
            pulled += 1
            if not pulled % _SEGMENTS_PER_STEP:
                yield

    def holds(self, side: int, amount: int, segments: int = 0) -> bool:
        """Return whether the knots reach an amount, after pulling at most this many more segments."""
        amounts = self._bought if side else self._sold
        while not self.is_whole and amounts[-1] < amount and segments:
            self._pull()
            segments -= 1
        return bool(amounts) and amounts[-1] >= amount

    def level_for(self, side: int, amount: int) -> int:
        """Return the level where an amount is sold (side 0) or bought (side 1); the knots must reach it."""
        amounts = self._bought if side else self._sold
        index = bisect_left(amounts, amount)
        if not index:
            return self.levels[0]
        low, high = self.levels[index - 1], self.levels[index]
        done, whole = amount - amounts[index - 1], amounts[index] - amounts[index - 1]
        return level_between(side, low, high, done, whole)

    def at(self, side: int, amount: int) -> Point:
        """Return the point where an amount is sold (side 0) or bought (side 1); the knots must reach it."""
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
        """Return the path limited to an amount, which the knots must reach."""
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
        """Return the point at a level, before any jump there."""
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
        """Return the maximum of F(x) - p x at a level's price p = 1/level^2, divided by p.

        It is the path's gain over a market at price p, in 2^-32 base units of the token sold. None if the
        knots do not reach the level yet.
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
            # The position of 1/level between 1/low and 1/high.
            bought + (self._bought[index] - bought) * risen * high // (level * span),
        )

    def _pull(self) -> None:
        segment = next(self._segments, None)
        if segment is None:
            self.is_whole = True
            return
        # Inlined, since it runs once for every bin.
        gain, depth, bend, length = segment
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
            # Rounding may put a segment slightly above the end of the previous one.
            level = levels[-1]
        bent = depth + bend * length
        levels.append(level * bent // depth if bend else level)
        sold.append(sold[-1] + length)
        bought.append(bought[-1] + gain * length // bent)


def level_between(side: int, low: int, high: int, done: int, whole: int) -> int:
    """Return the level at the fraction ``done / whole`` of the amount between two levels.

    The amount sold (side 0) is linear in the level, the amount bought (side 1) in its inverse.
    """
    if side:
        return low * high * whole // (high * whole - (high - low) * done)
    return low + (high - low) * done // whole
