"""API keys: created, rotated and revoked by the command line, and read by every process.

``KeyCache`` holds all keys in memory, so that authenticating a request costs a lookup and a hash. It is used
only if it was read from PostgreSQL less than a second ago: a revocation therefore takes effect on every
instance within about a second, without Redis; and while PostgreSQL is unavailable no caller is authenticated.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from service.background import cancel
from service.clock import Clock
from service.domain.api_key import ApiKey, Scope, format_token, hash_secret, parse_token
from service.domain.key_limits import NO_LIMITS, NO_ORDERS, InvalidLimitsError, KeyLimits, parse_limits
from service.postgres.database import Database
from service.postgres.queries import query

log = logging.getLogger(__name__)

_FRESH_S = 1.0
_PAUSE_S = 0.05
_COMMIT_MARGIN_S = 60.0
"""A change is dated when its statement begins and visible when it ends: later reads look this far back."""

TICKET_VALID_S = 30


class _KeyRow(NamedTuple):
    now: float
    id: str | None
    account: str
    name: str
    scope: str
    secret_hash: memoryview
    previous_hash: memoryview | None
    previous_until: float | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    limits: object


_CREATE = query("create_api_key")
_GET_CHANGED = query("get_changed_api_keys", _KeyRow)
_ROTATE = query("rotate_api_key")
_REVOKE = query("revoke_api_key")
_SET_LIMITS = query("set_api_key_limits")
_CREATE_TICKET = query("create_stream_ticket")
_USE_TICKET = query("use_stream_ticket")


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a new key is to be. ``expires_in_s``: seconds from now; None: it never expires."""

    account: str
    name: str
    scope: Scope
    expires_in_s: int | None = None
    limits: KeyLimits = NO_LIMITS


class ApiKeys:
    """The stored keys.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: For ids and secrets.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, new: NewKey) -> tuple[str, str]:
        """Store a new key; return its id and its token, which cannot be read again."""
        key_id, secret = self._clock.new_key_id(), self._clock.new_secret()
        parameters = {
            "id": key_id,
            "account": new.account,
            "name": new.name,
            "scope": new.scope,
            "secret_hash": hash_secret(secret),
            "expires_in_s": new.expires_in_s,
            "limits": _as_json(new.limits),
        }
        await self._database.run(_CREATE, parameters)
        return key_id, format_token(key_id, secret)

    async def get_all(self) -> list[ApiKey]:
        """Return all keys, the oldest first."""
        _now, keys = await self.get_changed(None)
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def get_changed(self, since: float | None) -> tuple[float, list[ApiKey]]:
        """Return PostgreSQL's time, and the keys that have changed since a time (None: all keys)."""
        rows = await self._database.read(_GET_CHANGED, {"since": since})
        self._clock.observe_database_time(rows[0].now)
        return rows[0].now, [_key_of(row) for row in rows if row.id is not None]

    async def rotate(self, key_id: str, overlap_s: int) -> str | None:
        """Give a key a new secret; return its new token, or None if there is no such key in force.

        Args:
            key_id: The key.
            overlap_s: How long the old secret stays valid.
        """
        secret = self._clock.new_secret()
        rotated = await self._database.run(
            _ROTATE, {"id": key_id, "secret_hash": hash_secret(secret), "overlap_s": overlap_s}
        )
        return format_token(key_id, secret) if rotated else None

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key for good; return whether it exists."""
        return bool(await self._database.run(_REVOKE, {"id": key_id}))

    async def set_limits(self, key_id: str, limits: KeyLimits) -> bool:
        """Replace a key's limits; return whether it exists."""
        return bool(await self._database.run(_SET_LIMITS, {"id": key_id, "limits": _as_json(limits)}))

    async def create_ticket(self, key_id: str | None) -> str:
        """Store a ticket for one WebSocket, and return it; without a key it is an anonymous client's."""
        ticket = self._clock.new_secret()
        await self._database.run(
            _CREATE_TICKET,
            {"ticket_hash": hash_secret(ticket), "key_id": key_id, "valid_s": TICKET_VALID_S},
        )
        return ticket

    async def use_ticket(self, ticket: str) -> tuple[str | None] | None:
        """Use up a ticket; return its key's id (or None) in a tuple, or None if the ticket is not valid."""
        rows = await self._database.run(_USE_TICKET, {"ticket_hash": hash_secret(ticket)})
        return (rows[0][0],) if rows else None


