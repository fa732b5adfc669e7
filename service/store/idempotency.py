"""Idempotency keys in PostgreSQL, where they hold across restarts and instances.

The key of a request that places an order is inserted by the statement that inserts the order. For other
requests a key is reserved before the request is handled, and its response is stored afterwards; a reservation
by a process that has died can be taken over.
"""

import logging
from typing import NamedTuple

from service import crash_points
from service.background import Background
from service.clock import Clock
from service.domain.idempotency import IdempotencyKey
from service.postgres.database import Database, UnavailableError
from service.postgres.queries import Query, Row, query
from service.store.instances import Identity
from service.store.purge import Purge

log = logging.getLogger(__name__)

_DELETE_EVERY_S = 60.0
_REPEAT_EVERY_S = 1.0
# A reservation that could not be given back counts as handled until its process ends.
_MOST_UNFINISHED = 10_000


class _FoundRow(NamedTuple):
    request_hash: memoryview
    order_id: str | None
    status: int | None
    response: memoryview | None


class StoredKey(NamedTuple):
    """What is stored under a key: the order that its request placed, or its response, or neither yet."""

    request_hash: bytes
    order_id: str | None
    status: int | None
    response: bytes | None


_RESERVE = query("reserve_idempotency_key")
_FIND = query("find_idempotency_key", _FoundRow)
_STORE = query("store_idempotent_response")
_RELEASE = query("release_idempotency_key")
_DELETE_OLD = query("delete_old_idempotency_keys")


class IdempotencyKeys:
    """The stored keys; those older than a day are deleted.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: Times the deletion.
        identity: The id under which this process reserves keys.
    """

    def __init__(self, database: Database, clock: Clock, identity: Identity) -> None:
        self._database = database
        self._clock = clock
        self._identity = identity
        # Statements that PostgreSQL did not answer, by their reservation.
        self._unfinished: dict[str, tuple[Query[Row], dict[str, object]]] = {}
        self._repeating = Background("idempotency statements", self._repeat_forever, clock)
        self._purge = Purge(database, clock, _DELETE_OLD, every_s=_DELETE_EVERY_S)

    def start(self) -> None:
        """Begin to delete old keys, and to repeat what PostgreSQL did not answer."""
        self._purge.start()
        self._repeating.start()

    async def stop(self) -> None:
        """Stop deleting and repeating."""
        await self._purge.stop()
        await self._repeating.stop()

    async def reserve(self, account: str, key: IdempotencyKey) -> str | None:
        """Reserve a key for one request; return the reservation, or None if the key is used."""
        reservation = self._clock.new_write_id()
        row = {
            "account": account,
            "key": key.key,
            "request_hash": key.request_hash,
            "owner": self._identity.id,
            "reservation": reservation,
        }
        crash_points.reach("before reserve")
        try:
            reserved = await self._database.run(_RESERVE, row)
        except UnavailableError as error:
            if error.unknown:
                # It may be reserved, and nobody handles it.
                self._repeat(_RELEASE, account, key.key, reservation)
            raise
        crash_points.reach("after reserve")
        return reservation if reserved else None

    async def find(self, account: str, key: str) -> StoredKey | None:
        """Return what is stored under a key."""
        rows = await self._database.read(_FIND, {"account": account, "key": key})
        if not rows:
            return None
        [row] = rows
        response = None if row.response is None else bytes(row.response)
        return StoredKey(bytes(row.request_hash), row.order_id, row.status, response)

    async def store(self, account: str, key: str, reservation: str, status: int, response: bytes) -> None:
        """Store the response of a request that has been handled; while PostgreSQL is unavailable, later."""
        crash_points.reach("before store response")
        await self._run_or_repeat(_STORE, account, key, reservation, status=status, response=response)
        crash_points.reach("after store response")

    async def release(self, account: str, key: str, reservation: str) -> None:
        """Give a reservation back: the request can be sent again. While PostgreSQL is unavailable, later."""
        await self._run_or_repeat(_RELEASE, account, key, reservation)

    async def _run_or_repeat(
        self, statement: Query[Row], account: str, key: str, reservation: str, **values: object
    ) -> None:
        row = {"account": account, "key": key, "reservation": reservation, **values}
        try:
            await self._database.run(statement, row)
        except UnavailableError as error:
            log.warning("%s: repeated later (%s)", statement.name, error, extra={"fault": "idempotency"})
            self._repeat(statement, account, key, reservation, **values)

    def _repeat(
        self, statement: Query[Row], account: str, key: str, reservation: str, **values: object
    ) -> None:
        """Have a statement repeated until PostgreSQL has executed it."""
        if len(self._unfinished) < _MOST_UNFINISHED:
            row = {"account": account, "key": key, "reservation": reservation, **values}
            self._unfinished[reservation] = (statement, row)

    async def _repeat_forever(self) -> None:
        """Repeat the unfinished statements, one at a time, so that they do not add to an overload."""
        while True:
            await self._clock.sleep(_REPEAT_EVERY_S)
            for reservation, (statement, row) in list(self._unfinished.items()):
                try:
                    await self._database.run(statement, row)
                except UnavailableError as error:
                    log.debug("%s: PostgreSQL is unavailable (%s)", statement.name, error)
                    break
                del self._unfinished[reservation]

    async def delete_old(self) -> int:
        """Delete keys older than a day; return how many."""
        return await self._purge.run()
