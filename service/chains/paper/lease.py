"""The lease of the paper market's leader, in the ledger."""

from service.chains.paper.ledger_rows import LeadRow
from service.postgres.database import Database
from service.postgres.leadership import LEASE_MS, LeaseState
from service.postgres.queries import query

_LEAD = query("paper_lead", LeadRow)
_RENEW = query("paper_renew")
_RESIGN = query("paper_resign")


class PaperLease:
    """The ledger's row with the leader's epoch. Implements ``service.postgres.leadership.Lease``.

    It is not in the table of leases, because every commit locks this row, checks the epoch and increments the
    sequence in it, in one statement: so a stale leader cannot commit. Taking the lease always begins a new
    epoch, also for the same process: a commit of an old epoch whose outcome is unknown can then no longer
    succeed.

    Args:
        database: The database with the ledger.
        leader: This process's id: a UUID, new at each start.
        alone: No other process can exist, so any earlier leader is dead.
    """

    def __init__(self, database: Database, *, leader: str, alone: bool) -> None:
        self._database = database
        self._leader = leader
        self._alone = alone

    async def take(self, epoch: int | None) -> LeaseState:
        """Renew the lease of an epoch; if that is None or over, begin an epoch unless another leads."""
        if epoch is not None and await self._database.run(_RENEW, {"epoch": epoch}):
            return LeaseState(epoch, 0.0)
        [row] = await self._database.run(
            _LEAD, {"leader": self._leader, "lease_ms": LEASE_MS, "alone": self._alone}
        )
        return LeaseState(row.epoch, row.left_s)

    async def give_up(self, epoch: int) -> None:
        """End an epoch, so that another process may begin one at once."""
        await self._database.run(_RESIGN, {"epoch": epoch})
