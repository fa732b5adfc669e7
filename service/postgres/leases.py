"""A named lease: one process holds it and renews it before it expires."""

from service.postgres.database import Database
from service.postgres.leadership import LEASE_MS, LeaseState
from service.postgres.queries import query

_TAKE = query("take_lease", LeaseState)
_GIVE_UP = query("give_up_lease")


class NamedLease:
    """One process's view of a lease in the table. Implements ``leadership.Lease``.

    Args:
        database: The database with the table.
        name: The lease's name.
        leader: This process's id: a UUID, new at each start.
        alone: No other process can exist, so any earlier leader is dead.
    """

    def __init__(self, database: Database, *, name: str, leader: str, alone: bool = False) -> None:
        self._database = database
        self._name = name
        self._leader = leader
        self._alone = alone

    async def take(self, epoch: int | None) -> LeaseState:  # noqa: ARG002 - the statement knows it by the leader
        """Take the lease or renew it, unless another process leads."""
        rows = await self._database.run(
            _TAKE,
            {"name": self._name, "leader": self._leader, "lease_ms": LEASE_MS, "alone": self._alone},
        )
        # No row: another process has just created the lease.
        return rows[0] if rows else LeaseState(None, 0.0)

    async def give_up(self, epoch: int) -> None:  # noqa: ARG002
        """Release the lease, so that another process can lead at once."""
        await self._database.run(_GIVE_UP, {"name": self._name, "leader": self._leader})
