"""Chooses the paths to split over, if there are more than a route may have legs or they share pools.

For any price p a set S of paths pays at most p X + the sum of S's surpluses, where a path's surplus is the
maximum of F(x) - p x (Lagrange duality; F is concave). At the price where a set ends, the bound is exact. So
a set that is better than the best so far has, at every price, a sum of surpluses above the best one's output
minus p X: each price is a cut.

At the price where the last solved set ends, the search takes the set with the largest sum among those that
also satisfy the cuts at the earlier prices, and solves it. If there is none, the best set so far is the
optimum over all sets, although few were solved. One price is not enough: if the best set ends in the middle
of a bin, hundreds of sets may have larger sums there and still end far below. For an exact output the same
holds for the input, with the same surpluses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.routing.best_set import Cut, max_sum_set
from service.routing.path_curve import BOUGHT, LEVEL_BITS, UNIT_BITS
from service.routing.paths import Candidate
from service.routing.split import Split, split
from service.turns import Steps

SOLVED_MAX = 162
"""Maximum number of solved sets; enough for all sets of one to four out of eight pools."""

# The number of prices that are kept as cuts; more cost more than they save.
_CUTS_KEPT = 6

# A bound on the rounding errors of a sum of surpluses and of its floor, in 2^-32 base units.
_ROUNDINGS = 8

# How far a path's room, computed without composing its pools, may be below its actual capacity.
_ROOM_BITS, _ROOM_UNITS = 20, 16


@dataclass(frozen=True, slots=True)
class Found:
    """A set of paths, ascending by index, and its split of the amount."""

    chosen: tuple[int, ...]
    split: Split


def best_set(
    candidates: Sequence[Candidate],
    side: int,
    amount: int,
    max_legs: int,
    start: tuple[int, ...] = (),
    likely_level: int | None = None,
) -> Steps[Found | None]:
    """Return the set of pool-disjoint paths with the best split of an amount.

    Args:
        candidates: The paths.
        side: Which side ``amount`` fixes: 0 sold, 1 bought.
        amount: Base units.
        max_legs: The maximum number of pools in the set.
        start: A set that is known to be good, or an empty one.
        likely_level: As in ``split``.

    Returns:
        The optimum of the curves, unless ``SOLVED_MAX`` sets were solved before it was proven; None if no
        set takes the whole amount.
    """
    return (yield from _Search(candidates, side, amount, max_legs).run(start, likely_level))


def quick_set(
    candidates: Sequence[Candidate], side: int, amount: int, max_legs: int
) -> Steps[tuple[int, ...]]:
    """Return a starting set that is cheap to find: the best set of the paths without bins.

    No bin beyond the level where it ends needs to be examined. It is empty if these paths cannot take the
    amount.
    """
    indices = [index for index, candidate in enumerate(candidates) if candidate.is_smooth]
    smooth = [candidates[index] for index in indices]
    start = _completed(smooth, (), max_legs)
    found = yield from best_set(smooth, side, amount, max_legs, start)
    return () if found is None else tuple(indices[each] for each in found.chosen)


def largest_gain(candidates: Sequence[Candidate], side: int, level: int, max_legs: int) -> Steps[int]:
    """Return an upper bound on what other paths gain over a path that takes a whole amount alone.

    By the same duality: at the price where that path ends, no set gains more than the sum of its surpluses.

    Args:
        candidates: The other paths.
        side: Which side the amount fixes: 0 sold, 1 bought.
        level: The level at which the path ends.
        max_legs: The maximum number of pools in a set.

    Returns:
        2^-32 base units of the other side.
    """
    surpluses = (yield from _surpluses(candidates, level)).values
    chosen = max_sum_set(Cut(surpluses, 0), candidates, max_legs) or ()
    gain = sum(surpluses[index] for index in chosen) + _ROUNDINGS
    return gain if side == BOUGHT else (gain << 2 * LEVEL_BITS) // (level * level) + _ROUNDINGS


def _completed(candidates: Sequence[Candidate], chosen: tuple[int, ...], max_legs: int) -> tuple[int, ...]:
    """Add the paths with the best marginal prices, as many as the legs allow."""
    added = list(chosen)
    pools = _pools_of(candidates, chosen)
    for index in sorted(range(len(candidates)), key=lambda index: candidates[index].level):
        more = candidates[index].pools
        if len(pools) + len(more) <= max_legs and not pools & more:
            added.append(index)
            pools |= more
    return tuple(sorted(added))


def _pools_of(candidates: Sequence[Candidate], chosen: Sequence[int]) -> frozenset[str]:
    return frozenset[str]().union(*(candidates[index].pools for index in chosen))


class _Search:
    """The search for the best set of one amount."""

    def __init__(self, candidates: Sequence[Candidate], side: int, amount: int, max_legs: int) -> None:
        self._candidates = candidates
        self._side = side
        self._amount = amount
        self._max_legs = max_legs
        self._solved: list[frozenset[int]] = []

    def run(self, start: tuple[int, ...], likely_level: int | None) -> Steps[Found | None]:
        """Search, starting from a set if it is not empty."""
        best = (yield from self._solve(start, likely_level)) if start else None
        if best is None:
            best = yield from self._with_most_room()
        if best is None:
            return None
        prices = [(yield from _surpluses(self._candidates, best.split.level))]
        while len(self._solved) < SOLVED_MAX:
            cuts = [Cut(surpluses.values, self._floor(best.split, surpluses.level)) for surpluses in prices]
            chosen = max_sum_set(cuts[-1], self._candidates, self._max_legs, self._solved, cuts[:-1])
            if chosen is None:
                break
            if (yield from _replace_bounds(prices, chosen)):
                continue
            found = yield from self._solve_or_completed(chosen, best.split.level)
            if found is None:
                continue
            if _is_better(found.split, best.split, self._side):
                best = found
            if all(surpluses.level != found.split.level for surpluses in prices):
                prices = prices[1 - _CUTS_KEPT :]
                prices.append((yield from _surpluses(self._candidates, found.split.level)))
        return best

    def _floor(self, best: Split, level: int) -> int:
        """Return the maximum sum of surpluses at a price for a set that is not better than the best one."""
        whole, square = self._amount << UNIT_BITS, level * level
        if self._side == BOUGHT:
            beyond = ((whole + _ROUNDINGS) * square >> 2 * LEVEL_BITS) - best.other
        else:
            beyond = ((best.other + _ROUNDINGS) * square >> 2 * LEVEL_BITS) - whole
        return beyond + _ROUNDINGS

    def _solve_or_completed(self, chosen: tuple[int, ...], likely_level: int) -> Steps[Found | None]:
        """Solve a set; if it cannot take the whole amount, solve it with more paths."""
        found = yield from self._solve(chosen, likely_level)
        if found is None:
            more = _completed(self._candidates, chosen, self._max_legs)
            if frozenset(more) not in self._solved:
                found = yield from self._solve(more, likely_level)
        return found

    def _solve(self, chosen: tuple[int, ...], likely_level: int | None) -> Steps[Found | None]:
        yield
        self._solved.append(frozenset(chosen))
        curves = [self._candidates[index].curve for index in chosen]
        found = yield from split(curves, self._side, self._amount, likely_level)
        return None if found is None else Found(chosen, found)

    def _with_most_room(self) -> Steps[Found | None]:
        """Return the set with the largest capacity; None if even that cannot take the amount."""
        whole = self._amount << UNIT_BITS
        rooms = [0] * len(self._candidates)
        for index, candidate in enumerate(self._candidates):
            rooms[index] = yield from candidate.room(self._side, whole)
        chosen = max_sum_set(Cut(rooms, 0), self._candidates, self._max_legs)
        if chosen is None:
            return None
        room = sum(rooms[index] for index in chosen)
        if room + (room >> _ROOM_BITS) + (_ROOM_UNITS << UNIT_BITS) < whole:
            return None
        return (yield from self._solve(chosen, None))


def _is_better(one: Split, other: Split, side: int) -> bool:
    return one.other < other.other if side == BOUGHT else one.other > other.other


class _Surpluses:
    """The paths' surpluses at a level, or upper bounds where a path's curve is not composed yet."""

    def __init__(self, candidates: Sequence[Candidate], level: int, values: list[int]) -> None:
        self._candidates = candidates
        self.level = level
        self._is_bound = [not candidate.is_composed for candidate in candidates]
        self.values = values

    def replace_bounds(self, indices: Sequence[int]) -> Steps[bool]:
        """Replace these paths' bounds by their surpluses; return whether there were any bounds."""
        bounds = [index for index in indices if self._is_bound[index]]
        for index in bounds:
            yield
            self._is_bound[index] = False
            curve = self._candidates[index].curve
            yield from curve.reach_level(self.level)
            self.values[index] = curve.surplus(self.level) or 0
        return bool(bounds)


def _replace_bounds(prices: Sequence[_Surpluses], indices: Sequence[int]) -> Steps[bool]:
    replaced = False
    for surpluses in prices:
        replaced |= yield from surpluses.replace_bounds(indices)
    return replaced


def _surpluses(candidates: Sequence[Candidate], level: int) -> Steps[_Surpluses]:
    values = [0] * len(candidates)
    for index, candidate in enumerate(candidates):
        if candidate.level > level:
            continue
        bound = candidate.surplus_bound(level)
        if bound is None:
            yield from candidate.reach(level)
            bound = candidate.surplus_bound(level) or 0
        values[index] = bound
    return _Surpluses(candidates, level, values)
