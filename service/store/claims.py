"""Claims: a process becomes the owner of an order, and reads what it needs to execute it.

A claim is the only write of an order that is fenced by its owner instead of its version: it takes an
order without an owner. From then on only the owner's transitions are accepted.
"""

from dataclasses import dataclass
from typing import NamedTuple

from service import crash_points
from service.clock import Clock
from service.domain.history import Committed, StoredEntry, public
from service.domain.lifecycle import Status
from service.domain.order import OrderType, TimeInForce
from service.domain.quote import SwapMode
from service.postgres.batch import Batcher
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.instances import Identity
from service.store.journal import OnCommit, as_json
from service.store.rate_limit import RateLimit


class _ClaimRow(NamedTuple):
    """A claimed order; of a deferred one only ``id`` and ``wait_ms`` are set."""

    id: str
    order_type: str
    token_in: str
    token_out: str
    swap_mode: str
    amount: int
    slippage_bps: int
    time_in_force: str | None
    limit_out: int | None
    max_price_impact_bps: int | None
    expires_at: float | None
    submit_by: float | None
    status: str
    version: int
    attempts: int
    attempts_since_rest: int
    expired_attempts: int
    entry: StoredEntry | None
    wait_ms: int | None


_CLAIM = query("claim_orders", _ClaimRow)
_CLAIM_AT_RATE = query("claim_orders_at_rate", _ClaimRow)


@dataclass(frozen=True, slots=True)
class Claimed:
    """The current state of an order that this process owns, under the id ``owner``.

    It is not an ``Order``: the claim reads what the execution needs, without the history.

    ``amount`` is in base units of the token whose side ``swap_mode`` fixes; ``limit_out`` is the minimum
    output for the whole amount, in base units. ``max_price_impact_bps`` is the highest price impact that the
    API keys which placed and amended it allow; None: any. ``expires_at``, and ``submit_by``, the submission
    deadline, which is no later, are in seconds since the Unix epoch. ``attempts`` counts all attempts that
    have begun, ``attempts_since_rest`` those since the order last rested, and ``expired_attempts`` those that
    ended because their transactions expired.
    """

    order_id: str
    owner: str
    order_type: OrderType
    token_in: str
    token_out: str
    swap_mode: SwapMode
    amount: int
    slippage_bps: int
    time_in_force: TimeInForce | None
    limit_out: int | None
    max_price_impact_bps: int | None
    expires_at: float | None
    submit_by: float | None
    status: Status
    version: int
    attempts: int
    attempts_since_rest: int
    expired_attempts: int


@dataclass(frozen=True, slots=True)
class Deferred:
    """The order cannot start yet: how long the rate limit delays it; 0: another transaction has it locked."""

    wait_ms: int


Claim = Claimed | Deferred | None
"""None: the order has another owner, has ended, is not due, or does not exist."""


class Claims:
    """Claims orders for one process.

    Args:
        database: The engine's database.
        clock: For write ids.
        on_commit: Called with the entries that claims append.
        identity: The id under which this process owns orders.
        rate_limit: How many orders may start per window.
        group_limit: The maximum number of rows in one statement.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_commit: OnCommit,
        *,
        identity: Identity,
        rate_limit: RateLimit,
        group_limit: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit
        self._identity = identity
        self._rate_limit = rate_limit
        self._claims = Batcher(
            self._write_claims,
            clock=clock,
            name="claim",
            key=lambda order_id: order_id,
            largest=group_limit,
        )

    async def claim(self, order_id: str) -> Claim:
        """Claim an order for this process if it is due and free, however long PostgreSQL takes."""
        return await self._claims.submit(order_id)

    async def stop(self) -> None:
        """Wait until every pending claim is finished, unless PostgreSQL is unavailable."""
        await self._claims.stop()

    async def _write_claims(self, order_ids: list[str]) -> list[Claim | Exception]:
        rows = [{"id": order_id, "write_id": self._clock.new_write_id()} for order_id in order_ids]
        statement = _CLAIM_AT_RATE if self._rate_limit.starts else _CLAIM
        owner = self._identity.id
        crash_points.reach("before claim")
        claimed = await self._database.run(
            statement, {"rows": as_json(rows), "owner": owner, **self._rate_limit.parameters}
        )
        crash_points.reach("after claim")
        claims: dict[str, Claim] = {}
        committed = []
        for row in claimed:
            if row.wait_ms is not None:
                claims[row.id] = Deferred(row.wait_ms)
                continue
            claims[row.id] = _claimed(row, owner)
            if row.entry is not None:
                committed.append(Committed(row.id, public(row.entry)))
        if committed:
            self._on_commit(committed)
        return [claims.get(order_id) for order_id in order_ids]


def _claimed(row: _ClaimRow, owner: str) -> Claimed:
    return Claimed(
        order_id=row.id,
        owner=owner,
        order_type=OrderType(row.order_type),
        token_in=row.token_in,
        token_out=row.token_out,
        swap_mode=SwapMode(row.swap_mode),
        amount=row.amount,
        slippage_bps=row.slippage_bps,
        time_in_force=None if row.time_in_force is None else TimeInForce(row.time_in_force),
        limit_out=row.limit_out,
        max_price_impact_bps=row.max_price_impact_bps,
        expires_at=row.expires_at,
        submit_by=row.submit_by,
        status=Status(row.status),
        version=row.version,
        attempts=row.attempts,
        attempts_since_rest=row.attempts_since_rest,
        expired_attempts=row.expired_attempts,
    )
