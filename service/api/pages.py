"""A page of orders in JSON, encoded order by order with yields to the event loop, since it may be long."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from service.api.fields import ListPosition
from service.api.messages import json_list_response
from service.api.responses import ORDER, ORDER_LIST
from service.api.views import OrderAt
from service.domain.lifecycle import Status
from service.domain.order import Order
from service.store.orders import ListFilter, Orders, Page, Position
from service.turns import Steps, Turns

LARGEST_PAGE_BYTES = 2 * 1024 * 1024
"""A page ends with the order that reaches this size, even below its limit of orders."""

_READ_TOGETHER = 25


@dataclass(slots=True)
class _Written:
    """The orders encoded so far, their size in bytes, and the position of the last one."""

    orders: list[bytes] = field(default_factory=list)
    size: int = 0
    last: Position | None = None

    @property
    def full(self) -> bool:
        """Whether the page has reached its maximum size."""
        return self.size >= LARGEST_PAGE_BYTES


class Pages:
    """Writes pages.

    Args:
        orders: Reads the orders.
        turns: Yields to the event loop during long encodings.
    """

    def __init__(self, orders: Orders, turns: Turns) -> None:
        self._orders = orders
        self._turns = turns

    async def write(self, page: Page, wanted: ListFilter) -> web.Response:
        """Return a page of the orders of a list; it ends early if it reaches the maximum size."""
        written = _Written()
        for first in range(0, len(page.positions), _READ_TOGETHER):
            positions = page.positions[first : first + _READ_TOGETHER]
            orders = await self._orders.get_many([position.order_id for position in positions])
            # Reading the orders has already used its share of this event loop iteration.
            await asyncio.sleep(0)
            await self._turns.run(_write(written, positions, orders, wanted.statuses))
            if written.full:
                break
        more = page.more or (written.full and written.last != page.positions[-1])
        cursor = ListPosition(written.last, wanted.tag) if more and written.last is not None else None
        following = ORDER_LIST.dump({"orders": [], "next_cursor": cursor})
        return json_list_response("orders", written.orders, nextCursor=following["nextCursor"])


def _write(
    written: _Written,
    positions: Sequence[Position],
    orders: dict[str, Order],
    statuses: frozenset[Status],
) -> Steps[None]:
    for position in positions:
        order = orders[position.order_id]
        # An order whose status changed between the two reads no longer belongs to the list.
        if not statuses or order.status in statuses:
            text = orjson.dumps(ORDER.dump(OrderAt(order)))
            written.orders.append(text)
            written.size += len(text)
        written.last = position
        if written.full:
            return
        yield
