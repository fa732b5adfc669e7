"""Of paths that each have a surplus, the set with the largest sum: no two share a pool, and legs are few."""

from collections.abc import Sequence
from typing import Protocol


class OfPools(Protocol):
    """A path, or what stands for one."""

    @property
    def pools(self) -> frozenset[int]:
        """The places of the pools that it goes through."""
        ...


def richest(
    surpluses: Sequence[int],
    paths: Sequence[OfPools],
    max_legs: int,
    floor: int = 0,
    passed_over: Sequence[frozenset[int]] = (),
) -> tuple[int, ...] | None:
    """Return the places of the set with the largest sum, ascending, by branch and bound.

    Args:
        surpluses: Of each path. One without is in no set.
        paths: The paths.
        max_legs: How many pools a set may go through in all.
        floor: What the sum has to exceed.
        passed_over: Sets that are not looked for, nor any part of one.

    Returns:
        None if no set exceeds the floor.
    """
    search = _Search(surpluses, paths, max_legs, floor, passed_over)
    search.extend(0, (), frozenset(), 0)
    return search.best


class _Search:
    def __init__(
        self,
        surpluses: Sequence[int],
        paths: Sequence[OfPools],
        max_legs: int,
        floor: int,
        passed_over: Sequence[frozenset[int]],
    ) -> None:
        # Twice the surplus per leg, negated: best first, of equals the first path. The bound takes the
        # next one's for all legs that are left.
        self._order = sorted(
            (-(2 * surplus // len(paths[place].pools)), place)
            for place, surplus in enumerate(surpluses)
            if surplus > 0
        )
        self._surpluses = surpluses
        self._paths = paths
        self._max_legs = max_legs
        self._floor = floor
        self._passed_over = passed_over
        self.best: tuple[int, ...] | None = None

    def extend(self, position: int, chosen: tuple[int, ...], used: frozenset[int], total: int) -> None:
        """Look at a set, and at all that add paths from a position on."""
        if total > self._floor and not any(known.issuperset(chosen) for known in self._passed_over):
            self._floor, self.best = total, tuple(sorted(chosen))
        for index in range(position, len(self._order)):
            doubled, place = self._order[index]
            left = self._max_legs - len(used)
            if 2 * (total - self._floor) <= doubled * left:
                return
            added = self._paths[place].pools
            if len(added) <= left and not added & used:
                self.extend(index + 1, (*chosen, place), used | added, total + self._surpluses[place])
