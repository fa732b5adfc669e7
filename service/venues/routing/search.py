"""Which paths to split over, when they are more than a route may have legs or when they share pools.

For any price p a set S of paths pays at most p X + sum of S's surpluses, a path's surplus being the most
that F(x) - p x comes to (Lagrange duality; F is concave). At the price where the best set so far ends its
own bound is what it pays, so only a set with a larger sum of surpluses can be better. The search solves
the one with the largest sum, moves to its price if it is better, and is over when there is none: the set
it then holds is the optimum over all sets, though few were solved. For an exact output the same holds of
what it costs, with the same surpluses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.venues.routing.path_curve import UNIT_BITS
from service.venues.routing.paths import Candidate
from service.venues.routing.split import BOUGHT, Split, split

SOLVED_MAX = 162
"""More sets than this are not solved: all those of one to four out of eight pools are, if need be."""


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
) -> Found | None:
    """Return the set of pool-disjoint paths that splits an amount best.

    Args:
        candidates: The paths. One whose first unit is no better than the last of ``start`` cannot
            improve on it and should be left out, since it costs time.
        side: Which side ``amount`` is of: 0 what is sold, 1 what is bought.
        amount: Base units.
        max_legs: How many pools the set may go through in all.
        start: A set that is known to be good, or nothing.
        likely_level: As ``split`` takes it.

    Returns:
        The optimum of the curves, unless ``SOLVED_MAX`` sets were solved before that was proven;
        None if no set takes the whole amount.
    """
    solved: list[frozenset[int]] = []
    best = _solve(candidates, start, side, amount, likely_level) if start else None
    if best is None:
        best = _by_capacity(candidates, side, amount, max_legs)
        if best is None:
            return None
    solved.append(frozenset(best.chosen))
    known = _Surpluses(candidates, best.split.level)
    while len(solved) < SOLVED_MAX:
        floor = sum(known.values[index] for index in best.chosen)
        chosen = _Richest(candidates, known.values, max_legs, solved, floor).find()
        if chosen is None:
            break
        if known.settle(chosen):
            continue
        solved.append(frozenset(chosen))
        found = _solve(candidates, chosen, side, amount, best.split.level)
        if found is not None and _is_better(found.split, best.split, side):
            best = found
            known = _Surpluses(candidates, best.split.level)
    return best


def quick_set(candidates: Sequence[Candidate], side: int, amount: int, max_legs: int) -> tuple[int, ...]:
    """Return a set to start from that costs little to find: the best of the paths without bins.

    Where it ends, no bin needs to be looked at beyond. It is empty if these paths cannot take the amount.
    """
    places = [place for place, candidate in enumerate(candidates) if candidate.is_smooth]
    smooth = [candidates[place] for place in places]
    found = best_set(smooth, side, amount, max_legs, _first_to_start(smooth, max_legs))
    return () if found is None else tuple(places[place] for place in found.chosen)


def _first_to_start(candidates: Sequence[Candidate], max_legs: int) -> tuple[int, ...]:
    """Return a set of pool-disjoint paths that start well."""
    chosen: list[int] = []
    pools: frozenset[int] = frozenset()
    for place in sorted(range(len(candidates)), key=lambda place: candidates[place].level):
        added = candidates[place].pools
        if len(pools) + len(added) <= max_legs and not pools & added:
            chosen.append(place)
            pools |= added
    return tuple(sorted(chosen))


def _solve(
    candidates: Sequence[Candidate],
    chosen: tuple[int, ...],
    side: int,
    amount: int,
    likely_level: int | None = None,
) -> Found | None:
    found = split([candidates[index].curve for index in chosen], side, amount, likely_level)
    return None if found is None else Found(chosen, found)


def _is_better(one: Split, other: Split, side: int) -> bool:
    return one.other < other.other if side == BOUGHT else one.other > other.other


def _by_capacity(candidates: Sequence[Candidate], side: int, amount: int, max_legs: int) -> Found | None:
    """Return the set that takes most, if it takes the amount: then some set does."""
    capacities = []
    for candidate in candidates:
        candidate.curve.reach_amount(side, amount << UNIT_BITS)
        capacities.append(candidate.curve.end[side])
    chosen = _Richest(candidates, capacities, max_legs, [], 0).find()
    return None if chosen is None else _solve(candidates, chosen, side, amount)


class _Surpluses:
    """The paths' surpluses at a level, or bounds on them where a path's curve was not needed yet.

    One 2^-32 of a unit is added for a path that would trade: a bin at that very price has no surplus,
    but it takes part, since what the others leave is sold in it.
    """

    def __init__(self, candidates: Sequence[Candidate], level: int) -> None:
        self._candidates = candidates
        self._level = level
        self._is_bound = [not candidate.is_composed for candidate in candidates]
        self.values = [
            candidate.surplus_bound(level) + 1 if candidate.level <= level else 0 for candidate in candidates
        ]

    def settle(self, places: Sequence[int]) -> bool:
        """Replace some paths' bounds by their surpluses; say whether there were bounds among them."""
        bounds = [place for place in places if self._is_bound[place]]
        for place in bounds:
            self._is_bound[place] = False
            self.values[place] = self._candidates[place].curve.surplus(self._level) + 1
        return bool(bounds)


class _Richest:
    """The set with the largest sum of surpluses that was not solved yet, by branch and bound."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        surpluses: Sequence[int],
        max_legs: int,
        solved: Sequence[frozenset[int]],
        floor: int,
    ) -> None:
        # Twice the surplus per leg, negated: best first, of equals the first path. The bound takes the
        # next one's for all legs that are left.
        self._order = sorted(
            (-(2 * surplus // len(candidate.pools)), place)
            for place, (surplus, candidate) in enumerate(zip(surpluses, candidates, strict=True))
            if surplus > 0
        )
        self._candidates = candidates
        self._surpluses = surpluses
        self._max_legs = max_legs
        self._solved = solved
        self._floor = floor
        self._best: tuple[int, ...] | None = None

    def find(self) -> tuple[int, ...] | None:
        """Return the set's places, ascending; None if no other set exceeds the floor."""
        self._extend(0, (), frozenset(), 0)
        return self._best

    def _extend(self, position: int, chosen: tuple[int, ...], pools: frozenset[int], total: int) -> None:
        if total > self._floor and not any(known.issuperset(chosen) for known in self._solved):
            self._floor, self._best = total, tuple(sorted(chosen))
        for index in range(position, len(self._order)):
            doubled, place = self._order[index]
            left = self._max_legs - len(pools)
            if 2 * (total - self._floor) <= doubled * left:
                return
            candidate = self._candidates[place]
            if len(candidate.pools) <= left and not candidate.pools & pools:
                self._extend(
                    index + 1, (*chosen, place), pools | candidate.pools, total + self._surpluses[place]
                )
