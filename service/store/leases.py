"""Leases: an office that one process at a time holds, for as long as it says so."""

from typing import NamedTuple

from service.store.database import Database
from service.store.queries import query

_TAKE = query("take_lease")
_GIVE_UP = query("give_up_lease")

# Others look too when a lease runs out; who comes second need not ask at once.
_SOONEST_S = 0.05


class Held(NamedTuple):
    """What came of taking an office.

    Attributes:
        epoch: Of the holder, if it is this process; the same as before only if nobody else can have held the
            office in between.
        left_s: In how many seconds another's lease runs out, unless it is renewed.
    """

    epoch: int | None
    left_s: float


def next_look_s(left_s: float, *, at_most_s: float) -> float:
    """Return in how many seconds to see whether another's lease has run out: just when it would."""
    return min(left_s + _SOONEST_S, at_most_s)


class Lease:
    """One office.

    Every method raises ``UnavailableError`` while PostgreSQL is away.

    Args:
        database: Where offices are.
        name: The office's.
        holder: A UUID, new at each start of the process.
        lease_ms: A holder that was not heard of for so long holds it no more.
        alone: There can be no other process: who held it is gone.
    """

    def __init__(
        self, database: Database, *, name: str, holder: str, lease_ms: int, alone: bool = False
    ) -> None:
        self._database = database
        self._name = name
        self._holder = holder
        self._lease_ms = lease_ms
        self._alone = alone

    async def take(self) -> Held:
        """Hold the office, or go on holding it, unless another does."""
        rows = await self._database.run(
            _TAKE,
            {
                "name": self._name,
                "holder": self._holder,
                "lease_ms": self._lease_ms,
                "alone": self._alone,
            },
        )
        # None: another has just taken an office that nobody had held before.
        return Held(*rows[0]) if rows else Held(None, 0.0)

    async def give_up(self) -> None:
        """Leave the office to others."""
        await self._database.run(_GIVE_UP, {"name": self._name, "holder": self._holder})
