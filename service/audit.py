"""The audit: checks every order against the venue's ledger, and every history against the lifecycle."""

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from service.chains.audit import Finding, VenueAudit
from service.domain.lifecycle import Status, next_statuses
from service.postgres.database import Database
from service.postgres.queries import query


class _FindingRow(NamedTuple):
    subject: str
    what: str


class _CountRow(NamedTuple):
    orders: int
    open_orders: int


_AUDIT = query("audit", _FindingRow)
_COUNT = query("count_orders", _CountRow)

NOT_COMPARED = "only the orders were checked: the comparison with the chain is not built yet"

_PATIENCE_S = 30
"""How long an order may be overdue, or owned by a dead process."""


@dataclass(frozen=True, slots=True)
class Report:
    """An audit's counts and findings.

    ``landed`` is None if there is no audit of the venue's ledger: only the orders themselves were checked.
    """

    orders: int
    open_orders: int
    landed: int | None
    findings: list[Finding]

    def as_json(self) -> str:
        """Return the report as JSON."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2).decode()

    def as_text(self) -> str:
        """Return the report as text."""
        lines = [f"{finding.order_id}: {finding.what}" for finding in self.findings]
        landed = "" if self.landed is None else f", {self.landed} landed transactions"
        lines.append(
            f"{self.orders} orders, {self.open_orders} of them open{landed}: {len(self.findings)} violations"
        )
        if self.landed is None:
            lines.append(NOT_COMPARED)
        return "\n".join(lines)


async def audit(database: Database, of_venue: VenueAudit | None) -> Report:
    """Run the audit, without a time-out.

    Args:
        database: The engine's database.
        of_venue: The part that knows the venue's ledger; None: there is none.

    Raises:
        UnavailableError: PostgreSQL is unavailable.
        VenueUnavailableError: The venue did not answer.
    """
    legal = [f">{Status.PENDING}"]
    legal += [f"{before}>{after}" for before in Status for after in next_statuses(before)]
    session = await database.connect(unhurried=True)
    try:
        [count] = await session.fetch(_COUNT)
        rows = await session.fetch(_AUDIT, {"legal": legal, "patience_s": _PATIENCE_S})
        ledger = None if of_venue is None else await of_venue.compare(session)
    finally:
        session.close()
    findings = [Finding(row.subject, row.what) for row in rows]
    if ledger is None:
        return Report(count.orders, count.open_orders, None, sorted(findings))
    return Report(count.orders, count.open_orders, ledger.landed, sorted(findings + ledger.findings))
