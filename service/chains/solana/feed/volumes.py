"""What was traded in each pool, from the changes of its vaults between two reads: a lower bound.

Swaps in both directions between two reads cancel each other out, and only their difference is seen. Liquidity
that is added or removed moves both vaults in the same direction, or one of them, and is not counted. A swap
that a fork undoes counts twice.
"""

from collections.abc import Sequence

from service.chains.venue import Traded

KEPT_S = 3_600
"""How long volumes are kept."""

Vaults = tuple[int, int]
"""The base units of A and B in a pool's vaults."""


class Volumes:
    """The volumes of the last hour, second by second of the chain's clock."""

    def __init__(self) -> None:
        self._by_second: dict[int, dict[str, tuple[int, int]]] = {}

    def add(self, pool_id: str, second: int, before: Vaults, after: Vaults) -> Traded | None:
        """Count what was traded between two reads; return it, or None if that was nothing."""
        gain_a, gain_b = after[0] - before[0], after[1] - before[1]
        if not (gain_a < 0 < gain_b or gain_b < 0 < gain_a):
            return None
        traded = Traded(pool_id, second, abs(gain_a), abs(gain_b))
        pools = self._by_second.setdefault(second, {})
        known_a, known_b = pools.get(pool_id, (0, 0))
        pools[pool_id] = known_a + traded.volume_a, known_b + traded.volume_b
        while (oldest := next(iter(self._by_second))) <= second - KEPT_S:
            del self._by_second[oldest]
        return traded

    def since(self, second: int) -> Sequence[Traded]:
        """Return the volumes after a second, in the order of time."""
        return [
            Traded(pool_id, each, *volumes)
            for each in sorted(self._by_second)
            if each > second
            for pool_id, volumes in self._by_second[each].items()
        ]
