"""The audit: checks every order against the venue's ledger, and every history against the lifecycle."""

from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from service.chains.audit import Finding, VenueAudit
from service.domain.lifecycle import Status, next_statuses
from service.postgres.database import Database
from service.postgres.migrations import MigrationError, pending
from service.postgres.queries import query


class _FindingRow(NamedTuple):
    subject: str
    what: str


class _CountRow(NamedTuple):
    orders: int
    open_orders: int


_AUDIT = query("audit", _FindingRow)
_COUNT = query("count_orders", _CountRow)

NOT_COMPARED = "only the orders were checked: audit --chain compares them with the chain, too"

_OLDER = "the database has no orders yet, or is of an older version: start the service first, or run migrate"

_PATIENCE_S = 30
"""How long an order may be overdue, or owned by a dead process."""


@dataclass(frozen=True, slots=True)
class Report:
    """An audit's counts and findings.

    Attributes:
        orders: How many there are.
        open_orders: How many of them have not ended.
        landed: How many transactions have landed; None: only the orders themselves were checked.
        findings: The violations.
        in_flight: How many transactions may still land on a chain.
        warnings: What could not be checked.
        notes: What is worth knowing, and is no violation.
    """

    orders: int
    open_orders: int
    landed: int | None
    findings: list[Finding]
    in_flight: int = 0
    warnings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    def as_json(self) -> str:
        """Return the report as JSON."""
        return orjson.dumps(self, option=orjson.OPT_INDENT_2).decode()

    def as_text(self) -> str:
        """Return the report as text."""
        lines = [
            f"{kind}{finding.order_id}: {finding.what}"
            for kind, findings in (("note: ", self.notes), ("warning: ", self.warnings), ("", self.findings))
            for finding in findings
        ]
        landed = "" if self.landed is None else f", {self.landed} landed transactions"
        in_flight = f", {self.in_flight} in flight" if self.in_flight else ""
        warnings = f", {len(self.warnings)} warnings" if self.warnings else ""
        lines.append(
            f"{self.orders} orders, {self.open_orders} of them open{landed}{in_flight}: "
            f"{len(self.findings)} violations{warnings}"
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
        InvalidSettingError: The orders are of another venue.
        MigrationError: The schema is older or newer than this program.
        UnavailableError: PostgreSQL is unavailable.
        VenueUnavailableError: The venue did not answer.
    """
    if await pending(database):
        raise MigrationError(_OLDER)
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
    return Report(
        count.orders,
        count.open_orders,
        ledger.landed,
        sorted(findings + ledger.findings),
        ledger.in_flight,
        sorted(ledger.warnings),
        sorted(ledger.notes),
    )
