"""Endings without a fill: orders that are cancelled or whose time is over.

A cancellation is a flag first, durable before the order's status is read; then every flagged order ends
of which nothing has been sent. What has been submitted stays until its outcome is known: the journal sees
the flag when the attempt has failed, and cancels then.
"""

from dataclasses import dataclass

from service import crash_points
from service.clock import Clock
from service.domain.order import DEFAULT_ACCOUNT
from service.store.database import Database, Row, UnavailableError
from service.store.journal import Committed, OnCommit, public
from service.store.queries import Query, query

_REQUEST = query("request_cancel")
_REQUEST_MATCHING = query("request_cancel_matching")
_END_CANCELLED = query("end_cancelled")
_END_EXPIRED = query("end_expired")

_MOST = 1_000
_CONFLICTS = 5


@dataclass(frozen=True, slots=True)
class Filter:
    """Which open orders are meant; None: any."""

    order_type: str | None = None
    token_in: str | None = None
    token_out: str | None = None


class Endings:
    """Ends orders that are not to be filled.

    Every method raises ``UnavailableError`` while PostgreSQL is away, and may be called again then.

    Args:
        database: where orders are.
        clock: for write ids.
        on_commit: told of the entries.
    """

    def __init__(self, database: Database, clock: Clock, on_commit: OnCommit) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit

    async def cancel(self, order_id: str) -> None:
        """Cancel an order, or see to it that it is cancelled as soon as its attempt has failed."""
        crash_points.reach("before request cancel")
        await self._run(_REQUEST, {"ids": [order_id]})
        crash_points.reach("after request cancel")
        await self.end_cancelled([order_id])

    async def cancel_matching(self, wanted: Filter) -> tuple[int, int]:
        """Cancel all open orders that match; return how many are cancelled, and how many may yet land."""
        cancelled = requested = 0
        placed_by = self._clock.database_time()
        while True:
            rows = await self._run(
                _REQUEST_MATCHING,
                {
                    "account": DEFAULT_ACCOUNT,
                    "order_type": wanted.order_type,
                    "token_in": wanted.token_in,
                    "token_out": wanted.token_out,
                    "placed_by": placed_by,
                    "most": _MOST,
                },
            )
            if not rows:
                return cancelled, requested - cancelled
            requested += len(rows)
            cancelled += await self.end_cancelled([row[0] for row in rows])

    async def end_cancelled(self, order_ids: list[str] | None = None) -> int:
        """End orders whose cancellation was requested, these or any; return how many ended."""
        crash_points.reach("before end cancelled")
        ended = await self._end(_END_CANCELLED, {"ids": order_ids})
        crash_points.reach("after end cancelled")
        return ended

    async def end_expired(self) -> int:
        """End waiting orders whose time is over; return how many ended, and call again while many do."""
        crash_points.reach("before end expired")
        ended = await self._end(_END_EXPIRED, {})
        crash_points.reach("after end expired")
        return ended

    async def _end(self, statement: Query, parameters: dict[str, object]) -> int:
        rows = await self._run(
            statement, {**parameters, "most": _MOST, "write_id": self._clock.new_write_id()}
        )
        if rows:
            self._on_commit([Committed(order_id, public(entry)) for order_id, entry in rows])
        return len(rows)

    async def _run(self, statement: Query, parameters: dict[str, object]) -> list[Row]:
        """Run a statement, again after a conflict with those who work on the same orders."""
        for left in reversed(range(_CONFLICTS)):
            try:
                return await self._database.run(statement, parameters)
            except UnavailableError as error:
                if error.unknown or not left:
                    raise
        raise AssertionError
