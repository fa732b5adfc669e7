"""The best route for a small amount, by exact quotes, since rounding matters there.

Every path that may be best quotes the whole amount. The best of these quotes and of the routes found on the
curves is then improved by moving parts between paths, large ones first, as long as that helps. The search
ends as soon as the result is close to the curves' optimum.
"""

from collections.abc import Iterator, Sequence

from service.domain.quote import Route, SwapMode
from service.routing.exact import Hops, RefusedError, passed_on, path_of, route_of
from service.routing.path_curve import LEVEL_BITS, UNIT_BITS
from service.routing.paths import Candidate
from service.turns import Steps

SMALL = 1 << 20
"""Base units; of a larger amount, one unit is less than a millionth."""

# Parts move between the route's paths and this many of the best single paths. More cost more quotes.
_NEAR = 4

# Maximum number of quotes of parts. It bounds the time; most trials need a fraction of it.
_QUOTES_MAX = 128

# The tolerance against the curves' optimum, 4 millionths.
_NEAR_ENOUGH_BITS = 18

# The factor by which parts get smaller when no part of a size is worth moving.
_FINER = 3

# The cost of a refused quote, higher than any other.
_REFUSED = 1 << 128

Parts = dict[int, int]
"""Each path's share of the amount, by the path's index."""


class Trial:
    """The search for one amount.

    Args:
        mode: Which side the amount fixes.
        amount: Base units.
        candidates: The paths.
        max_legs: Maximum number of swaps in a route.
        optimum: The curves' optimum, without rounding, in 2^-32 base units of the other side; None if it
            is not known.
    """

    def __init__(
        self,
        mode: SwapMode,
        amount: int,
        candidates: Sequence[Candidate],
        max_legs: int,
        optimum: int | None,
    ) -> None:
        self._mode = mode
        self._exact_in = mode is SwapMode.EXACT_IN
        self._amount = amount
        self._candidates = candidates
        self._max_legs = max_legs
        self._optimum = optimum
        self._costs: dict[tuple[int, int], int] = {}
        self._singles: list[Parts] = []

    def best(self, routes: Sequence[Route]) -> Steps[Route | None]:
        """Return the best route found from some routes and the best single path; None if no path pays.

        Args:
            routes: Each for the whole amount. Routes through a pool without a curve, because it is almost
                empty, are ignored.
        """
        for route in routes:
            if self._is_enough(-route.amount_out if self._exact_in else route.amount_in):
                return route
        yield from self._quote_singles()
        known = [parts for route in routes if (parts := self._parts_of(route)) is not None]
        starts = known + self._singles[:1]
        if not starts:
            return None
        near = sorted({index for parts in (*starts, *self._singles[:_NEAR]) for index in parts})
        best = yield from self._improved(min(starts, key=self._total), near)
        return self._route(best)

    def _quote_singles(self) -> Steps[None]:
        """Quote the whole amount on the paths, best marginal price first, while one may be the best."""
        best = _REFUSED
        for index in sorted(range(len(self._candidates)), key=lambda index: self._candidates[index].level):
            if self._least_cost(self._candidates[index]) > best:
                break
            best = min(best, self._cost(index, self._amount))
            yield
        wholes: list[Parts] = [{index: share} for index, share in self._costs if share == self._amount]
        self._singles = sorted((parts for parts in wholes if self._total(parts) < _REFUSED), key=self._total)

    def _least_cost(self, candidate: Candidate) -> int:
        """Return a lower bound on the whole amount's cost: at the marginal price, with favourable rounding.

        Only AMM v4 rounds in the trader's favour, by less than one unit of input: it charges no fee below
        half a unit. And a second pool sells one unit at least, whatever the margin before it.
        """
        if not self._exact_in:
            unit = (candidate.hops[0].level or 0) ** 2 >> 2 * LEVEL_BITS
            return (self._amount * candidate.level**2 >> 2 * LEVEL_BITS) - unit - 2
        units = len(candidate.hops)
        worth = (units << 2 * LEVEL_BITS) // (candidate.hops[-1].level or 1) ** 2
        return -(((self._amount + 1) << 2 * LEVEL_BITS) // candidate.level**2) - worth - 2

    def _is_enough(self, cost: int) -> bool:
        """Whether a cost is close enough to the curves' optimum."""
        if self._optimum is None:
            return False
        wanted = -self._optimum if self._exact_in else self._optimum
        return cost << UNIT_BITS <= wanted + (self._optimum >> _NEAR_ENOUGH_BITS)

    def singles(self) -> list[Route]:
        """Return the two best paths that take the whole amount alone; call ``best`` first."""
        return [self._route(parts) for parts in self._singles[:2]]

    def _improved(self, best: Parts, near: Sequence[int]) -> Steps[Parts]:
        """Return better parts, by moving shares between the paths in ``near`` for as long as that helps."""
        most = len(self._costs) + _QUOTES_MAX
        step = self._amount
        total = self._total(best)
        while step and len(self._costs) < most and not self._is_enough(total):
            for moved in self._moves(best, near, step):
                yield
                if (moved_total := self._total(moved)) < total:
                    best, total = moved, moved_total
                    break
            else:
                step //= _FINER
        return best

    def _moves(self, parts: Parts, near: Sequence[int], step: int) -> Iterator[Parts]:
        """Yield the parts after moving ``step``, or all there is, from one path to another."""
        for source, share in parts.items():
            taken = min(step, share)
            left = {index: held for index, held in parts.items() if index != source}
            if share > taken:
                left[source] = share - taken
            for target in near:
                if target != source and self._fits((*left, target)):
                    yield {**left, target: left.get(target, 0) + taken}

    def _fits(self, indices: Sequence[int]) -> bool:
        pools = [pool for index in {*indices} for pool in self._candidates[index].pools]
        return len(pools) == len({*pools}) <= self._max_legs

    def _total(self, parts: Parts) -> int:
        return sum(self._cost(index, share) for index, share in parts.items())

    def _cost(self, index: int, share: int) -> int:
        """Return the sort key of quotes of one share: lower is better."""
        known = self._costs.get((index, share))
        if known is None:
            known = self._costs[index, share] = self._quoted_cost(self._candidates[index].hops, share)
        return known

    def _quoted_cost(self, hops: Hops, amount: int) -> int:
        try:
            if self._exact_in:
                for hop in hops:
                    amount = passed_on(hop, hop.quote(self._mode, amount).amount_out)
            else:
                for hop in reversed(hops):
                    amount = hop.quote(self._mode, passed_on(hop, amount)).amount_in
        except RefusedError:
            return _REFUSED
        return -amount if self._exact_in else amount

    def _parts_of(self, route: Route) -> Parts | None:
        indices = {
            tuple(hop.snapshot.pool.id for hop in candidate.hops): index
            for index, candidate in enumerate(self._candidates)
        }
        parts: Parts = {}
        for path in route.paths:
            index = indices.get(tuple(leg.pool_id for leg in path.legs))
            if index is None:
                return None
            parts[index] = path.amount_in if self._exact_in else path.amount_out
        return parts

    def _route(self, parts: Parts) -> Route:
        paths = [path_of(self._candidates[index].hops, self._mode, parts[index]) for index in sorted(parts)]
        return route_of(self._mode, paths)
