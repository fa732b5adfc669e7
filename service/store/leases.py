"""Leases: an office that one process at a time holds, for as long as it says so."""

from service.store.database import Database
from service.store.queries import query

_TAKE = query("take_lease")
_GIVE_UP = query("give_up_lease")


class Lease:
    """One office.

    Every method raises ``UnavailableError`` while PostgreSQL is away.

    Args:
        database: where offices are.
        name: the office's.
        holder: a UUID, new at each start of the process.
        lease_ms: a holder that was not heard of for so long holds it no more.
        alone: there can be no other process: who held it is gone.
    """

    def __init__(
        self, database: Database, *, name: str, holder: str, lease_ms: int, alone: bool = False
    ) -> None:
        self._database = database
        self._name = name
        self._holder = holder
        self._lease_ms = lease_ms
        self._alone = alone

    async def take(self) -> int | None:
        """Hold the office, or go on holding it; None when another does.

        Returns:
            The epoch: the same as before only if nobody else can have held it in between.
        """
        rows = await self._database.run(
            _TAKE,
            {
                "name": self._name,
                "holder": self._holder,
                "lease_ms": self._lease_ms,
                "alone": self._alone,
            },
        )
        return rows[0][0] if rows else None

    async def give_up(self) -> None:
        """Leave the office to others."""
        await self._database.run(_GIVE_UP, {"name": self._name, "holder": self._holder})
