"""The paper market's part of the audit: its ledger against the orders, and its balances."""

from typing import NamedTuple

from service.chains.audit import Finding, LedgerReport
from service.postgres.queries import query
from service.postgres.session import Session


class _FindingRow(NamedTuple):
    subject: str
    what: str


_COMPARE = query("paper_audit", _FindingRow)
_COUNT_LANDED = query("paper_count_landed")


class PaperAudit:
    """Compares the orders with the paper market's ledger. Implements ``service.chains.audit.VenueAudit``."""

    async def compare(self, session: Session) -> LedgerReport:
        """Compare every order with the ledger; orders and ledger are read from one snapshot."""
        [(landed,)] = await session.fetch(_COUNT_LANDED)
        rows = await session.fetch(_COMPARE)
        return LedgerReport(landed, [Finding(row.subject, row.what) for row in rows])
