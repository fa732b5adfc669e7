"""The ways from one token to another: one pool, or two in a row through a hub."""

from collections.abc import Iterator, Sequence

from service.domain.failures import FailureCode
from service.venues.routing.exact import Hop, Hops, hop_of
from service.venues.routing.path_curve import LEVEL_BITS, PathCurve, composed
from service.venues.venue import Snapshot

HUBS = ("SOL", "USDC")
"""The tokens through which a pair may be traded in two swaps."""


class Candidate:
    """A path that may be part of a route.

    Attributes:
        hops: Its pools.
        level: Where it starts, see ``path_curve``.
        pools: The pools' places among the snapshots, by which paths that share one are told.
        is_smooth: Whether there are no bins in it: its curve is a piece or two.
    """

    __slots__ = ("_curve", "hops", "is_smooth", "level", "pools")

    def __init__(self, hops: Hops, level: int) -> None:
        self.hops = hops
        self.level = level
        self.pools = frozenset(hop.place for hop in hops)
        self.is_smooth = all(hop.is_smooth for hop in hops)
        self._curve = hops[0].curve if len(hops) == 1 else None

    @property
    def curve(self) -> PathCurve:
        """What it pays. Two pools are composed when this is first asked for."""
        if self._curve is None:
            first, second = self.hops
            self._curve = PathCurve(composed(first.chain, second.chain))
        return self._curve

    @property
    def is_composed(self) -> bool:
        """Whether the curve was asked for, so that asking again costs little."""
        return self._curve is not None

    def surplus_bound(self, level: int) -> int:
        """Return no less than the curve's surplus at a level, from the pools' own curves.

        With f and g concave, g(f(x)) <= g'(0) f(x) and g(f(x)) <= g(f'(0) x): either pool is taken to
        trade all at its first price, which moves the price at which the other one ends.
        """
        if len(self.hops) == 1 or self.is_composed:
            return self.curve.surplus(level)
        if self.level >= level:
            return 0
        first, second = self.hops
        first_level, second_level = first.level or 0, second.level or 0
        of_first = first.curve.surplus((level << LEVEL_BITS) // second_level + 1)
        of_second = second.curve.surplus((level << LEVEL_BITS) // first_level + 1)
        return min(of_first, (of_second * first_level * first_level >> 2 * LEVEL_BITS) + 1)


class Ways:
    """All ways between two tokens, in a fixed order: direct pools as they came, then hub by hub."""

    def __init__(
        self, token_in: str, token_out: str, snapshots: Sequence[Snapshot], *, through_hubs: bool = True
    ) -> None:
        self.direct = _hops(token_in, token_out, snapshots)
        self._hubs = [
            (_hops(token_in, hub, snapshots), _hops(hub, token_out, snapshots))
            for hub in HUBS
            if through_hubs and hub not in (token_in, token_out)
        ]

    def better_than(self, level: int | None) -> Iterator[Candidate]:
        """Yield the paths whose first unit is better than a level; all that trade, if there is none.

        A path that starts no better than others end cannot improve on them, their prices only fall.
        """
        for hop in self.direct:
            if hop.level is not None and (level is None or hop.level < level):
                yield Candidate((hop,), hop.level)
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
                        yield Candidate((first, second), start)

    def all_direct(self) -> list[Candidate]:
        """Return the direct pools that trade."""
        return [Candidate((hop,), hop.level) for hop in self.direct if hop.level is not None]

    @property
    def exist(self) -> bool:
        """Whether there is any path, be its pools as they may."""
        return bool(self.direct) or any(firsts and seconds for firsts, seconds in self._hubs)

    def refusals(self) -> list[FailureCode]:
        """Return why pools of paths through hubs have no curve, as far as they were asked for it."""
        hops = (hop for pair in self._hubs for side in pair for hop in side)
        return [hop.refusal for hop in hops if hop.refusal is not None]


def _hops(token_in: str, token_out: str, snapshots: Sequence[Snapshot]) -> list[Hop]:
    hops = (hop_of(place, snapshot, token_in, token_out) for place, snapshot in enumerate(snapshots))
    return [hop for hop in hops if hop is not None]
