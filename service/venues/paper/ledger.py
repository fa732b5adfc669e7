"""The paper chain's ledger in PostgreSQL: what a node of a chain would keep. Talks SQL, decides nothing.

Every method raises ``VenueUnavailableError`` while PostgreSQL is away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from service.clock import Clock
from service.domain.attempt import AttemptState, AttemptStatus, Fill
from service.domain.failures import Failure, FailureCode
from service.domain.quote import Dex
from service.store.database import Database, Row, UnavailableError
from service.store.queries import Query, query
from service.venues.paper.constant_product import ConstantProductPool
from service.venues.paper.transaction import PaperTransaction
from service.venues.venue import VenueUnavailableError

_FOUND = query("paper_found_market")
_OPEN_POOLS = query("paper_open_pools")
_GET_POOLS = query("paper_get_pools")
_SUBMIT = query("paper_submit")
_ASK = query("paper_ask")
_REFUSE = query("paper_refuse")
_FIND_STRAGGLERS = query("paper_find_stragglers")
_SETTLE = query("paper_settle")

_UNKNOWN = AttemptStatus(AttemptState.UNKNOWN)
_PENDING = AttemptStatus(AttemptState.PENDING)
_EXPIRED = AttemptStatus(AttemptState.EXPIRED)


@dataclass(frozen=True, slots=True)
class Execution:
    """What executing a transaction came to: an amount out in base units, or a failure's code."""

    signature: str
    pool_id: str
    amount_out: int | None
    failure: FailureCode | None

    @property
    def status(self) -> AttemptStatus:
        """What the one who submitted the transaction is told."""
        return _settled(self.signature, self.amount_out, self.failure)


@dataclass(frozen=True, slots=True)
class MarketTrade:
    """A trade of the market's own. Amounts are base units."""

    signature: str
    venue: str
    pool_id: str
    token_in: str
    token_out: str
    amount_in: int
    amount_out: int


class Ledger:
    """The paper chain's tables."""

    def __init__(self, database: Database, clock: Clock, *, slot_ms: int) -> None:
        self._database = database
        self._clock = clock
        self._slot_ms = slot_ms

    def slot_now(self) -> int:
        """Return the slot number: a function of PostgreSQL's time only."""
        return int(self._clock.database_time() * 1000) // self._slot_ms

    async def found_market(self, seed: int) -> int:
        """Make the market with a seed, unless there is one; return the seed it has."""
        rows = await self._run(_FOUND, {"seed": seed})
        found: int = rows[0][0]
        return found

    async def open_pools(self, pools: Sequence[ConstantProductPool]) -> None:
        """Make the pools that do not exist."""
        await self._run(_OPEN_POOLS, {"rows": _json([asdict(pool) for pool in pools])})

    async def pools(self) -> dict[str, ConstantProductPool]:
        """Return every pool by id."""
        pools = {}
        for pool_id, dex, *state in await self._run(_GET_POOLS):
            pools[pool_id] = ConstantProductPool(pool_id, Dex(dex), *state)
        return pools

    async def submit(self, arrivals: Sequence[tuple[PaperTransaction, int]]) -> list[AttemptStatus]:
        """Take in transactions, each to be executed after a delay in milliseconds."""
        rows = [{**asdict(transaction), "delay_ms": delay} for transaction, delay in arrivals]
        taken = {row[0] for row in await self._run(_SUBMIT, {"rows": _json(rows), "slot_ms": self._slot_ms})}
        others = [t for t, _delay in arrivals if t.signature not in taken]
        known = dict(zip([t.signature for t in others], await self.ask(others), strict=True))
        return [known.get(transaction.signature, _PENDING) for transaction, _delay in arrivals]

    async def refuse(self, transaction: PaperTransaction) -> AttemptStatus:
        """Note that a transaction is refused for good, unless it is here already; return what it is."""
        await self._run(_REFUSE, {**asdict(transaction), "failure": FailureCode.TRANSACTION_REJECTED})
        [status] = await self.ask([transaction])
        return status

    async def ask(self, transactions: Sequence[PaperTransaction]) -> list[AttemptStatus]:
        """Return what is known of transactions; those that can no longer land become expired."""
        if not transactions:
            return []
        rows = [
            {
                "signature": t.signature,
                "order_id": t.order_id,
                "attempt": t.attempt,
                "last_valid_slot": t.last_valid_slot,
            }
            for t in transactions
        ]
        answers = await self._run(_ASK, {"rows": _json(rows), "slot_ms": self._slot_ms})
        known = {row[0]: _status(row) for row in answers}
        return [known.get(transaction.signature, _UNKNOWN) for transaction in transactions]

    async def stragglers(self, late_ms: int) -> list[PaperTransaction]:
        """Return transactions that nobody executed, though their time came ``late_ms`` ago."""
        return [PaperTransaction(*row) for row in await self._run(_FIND_STRAGGLERS, {"late_ms": late_ms})]

    async def settle(
        self,
        executions: Sequence[Execution],
        pools: Sequence[tuple[int, ConstantProductPool]],
        own_trades: Sequence[MarketTrade],
    ) -> set[str]:
        """Book executions, in one commit; all of a pool's are booked, or none.

        Args:
            executions: what became of transactions.
            pools: the pools they moved, each after the version on which that was computed.
            own_trades: the market's own trades on these pools.

        Returns:
            The ids of the pools whose executions were booked.
        """
        rows = await self._run(
            _SETTLE,
            {
                "slot_ms": self._slot_ms,
                "results": _json(
                    [
                        {
                            "signature": execution.signature,
                            "pool_id": execution.pool_id,
                            "status": "landed" if execution.failure is None else "failed",
                            "amount_out": execution.amount_out,
                            "failure": execution.failure,
                        }
                        for execution in executions
                    ]
                ),
                "pools": _json(
                    [
                        {
                            "id": pool.id,
                            "seen_version": seen_version,
                            "version": pool.version,
                            "reserve_a": pool.reserve_a,
                            "reserve_b": pool.reserve_b,
                        }
                        for seen_version, pool in pools
                    ]
                ),
                "own_trades": _json([asdict(trade) for trade in own_trades]),
            },
        )
        return {row[0] for row in rows}

    async def _run(self, statement: Query, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        try:
            return await self._database.run(statement, parameters)
        except UnavailableError as error:
            raise VenueUnavailableError(str(error)) from error


def _json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()


def _status(row: Row) -> AttemptStatus:
    signature, status, amount_out, failure = row
    if status == "pending":
        return _PENDING
    if status == "expired":
        return _EXPIRED
    return _settled(signature, amount_out, FailureCode(failure) if failure else None)


def _settled(signature: str, amount_out: int | None, failure: FailureCode | None) -> AttemptStatus:
    if amount_out is not None:
        return AttemptStatus(AttemptState.LANDED, fill=Fill(amount_out, signature))
    return AttemptStatus(AttemptState.FAILED, failure=Failure.of(failure or FailureCode.TRANSACTION_FAILED))
