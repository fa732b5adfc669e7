"""The processes that execute orders: heartbeats, and orders that no process is executing.

PostgreSQL's clock decides everything here.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from service.chains.venue import VenueIdentity
from service.clock import Clock
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.halt import TradingHalt
from service.store.rate_limit import RateLimit
from service.store.venue_identity import register_on_venue


class _HeartbeatRow(NamedTuple):
    now: float
    halted: str | None


_HEARTBEAT = query("heartbeat", _HeartbeatRow)
_REMOVE_DEAD = query("remove_dead_instances")
_RELEASE_ORPHANS = query("release_orphans")
_RELEASE = query("release_orders")
_FIND_OLDEST_DUE_TIME = query("find_oldest_due_time")
_WAKE_POSTPONED = query("wake_postponed_orders")
_LEAVE = query("leave")
_REQUEUE = query("requeue_orders")
_WAKE_DUE = query("wake_due_orders")
_FIND_IDLE = query("find_idle_orders")

_ALL_TIME = "-infinity"
_OLDEST_DUE_EVERY_S = 30.0

MAX_PER_SWEEP = 1_000
"""The maximum number of orders woken at once, of those that have started and of the others each."""


class Identity:
    """The id under which this process owns orders: new at each start and after being declared dead."""

    def __init__(self, clock: Clock, *, timeout_ms: int) -> None:
        self._clock = clock
        self._timeout_s = timeout_ms / 1000
        self._heartbeat_at = clock.monotonic()
        self.id = clock.new_instance_id()

    @property
    def lapsed(self) -> bool:
        """Whether the last heartbeat is so old that other processes may have declared this one dead."""
        return self._clock.monotonic() - self._heartbeat_at > self._timeout_s

    def record_heartbeat(self, since: float) -> None:
        """Record a heartbeat, begun at ``since`` on the monotonic clock."""
        self._heartbeat_at = since

    def renew(self) -> None:
        """Take a new id: this process no longer owns the old id's orders."""
        self.id = self._clock.new_instance_id()


class Instances:
    """This process among those that share the database.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: Updated with PostgreSQL's time.
        identity: This process's identity.
        halt: Told by each heartbeat whether trading is halted.
        read_venue: Returns the venue on which this process executes orders; called once.
        dead_after_ms: A process without a heartbeat for this long is dead, and others take its orders.
        longest_wait_ms: No order waits longer for an attempt: neither for a retry nor for the rate limit.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        identity: Identity,
        halt: TradingHalt,
        read_venue: Callable[[], Awaitable[VenueIdentity]],
        *,
        dead_after_ms: int,
        longest_wait_ms: int,
    ) -> None:
        self._database = database
        self._halt = halt
        self._clock = clock
        self._identity = identity
        self._read_venue = read_venue
        self._venue: VenueIdentity | None = None
        self._dead_after_ms = dead_after_ms
        self._longest_wait_ms = longest_wait_ms
        self._due_since = _ALL_TIME
        self._due_since_until = 0.0
        self._jumps_back = clock.jumps_back

    async def register(self) -> None:
        """Register this process under its current id.

        Raises:
            OtherVenueError: The orders of the database belong to another venue.
            VenueUnavailableError: The venue did not answer.
        """
        if self._venue is None:
            self._venue = await self._read_venue()
        since = self._clock.monotonic()
        await register_on_venue(self._database, self._identity.id, self._venue)
        self._identity.record_heartbeat(since)

    async def heartbeat(self) -> bool:
        """Send a heartbeat; return False if this process has been declared dead."""
        since = self._clock.monotonic()
        rows = await self._database.run(_HEARTBEAT, {"id": self._identity.id})
        for row in rows:
            self._clock.observe_database_time(row.now)
            self._identity.record_heartbeat(since)
            self._halt.observe(row.halted, since)
        return bool(rows)

    async def remove_dead(self, *, all_others: bool = False) -> list[str]:
        """Remove dead processes, or all but this one, and return their ids."""
        parameters = {"own": self._identity.id, "dead_after_ms": 0 if all_others else self._dead_after_ms}
        return [row[0] for row in await self._database.run(_REMOVE_DEAD, parameters)]

    async def release_orphans(self) -> list[str]:
        """Release the orders of dead processes and return the orders' ids."""
        parameters = {"due_since": await self._find_due_since()}
        return [row[0] for row in await self._database.run(_RELEASE_ORPHANS, parameters)]

    async def wake_postponed(self) -> list[str]:
        """Make orders due that wait too long, since PostgreSQL's clock has jumped back; return their ids."""
        parameters = {"longest_wait_ms": self._longest_wait_ms}
        return [row[0] for row in await self._database.run(_WAKE_POSTPONED, parameters)]

    async def leave(self, unclaimed: Sequence[str] = (), *, all_due: bool = False) -> list[str]:
        """Deregister this process and release its orders.

        Args:
            unclaimed: Orders whose wake-up this process has consumed without claiming them.
            all_due: Whether that can be any due order.

        Returns:
            The ids of all orders to wake now.
        """
        parameters = {"id": self._identity.id, "unclaimed": list(unclaimed), "all_due": all_due}
        return [row[0] for row in await self._database.run(_LEAVE, parameters)]

    async def requeue(self, order_ids: Sequence[str]) -> None:
        """Have orders woken again: their wake-ups were consumed without a claim."""
        await self._database.run(_REQUEUE, {"ids": list(order_ids)})

    async def wake_due(self, *, rate_limit: RateLimit, wake_after_ms: int, again: bool = False) -> list[str]:
        """Return due orders without an owner, and postpone their next wake-up.

        Args:
            rate_limit: Of orders that have not started, returns only as many as it allows now.
            wake_after_ms: How long a returned order is not returned again.
            again: Also return orders whose wake-up may still be in flight.
        """
        rows = await self._database.run(
            _WAKE_DUE,
            {
                "most": MAX_PER_SWEEP,
                **rate_limit.parameters,
                "wake_after_ms": wake_after_ms,
                "again": again,
                "due_since": await self._find_due_since(),
                "longest_wait_ms": self._longest_wait_ms,
            },
        )
        return [row[0] for row in rows]

    async def release(self, order_ids: list[str]) -> None:
        """Release some of this process's orders."""
        await self._database.run(_RELEASE, {"owner": self._identity.id, "ids": order_ids})

    async def find_idle(self, running: list[str]) -> list[str]:
        """Return this process's orders other than those in ``running``."""
        parameters = {
            "owner": self._identity.id,
            "running": running,
            "most": MAX_PER_SWEEP,
            "due_since": await self._find_due_since(),
        }
        return [row[0] for row in await self._database.read(_FIND_IDLE, parameters)]

    async def _find_due_since(self) -> str:
        """Return a time before which no order is due, by PostgreSQL's clock; it may be half a minute old."""
        if self._jumps_back != self._clock.jumps_back:
            self._jumps_back = self._clock.jumps_back
            self._due_since, self._due_since_until = _ALL_TIME, 0.0
        now = self._clock.monotonic()
        if now >= self._due_since_until:
            rows = await self._database.read(_FIND_OLDEST_DUE_TIME, {"due_since": self._due_since})
            [(self._due_since,)] = rows
            self._due_since_until = now + _OLDEST_DUE_EVERY_S
        return self._due_since
