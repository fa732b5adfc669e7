"""The journal: the writer of orders in execution. Every change is one conditional, group-committed write.

``insert`` stores an order, ``append`` writes one transition; each returns after its commit. After a lost
connection the outcome is unknown: the group is written again, and the entries of rows that did not change
are read back. Each entry carries the id of its write, so a writer recognises its own. ``on_commit`` is
called with everything that was committed, and never earlier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import NamedTuple

import orjson

from service import crash_points
from service.clock import Clock
from service.domain.history import Committed, StoredEntry, opened, public
from service.domain.key_limits import LargestAmount
from service.domain.order import NewOrder, OrderRequest, Terms
from service.postgres.batch import Batcher
from service.postgres.database import Database
from service.postgres.queries import query
from service.store.budgets import JudgedRow, budget_row, used_columns
from service.store.day_sales import OverLimitError, selling_parameters
from service.store.halt import HaltedError, TradingHalt
from service.store.transitions import Transition, transition_row


class EntryRow(NamedTuple):
    """An order's id and the entry that was appended to its history."""

    id: str
    entry: StoredEntry


class _AppendedRow(NamedTuple):
    """The entry that was appended to an order.

    Without an entry, its transaction may not be stored: too much of ``token`` would be sold; or, without a
    token, the order was no longer the writer's.
    """

    id: str
    entry: StoredEntry | None
    token: str | None
    sold: int | None


class _InsertedRow(NamedTuple):
    id: str
    created_at: str


class _ReadBackRow(NamedTuple):
    id: str
    entry: StoredEntry | None


_INSERT = query("insert_orders", _InsertedRow)
_INSERT_BUDGETED = query("insert_budgeted_orders", JudgedRow)
_APPEND = query("append_transitions", _AppendedRow)
_READ_BACK = query("read_entries_back", _ReadBackRow)

# The columns of an order are named like its fields.
_TERMS = [field.name for field in fields(Terms)]
_REQUEST = [field.name for field in fields(OrderRequest) if field.name != "terms"]
_COLUMNS = [*_REQUEST, *_TERMS]
_values_of = attrgetter(*_REQUEST, *(f"terms.{name}" for name in _TERMS))


class SupersededError(Exception):
    """Another writer has changed the order or owns it: this one stops executing it."""


class RepeatedOrderError(Exception):
    """The account has already used this client order id, or this idempotency key."""


