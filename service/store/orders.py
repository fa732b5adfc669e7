"""Reading orders, and following one as its steps are committed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from service.clock import Clock
from service.domain.lifecycle import TERMINAL, Status
from service.domain.order import DEFAULT_ACCOUNT
from service.domain.quote import SwapMode
from service.domain.transaction import Fill, SignedTransaction
from service.postgres.batch import Batcher
from service.postgres.database import Database, Row
from service.postgres.queries import query
from service.store.endings import Filter
from service.store.journal import Committed, Entry, Quoted, public
from service.turns import Steps, Turns

_GET = query("get_orders")
_GET_QUOTES = query("get_quotes")
_FIND_CLIENT_ORDER = query("find_client_order")
_LIST = query("list_orders")
_LIST_OPEN = query("list_open_orders")
_LIST_FINISHED = query("list_finished_orders")
_VERSIONS = query("get_versions")
_LATEST_TRANSACTION = query("get_latest_transaction")


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be amended while an order is open; ``limit_out`` is base units, the time RFC 3339."""

    slippage_bps: int
    time_in_force: str | None = None
    limit_price: str | None = None
    limit_out: int | None = field(default=None, compare=False)  # follows from the price
    sniper_conditions: Entry | None = None
    expires_at: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An order with all that has happened to it.

    ``amount`` is base units of the token whose side ``swap_mode`` fixes, ``amount_text`` what the client
    wrote; times are RFC 3339 in UTC; ``quoted`` maps the sequence of a history entry to what was offered
    for it and what was chosen, of the last attempt or of all. ``decimals_out`` is
    None while tokenOut is not listed.
    """

    id: str
    client_order_id: str | None
    order_type: str
    token_in: str
    token_out: str
    swap_mode: SwapMode
    amount: int
    amount_text: str
    terms: Terms
    decimals_in: int
    decimals_out: int | None
    history: tuple[Entry, ...]
    created_at: str
    fill: Fill | None
    quoted: dict[int, Quoted]

    @property
    def version(self) -> int:
        """Length of the history, which is the sequence of its last entry."""
        return len(self.history)

    @property
    def status(self) -> Status:
        """What the order is doing."""
        return Status(self.history[-1]["status"])

    @property
    def ended(self) -> bool:
        """Whether no further entry can follow."""
        return self.status in TERMINAL

    def after(self, step: Committed) -> "Order":
        """Return the order one step on; ``step`` must be the next one."""
        if step.sequence != self.version + 1:
            raise ValueError(f"step {step.sequence} does not follow version {self.version}")
        quoted = self.quoted
        if step.quoted is not None:
            quoted = {**quoted, step.sequence: step.quoted}
        return replace(
            self,
            terms=amended(self.terms, step.entry, "to"),
            history=(*self.history, step.entry),
            decimals_out=step.decimals_out if self.decimals_out is None else self.decimals_out,
            fill=step.fill or self.fill,
            quoted=quoted,
        )


AMENDABLE = {
    "slippageBps": "slippage_bps",
    "timeInForce": "time_in_force",
    "limitPrice": "limit_price",
    "sniperConditions": "sniper_conditions",
    "expiresAt": "expires_at",
}
"""The terms that an amendment's history entry names, as it names them, and their names here."""


def amended(terms: Terms, entry: Entry, side: str) -> Terms:
    """Return terms as they were before a history entry (``from``), or are after it (``to``)."""
    changes = entry.get("amended")
    if not changes:
        return terms
    return replace(terms, **{AMENDABLE[name]: change[side] for name, change in changes.items()})


def first_terms(order: Order) -> Terms:
    """Return an order's terms as it was placed."""
    return terms_at(order, 1)


