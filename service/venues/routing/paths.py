"""The ways from one token to another: one pool, or two in a row through a hub."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.domain.failures import FailureCode
from service.venues.routing.exact import Hop, Hops, hop_of
from service.venues.routing.path_curve import LEVEL_BITS, PathCurve, composed
from service.venues.venue import Snapshot

HUBS = ("SOL", "USDC")
"""The tokens through which a pair may be traded in two swaps."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A path that may be part of a route.

    Attributes:
        hops: Its pools.
        curve: What it pays.
        pools: The pools' places among the snapshots, by which paths that share one are told.
    """

    hops: Hops
    curve: PathCurve
    pools: frozenset[int]

    @classmethod
    def of(cls, hops: Hops) -> "Candidate":
        """Return a path with its curve, of which only the beginning is worked out."""
        chains = [hop.chain for hop in hops]
        pieces = iter(chains[0]) if len(chains) == 1 else composed(*chains)
        return cls(hops, PathCurve(pieces), frozenset(hop.place for hop in hops))


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

    def better_than(self, level: int | None) -> Iterator[Hops]:
        """Yield the paths whose first unit is better than a level; all that trade, if there is none.

        A path that starts no better than others end cannot improve on them, their prices only fall.
        """
        for hop in self.direct:
            start = hop.level
            if start is not None and (level is None or start < level):
                yield (hop,)
        for firsts, seconds in self._hubs:
            for first in firsts:
                for second in seconds:
                    if first.level is None or second.level is None:
                        continue
                    if level is None or first.level * second.level >> LEVEL_BITS < level:
                        yield (first, second)

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
