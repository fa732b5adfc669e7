"""The best route by trial: exact quotes of whole amounts, of parts, and of moved parts.

It shares only the pools with the router. Its result is attainable, so a router must be at least as good; it
does not prove that there is nothing better.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from service.amm import Direction
from service.amm.errors import AmmError
from service.chains.venue import Snapshot
from service.domain.quote import Route, SwapMode
from service.routing import HUBS

CHUNKS = 24
LIKELY = 6

Parts = dict[int, int]
"""Each path's share of the amount, by the path's index."""


class Swap(NamedTuple):
    """A pool, and the direction through it."""

    snapshot: Snapshot
    direction: Direction


class PlainSearch:
    """The search for one order.

    Args:
        mode: Which side the amount fixes.
        token_in: The token sold.
        token_out: The token bought.
        amount: Base units.
        snapshots: The pools.
        max_legs: Maximum number of swaps.
        margin_bps: The margin between two swaps of a path.
    """

    def __init__(
        self,
        mode: SwapMode,
        token_in: str,
        token_out: str,
        amount: int,
        snapshots: Sequence[Snapshot],
        max_legs: int = 4,
        margin_bps: int = 0,
    ) -> None:
        self._margin_bps = margin_bps
        self._exact_in = mode is SwapMode.EXACT_IN
        self._amount = amount
        self._max_legs = max_legs
        self._paths = [path for path in paths(token_in, token_out, snapshots) if len(path) <= max_legs]
        self._pools = [tuple(swap.snapshot.pool.id for swap in path) for path in self._paths]
        self.worth = cache(self._worth)

    def single(self) -> int | None:
        """Return the best single path's output (or input, for an exact output); None if there is none."""
        return self._other_side(self._singles()[:1])

    def best(self, start: Route | None = None) -> int | None:
        """Return the best result of all trials: single paths, splits, and an improved split of a route."""
        singles = self._singles()
        likely = singles[:LIKELY] + self._by_part()[:LIKELY]
        starts = [self._filled(likely), *singles[:1]]
        if start is not None:
            starts.append(self._of_route(start))
        near = sorted({place for parts in (*likely, *starts) for place in parts})
        tried = singles + [self._moved(parts, near) for parts in starts if parts]
        return self._other_side(sorted(tried, key=self._total, reverse=True)[:1])

    def _other_side(self, found: Sequence[Parts]) -> int | None:
        total = self._total(found[0]) if found else float("-inf")
        return None if total == float("-inf") else abs(int(total))

    def _worth(self, place: int, share: int) -> float:
        """Return the value of a path's share: its output, or its negated input."""
        amount = share
        swaps = self._paths[place]
        for number, (snapshot, direction) in enumerate(swaps if self._exact_in else reversed(swaps)):
            if number:
                amount = self._after_margin(amount)
            state = snapshot.state
            ask = state.quote_exact_in if self._exact_in else state.quote_exact_out
            try:
                quoted = ask(direction, amount, snapshot.now)
            except AmmError:
                return float("-inf")
            if not quoted.amount_out:
                return float("-inf")
            amount = quoted.amount_out if self._exact_in else quoted.amount_in
        return amount if self._exact_in else -amount

    def _after_margin(self, amount: int) -> int:
        """Sell less than the swap before is quoted to pay, or buy more than the one after needs."""
        if self._exact_in:
            return max(1, amount * (10_000 - self._margin_bps) // 10_000)
        return -(-amount * (10_000 + self._margin_bps) // 10_000)

    def _total(self, parts: Parts) -> float:
        return sum(self.worth(place, share) for place, share in parts.items())

    def _singles(self) -> list[Parts]:
        """Return every path with the whole amount, the best first."""
        wholes: list[Parts] = [{place: self._amount} for place in range(len(self._paths))]
        return sorted(wholes, key=self._total, reverse=True)

    def _by_part(self) -> list[Parts]:
        """Return every path, ordered by its value for a small part."""
        part = max(1, self._amount // CHUNKS)
        places = sorted(range(len(self._paths)), key=lambda place: self.worth(place, part), reverse=True)
        return [{place: self._amount} for place in places]

    def _filled(self, likely: Sequence[Parts]) -> Parts:
        """Assign one chunk after the other to the path with the highest value for it."""
        places = [place for parts in likely for place in parts]
        parts: Parts = {}
        for number in range(CHUNKS):
            chunk = self._amount * (number + 1) // CHUNKS - self._amount * number // CHUNKS
            grown = [
                {**parts, place: parts.get(place, 0) + chunk}
                for place in places
                if chunk and self._fits({*parts, place})
            ]
            parts = max(grown, key=self._total, default=parts)
        return parts

    def _of_route(self, route: Route) -> Parts:
        parts: Parts = {}
        for path in route.paths:
            place = self._pools.index(tuple(leg.pool_id for leg in path.legs))
            parts[place] = path.amount_in if self._exact_in else path.amount_out
        return parts

    def _fits(self, places: set[int]) -> bool:
        pools = [pool for place in places for pool in self._pools[place]]
        return len(pools) == len(set(pools)) <= self._max_legs

    def _moved(self, parts: Parts, near: Sequence[int]) -> Parts:
        """Move parts between paths while that helps, large ones first, down to one unit."""
        best, best_total = parts, self._total(parts)
        step = self._amount
        while step:
            for moved in self._moves(best, near, step):
                if (total := self._total(moved)) > best_total:
                    best, best_total = moved, total
                    break
            else:
                step //= 3
        return best

    def _moves(self, parts: Parts, near: Sequence[int], step: int) -> Iterator[Parts]:
        for source, share in parts.items():
            taken = min(step, share)
            left = {place: held for place, held in parts.items() if place != source}
            if share > taken:
                left[source] = share - taken
            for target in near:
                if target != source and self._fits({*left, target}):
                    yield {**left, target: left.get(target, 0) + taken}


def paths(token_in: str, token_out: str, snapshots: Sequence[Snapshot]) -> list[tuple[Swap, ...]]:
    """Return all paths of one pool, and of two through a hub."""
    found: list[tuple[Swap, ...]] = [(swap,) for swap in _swaps(token_in, token_out, snapshots)]
    for hub in HUBS:
        if hub not in (token_in, token_out):
            seconds = _swaps(hub, token_out, snapshots)
            found += [(one, two) for one in _swaps(token_in, hub, snapshots) for two in seconds]
    return found


def _swaps(token_in: str, token_out: str, snapshots: Sequence[Snapshot]) -> list[Swap]:
    ways = {(token_in, token_out): Direction.A_TO_B, (token_out, token_in): Direction.B_TO_A}
    pairs = [(each, (each.pool.token_a, each.pool.token_b)) for each in snapshots]
    return [Swap(each, ways[pair]) for each, pair in pairs if pair in ways]
