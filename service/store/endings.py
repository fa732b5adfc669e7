"""Endings without a fill: cancellation and expiry.

An order expires when its ``expiresAt`` has passed, or when it was not approved or submitted by its deadline.

A cancellation first sets a flag, durable before the order's status is read; then every flagged order ends
that has not been submitted. A submitted order continues until its outcome is known: if the attempt fails,
the journal sees the flag and cancels the order.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import orjson

from service import crash_points
from service.clock import Clock
from service.domain.failures import Failure, FailureCode
from service.domain.history import Committed, ended, public
from service.postgres.database import Database
from service.postgres.queries import Query, query
from service.store.halt import wait_for_trading_statements
from service.store.journal import EntryRow, OnCommit

log = logging.getLogger(__name__)


class _RequestedRow(NamedTuple):
    order_id: str
    until: str


class _CancelledRow(NamedTuple):
    cancelled: int
    still_open: int


_REQUEST = query("request_cancel")
_REQUEST_MATCHING = query("request_cancel_matching", _RequestedRow)
_COUNT_CANCELLED = query("count_cancelled", _CancelledRow)
_SET_TIMER = query("set_cancel_timer")
_CLEAR_TIMER = query("clear_cancel_timer")
_FIND_EXPIRED_TIMERS = query("find_expired_cancel_timers")
_DELETE_EXPIRED_TIMER = query("delete_expired_cancel_timer")
_END_CANCELLED = query("end_cancelled", EntryRow)
_END_EXPIRED = query("end_expired", EntryRow)

MAX_PER_STATEMENT = 200
"""The maximum number of orders that one statement ends: it blocks the event loop for a few ms only."""

_BEFORE_ALL = "00000000-0000-0000-0000-000000000000"


def _reason(code: FailureCode) -> str:
    return orjson.dumps(ended(Failure.of(code))).decode()


_NOT_AT_ONCE = _reason(FailureCode.NOT_FILLED_IMMEDIATELY)
_NOT_IN_TIME = _reason(FailureCode.NOT_SUBMITTED_IN_TIME)
_NOT_APPROVED = _reason(FailureCode.NOT_APPROVED_IN_TIME)


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects orders; None matches any."""

    account: str | None = None
    order_type: str | None = None
    token_in: str | None = None
    token_out: str | None = None
    label: str | None = None


class Endings:
    """Ends orders without a fill.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable, and can be repeated.

    Args:
        database: The engine's database.
        clock: For write ids.
        on_commit: Called with the entries.
    """

    def __init__(self, database: Database, clock: Clock, on_commit: OnCommit) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit

    async def cancel(self, order_id: str, account: str | None = None) -> None:
        """Cancel an order of an account (None: any); one that is submitted, as soon as its attempt fails."""
        crash_points.reach("before request cancel")
        await self._database.run_through_conflicts(_REQUEST, {"ids": [order_id], "account": account})
        crash_points.reach("after request cancel")
        await self.end_cancelled([order_id])

    async def cancel_matching(self, wanted: Filter, until: str | None = None) -> tuple[int, int]:
        """Cancel all matching open orders; return how many are cancelled, and how many may still land.

        Args:
            wanted: Selects the orders.
            until: Only those placed by this time; None: by now.
        """
        cancelled = requested = 0
        after: str = _BEFORE_ALL
        while True:
            rows = await self._database.run_through_conflicts(
                _REQUEST_MATCHING,
                {
                    **asdict(wanted),
                    "after": after,
                    "until": until,
                    "most": MAX_PER_STATEMENT,
                },
            )
            if not rows:
                return cancelled, requested
            order_ids = sorted(row.order_id for row in rows)
            after, until = order_ids[-1], rows[0].until
            await self.end_cancelled(order_ids)
            # Some may have been ended by another process, or have landed meanwhile.
            [now] = await self._database.run_through_conflicts(_COUNT_CANCELLED, {"ids": order_ids})
            cancelled, requested = cancelled + now.cancelled, requested + now.still_open

    async def set_timer(self, account: str, timeout_ms: int) -> str | None:
        """Set the time after which all open orders of an account are cancelled, unless it is set again.

        Args:
            account: The account.
            timeout_ms: From now; 0: remove the timer.

        Returns:
            The time (RFC 3339), or None if there is none.
        """
        if timeout_ms == 0:
            await self._database.run(_CLEAR_TIMER, {"account": account})
            return None
        crash_points.reach("before set timer")
        rows = await self._database.run(_SET_TIMER, {"account": account, "timeout_ms": timeout_ms})
        crash_points.reach("after set timer")
        return str(rows[0][0])

    async def cancel_by_timer(self) -> None:
        """Cancel the open orders of the accounts whose timers have expired.

        A timer is deleted after its orders are cancelled: if this process dies in between, another goes on.
        """
        expired = await self._database.run(_FIND_EXPIRED_TIMERS)
        if not expired:
            return
        for account, cancels_at in expired:
            # However late this is noticed, the orders placed since then stay.
            cancelled, requested = await self.cancel_matching(Filter(account), cancels_at)
            log.warning(
                "account %s: its timer has expired: %d orders cancelled, %d may still land",
                account,
                cancelled,
                requested,
            )
        # An order that was placed by then may have been stored by a statement that ended only now.
        await wait_for_trading_statements(self._database, self._clock)
        for account, cancels_at in expired:
            await self.cancel_matching(Filter(account), cancels_at)
            crash_points.reach("before end timer")
            await self._database.run(_DELETE_EXPIRED_TIMER, {"account": account, "cancels_at": cancels_at})

    async def end_cancelled(self, order_ids: list[str] | None = None) -> int:
        """End orders whose cancellation was requested (None: all such orders); return how many ended."""
        crash_points.reach("before end cancelled")
        count = await self._end(_END_CANCELLED, {"ids": order_ids})
        crash_points.reach("after end cancelled")
        return count

    async def end_expired(self) -> int:
        """End orders that have expired and have not been submitted.

        Expiry is decided by PostgreSQL's clock alone, so no order ends early. Returns how many ended; if
        ``MAX_PER_STATEMENT``, there may be more.
        """
        crash_points.reach("before end expired")
        reasons = {
            "not_at_once": _NOT_AT_ONCE,
            "not_in_time": _NOT_IN_TIME,
            "not_approved": _NOT_APPROVED,
        }
        count = await self._end(_END_EXPIRED, reasons)
        crash_points.reach("after end expired")
        return count

    async def _end(self, statement: Query[EntryRow], parameters: Mapping[str, object]) -> int:
        rows = await self._database.run_through_conflicts(
            statement, {**parameters, "most": MAX_PER_STATEMENT, "write_id": self._clock.new_write_id()}
        )
        if rows:
            self._on_commit([Committed(row.id, public(row.entry)) for row in rows])
        return len(rows)
