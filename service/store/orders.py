"""Reading orders."""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from service.clock import Clock
from service.domain.history import StoredEntry, public
from service.domain.lifecycle import TERMINAL, Status
from service.domain.mode import TradingMode
from service.domain.order import JsonObject, Order, OrderType, Terms
from service.domain.quote import Amounts, SwapMode
from service.domain.routing_record import NoQuoteJson, PoolQuoteJson, RouteJson, RoutingRecord
from service.domain.transaction import Fill, SignedTransaction
from service.postgres.batch import Batcher
from service.postgres.database import Database
from service.postgres.queries import Query, query
from service.store.endings import Filter
from service.store.sightings import Sightings
from service.turns import Steps, Turns


class Position(NamedTuple):
    """A position in a list of orders, newest first: microseconds since the Unix epoch, and the id."""

    created_us: int
    order_id: str


class OrderRow(NamedTuple):
    """An order as ``get_orders`` returns it."""

    id: str
    account: str
    mode: str
    client_order_id: str | None
    label: str | None
    order_type: str
    token_in: str
    token_out: str
    swap_mode: str
    amount: int
    amount_text: str
    slippage_bps: int
    time_in_force: str | None
    limit_price: str | None
    limit_out: int | None
    sniper_conditions: JsonObject | None
    expires_at: str | None
    decimals_in: int
    decimals_out: int | None
    status_history: list[StoredEntry]
    created_at: str
    quoted_in: int | None
    quoted_out: int | None
    amount_in: int | None
    amount_out: int | None
    tx_hash: str | None
    sequence: int | None
    quotes: list[PoolQuoteJson | NoQuoteJson] | None
    route: RouteJson | None


class _QuotesRow(NamedTuple):
    order_id: str
    sequence: int
    quotes: list[PoolQuoteJson | NoQuoteJson]
    route: RouteJson | None


class _VersionRow(NamedTuple):
    id: str
    version: int


class _TransactionRow(NamedTuple):
    id: str
    venue: str
    raw: memoryview
    maximum_in: int
    minimum_out: int
    last_valid_height: int
    blockhash_slot: int | None


_GET = query("get_orders", OrderRow)
_GET_QUOTES = query("get_quotes", _QuotesRow)
_FIND_CLIENT_ORDER = query("find_client_order")
_LIST = query("list_orders", Position)
_LIST_BY_CLIENT_ORDER_ID = query("list_orders_by_client_order_id", Position)
_LIST_AWAITING_APPROVAL = query("list_orders_awaiting_approval", Position)
_LIST_BY_STATUS = query("list_orders_by_status", Position)
_LIST_BY_KIND = query("list_orders_by_kind", Position)
_VERSIONS = query("get_versions", _VersionRow)
_LATEST_TRANSACTION = query("get_latest_transaction", _TransactionRow)


_FEW = 10_000
"""So many orders are sorted in a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Page:
    """The positions of a page's orders in a list, and whether more follow."""

    positions: list[Position]
    more: bool


@dataclass(frozen=True, slots=True)
class ListFilter:
    """Selects orders for a list.

    Attributes:
        orders: By what was ordered, and by the account.
        statuses: In one of these statuses; empty: any.
        created_from: Placed at this time (RFC 3339) or later; None: any.
        created_to: Placed before this time; None: any.
        client_order_id_prefix: The beginning of the client order id; None: any.
        awaiting_approval: Whether only those are selected that await approval.
        venue: The DEX of the last route, or ``multiple``; None: any.
    """

    orders: Filter
    statuses: frozenset[Status] = frozenset()
    created_from: str | None = None
    created_to: str | None = None
    client_order_id_prefix: str | None = None
    awaiting_approval: bool = False
    venue: str | None = None

    @property
    def tag(self) -> str:
        """A short text that is the same only for the same filter."""
        fields = (*asdict(self.orders).values(), *sorted(self.statuses), "", self.created_from)
        fields = (*fields, self.created_to, self.client_order_id_prefix, self.venue)
        if self.awaiting_approval:
            fields = (*fields, "awaitingApproval")
        return hashlib.sha256(repr(fields).encode()).hexdigest()[:12]


