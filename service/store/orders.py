"""Reading orders."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.clock import Clock
from service.domain.history import public
from service.domain.lifecycle import TERMINAL, Status
from service.domain.order import DEFAULT_ACCOUNT, Order, OrderType, Terms
from service.domain.quote import Amounts, SwapMode
from service.domain.routing_record import RoutingRecord
from service.domain.transaction import Fill, SignedTransaction
from service.postgres.batch import Batcher
from service.postgres.database import Database, Row
from service.postgres.queries import query
from service.store.endings import Filter
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
        for order_id, sequence, *record in await self._database.read(_GET_QUOTES, {"ids": order_ids}):
            if order_id in orders:
                orders[order_id].routing[sequence] = RoutingRecord(*record)
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
    *request, sequence, quotes, route = row
    *request, created_at, quoted_in, quoted_out, amount_in, amount_out, tx_hash = request
    *request, decimals_in, decimals_out, history = request
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
        order_type=OrderType(order_type),
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
        quoted=None if quoted_in is None else Amounts(quoted_in, quoted_out),
        fill=Fill(amount_in, amount_out, tx_hash) if tx_hash is not None else None,
        routing={} if sequence is None else {sequence: RoutingRecord(quotes, route)},
    )
