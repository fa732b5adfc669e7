"""Resting orders: reads them for the triggers, fires and amends them."""

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
    """An open order as the triggers need it: a row of the statements that read it.

    It is not an ``Order``: there may be a hundred thousand, so they are read without their histories.

    ``amount_in`` and ``limit_out`` are in base units, times in seconds since the Unix epoch.
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
    """An order whose condition held at a version of it, and the observed market data for its history."""

    order_id: str
    version: int
    observed: Details


@dataclass(frozen=True, slots=True)
class Amendment:
    """The new terms of an open order, and the details of their history entry.

    ``max_price_impact_bps`` is the highest price impact that the caller's API key allows; None: any.
    ``approve_within_s`` is within how many seconds the terms must be approved; None: they need no approval,
    unless the order awaits one already.
    """

    order_id: str
    version: int
    terms: Terms
    detail: Details
    max_price_impact_bps: int | None = None
    approve_within_s: int | None = None


class Resting:
    """Reads, fires and amends resting orders.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: For write ids.
        on_commit: Called with amendments.
        wake_after_ms: How long after its firing the sweep wakes an order whose own wake-up was lost.
        market_order_age_s: How long after its firing a sniper order may be submitted; 0: no limit.
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
        """Read all resting orders that have not been fired, page by page."""
        after = _BEFORE_ALL
        while True:
            rows = await self._database.read(_SCAN, {"after": after, "limit": _PAGE})
            if rows:
                yield rows
            if len(rows) < _PAGE:
                return
            after = rows[-1].order_id

    async def get(self, order_ids: Sequence[str]) -> list[RestingOrder]:
        """Return those of the given orders that rest and have not been fired."""
        return await self._database.read(_GET, {"ids": list(order_ids)})

    async def rested_within(self, within_ms: int) -> dict[str, int]:
        """Return the versions of orders that began to rest, or were amended, in the last ``within_ms``."""
        rows = await self._database.read(_FIND_RESTED, {"within_ms": within_ms, "limit": _MOST_RECENT})
        return {row.order_id: row.version for row in rows}

    async def fire(self, orders: Sequence[Fired]) -> list[str]:
        """Make those orders due that still rest at the given version; return their ids."""
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
        """Amend an open order; return None if it is no longer open, or no longer at the given version.

        After a lost response (``UnavailableError.unknown``) it may have been amended.
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
                "max_price_impact_bps": amendment.max_price_impact_bps,
                "approve_within_s": amendment.approve_within_s,
            },
        )
        crash_points.reach("after amend")
        if not rows:
            return None
        step = Committed(amendment.order_id, public(rows[0][0]))
        self._on_commit([step])
        return step
