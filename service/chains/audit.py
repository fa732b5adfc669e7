"""What an audit finds, and the interface of the part that knows the venue's ledger."""

from dataclasses import dataclass, field
from typing import Protocol

from service.postgres.session import Session


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A violation: an order, a token, an API key or a transaction, and a description."""

    order_id: str
    what: str


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What the venue's ledger has, and where the orders differ from it.

    Attributes:
        landed: How many transactions have landed.
        findings: The violations, in any order.
        in_flight: How many transactions may still land.
        warnings: What could not be checked.
        notes: What is worth knowing, and is no violation.
    """

    landed: int
    findings: list[Finding]
    in_flight: int = 0
    warnings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


class VenueAudit(Protocol):
    """Compares the orders with the ledger of the venue that executed them, and checks the ledger itself.

    A transaction that has landed while its order is still submitted is in progress, and no violation.
    """

    async def compare(self, session: Session) -> LedgerReport:
        """Compare every order with the ledger, while the service may be running.

        Args:
            session: A session of the engine's database, without a time-out.

        Raises:
            InvalidSettingError: The orders are of another venue.
            UnavailableError: PostgreSQL is unavailable.
            VenueUnavailableError: The venue did not answer.
        """
        ...
