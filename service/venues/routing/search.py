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

from service.venues.routing.path_curve import LEVEL_BITS, UNIT_BITS
from service.venues.routing.paths import Candidate
from service.venues.routing.split import BOUGHT, SOLD, Split, split

SOLVED_MAX = 160
"""More sets than this are not solved; the 162 sets of one to four out of eight pools nearly are."""


@dataclass(frozen=True, slots=True)
class Found:
    """A set of paths, ascending by place, and how it splits the amount."""

    chosen: tuple[int, ...]
    split: Split


def best_set(
    candidates: Sequence[Candidate], side: int, amount: int, max_legs: int, start: Sequence[int] = ()
) -> Found | None:
    """Return the set of pool-disjoint paths that splits an amount best.

    Args:
        candidates: The paths. One whose first unit is no better than the last of ``start`` cannot
            improve on it and should be left out, since it costs time.
        side: Which side ``amount`` is of: 0 what is sold, 1 what is bought.
        amount: Base units.
        max_legs: How many pools the set may go through in all.
        start: A set that is known to be good, or nothing.

    Returns:
        The optimum of the curves, unless ``SOLVED_MAX`` sets were solved before that was proven;
        None if no set takes the whole amount.
    """
    solved: list[frozenset[int]] = []
    best = _solve(candidates, tuple(start), side, amount) if start else None
    if best is None:
        best = _by_capacity(candidates, side, amount, max_legs)
        if best is None:
            return None
    solved.append(frozenset(best.chosen))
    while len(solved) < SOLVED_MAX:
        gains = _surpluses(candidates, best.split.level)
        floor = sum(gains[index] for index in best.chosen)
        chosen = _Richest(candidates, gains, max_legs, solved, floor).find()
        if chosen is None:
            break
        solved.append(frozenset(chosen))
        found = _solve(candidates, chosen, side, amount)
        if found is not None and _is_better(found.split, best.split, side):
            best = found
    return best


def _solve(candidates: Sequence[Candidate], chosen: tuple[int, ...], side: int, amount: int) -> Found | None:
    found = split([candidates[index].curve for index in chosen], side, amount)
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


def _surpluses(candidates: Sequence[Candidate], level: int) -> list[int]:
    """Return every path's surplus at a level's price p = 1/level^2, times 1/p; zero if it would not trade.

    One 2^-32 of a unit is added for a path that would: a bin at that very price has no surplus, but it
    takes part, since what the others leave is sold in it.
    """
    square = level * level
    surpluses = []
    for candidate in candidates:
        curve = candidate.curve
        if curve.levels[0] > level:
            surpluses.append(0)
            continue
        curve.reach_level(level)
        sold, bought = curve.before(level)
        surpluses.append(max(0, (bought * square >> 2 * LEVEL_BITS) - sold) + 1)
    return surpluses


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