OnCommit = Callable[[Sequence[Committed]], None]
"""Called with every step after its commit, a group at a time. Must not block."""


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The journal's limits and time-outs.

    Attributes:
        insert_limit: The maximum number of queued inserts; more are rejected.
        group_limit: The maximum number of rows in one statement.
        wake_after_ms: How long after the insert the sweep wakes an order whose own wake-up was lost.
        instance_timeout_ms: A process without a heartbeat for this long signs no new transaction.
        day_limits: The largest amounts that all orders together may sell in 24 hours, by token.
    """

    insert_limit: int
    group_limit: int
    wake_after_ms: int
    instance_timeout_ms: int
    day_limits: Mapping[str, LargestAmount] = field(default_factory=dict)


class Journal:
    """Writes orders.

    Args:
        database: The engine's database.
        clock: For write ids.
        on_commit: Called with committed steps.
        halt: Says whether trading is halted.
        on_late_insert: Called with the id of an order that was stored after its client's time-out.
        settings: Limits and time-outs.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_commit: OnCommit,
        halt: TradingHalt,
        *,
        on_late_insert: Callable[[str], None],
        settings: JournalSettings,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit
        self._halt = halt
        self._settings = settings
        self._inserts = Batcher(
            self._write_inserts,
            clock=clock,
            name="insert",
            key=lambda order: order.id,
            largest=settings.group_limit,
            limit=settings.insert_limit,
            on_unclaimed=lambda order: on_late_insert(order.id),
        )
        # Never rejected and never abandoned: an order in execution depends on this write.
        self._appends = Batcher(
            self._write_transitions,
            clock=clock,
            name="append",
            key=lambda transition: transition.order_id,
            largest=settings.group_limit,
        )

    async def insert(self, order: NewOrder, timeout_s: float) -> str:
        """Store a new order and return its creation time (RFC 3339).

        Raises:
            RepeatedOrderError: Nothing was stored.
            HaltedError: Nothing was stored; trading is halted.
            OverBudgetError: Nothing was stored; it does not keep a budget.
            QueueFullError: Nothing was stored.
            UnavailableError: If ``unknown``, the order may exist under its id now, or later.
        """
        return await self._inserts.submit(order, timeout_s)

    async def append(self, transition: Transition) -> Committed:
        """Write a transition, waiting for PostgreSQL as long as it takes.

        Raises:
            SupersededError: The order has another owner or another version; or it is to be built or submitted
                and has expired; or it is to be submitted and its writer's last heartbeat is too old.
            HaltedError: It is to be submitted, and trading is halted.
            OverLimitError: It is to be submitted, and all orders together would sell too much in a day.
        """
        return await self._appends.submit(transition)

    async def wait_until_resumed(self) -> None:
        """Wait until trading that was halted is resumed, and new transactions are stored again."""
        await self._halt.wait_until_resumed()

    async def stop(self) -> None:
        """Wait until every pending write is finished, unless PostgreSQL is unavailable."""
        await self._inserts.stop()
        await self._appends.stop()

    async def _write_inserts(self, orders: list[NewOrder]) -> list[str | Exception]:
        results: dict[str, str | Exception] = {}
        left = orders
        # Each time the orders are decided on which the undecided ones depend.
        while left:
            results |= await self._insert(left)
            left = [order for order in left if order.id not in results]
        return [results[order.id] for order in orders]

    async def _insert(self, orders: list[NewOrder]) -> dict[str, str | Exception]:
        """Return the results by order id, without undecided orders, which are to be inserted again."""
        rows = [_new_row(order, self._clock.new_write_id()) for order in orders]
        crash_points.reach("before insert")
        parameters = {"rows": as_json(rows), "wake_after_ms": self._settings.wake_after_ms}
        refused: dict[str, Exception | None] = {}
        budgets = [budget_row(place, order) for place, order in enumerate(orders) if order.budget]
        if budgets:
            judged = await self._database.run(_INSERT_BUDGETED, {**parameters, "budgets": as_json(budgets)})
            inserted = {row.id: row.created_at for row in judged if row.created_at is not None}
            refused = {row.id: row.refusal() for row in judged if row.created_at is None}
        else:
            inserted = {row.id: row.created_at for row in await self._database.run(_INSERT, parameters)}
        crash_points.reach("after insert")
        # For the triggers; a new order that does not rest has no watchers yet.
        resting = [
            Committed(
                order.id,
                opened(inserted[order.id], awaiting_approval=order.approve_within_s is not None),
            )
            for order in orders
            if order.opens and order.id in inserted
        ]
        if resting:
            self._on_commit(resting)
        missing = [order.id for order in orders if order.id not in inserted and order.id not in refused]
        not_inserted: Exception = RepeatedOrderError()
        if missing:
            # Not inserted by this write: by an earlier one whose response was lost, or not at all.
            found = await self._read_back(dict.fromkeys(missing, 0))
            inserted |= {order_id: entry["timestamp"] for order_id, entry in found.items()}
            if len(found) < len(missing):
                not_inserted = await self._halted() or not_inserted
        decided = {order_id: error for order_id, error in refused.items() if error is not None}
        return dict.fromkeys(missing, not_inserted) | decided | inserted

    async def _write_transitions(self, transitions: list[Transition]) -> list[Committed | Exception]:
        appended = await self._database.run(
            _APPEND,
            {
                "rows": as_json([transition_row(t) for t in transitions]),
                "instance_timeout_ms": self._settings.instance_timeout_ms,
                **selling_parameters(transitions, self._settings.day_limits),
            },
        )
        entries = {row.id: row.entry for row in appended if row.entry is not None}
        over = {row.id: self._over_limit(row) for row in appended if row.token is not None}
        missing = {t.order_id: t.version for t in transitions if t.order_id not in entries}
        if missing:
            entries.update(await self._read_back(missing))
        results: list[Committed | Exception] = []
        committed = []
        halted = None
        if any(t.order_id not in entries and t.transaction is not None for t in transitions):
            halted = await self._halted()
        for transition in transitions:
            entry = entries.get(transition.order_id)
            if entry is None and transition.transaction is not None and halted is not None:
                results.append(halted)
                continue
            if entry is None and transition.order_id in over:
                results.append(over[transition.order_id])
                continue
            if entry is None or entry["writeId"] != transition.write_id:
                results.append(SupersededError(transition.order_id))
                continue
            step = Committed(
                transition.order_id,
                public(entry),
                transition.routing,
                None if transition.transaction is None else transition.transaction.quoted,
                None if transition.outcome is None else transition.outcome.fill,
                transition.decimals_out,
            )
            results.append(step)
            committed.append(step)
        if committed:
            self._on_commit(committed)
        return results

    def _over_limit(self, row: _AppendedRow) -> OverLimitError:
        token = row.token or ""
        return OverLimitError(token, self._settings.day_limits[token], row.sold or 0)

    async def _halted(self) -> HaltedError | None:
        """Return an error with the reason, if trading is halted."""
        halt = await self._halt.read()
        return None if halt is None else HaltedError(halt.reason)

    async def _read_back(self, versions: dict[str, int]) -> dict[str, StoredEntry]:
        """Return the entries that follow the given versions, where they exist."""
        rows = [{"id": order_id, "version": version} for order_id, version in versions.items()]
        found = await self._database.read(_READ_BACK, {"rows": as_json(rows)})
        return {row.id: row.entry for row in found if row.entry is not None}


def _new_row(order: NewOrder, write_id: str) -> dict[str, object]:
    row: dict[str, object] = dict(zip(_COLUMNS, _values_of(order), strict=True))
    row["submit_by"] = order.submit_by
    row["max_price_impact_bps"] = order.max_price_impact_bps
    row["opens"] = order.opens
    row["approve_within_s"] = order.approve_within_s
    if order.idempotency is not None:
        row["idempotency_key"] = order.idempotency.key
        row["request_hash"] = order.idempotency.request_hash.hex()
    row["write_id"] = write_id
    row["key_id"] = order.key_id
    return row if order.budget is None else row | used_columns(order.budget)


def terms_row(terms: Terms) -> dict[str, object]:
    """Return terms by column name."""
    return {name: getattr(terms, name) for name in _TERMS}


def as_json(rows: Sequence[Mapping[str, object]]) -> str:
    """Encode rows for a statement that takes them as one JSON array."""
    return orjson.dumps(rows).decode()
