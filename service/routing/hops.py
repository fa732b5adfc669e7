"""The pools' hops, kept with the computed parts of their curves for as long as their pools do not change."""

from service.amm import Direction
from service.chains.venue import Snapshot
from service.domain.leg_limits import HopMargin
from service.routing.exact import Hop

_KEPT = 512
"""Of a pool with hundreds of bins, a hop may take 100 kB, if orders have gone that deep."""

_Key = tuple[str, str, HopMargin | None]


class KeptHops:
    """Makes hops, and returns the same one for the same state of a pool.

    Many paths share a pool, also those of other pairs; and when a pool changes, most others have not.
    """

    def __init__(self) -> None:
        # Ordered by use, the most recent last.
        self._kept: dict[_Key, Hop] = {}

    def of(self, snapshot: Snapshot, token_in: str, token_out: str, margin: HopMargin | None) -> Hop:
        """Return a pool as a hop between the two tokens that it trades.

        Args:
            snapshot: The pool.
            token_in: The token sold.
            token_out: The token bought.
            margin: The margin between it and the next pool; None if it is the last one of its path.
        """
        key = snapshot.pool.id, token_in, margin
        hop = self._kept.pop(key, None)
        if hop is None or not is_same(hop.snapshot, snapshot):
            direction = Direction.A_TO_B if snapshot.pool.token_a == token_in else Direction.B_TO_A
            hop = Hop(snapshot, token_in, token_out, direction, margin)
        self._kept[key] = hop
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return hop


def is_same(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots are of one pool, at the same moment, in the same state."""
    return one.state is other.state and one.now == other.now and one.pool == other.pool
