"""The events of orders: one for each entry of a history, written by the statement that appends the entry.

They are kept for 25 hours. Snapshots say which of them a reader has seen: see ``event_position``.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from service.clock import Clock
from service.domain.history import StoredEntry
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.event_position import EventPosition, EventSnapshot, hashed
from service.store.purge import Purge

MOST_IN_PAGE = 250
"""The maximum number of events in a page."""

# The ids that one statement looks at, so that it is short even if none of the events is wanted.
_IDS_IN_PAGE = 20_000

_DELETE_EVERY_S = 60.0


class OrderEvent(NamedTuple):
    """An entry of an order's history, and what the order is: a row of ``read_order_events``.

    ``amount_in`` and ``amount_out`` are the order's fill, in base units; None before it is filled.
    """

    id: int
    order_id: str
    account: str
    client_order_id: str | None
    label: str | None
    order_type: str
    token_in: str
    token_out: str
    swap_mode: str
    amount_text: str
    decimals_in: int
    decimals_out: int | None
    amount_in: int | None
    amount_out: int | None
    entry: StoredEntry


class _HorizonRow(NamedTuple):
    snapshot: str
    next_xid: int
    last_id: int | None
    last_order_id: str | None
    last_version: int | None
    at: float
    era: str


class _EventRow(NamedTuple):
    id: int
    order_id: str
    version: int


_HORIZON = query("get_event_horizon", _HorizonRow)
_UP_TO = query("get_event_up_to", _EventRow)
_READ = query("read_order_events", OrderEvent)
_DELETE_OLD = query("delete_old_events")
_DELETE_FOREIGN = query("delete_foreign_events")


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order in which they are sent, and the position after all of them.

    Attributes:
        events: The events.
        position: At a snapshot, if it is the last page before that.
        start: The position before them, with a target.
    """

    events: list[OrderEvent]
    position: EventPosition
    start: EventPosition

    def position_after(self, event: OrderEvent) -> EventPosition:
        """Return the position after one of the events."""
        return self.position if event is self.events[-1] else replace(self.start, after=event.id)


class OrderEvents:
    """Reads events, and deletes old ones.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: Times the deletion.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._old = Purge(database, clock, _DELETE_OLD, every_s=_DELETE_EVERY_S)
        self._foreign = Purge(database, clock, _DELETE_FOREIGN, every_s=_DELETE_EVERY_S)

    def start(self) -> None:
        """Begin to delete old events."""
        self._old.start()
        self._foreign.start()

    async def stop(self) -> None:
        """Stop deleting."""
        await self._old.stop()
        await self._foreign.stop()

    async def horizon(self) -> EventPosition:
        """Return the position after all events that have been committed."""
        [row] = await self._database.read(_HORIZON)
        if row.last_id is None:
            snapshot = EventSnapshot.of(row.snapshot, row.next_xid, 0)
        else:
            last_hash = _hash(row.last_order_id, row.last_version)
            snapshot = EventSnapshot.of(row.snapshot, row.next_xid, row.last_id, last_hash)
        return EventPosition(snapshot, row.at, hashed(row.era))

    async def has_last_of(self, position: EventPosition) -> bool:
        """Return whether the last event before a position is still there, or was deleted because of its age.

        It is not if the database was restored to an earlier time; its id may be another event's by now.
        """
        wanted = position.newest
        for row in await self._database.read(_UP_TO, {"id": wanted.last_id}):
            return row.id == wanted.last_id and _hash(row.order_id, row.version) == wanted.last_hash
        return True

    async def page(
        self, done: EventPosition, until: EventPosition, accounts: Collection[str] | None
    ) -> EventPage:
        """Read the next events between two positions.

        Args:
            done: What was read before. If it has a target of its own, that is reached first.
            until: A later position, without a target.
            accounts: Of these accounts; None: of all.
        """
        base, target = done.base, done.target or until.base
        reached = EventPosition(target, done.at if done.target else until.at, until.era)
        start = EventPosition(base, done.at, until.era, target, done.after)
        if not base.may_differ(target):
            return EventPage([], reached, start)
        last = min(target.last_id, max(done.after, base.last_id) + _IDS_IN_PAGE)
        events = await self._database.read(
            _READ,
            {
                "ended": [str(xid) for xid in base.ended_by(target)],
                "xmax": str(base.xmax),
                "next_xid": str(base.next_xid),
                "base_last_id": base.last_id,
                "target": target.text,
                "after": done.after,
                "until": last,
                "accounts": None if accounts is None else list(accounts),
                "most": MOST_IN_PAGE,
            },
        )
        after = events[-1].id if len(events) == MOST_IN_PAGE else last
        if after >= target.last_id and len(events) < MOST_IN_PAGE:
            return EventPage(events, reached, start)
        return EventPage(events, replace(start, after=after), start)

    async def delete_old(self) -> int:
        """Delete events that are older than 25 hours; return how many."""
        return await self._old.run()

    async def delete_foreign(self) -> int:
        """Delete events that were restored from a cluster with higher transaction ids; return how many."""
        return await self._foreign.run()


def _hash(order_id: str | None, version: int | None) -> str:
    return hashed(f"{order_id}.{version}")
