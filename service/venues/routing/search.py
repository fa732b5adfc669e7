"""Which paths to split over, when they are more than a route may have legs or when they share pools.

For any price p a set S of paths pays at most p X + sum of S's surpluses, a path's surplus being the most
that F(x) - p x comes to (Lagrange duality; F is concave). At the price where a set ends its own bound is what
it pays. So at the price where the best set so far ends only a set with a larger sum of surpluses can be
better. The search solves the one with the largest sum, moves to its price if it is better, and is over when
there is none.

A set that is no better though its sum is larger ends at a lower price. Paths that start between the two
prices had no surplus at the upper one, and may be what it lacks: the sets that add such paths to it are bound
by their surpluses at the lower price, and looked through likewise. So the set held in the end is the
optimum over all sets, though few were solved. For an exact output the same holds of what it costs, with the
same surpluses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.turns import Steps
from service.venues.routing.path_curve import BOUGHT, LEVEL_BITS, UNIT_BITS
from service.venues.routing.paths import Candidate
from service.venues.routing.richest import richest
from service.venues.routing.split import Split, split

SOLVED_MAX = 162
"""More sets than this are not solved: all those of one to four out of eight pools are, if need be."""

# How far a path's room, worked out without composing its pools, may lie below what it takes.
_ROOM_BITS, _ROOM_UNITS = 20, 16


@dataclass(frozen=True, slots=True)
class Found:
    """A set of paths, ascending by place, and how it splits the amount."""

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
    """Return the set of pool-disjoint paths that splits an amount best.

    Args:
        candidates: The paths.
        side: Which side ``amount`` is of: 0 what is sold, 1 what is bought.
        amount: Base units.
        max_legs: How many pools the set may go through in all.
        start: A set that is known to be good, or nothing.
        likely_level: As ``split`` takes it.

    Returns:
        The optimum of the curves, unless ``SOLVED_MAX`` sets were solved before that was proven;
        None if no set takes the whole amount.
    """
    return (yield from _Search(candidates, side, amount, max_legs).run(start, likely_level))


def quick_set(
    candidates: Sequence[Candidate], side: int, amount: int, max_legs: int
) -> Steps[tuple[int, ...]]:
    """Return a set to start from that costs little to find: the best of the paths without bins.

    Where it ends, no bin needs to be looked at beyond. It is empty if these paths cannot take the amount.
    """
    places = [place for place, candidate in enumerate(candidates) if candidate.is_smooth]
    smooth = [candidates[place] for place in places]
    start = _completed(smooth, (), max_legs)
    found = yield from best_set(smooth, side, amount, max_legs, start)
    return () if found is None else tuple(places[place] for place in found.chosen)


def _completed(candidates: Sequence[Candidate], chosen: tuple[int, ...], max_legs: int) -> tuple[int, ...]:
    """Add the paths that start best, as many as there is room for."""
    added = list(chosen)
    pools = _pools_of(candidates, chosen)
    for place in sorted(range(len(candidates)), key=lambda place: candidates[place].level):
        more = candidates[place].pools
        if len(pools) + len(more) <= max_legs and not pools & more:
            added.append(place)
            pools |= more
    return tuple(sorted(added))


def _pools_of(candidates: Sequence[Candidate], chosen: Sequence[int]) -> frozenset[int]:
    return frozenset[int]().union(*(candidates[place].pools for place in chosen))


class _Search:
    """One search for a set."""

    def __init__(self, candidates: Sequence[Candidate], side: int, amount: int, max_legs: int) -> None:
        self._candidates = candidates
        self._side = side
        self._amount = amount
        self._max_legs = max_legs
        self._solved: list[frozenset[int]] = []
        self._best: Found | None = None

    def run(self, start: tuple[int, ...], likely_level: int | None) -> Steps[Found | None]:
        """Search from a set, if there is one."""
        self._best = (yield from self._solve(start, likely_level)) if start else None
        if self._best is None:
            self._best = yield from self._of_most_room()
        while (best := self._best) is not None and len(self._solved) < SOLVED_MAX:
            known = yield from _surpluses(self._candidates, best.split.level)
            if not (yield from self._beaten(known, best)):
                break
        return self._best

    def _beaten(self, known: "_Surpluses", best: Found) -> Steps[bool]:
        """Look for a better set at the price where the best one ends; say whether there is one."""
        while len(self._solved) < SOLVED_MAX:
            floor = sum(known.values[place] for place in best.chosen)
            chosen = richest(known.values, self._candidates, self._max_legs, floor, self._solved)
            if chosen is None:
                return False
            if (yield from known.settle(chosen)):
                continue
            if (yield from self._try(chosen, best)):
                return True
        return False

    def _try(self, chosen: tuple[int, ...], best: Found) -> Steps[bool]:
        """Solve a set, and then those that add to it what starts below; say whether one is better."""
        found = yield from self._solve(chosen, best.split.level)
        if found is None:
            # It cannot take the whole. With more paths it may.
            more = _completed(self._candidates, chosen, self._max_legs)
            if frozenset(more) in self._solved:
                return False
            found = yield from self._solve(more, best.split.level)
            if found is None:
                return False
        if _is_better(found.split, best.split, self._side):
            self._best = found
            return True
        return (yield from self._try_extended(found, best))

    def _try_extended(self, found: Found, best: Found) -> Steps[bool]:
        """Solve sets that add paths to one that is no better than the best; say whether one is better."""
        used = _pools_of(self._candidates, found.chosen)
        left, level = self._max_legs - len(used), found.split.level
        places = [
            place
            for place, candidate in enumerate(self._candidates)
            if candidate.level < level and len(candidate.pools) <= left and not candidate.pools & used
        ]
        free = [self._candidates[place] for place in places]
        if all(candidate.level < best.split.level for candidate in free):
            return False
        known = yield from _surpluses(free, level)
        floor = _lacking(found.split, best.split, self._side)
        while len(self._solved) < SOLVED_MAX:
            solved = [
                frozenset(index for index, place in enumerate(places) if place in whole)
                for whole in self._solved
                if whole.issuperset(found.chosen)
            ]
            added = richest(known.values, free, left, floor, solved)
            if added is None:
                return False
            if (yield from known.settle(added)):
                continue
            chosen = tuple(sorted((*found.chosen, *(places[index] for index in added))))
            if (yield from self._try(chosen, best)):
                return True
        return False

    def _solve(self, chosen: tuple[int, ...], likely_level: int | None) -> Steps[Found | None]:
        yield
        self._solved.append(frozenset(chosen))
        curves = [self._candidates[place].curve for place in chosen]
        found = yield from split(curves, self._side, self._amount, likely_level)
        return None if found is None else Found(chosen, found)

    def _of_most_room(self) -> Steps[Found | None]:
        """Return the set that takes most, if it takes the amount: then some set does."""
        whole = self._amount << UNIT_BITS
        rooms = [0] * len(self._candidates)
        for place, candidate in enumerate(self._candidates):
            rooms[place] = yield from candidate.room(self._side, whole)
        chosen = richest(rooms, self._candidates, self._max_legs)
        if chosen is None:
            return None
        room = sum(rooms[place] for place in chosen)
        if room + (room >> _ROOM_BITS) + (_ROOM_UNITS << UNIT_BITS) < whole:
            return None
        return (yield from self._solve(chosen, None))


def _is_better(one: Split, other: Split, side: int) -> bool:
    return one.other < other.other if side == BOUGHT else one.other > other.other


def _lacking(one: Split, best: Split, side: int) -> int:
    """Return the surplus, at the price where a split ends, that it lacks to be as good as the best."""
    if side == BOUGHT:
        return one.other - best.other
    return (best.other - one.other) * one.level * one.level >> 2 * LEVEL_BITS


class _Surpluses:
    """The paths' surpluses at a level, or bounds on them where a path's curve was not needed yet.

    One 2^-32 of a unit is added for a path that would trade: a bin at that very price has no surplus,
    but it takes part, since what the others leave is sold in it.
    """

    def __init__(self, candidates: Sequence[Candidate], level: int, values: list[int]) -> None:
        self._candidates = candidates
        self._level = level
        self._is_bound = [not candidate.is_composed for candidate in candidates]
        self.values = values

    def settle(self, places: Sequence[int]) -> Steps[bool]:
        """Replace some paths' bounds by their surpluses; say whether there were bounds among them."""
        bounds = [place for place in places if self._is_bound[place]]
        for place in bounds:
            yield
            self._is_bound[place] = False
            curve = self._candidates[place].curve
            yield from curve.reach_level(self._level)
            self.values[place] = (curve.surplus(self._level) or 0) + 1
        return bool(bounds)


def _surpluses(candidates: Sequence[Candidate], level: int) -> Steps[_Surpluses]:
    values = [0] * len(candidates)
    for place, candidate in enumerate(candidates):
        if candidate.level > level:
            continue
        bound = candidate.surplus_bound(level)
        if bound is None:
            yield from candidate.reach(level)
            bound = candidate.surplus_bound(level) or 0
        values[place] = bound + 1
    return _Surpluses(candidates, level, values)