class KeyCache:
    """All keys, as of less than a second ago.

    Args:
        keys: The stored keys.
        clock: Measures the cache's age, and decides which keys have expired.
    """

    def __init__(self, keys: ApiKeys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._by_id: dict[str, ApiKey] = {}
        self._read_at: float | None = None
        self._database_time: float | None = None
        self._jumps_back = 0
        self._reading: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Read the keys that have changed, if the last read is not recent.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        await self._read_since(self._clock.monotonic() - _FRESH_S)

    async def stop(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            await cancel([self._reading])

    @property
    def is_empty(self) -> bool:
        """Whether no key was ever created."""
        return not self._by_id

    async def authenticate(self, token: str) -> ApiKey | None:
        """Return the key of a token, if it is valid.

        A token that is not accepted is compared once more with what is stored now: its key may just have been
        created or rotated. So it takes as long whether or not there is a key of its id.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        await self.refresh()
        parsed = parse_token(token)
        if parsed is None:
            return None
        if not self._accepts(*parsed):
            await self._read_since(self._clock.monotonic())
            if not self._accepts(*parsed):
                return None
        return self._by_id[parsed[0]]

    async def find_active(self, key_id: str) -> ApiKey | None:
        """Return a key by its id, if it is active, also one that has just been created.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        await self.refresh()
        if key_id not in self._by_id:
            await self._read_since(self._clock.monotonic())
        return self.active(key_id)

    def active(self, key_id: str) -> ApiKey | None:
        """Return a key by its id, if it is active."""
        key = self._by_id.get(key_id)
        return key if key is not None and key.is_active(self._clock.database_time()) else None

    def _accepts(self, key_id: str, secret_hash: bytes) -> bool:
        # As much work for an id that does not exist.
        return self._by_id.get(key_id, _UNKNOWN_KEY).accepts(secret_hash, self._clock.database_time())

    async def _read_since(self, since: float) -> None:
        """Return when the keys have been read by a read that began after a monotonic time."""
        while self._read_at is None or self._read_at <= since:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(), name="read API keys")
            reading = self._reading
            # Not awaited itself: a client that disconnects must not cancel it for the others.
            await asyncio.wait([reading])
            reading.result()

    async def _read(self) -> None:
        if self._read_at is not None:
            # However many clients guess, reads are not more frequent.
            await self._clock.sleep(self._read_at + _PAUSE_S - self._clock.monotonic())
        began = self._clock.monotonic()
        since = None if self._database_time is None else self._database_time - _COMMIT_MARGIN_S
        now, changed = await self._keys.get_changed(since)
        if self._jumps_back != self._clock.jumps_back:
            # What changed after PostgreSQL's clock jumped back may have an earlier time than the last read.
            self._jumps_back = self._clock.jumps_back
            now, changed = await self._keys.get_changed(None)
        self._database_time = now
        self._by_id.update((key.id, key) for key in changed)
        self._read_at = began


# Stands in for a key that does not exist.
_UNKNOWN_KEY = ApiKey("", "", "", Scope.READ, hash_secret(""), created_at=0, revoked_at=0)


def _key_of(row: _KeyRow) -> ApiKey:
    return ApiKey(
        id=row.id or "",
        account=row.account,
        name=row.name,
        scope=Scope(row.scope),
        secret_hash=bytes(row.secret_hash),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        previous_hash=None if row.previous_hash is None else bytes(row.previous_hash),
        previous_until=row.previous_until,
        limits=_limits_of(row),
    )


def _limits_of(row: _KeyRow) -> KeyLimits:
    try:
        return parse_limits(row.limits)
    except InvalidLimitsError as error:
        # Set by a newer version, perhaps. What is not understood must not count as no limit.
        log.error(  # noqa: TRY400 - the message says everything
            "API key %s may place no orders: its limits cannot be read: %s",
            row.id,
            error,
            extra={"fault": "limits of an API key"},
        )
        return NO_ORDERS


def _as_json(limits: KeyLimits) -> str:
    return orjson.dumps(limits.as_stored()).decode()
