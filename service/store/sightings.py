"""Where the transactions of submitted orders were seen before that is final: what PostgreSQL does not hold.

A sighting may vanish, so it is no step of an order and is not stored. Each instance keeps the latest ones in
memory; one that has missed a sighting shows the order without it.
"""

from collections.abc import Iterable

from service.domain.history import Committed
from service.domain.transaction import Seen

_MOST = 10_000


class Sightings:
    """The latest sighting of each order, for the entry of its history that submitted the transaction."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Seen]] = {}

    def put(self, order_id: str, version: int, seen: Seen | None) -> None:
        """Keep where an order's transaction was seen; None: it was, and has vanished.

        Args:
            order_id: The order.
            version: Its version since the transaction was submitted.
            seen: Where it was seen.
        """
        if version < self._seen.get(order_id, (0, None))[0]:
            return  # of a process that has lost the order
        self._seen.pop(order_id, None)
        if seen is not None:
            self._seen[order_id] = version, seen
            if len(self._seen) > _MOST:
                # The steps of the oldest were missed, or it is far behind.
                del self._seen[next(iter(self._seen))]

    def of(self, order_id: str, version: int) -> Seen | None:
        """Return where the transaction of an order at a version was seen; None: nowhere."""
        at, seen = self._seen.get(order_id, (0, None))
        return seen if at == version else None

    def forget_earlier(self, steps: Iterable[Committed]) -> None:
        """Forget the sightings that belong to earlier versions of orders than their steps."""
        for step in steps:
            if self._seen.get(step.order_id, (step.sequence, None))[0] < step.sequence:
                del self._seen[step.order_id]
