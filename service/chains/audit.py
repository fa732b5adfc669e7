"""What an audit finds, and the interface of the part that knows the venue's ledger."""

from dataclasses import dataclass
from typing import Protocol

from service.postgres.session import Session


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A violation: an order, a token or an API key, and a description."""

    order_id: str
    what: str


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What the venue's ledger has, and where the orders differ from it.

    Attributes:
        landed: How many transactions have landed.
        findings: The violations, in any order.
    """

    landed: int
    findings: list[Finding]


class VenueAudit(Protocol):
    """Compares the orders with the ledger of the venue that executed them, and checks the ledger itself.

    A transaction that has landed while its order is still submitted is in progress, and no violation.
    """

    async def compare(self, session: Session) -> LedgerReport:
        """Compare every order with the ledger, while the service may be running.

        Args:
            session: A session of the engine's database, without a time-out.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
            VenueUnavailableError: The venue did not answer.
        """
        ...
