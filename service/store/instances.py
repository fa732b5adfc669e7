"""The processes that execute orders: heartbeats, and the orders that nobody is working on.

All of it is judged by PostgreSQL's clock.
"""

from collections.abc import Sequence

from service.clock import Clock
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.rate_limit import RateLimit

_REGISTER = query("register_instance")
_HEARTBEAT = query("heartbeat")
_REMOVE_DEAD = query("remove_dead_instances")
_RELEASE_ORPHANS = query("release_orphans")
_RELEASE = query("release_orders")
_LEAVE = query("leave")
_PUT_BACK = query("put_back_wake_ups")
_WAKE_DUE = query("wake_due_orders")
_FIND_IDLE = query("find_idle_orders")

MOST_A_SWEEP = 1_000
"""As many orders are woken at once, at most, of those that have started, and of the others."""


class Identity:
    """The id under which this process owns orders: a new one each start, and each time it was judged dead."""

    def __init__(self, clock: Clock, *, timeout_ms: int) -> None:
        self._clock = clock
        self._timeout_s = timeout_ms / 1000
        self._heard_at = clock.monotonic()
        self.id = clock.new_instance_id()

    @property
    def lapsed(self) -> bool:
        """Whether this process was not heard of for so long that others may think it dead."""
        return self._clock.monotonic() - self._heard_at > self._timeout_s

    def heard(self, since: float) -> None:
        """Note that this process was heard of: at the latest at ``since``, on the monotonic clock."""
        self._heard_at = since

    def renew(self) -> None:
        """Take a new id: what was owned under the old one is not this process's any more."""
        self.id = self._clock.new_instance_id()


class Instances:
    """This process among those that share the database.

    Every method raises ``UnavailableError`` while PostgreSQL is away.

    Args:
        database: Where instances are registered.
        clock: Told PostgreSQL's time.
        identity: This process's.
        dead_after_ms: A process not heard of for so long is dead, and its orders are for others.
    """

    def __init__(self, database: Database, clock: Clock, identity: Identity, *, dead_after_ms: int) -> None:
        self._database = database
        self._clock = clock
        self._identity = identity
        self._dead_after_ms = dead_after_ms

    async def register(self) -> None:
        """Say that this process has started, under its present id."""
        since = self._clock.monotonic()
        await self._database.run(_REGISTER, {"id": self._identity.id})
        self._identity.heard(since)

    async def heartbeat(self) -> bool:
        """Say that this process is alive; False when it has been judged dead."""
        since = self._clock.monotonic()
        rows = await self._database.run(_HEARTBEAT, {"id": self._identity.id})
        for (epoch_s,) in rows:
            self._clock.observe_database_time(epoch_s)
            self._identity.heard(since)
        return bool(rows)

    async def remove_dead(self, *, all_others: bool = False) -> list[str]:
        """Remove the processes that are dead, or all but this one, and return their ids."""
        parameters = {"own": self._identity.id, "dead_after_ms": 0 if all_others else self._dead_after_ms}
        return [row[0] for row in await self._database.run(_REMOVE_DEAD, parameters)]

    async def release_orphans(self) -> list[str]:
        """Take dead processes' orders from them and return the orders' ids."""
        return [row[0] for row in await self._database.run(_RELEASE_ORPHANS)]

    async def leave(self, spent: Sequence[str] = (), *, all_due: bool = False) -> list[str]:
        """Sign off and give up this process's orders.

        Args:
            spent: Orders whose wake-up this process has spent without claiming them.
            all_due: Whether that may be any order.

        Returns:
            The ids of all orders that are to be woken now.
        """
        parameters = {"id": self._identity.id, "spent": list(spent), "all_due": all_due}
        return [row[0] for row in await self._database.run(_LEAVE, parameters)]

    async def put_back(self, order_ids: Sequence[str]) -> None:
        """Have orders woken again: their wake-ups were spent, and the orders were not claimed."""
        await self._database.run(_PUT_BACK, {"ids": list(order_ids)})

    async def wake_due(self, *, rate_limit: RateLimit, wake_after_ms: int, again: bool = False) -> list[str]:
        """Return orders that should be worked on, and not again within ``wake_after_ms``.

        Args:
            rate_limit: Of orders that have yet to start, only as many are returned as may.
            wake_after_ms: For how long an order that is returned is not returned again.
            again: Also return those of which a wake-up may still be on its way.
        """
        rows = await self._database.run(
            _WAKE_DUE,
            {
                "most": MOST_A_SWEEP,
                **rate_limit.parameters,
                "wake_after_ms": wake_after_ms,
                "again": again,
            },
        )
        return [row[0] for row in rows]

    async def release(self, order_ids: list[str]) -> None:
        """Give up some of this process's orders."""
        await self._database.run(_RELEASE, {"owner": self._identity.id, "ids": order_ids})

    async def find_idle(self, running: list[str]) -> list[str]:
        """Return this process's orders other than those in ``running``."""
        rows = await self._database.read(
            _FIND_IDLE, {"owner": self._identity.id, "running": running, "most": MOST_A_SWEEP}
        )
        return [row[0] for row in rows]
