"""Orders that rest: read by those who trigger them, fired, and amended."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from service import crash_points
from service.clock import Clock
from service.domain.history import Committed, Details, public
from service.domain.order import JsonObject, Terms
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.journal import OnCommit, as_json, terms_row

_PAGE = 500
_MOST_RECENT = 10_000
_BEFORE_ALL = "00000000-0000-0000-0000-000000000000"


class RestingOrder(NamedTuple):
    """An open order, as those who trigger need it: a row of the statements that read it.

    It is no ``Order``, for there may be a hundred thousand of them: they are read without their histories.

    ``amount_in`` and ``limit_out`` are base units; times are seconds since the Unix epoch.
    """

    order_id: str
    version: int
    order_type: str
    token_in: str
    token_out: str
    amount_in: int
    limit_out: int | None
    sniper_conditions: JsonObject | None
    created_at: float
    not_before: float


class _RestedRow(NamedTuple):
    order_id: str
    version: int


_SCAN = query("scan_resting", RestingOrder)
_GET = query("get_resting", RestingOrder)
_FIND_RESTED = query("find_rested", _RestedRow)
_FIRE = query("fire_orders")
_AMEND = query("amend_order")


@dataclass(frozen=True, slots=True)
class Fired:
    """An order whose condition holds as it stood at a version, and what was seen, for its history."""

    order_id: str
    version: int
    observed: Details


@dataclass(frozen=True, slots=True)
class Amendment:
    """The terms of an open order from now on, and what its history says of the change."""

    order_id: str
    version: int
    terms: Terms
    detail: Details


class Resting:
    """The orders that rest.

    Every method raises ``UnavailableError`` while PostgreSQL is away.

    Args:
        database: Where orders are.
        clock: For write ids.
        on_commit: Told of amendments.
        wake_after_ms: When the sweep sends a wake-up for an order that was fired and whose own was lost.
        market_order_age_s: How long after its firing a sniper order may be submitted; 0: any time.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_commit: OnCommit,
        *,
        wake_after_ms: int,
        market_order_age_s: int = 0,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit
        self._wake_after_ms = wake_after_ms
        self._market_order_age_s = market_order_age_s

    async def scan(self) -> AsyncGenerator[list[RestingOrder], None]:
        """Read all orders that rest and were not fired, page by page."""
        after = _BEFORE_ALL
        while True:
            rows = await self._database.read(_SCAN, {"after": after, "limit": _PAGE})
            if rows:
                yield rows
            if len(rows) < _PAGE:
                return
            after = rows[-1].order_id

    async def get(self, order_ids: Sequence[str]) -> list[RestingOrder]:
        """Return those of some orders that rest and were not fired."""
        return await self._database.read(_GET, {"ids": list(order_ids)})

    async def rested_within(self, within_ms: int) -> dict[str, int]:
        """Return the orders that began to rest, or were amended, in the last while, and their versions."""
        rows = await self._database.read(_FIND_RESTED, {"within_ms": within_ms, "limit": _MOST_RECENT})
        return {row.order_id: row.version for row in rows}

    async def fire(self, orders: Sequence[Fired]) -> list[str]:
        """Make orders due, those that still rest as they were seen; return their ids."""
        rows = [{"id": each.order_id, "version": each.version, "observed": each.observed} for each in orders]
        fired = await self._database.run_through_conflicts(
            _FIRE,
            {
                "rows": as_json(rows),
                "wake_after_ms": self._wake_after_ms,
                "market_order_age_s": self._market_order_age_s,
            },
        )
        return [row[0] for row in fired]

    async def amend(self, amendment: Amendment) -> Committed | None:
        """Amend an open order; None when it is not open any more, or not as it was seen.

        After a lost answer (``UnavailableError.unknown``) it may have been amended.
        """
        detail = {**amendment.detail, "writeId": self._clock.new_write_id()}
        conditions = amendment.terms.sniper_conditions
        crash_points.reach("before amend")
        rows = await self._database.run_through_conflicts(
            _AMEND,
            {
                "id": amendment.order_id,
                "version": amendment.version,
                **terms_row(amendment.terms),
                "sniper_conditions": None if conditions is None else orjson.dumps(conditions).decode(),
                "detail": orjson.dumps(detail).decode(),
            },
        )
        crash_points.reach("after amend")
        if not rows:
            return None
        step = Committed(amendment.order_id, public(rows[0][0]))
        self._on_commit([step])
        return step
