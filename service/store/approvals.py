"""Approvals: an order that awaits approval is not executed before an admin key has approved it.

In PostgreSQL it neither rests nor is due, which a CHECK constraint enforces: no trigger can fire it, and no
process can claim it. An approval or a refusal is one conditional write at the version that was read: of
concurrent decisions, cancellations, amendments and the expiry, one wins.
"""

import orjson

from service import crash_points
from service.clock import Clock
from service.domain.history import Committed, Details, approved, public, refused
from service.domain.order import Order, submission_time_s
from service.postgres.database import Database
from service.postgres.queries import Query, Row, query
from service.store.halt import HaltedError, TradingHalt
from service.store.journal import OnCommit

_APPROVE = query("approve_order")
_REFUSE = query("refuse_order")


class Approvals:
    """Approves and refuses orders that await approval.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable; if ``unknown``, it may have been
    done.

    Args:
        database: The engine's database.
        clock: For write ids.
        on_commit: Called with the entries.
        halt: Says whether trading is halted.
        wake_after_ms: How long after its approval the sweep wakes an order whose own wake-up was lost.
        market_order_age_s: How long after its approval a market order may be submitted; 0: no limit.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_commit: OnCommit,
        halt: TradingHalt,
        *,
        wake_after_ms: int,
        market_order_age_s: int = 0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit
        self._halt = halt
        self._wake_after_ms = wake_after_ms
        self._market_order_age_s = market_order_age_s

    async def approve(self, order: Order, by: str, reason: str | None = None) -> Committed | None:
        """Approve an order as it was read; return None if it has changed, or awaits no approval any more.

        Args:
            order: The order. If it does not rest, it is due as soon as it is approved.
            by: The id of the API key that approves it.
            reason: Why, for the history.

        Raises:
            HaltedError: Trading is halted.
        """
        crash_points.reach("before approve")
        step = await self._decide(
            _APPROVE,
            order,
            approved(by, reason),
            rests=order.rests,
            submit_within_s=submission_time_s(order, self._market_order_age_s),
            wake_after_ms=self._wake_after_ms,
        )
        crash_points.reach("after approve")
        if step is None and (halt := await self._halt.read()) is not None:
            raise HaltedError(halt.reason)
        return step

    async def refuse(self, order: Order, by: str, reason: str | None = None) -> Committed | None:
        """Refuse an order as it was read, which cancels it. Arguments and result as of ``approve``."""
        crash_points.reach("before refuse")
        step = await self._decide(_REFUSE, order, refused(by, reason))
        crash_points.reach("after refuse")
        return step

    async def _decide(
        self, statement: Query[Row], order: Order, entry: Details, **parameters: object
    ) -> Committed | None:
        detail = {**entry, "writeId": self._clock.new_write_id()}
        rows = await self._database.run_through_conflicts(
            statement,
            {
                "id": order.id,
                "version": order.version,
                "detail": orjson.dumps(detail).decode(),
                **parameters,
            },
        )
        if not rows:
            return None
        step = Committed(order.id, public(rows[0][0]))
        self._on_commit([step])
        return step