class Orders:
    """Reads orders.

    Every method raises ``UnavailableError`` while PostgreSQL is unavailable.

    Args:
        database: The engine's database.
        clock: For grouped reads.
        group_limit: The maximum number of orders read by one statement.
        sightings: Where submitted orders were seen executed.
    """

    def __init__(
        self, database: Database, clock: Clock, *, group_limit: int, sightings: Sightings | None = None
    ) -> None:
        self._database = database
        self._sightings = sightings or Sightings()
        self._turns = Turns(clock)

        def batcher(read: Callable[[list[str]], Awaitable[dict[str, Order]]]) -> Batcher[str, Order | None]:
            async def read_group(order_ids: list[str]) -> list[Order | Exception | None]:
                found = await read(order_ids)
                return [found.get(order_id) for order_id in order_ids]

            return Batcher(
                read_group,
                clock=clock,
                name="read orders",
                # Two concurrent reads of the same order may be served by two statements.
                key=lambda order_id: order_id,
                largest=group_limit,
                patient=False,
            )

        self._reads = batcher(self.get_many)
        self._whole_reads = batcher(self._get_many_whole)

    async def stop(self) -> None:
        """Wait until every pending read is finished, unless PostgreSQL is unavailable."""
        await self._reads.stop()
        await self._whole_reads.stop()

    async def get(self, order_id: str) -> Order | None:
        """Return an order with its last quotes. Concurrent reads are grouped."""
        return await self._reads.submit(order_id)

    async def get_whole(self, order_id: str) -> Order | None:
        """Return an order with the quotes of all its attempts."""
        return await self._whole_reads.submit(order_id)

    async def get_many(self, order_ids: list[str]) -> dict[str, Order]:
        """Return the orders that exist, by id, with their last quotes."""
        rows = await self._database.read(_GET, {"ids": order_ids})
        if len(rows) > 1:
            await asyncio.sleep(0)  # receiving the rows has already blocked the event loop
        return await self._turns.run(self._orders(rows))

    def _orders(self, rows: list[OrderRow]) -> Steps[dict[str, Order]]:
        orders = {}
        for row in rows:
            order = order_of(row)
            seen = self._sightings.of(order.id, order.version)
            orders[row.id] = order if seen is None else replace(order, seen=seen)
            yield
        return orders

    async def _get_many_whole(self, order_ids: list[str]) -> dict[str, Order]:
        orders = await self.get_many(order_ids)
        # Read after the orders: quotes written in between belong to entries that will follow.
        for row in await self._database.read(_GET_QUOTES, {"ids": order_ids}):
            if row.order_id in orders:
                orders[row.order_id].routing[row.sequence] = RoutingRecord(row.quotes, row.route)
        return orders

    async def find_by_client_id(self, account: str, client_order_id: str) -> Order | None:
        """Return the order with an account's client order id."""
        rows = await self._database.read(
            _FIND_CLIENT_ORDER, {"account": account, "client_order_id": client_order_id}
        )
        return await self.get(rows[0][0]) if rows else None

    async def page(self, wanted: ListFilter, limit: int, before: Position | None) -> Page:
        """Return a page of orders' positions, newest first."""
        parameters = {
            **asdict(wanted.orders),
            "venue": wanted.venue,
            "statuses": sorted(wanted.statuses) or None,
            "unfinished": not wanted.statuses or not wanted.statuses <= TERMINAL,
            "created_from": wanted.created_from,
            "created_to": wanted.created_to,
            "client_order_id": _pattern(wanted.client_order_id_prefix),
            "few": _FEW,
            "limit": limit + 1,
            "before_us": before and before.created_us,
            "before_id": before and before.order_id,
        }
        positions = list(await self._database.read(_statement(wanted), parameters))
        return Page(positions[:limit], more=len(positions) > limit)

    async def versions(self, order_ids: list[str]) -> dict[str, int]:
        """Return the versions of orders, by id."""
        rows = await self._database.read(_VERSIONS, {"ids": order_ids})
        return {row.id: row.version for row in rows}

    async def latest_transaction(self, order_id: str) -> SignedTransaction | None:
        """Return an order's last signed transaction."""
        rows = await self._database.read(_LATEST_TRANSACTION, {"order_id": order_id})
        if not rows:
            return None
        [row] = rows
        return SignedTransaction(
            id=row.id,
            dex=row.venue,
            raw=bytes(row.raw),
            maximum_in=row.maximum_in,
            minimum_out=row.minimum_out,
            last_valid_height=row.last_valid_height,
            blockhash_slot=row.blockhash_slot,
        )


def _statement(wanted: ListFilter) -> Query[Position]:
    """Return the statement whose indexes find the orders of a filter soonest, however rare they are."""
    orders = wanted.orders
    if wanted.awaiting_approval:
        return _LIST_AWAITING_APPROVAL
    if wanted.client_order_id_prefix is not None:
        return _LIST_BY_CLIENT_ORDER_ID
    if orders.label is not None:
        return _LIST
    if any(each is not None for each in (orders.order_type, orders.token_in, orders.token_out, wanted.venue)):
        return _LIST_BY_KIND
    return _LIST_BY_STATUS if wanted.statuses else _LIST


def _pattern(prefix: str | None) -> str | None:
    """Return the pattern of LIKE for texts with a prefix."""
    return None if prefix is None else re.sub(r"([%_\\])", r"\\\1", prefix) + "%"


def order_of(row: OrderRow) -> Order:
    """Return the order of a row."""
    quoted = fill = None
    if row.quoted_in is not None and row.quoted_out is not None:
        quoted = Amounts(row.quoted_in, row.quoted_out)
    if row.amount_in is not None and row.amount_out is not None and row.tx_hash is not None:
        fill = Fill(row.amount_in, row.amount_out, row.tx_hash)
    routing = {}
    if row.sequence is not None and row.quotes is not None:
        routing[row.sequence] = RoutingRecord(row.quotes, row.route)
    return Order(
        id=row.id,
        account=row.account,
        mode=TradingMode(row.mode),
        client_order_id=row.client_order_id,
        label=row.label,
        order_type=OrderType(row.order_type),
        token_in=row.token_in,
        token_out=row.token_out,
        swap_mode=SwapMode(row.swap_mode),
        amount=row.amount,
        amount_text=row.amount_text,
        terms=Terms(
            slippage_bps=row.slippage_bps,
            time_in_force=row.time_in_force,
            limit_price=row.limit_price,
            limit_out=row.limit_out,
            sniper_conditions=row.sniper_conditions,
            expires_at=row.expires_at,
        ),
        decimals_in=row.decimals_in,
        decimals_out=row.decimals_out,
        history=tuple(map(public, row.status_history)),
        created_at=row.created_at,
        quoted=quoted,
        fill=fill,
        routing=routing,
    )
