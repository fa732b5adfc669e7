"""The outbox of webhooks: the changes of orders that are still to be delivered.

The rows are written by the statements that change orders. A process leases those that it sends; if it dies,
another sends them when the lease has expired. Due times and leases are on PostgreSQL's clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from service.clock import Clock
from service.domain.webhook import WebhookDelivery
from service.postgres.batch import Batcher
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.journal import as_json

GIVE_UP_AFTER_S = 86_400
"""A delivery that is older is given up."""

MAX_PER_GIVE_UP = 1_000
"""If as many are given up at once, there may be more."""

_SUSPEND_AFTER = 5
# Of each endpoint that a claim reads.
_MOST_BLOCKED = 500
_MOST_HASTENED = 1_000
_SUSPEND_MS = 1_000
_LONGEST_SUSPEND_MS = 60_000


class _LeasedRow(NamedTuple):
    endpoint_id: str
    account: str
    order_id: str
    sequence: int
    attempts: int
    url: str
    secret: memoryview
    previous_secret: memoryview | None


class EndpointChange(NamedTuple):
    """What results have changed about an endpoint: it was suspended, has recovered, or is gone (disabled)."""

    id: str
    suspended: bool
    recovered: bool
    gone: bool
    failure: str | None


class _GivenUpRow(NamedTuple):
    endpoint_id: str
    given_up: int


_HAS_ENDPOINTS = query("has_webhook_endpoints")
_CLAIM = query("claim_webhook_deliveries", _LeasedRow)
_SETTLE = query("settle_webhook_deliveries", EndpointChange)
_HASTEN_ALL = query("hasten_all_webhook_deliveries")
_GIVE_UP = query("give_up_webhook_deliveries", _GivenUpRow)


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of one attempt; neither delivered nor with a failure: it was not tried.

    Attributes:
        delivery: What was to be delivered.
        delivered: Whether it was.
        failure: Why it was not.
        retry_in_ms: When it is tried again after a failure.
        pause_ms: How long the endpoint asks not to be called.
        gone: Whether the endpoint wants nothing more.
    """

    delivery: WebhookDelivery
    delivered: bool = False
    failure: str | None = None
    retry_in_ms: int | None = None
    pause_ms: int | None = None
    gone: bool = False


class WebhookOutbox:
    """Leases deliveries, and records their results in groups.

    Args:
        database: The engine's database.
        clock: Times the pauses while PostgreSQL is unavailable.
        lease_s: How long a process has a delivery for itself; longer than an attempt can take.
        group_limit: The maximum number of results in one statement.
    """

    def __init__(self, database: Database, clock: Clock, *, lease_s: int, group_limit: int) -> None:
        self._database = database
        self._lease_s = lease_s
        self._results = Batcher(
            self._write_results,
            clock=clock,
            name="webhook results",
            key=lambda result: (result.delivery.endpoint_id, result.delivery.order_id),
            largest=group_limit,
        )

    async def has_endpoints(self) -> bool:
        """Return whether any endpoint is enabled.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        [[found]] = await self._database.read(_HAS_ENDPOINTS)
        return bool(found)

    async def claim(
        self, sending: Mapping[tuple[str, str], int], *, per_endpoint: int, per_account: int, most: int
    ) -> list[WebhookDelivery]:
        """Lease deliveries that are due, of each order at most its next one.

        Args:
            sending: How many this process is sending, by account and endpoint.
            per_endpoint: How many it may send to one endpoint at once.
            per_account: How many it may send to all of an account at once.
            most: The maximum number that is leased.

        Raises:
            UnavailableError: PostgreSQL is unavailable; what may have been leased is sent after the lease.
        """
        busy = [
            {"id": endpoint_id, "account": account, "sending": count}
            for (account, endpoint_id), count in sending.items()
        ]
        rows = await self._database.run(
            _CLAIM,
            {
                "busy": as_json(busy),
                "suspend_after": _SUSPEND_AFTER,
                "per_endpoint": per_endpoint,
                "per_account": per_account,
                "most": most,
                "most_blocked": _MOST_BLOCKED,
                "lease_s": self._lease_s,
            },
        )
        return [_delivery_of(row) for row in rows]

    async def hasten_all(self) -> None:
        """Make everything due that waits, since PostgreSQL's clock has jumped back.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        parameters = {"lease_s": self._lease_s, "most": _MOST_HASTENED}
        while len(await self._database.run(_HASTEN_ALL, parameters)) >= _MOST_HASTENED:
            pass

    async def settle(self, result: DeliveryResult) -> EndpointChange | None:
        """Record a result, waiting for PostgreSQL as long as it takes.

        Returns:
            What changed about the endpoint, for one of the results that were recorded together.
        """
        return await self._results.submit(result)

    async def give_up_old(self) -> dict[str, int]:
        """Delete deliveries that are too old, ``MAX_PER_GIVE_UP`` at most; return how many by endpoint.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        rows = await self._database.run(_GIVE_UP, {"older_than_s": GIVE_UP_AFTER_S, "most": MAX_PER_GIVE_UP})
        return {row.endpoint_id: row.given_up for row in rows}

    async def stop(self) -> None:
        """Wait until the results are recorded, unless PostgreSQL is unavailable."""
        await self._results.stop()

    async def _write_results(self, results: list[DeliveryResult]) -> list[EndpointChange | Exception | None]:
        rows = [
            {
                "endpoint_id": result.delivery.endpoint_id,
                "order_id": result.delivery.order_id,
                "sequence": result.delivery.sequence,
                "delivered": result.delivered,
                "failure": result.failure,
                "retry_in_ms": result.retry_in_ms,
                "pause_ms": result.pause_ms,
                "gone": result.gone,
            }
            for result in results
        ]
        changes = await self._database.run(
            _SETTLE,
            {
                "rows": as_json(rows),
                "suspend_after": _SUSPEND_AFTER,
                "suspend_ms": _SUSPEND_MS,
                "longest_suspend_ms": _LONGEST_SUSPEND_MS,
            },
        )
        # Each change is told once, to one of the endpoint's results.
        told = {change.id: change for change in changes}
        return [told.pop(result.delivery.endpoint_id, None) for result in results]


def _delivery_of(row: _LeasedRow) -> WebhookDelivery:
    secrets = [row.secret] if row.previous_secret is None else [row.secret, row.previous_secret]
    return WebhookDelivery(
        endpoint_id=row.endpoint_id,
        account=row.account,
        order_id=row.order_id,
        sequence=row.sequence,
        attempts=row.attempts,
        url=row.url,
        secrets=tuple(bytes(secret) for secret in secrets),
    )
