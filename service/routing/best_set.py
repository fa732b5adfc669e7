"""Finds the set of paths with the largest total surplus: without shared pools, within a limit of legs."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class HasPools(Protocol):
    """A path, as far as the search needs it."""

    @property
    def pools(self) -> frozenset[str]:
        """The ids of its pools."""
        ...


class Cut(NamedTuple):
    """A lower bound on a set: the sum of its paths' surpluses at one price must exceed the floor."""

    surpluses: Sequence[int]
    floor: int


def max_sum_set(
    cut: Cut,
    paths: Sequence[HasPools],
    max_legs: int,
    excluded: Sequence[frozenset[int]] = (),
    others: Sequence[Cut] = (),
) -> tuple[int, ...] | None:
    """Return the indices of the set with the largest sum, ascending, by branch and bound.

    Args:
        cut: Each path's surplus, and the floor of the sum.
        paths: The paths.
        max_legs: The maximum number of pools in a set.
        excluded: Sets to exclude, including their subsets.
        others: Further cuts that the set must satisfy.

    Returns:
        None if no set exceeds the floors.
    """
    search = _Search(cut, paths, max_legs, excluded, others)
    search.extend(0, (), frozenset(), 0, (0,) * len(others))
    return search.best


class _Search:
    def __init__(
        self,
        cut: Cut,
        paths: Sequence[HasPools],
        max_legs: int,
        excluded: Sequence[frozenset[int]],
        others: Sequence[Cut],
    ) -> None:
        # Twice the surplus per leg, negated: best first; ties keep the order of paths. The bound assumes the
        # next path's value for all remaining legs.
        self._order = sorted(
            (-(2 * surplus // len(paths[index].pools)), index)
            for index, surplus in enumerate(cut.surpluses)
            if surplus > 0 or any(other.surpluses[index] > 0 for other in others)
        )
        self._surpluses, self._floor = cut
        self._paths = paths
        self._max_legs = max_legs
        self._excluded = excluded
        self._others = [(*other, max(other.surpluses, default=0)) for other in others]
        self.best: tuple[int, ...] | None = None

    def extend(
        self,
        position: int,
        chosen: tuple[int, ...],
        used: frozenset[str],
        total: int,
        sums: tuple[int, ...],
    ) -> None:
        """Evaluate a set, and all that extend it by paths from a position on."""
        left = self._max_legs - len(used)
        for sum_, (_, floor, most) in zip(sums, self._others, strict=True):
            if sum_ + most * left <= floor:
                return
        if (
            total > self._floor
            and all(sum_ > floor for sum_, (_, floor, _) in zip(sums, self._others, strict=True))
            and not any(known.issuperset(chosen) for known in self._excluded)
        ):
            self._floor, self.best = total, tuple(sorted(chosen))
        for rank in range(position, len(self._order)):
            doubled, index = self._order[rank]
            if 2 * (total - self._floor) <= doubled * left:
                return
            added = self._paths[index].pools
            if len(added) <= left and not added & used:
                self.extend(
                    rank + 1,
                    (*chosen, index),
                    used | added,
                    total + self._surpluses[index],
                    tuple(
                        sum_ + surpluses[index]
                        for sum_, (surpluses, _, _) in zip(sums, self._others, strict=True)
                    ),
                )
