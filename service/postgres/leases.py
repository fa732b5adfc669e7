"""Leases: one process leads under each name, as long as it renews its lease before it expires."""

from typing import NamedTuple

from service.postgres.database import Database
from service.postgres.queries import query

# Every follower looks when a lease expires; one that comes second need not ask again at once.
_SHORTEST_PAUSE_S = 0.05


class LeaseState(NamedTuple):
    """Who leads.

    Attributes:
        epoch: Counts the leaders: this process's, if it leads, and the same as before only if no other can
            have led in between. None: another leads.
        left_s: Seconds until the other's lease expires, unless it is renewed.
    """

    epoch: int | None
    left_s: float


_TAKE = query("take_lease", LeaseState)
_GIVE_UP = query("give_up_lease")


def next_check_s(left_s: float, *, at_most_s: float) -> float:
    """Return in how many seconds to check whether another's lease has expired: just after it would."""
    return min(left_s + _SHORTEST_PAUSE_S, at_most_s)


class Lease:
    """One lease, as one process sees it.

    Every method raises ``UnavailableError`` while PostgreSQL is away.

    Args:
        database: Where leases are.
        name: What the leader does.
        leader: This process's id: a UUID, new at each start.
        lease_ms: How long a lease lasts.
        alone: There can be no other process: whoever led is gone.
    """

    def __init__(
        self, database: Database, *, name: str, leader: str, lease_ms: int, alone: bool = False
    ) -> None:
        self._database = database
        self._name = name
        self._leader = leader
        self._lease_ms = lease_ms
        self._alone = alone

    async def take(self) -> LeaseState:
        """Take the lease or renew it, unless another process leads."""
        rows = await self._database.run(
            _TAKE,
            {
                "name": self._name,
                "leader": self._leader,
                "lease_ms": self._lease_ms,
                "alone": self._alone,
            },
        )
        # No row: another process has just taken a lease that did not exist.
        return rows[0] if rows else LeaseState(None, 0.0)

    async def give_up(self) -> None:
        """Let another process lead at once."""
        await self._database.run(_GIVE_UP, {"name": self._name, "leader": self._leader})
