"""Which pairs a change of the market may affect."""

from collections.abc import Collection, Iterable

from service.chains.venue import MarketChange, MarketData, PoolRef
from service.routing.paths import HUBS
from service.routing.quoting import pools_for

Pair = tuple[str, str]
"""The token sold and the token bought."""

_SPARE_PAIRS = 100


class PairChanges:
    """Collects changes of pools, until they are read as changes of pairs.

    Args:
        venue: Knows the pools of a pair.
    """

    def __init__(self, venue: MarketData) -> None:
        self._venue = venue
        self._changed: set[str] = set()
        self._marked: set[Pair] = set()
        self._added_or_removed: list[PoolRef] = []
        self._pools_of: dict[Pair, frozenset[str]] = {}

    @property
    def waiting(self) -> bool:
        """Whether there are changes that ``pop`` has not returned yet."""
        return bool(self._changed or self._marked)

    def restart(self, pool_ids: Iterable[str] = ()) -> None:
        """Forget the pools, and count these as changed."""
        self._changed = set(pool_ids)
        self._pools_of.clear()
        self._added_or_removed.clear()

    def add(self, change: MarketChange, *, read: bool = True) -> None:
        """Add a change of the market.

        Args:
            change: The change, as reported by the venue.
            read: Whether ``pop`` is being called; if not, new and removed pools would only accumulate.
        """
        self._changed |= change.pool_ids
        if read:
            self._added_or_removed += change.added_or_removed

    def mark(self, pair: Pair) -> None:
        """Mark a pair as changed."""
        self._marked.add(pair)

    def pop(self, pairs: Collection[Pair]) -> tuple[set[Pair], set[Pair]]:
        """Return the pairs that changed since the last call, and those whose set of pools has changed."""
        added_or_removed, self._added_or_removed = self._added_or_removed, []
        changed, self._changed = self._changed, set()
        marked, self._marked = self._marked, set()
        affected: set[Pair] = set()
        if added_or_removed:
            affected = _affected(added_or_removed, pairs)
            # Also those that are not asked for now, but may be again.
            for pair in _affected(added_or_removed, self._pools_of):
                del self._pools_of[pair]
        if len(self._pools_of) > 2 * len(pairs) + _SPARE_PAIRS:
            self._pools_of.clear()
        moved = {pair for pair in pairs if pair in marked or not changed.isdisjoint(self.pools(pair))}
        return moved | affected, affected

    def has_changed(self, pair: Pair) -> bool:
        """Return whether ``pop`` would return this pair."""
        return (
            pair in self._marked
            or not self._changed.isdisjoint(self.pools(pair))
            or pair in _affected(self._added_or_removed, [pair])
        )

    def pools(self, pair: Pair) -> frozenset[str]:
        """Return the ids of the pools that may trade a pair, directly or through a hub."""
        pools = self._pools_of.get(pair)
        if pools is None:
            pools = frozenset(pool.id for pool in pools_for(self._venue, *pair))
            self._pools_of[pair] = pools
        return pools


def _affected(pools: Iterable[PoolRef], pairs: Iterable[Pair]) -> set[Pair]:
    """Return the pairs whose routes may use these pools, directly or through a hub."""
    direct: set[frozenset[str]] = set()
    ends: set[str] = set()
    for pool in pools:
        direct.add(frozenset((pool.token_a, pool.token_b)))
        for end, between in ((pool.token_a, pool.token_b), (pool.token_b, pool.token_a)):
            if between in HUBS:
                ends.add(end)
    return {pair for pair in pairs if not ends.isdisjoint(pair) or frozenset(pair) in direct}
