"""The paths from one token to another: one pool, or two in sequence through a hub."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from service.amm import Ratio
from service.chains.venue import Snapshot
from service.domain.failures import FailureCode
from service.domain.leg_limits import HopMargin
from service.domain.quote import SwapMode
from service.routing.exact import Hop, Hops
from service.routing.hops import KeptHops
from service.routing.limits import RouteLimits
from service.routing.path_curve import LEVEL_BITS, SOLD, PathCurve, composed
from service.turns import Steps

HUBS = ("SOL", "USDC")
"""The intermediate tokens of two-hop paths."""


class Candidate:
    """A path that may be part of a route.

    Attributes:
        hops: Its pools.
        level: The level of its marginal price, see ``path_curve``.
    """

    __slots__ = ("_curve", "_pools", "hops", "level")

    def __init__(self, hops: Hops, level: int) -> None:
        self.hops = hops
        self.level = level
        self._pools: frozenset[str] | None = None
        self._curve = hops[0].curve if len(hops) == 1 else None

    @property
    def pools(self) -> frozenset[str]:
        """The pools' ids, to find paths that share a pool."""
        if self._pools is None:
            self._pools = frozenset(hop.snapshot.pool.id for hop in self.hops)
        return self._pools

    @property
    def is_smooth(self) -> bool:
        """Whether no pool has bins, so that the curve is one or two segments."""
        return all(hop.is_smooth for hop in self.hops)

    @property
    def curve(self) -> PathCurve:
        """Its output curve. Two pools are composed on first use."""
        if self._curve is None:
            first, second = self.hops
            self._curve = PathCurve(composed(first.segments, second.segments))
        return self._curve

    @property
    def is_composed(self) -> bool:
        """Whether the curve is already composed, so that using it is cheap."""
        return self._curve is not None

    def surplus_bound(self, level: int) -> int | None:
        """Return an upper bound on the curve's surplus at a level, from the pools' own curves.

        With f and g concave, g(f(x)) <= g'(0) f(x) and g(f(x)) <= g(f'(0) x): one pool is assumed to trade
        everything at its marginal price, which shifts the price at which the other ends. If the curve is
        composed, it is the exact surplus. None if ``reach`` must run first.
        """
        if self._curve is not None:
            return self._curve.surplus(level)
        if self.level >= level:
            return 0
        first, second = self.hops
        first_level = first.level or 0
        of_first = first.curve.surplus((level << LEVEL_BITS) // (second.level or 0) + 1)
        of_second = second.curve.surplus((level << LEVEL_BITS) // first_level + 1)
        if of_first is None or of_second is None:
            return None
        return min(of_first, (of_second * first_level * first_level >> 2 * LEVEL_BITS) + 1)

    def reach(self, level: int) -> Steps[None]:
        """Pull the segments that ``surplus_bound`` needs."""
        if self._curve is not None:
            yield from self._curve.reach_level(level)
            return
        first, second = self.hops
        yield from first.curve.reach_level((level << LEVEL_BITS) // (second.level or 0) + 1)
        yield from second.curve.reach_level((level << LEVEL_BITS) // (first.level or 0) + 1)

    def room(self, side: int, amount: int) -> Steps[int]:
        """Return how much of an amount the path can take (side 0) or pay (side 1), in 2^-32 base units.

        It uses the pools' own curves, without composing them.
        """
        # Forwards from the amount sold, backwards from the amount bought.
        near, *others = (hop.curve for hop in (self.hops if side == SOLD else self.hops[::-1]))
        yield from near.reach_amount(side, amount)
        amount = min(amount, near.end[side])
        for far in others:
            between = near.at(side, amount)[1 - side]
            yield from far.reach_amount(side, between)
            if far.end[side] < between:
                return near.at(1 - side, far.end[side])[side]
        return amount


class PathFinder:
    """All paths between two tokens, in a fixed order: direct pools in the given order, then by hub.

    Args:
        token_in: The token sold.
        token_out: The token bought.
        snapshots: The pools; those that are on none of the paths are ignored.
        limits: The limits of a route.
        mode: Which side of a path is fixed: the margin between two pools depends on it.
        hops: The pools' kept hops; None keeps none.
        previous: The same paths at an earlier moment: two-hop paths whose pools have not changed keep their
            curves.
    """

    def __init__(
        self,
        token_in: str,
        token_out: str,
        snapshots: Sequence[Snapshot],
        limits: RouteLimits,
        mode: SwapMode = SwapMode.EXACT_IN,
        *,
        hops: KeptHops | None = None,
        previous: "PathFinder | None" = None,
    ) -> None:
        self.limits = limits
        self.mode = mode
        kept = hops or KeptHops()
        by_pair: dict[frozenset[str], list[Snapshot]] = defaultdict(list)
        for snapshot in snapshots:
            by_pair[frozenset((snapshot.pool.token_a, snapshot.pool.token_b))].append(snapshot)

        def between(sold: str, bought: str, margin: HopMargin | None = None) -> list[Hop]:
            pools = by_pair.get(frozenset((sold, bought)), ())
            return [kept.of(snapshot, sold, bought, margin) for snapshot in pools]

        self.direct = between(token_in, token_out)
        self._margin = HopMargin(mode, limits.hop_margin_bps) if limits.hop_margin_bps else None
        self._hubs = [
            (between(token_in, hub, self._margin), between(hub, token_out))
            for hub in HUBS
            if limits.max_legs > 1 and hub not in (token_in, token_out)
        ]
        # Kept, with the computed parts of their curves.
        self._candidates: dict[Hops, Candidate] = {}
        if previous is not None:
            sides = (self.direct, *(side for pair in self._hubs for side in pair))
            self._candidates = previous.candidates_through({hop for side in sides for hop in side})

    def candidates_through(self, hops: AbstractSet[Hop]) -> dict[Hops, Candidate]:
        """Return the paths that were computed and use none but these hops."""
        return {path: candidate for path, candidate in self._candidates.items() if hops >= {*path}}

    def better_than(self, level: int | None) -> Iterator[Candidate]:
        """Yield the paths whose marginal price is better than a level's; with None, all that trade.

        Prices along a path only get worse, so a path that starts no better than others end cannot improve on
        them.
        """
        for hop in self.direct:
            if hop.level is not None and (level is None or hop.level < level):
                yield self._candidate((hop,), hop.level)
        for sides in self._hubs:
            firsts, seconds = ([(hop.level, hop) for hop in side if hop.level is not None] for side in sides)
            if not firsts or not seconds:
                continue
            best = min(start for start, _ in seconds)
            for first_level, first in firsts:
                if level is not None and first_level * best >> LEVEL_BITS >= level:
                    continue
                for second_level, second in seconds:
                    start = first_level * second_level >> LEVEL_BITS
                    if level is None or start < level:
                        yield self._candidate((first, second), start)

    def all_direct(self) -> list[Candidate]:
        """Return the direct pools that trade."""
        return [self._candidate((hop,), hop.level) for hop in self.direct if hop.level is not None]

    def _candidate(self, hops: Hops, level: int) -> Candidate:
        known = self._candidates.get(hops)
        if known is None:
            known = self._candidates[hops] = Candidate(hops, level)
        return known

    @property
    def exist(self) -> bool:
        """Whether any path exists, even if its pools refuse to trade."""
        return bool(self.direct) or any(firsts and seconds for firsts, seconds in self._hubs)

    def marginal_price(self) -> Steps[Ratio | None]:
        """Return the best marginal price of all paths, net of fees: base units out per base unit in.

        It comes from the pools' curves, without rounding, and without the margin between two pools, which is
        not lost. None if no path trades. Along a path prices multiply, so that the best path through a hub
        consists of the best pool on either side.
        """
        kept, whole = (1, 1) if self._margin is None else self._margin.kept
        best = yield from _best_price(self.direct)
        for firsts, seconds in self._hubs:
            first = yield from _best_price(firsts)
            second = yield from _best_price(seconds)
            if first is not None and second is not None:
                price = Ratio(first.out * whole * second.out, first.per * kept * second.per)
                best = _better(best, price)
        return best

    def refusals(self) -> list[FailureCode]:
        """Return why pools of two-hop paths have no curve, for the pools whose curve was requested."""
        hops = (hop for pair in self._hubs for side in pair for hop in side)
        return [hop.refusal for hop in hops if hop.refusal is not None]


def _best_price(hops: Sequence[Hop]) -> Steps[Ratio | None]:
    best: Ratio | None = None
    for hop in hops:
        segment = hop.segments.first
        if segment is not None:
            best = _better(best, Ratio(segment.gain, segment.depth))
        yield
    return best


def _better(one: Ratio | None, other: Ratio) -> Ratio:
    """Return the higher of two prices; the first if they are equal."""
    return other if one is None or other.out * one.per > one.out * other.per else one