def terms_at(order: Order, sequence: int) -> Terms:
    """Return an order's terms as they were at an entry of its history."""
    terms = order.terms
    for entry in order.history[: sequence - 1 : -1]:
        terms = amended(terms, entry, "from")
    return terms


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list of orders, newest first: microseconds since the Unix epoch, and the id."""

    created_us: int
    order_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """The places of some orders in a list, and whether more follow."""

    places: list[Position]
    more: bool


class Orders:
    """Reads orders.

    Raises ``UnavailableError`` from every method while PostgreSQL is away.

    Args:
        database: Where orders are.
        clock: For reads that go together.
        group_limit: How many orders are read by one statement.
    """

    def __init__(self, database: Database, clock: Clock, *, group_limit: int) -> None:
        self._database = database
        self._turns = Turns(clock)

        def batcher(read: Callable[[list[str]], Awaitable[dict[str, Order]]]) -> Batcher[str, Order | None]:
            async def read_group(order_ids: list[str]) -> list[Order | Exception | None]:
                found = await read(order_ids)
                return [found.get(order_id) for order_id in order_ids]

            return Batcher(
                read_group,
                clock=clock,
                name="read orders",
                # Whoever asks twice for the same order at once may be answered by two statements.
                key=lambda order_id: order_id,
                largest=group_limit,
                patient=False,
            )

        self._reads = batcher(self.get_many)
        self._whole_reads = batcher(self._get_many_whole)

    async def stop(self) -> None:
        """Wait until every read that was asked for has been answered, unless PostgreSQL is away."""
        await self._reads.stop()
        await self._whole_reads.stop()

    async def get(self, order_id: str) -> Order | None:
        """Return an order with its last quotes; those asked for at the same time are read together."""
        return await self._reads.submit(order_id)

    async def get_whole(self, order_id: str) -> Order | None:
        """Return an order with the quotes of all its attempts."""
        return await self._whole_reads.submit(order_id)

    async def get_many(self, order_ids: list[str]) -> dict[str, Order]:
        """Return the orders that exist, by id, with their last quotes."""
        rows = await self._database.read(_GET, {"ids": order_ids})
        if len(rows) > 1:
            await asyncio.sleep(0)  # reading them has had a turn already
        return await self._turns.take(_orders(rows))

    async def _get_many_whole(self, order_ids: list[str]) -> dict[str, Order]:
        orders = await self.get_many(order_ids)
        # Afterwards: quotes that came meanwhile belong to entries that will come too.
        for order_id, sequence, *quoted in await self._database.read(_GET_QUOTES, {"ids": order_ids}):
            if order_id in orders:
                orders[order_id].quoted[sequence] = Quoted(*quoted)
        return orders

    async def find_by_client_id(self, client_order_id: str) -> Order | None:
        """Return the order that was placed under a client's own id."""
        rows = await self._database.read(
            _FIND_CLIENT_ORDER, {"account": DEFAULT_ACCOUNT, "client_order_id": client_order_id}
        )
        return await self.get(rows[0][0]) if rows else None

    async def page(self, status: Status | None, wanted: Filter, limit: int, before: Position | None) -> Page:
        """Return where the orders of a page stand, newest first, in one status (None: any)."""
        statement = _LIST
        if status is not None:
            statement = _LIST_FINISHED if status in TERMINAL else _LIST_OPEN
        rows = await self._database.read(
            statement,
            {
                "status": status,
                "order_type": wanted.order_type,
                "token_in": wanted.token_in,
                "token_out": wanted.token_out,
                "limit": limit + 1,
                "before_us": before and before.created_us,
                "before_id": before and before.order_id,
            },
        )
        places = [Position(created_us, order_id) for order_id, created_us in rows]
        return Page(places[:limit], more=len(places) > limit)

    async def versions(self, order_ids: list[str]) -> dict[str, int]:
        """Return how far orders have come, by id."""
        rows = await self._database.read(_VERSIONS, {"ids": order_ids})
        return dict(rows)

    async def latest_transaction(self, order_id: str) -> SignedTransaction | None:
        """Return an order's last signed transaction."""
        rows = await self._database.read(_LATEST_TRANSACTION, {"order_id": order_id})
        if not rows:
            return None
        signature, venue, raw, *limits = rows[0]
        return SignedTransaction(signature, venue, bytes(raw), *limits)


def _orders(rows: list[Row]) -> Steps[dict[str, Order]]:
    orders = {}
    for row in rows:
        orders[row[0]] = _order(row)
        yield
    return orders


def _order(row: Row) -> Order:
    *request, sequence, offers, route = row
    *request, decimals_in, decimals_out, history, created_at, amount_in, amount_out, tx_hash = request
    (
        order_id,
        client_order_id,
        order_type,
        token_in,
        token_out,
        swap_mode,
        amount,
        amount_text,
        *terms,
    ) = request
    return Order(
        id=order_id,
        client_order_id=client_order_id,
        order_type=order_type,
        token_in=token_in,
        token_out=token_out,
        swap_mode=SwapMode(swap_mode),
        amount=amount,
        amount_text=amount_text,
        terms=Terms(*terms),
        decimals_in=decimals_in,
        decimals_out=decimals_out,
        history=tuple(public(entry) for entry in history),
        created_at=created_at,
        fill=Fill(amount_in, amount_out, tx_hash) if tx_hash is not None else None,
        quoted={} if sequence is None else {sequence: Quoted(offers, route)},
    )
