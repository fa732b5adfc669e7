"""The webhook endpoints of accounts.

A secret is stored readable, because it signs each message. It is returned when it is made, and afterwards
only by the statement that leases deliveries.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from service.clock import Clock
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.purge import delete_in_steps

MOST_ENDPOINTS = 20
"""The maximum number of an account's endpoints."""

MOST_PENDING = 10_000
"""More pending deliveries of an endpoint than this are not counted."""

MOST_LISTED = 1_000
"""The maximum number of endpoints in a list."""

OVERLAP_S = 86_400
"""How long a rotated secret goes on signing beside the new one."""

_MAX_HASTENED = 1_000


class _CreatedRow(NamedTuple):
    id: str | None
    is_full: bool


class WebhookEndpoint(NamedTuple):
    """Where an account is told of the changes of its orders, without its secrets.

    ``events`` are the statuses that it wants, ``order_type`` and ``label`` the orders; None: all. Times are
    RFC 3339. Nothing is sent before ``paused_until``. ``pending`` counts the deliveries that are left, up to
    ``MOST_PENDING``, and ``given_up`` those that failed for too long.
    """

    id: str
    account: str
    url: str
    events: list[str] | None
    order_type: str | None
    label: str | None
    description: str | None
    enabled: bool
    disabled_reason: str | None
    created_at: str
    last_success_at: str | None
    last_failure_at: str | None
    last_failure: str | None
    paused_until: str | None
    given_up: int
    pending: int


_CREATE = query("create_webhook_endpoint", _CreatedRow)
_GET = query("get_webhook_endpoints", WebhookEndpoint)
_UPDATE = query("update_webhook_endpoint")
_ROTATE = query("rotate_webhook_secret")
_DELETE = query("delete_webhook_endpoint")
_DROP = query("drop_webhook_deliveries")
_HASTEN = query("hasten_webhook_deliveries")


@dataclass(frozen=True, slots=True)
class NewWebhookEndpoint:
    """An endpoint to store; see ``WebhookEndpoint``."""

    account: str
    url: str
    events: Collection[Status] | None = None
    order_type: OrderType | None = None
    label: str | None = None
    description: str | None = None


class WebhookEndpoints:
    """The stored endpoints. Where a method takes an account, None is any.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: For ids and secrets.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, new: NewWebhookEndpoint) -> tuple[str, bytes] | None:
        """Store an endpoint; return its id and its secret, or None if the account has too many."""
        endpoint_id, secret = self._clock.new_command_id(), self._new_secret()
        parameters = {
            "id": endpoint_id,
            "account": new.account,
            "url": new.url,
            "events": None if new.events is None else list(new.events),
            "order_type": new.order_type,
            "label": new.label,
            "description": new.description,
            "secret": secret,
            "most": MOST_ENDPOINTS,
        }
        while True:
            [row] = await self._database.run(_CREATE, parameters)
            if row.id is not None:
                return endpoint_id, secret
            if row.is_full:
                return None
            # Another request has just taken the place: try the next.

    async def get(self, endpoint_id: str, account: str | None) -> WebhookEndpoint | None:
        """Return an endpoint."""
        found = await self._read(account, endpoint_id)
        return found[0] if found else None

    async def get_all(self, account: str | None) -> list[WebhookEndpoint]:
        """Return the endpoints, the oldest first, up to ``MOST_LISTED``."""
        return await self._read(account, None)

    async def update(self, endpoint_id: str, account: str | None, changes: dict[str, object]) -> bool:
        """Change an endpoint; return whether it exists. It is tried again at once.

        Args:
            endpoint_id: The endpoint.
            account: Whose it must be.
            changes: The new ``url``, ``events``, ``description`` or ``enabled``.
        """
        parameters = {
            "id": endpoint_id,
            "account": account,
            "url": changes.get("url"),
            "sets_events": "events" in changes,
            "events": changes.get("events"),
            "sets_description": "description" in changes,
            "description": changes.get("description"),
            "enabled": changes.get("enabled"),
        }
        if not await self._database.run(_UPDATE, parameters):
            return False
        await self.hasten(endpoint_id)
        return True

    async def hasten(self, endpoint_id: str) -> None:
        """Have what waits for an endpoint's next attempt sent now, a thousand at most."""
        await self._database.run(_HASTEN, {"id": endpoint_id, "most": _MAX_HASTENED})

    async def rotate(self, endpoint_id: str, account: str | None) -> tuple[bytes, str] | None:
        """Give an endpoint a new secret; return it, and until when the old one signs too (RFC 3339)."""
        secret = self._new_secret()
        rows = await self._database.run(
            _ROTATE, {"id": endpoint_id, "account": account, "secret": secret, "overlap_s": OVERLAP_S}
        )
        return (secret, rows[0][0]) if rows else None

    async def delete(self, endpoint_id: str, account: str | None) -> bool:
        """Delete an endpoint; return whether it existed. Nothing more is sent to it."""
        return bool(await self._database.run(_DELETE, {"id": endpoint_id, "account": account}))

    async def drop_orphans(self) -> int:
        """Delete what was to be delivered to deleted endpoints; return how many."""
        return await delete_in_steps(self._database, self._clock, _DROP)

    def _new_secret(self) -> bytes:
        return bytes.fromhex(self._clock.new_secret())

    async def _read(self, account: str | None, endpoint_id: str | None) -> list[WebhookEndpoint]:
        parameters = {
            "account": account,
            "id": endpoint_id,
            "most_pending": MOST_PENDING,
            "most": MOST_LISTED,
        }
        return await self._database.read(_GET, parameters)
