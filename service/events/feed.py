"""Feeds: one order's steps, each once and in order, whenever and wherever a watcher connects.

A feed subscribes first, then reads the store, then drops duplicates by sequence. Watchers of the same order
share one copy of it, which is also their queue: a watcher is a position in its history.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Self

from service.background import Background, cancel
from service.clock import Clock
from service.domain.history import Committed
from service.domain.order import Order
from service.domain.transaction import Seen
from service.postgres.database import UnavailableError
from service.store.orders import Orders

log = logging.getLogger(__name__)

_COMPARE_EVERY_S = 1.0
_MAX_READS = 2


class _Watched:
    """The local copy of an order that has watchers."""

    def __init__(self) -> None:
        self.order: Order | None = None
        self.early: list[Committed] = []
        self._early_seen: tuple[int, Seen | None] = (0, None)
        self.watchers = 0
        self.reading: asyncio.Task[None] | None = None
        self._changed: list[asyncio.Future[None]] = []

    def apply(self, step: Committed) -> bool:
        """Apply a step if it is the next one; if earlier ones are missing, keep it and return False."""
        if self.order is None:
            self.early.append(step)
            return True
        if step.sequence > self.order.version + 1:
            self.early.append(step)
            return False
        if step.sequence == self.order.version + 1:
            self._set(self.order.after(step))
        return True

    def see(self, version: int, seen: Seen | None) -> None:
        """Apply a sighting of the order's transaction, unless it belongs to an earlier version.

        One that arrives before its version is kept until then: it may not be told again.
        """
        if self.order is None or version > self.order.version:
            if version >= self._early_seen[0]:
                self._early_seen = version, seen
        elif version == self.order.version:
            self._set(replace(self.order, seen=seen))

    def update_from_store(self, order: Order) -> bool:
        """Apply an order read from the store, then the kept steps; return whether no step is missing."""
        if self.order is None or order.version > self.order.version:
            self._set(order)
        early, self.early = self.early, []
        for step in sorted(early, key=lambda step: step.sequence):
            self.apply(step)
        # Steps that could not be applied are among the early ones again.
        return not self.early

    async def change(self) -> None:
        """Wait for the next step."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(changed)
        try:
            await changed
        finally:
            if changed in self._changed:
                self._changed.remove(changed)

    def _set(self, order: Order) -> None:
        version, seen = self._early_seen
        if version <= order.version:
            self._early_seen = (0, None)
        self.order = replace(order, seen=seen) if version == order.version else order
        changed, self._changed = self._changed, []
        for future in changed:
            if not future.done():
                future.set_result(None)


class Watch:
    """One watcher's iterator over an order's history: yields (order, sequence) for each entry.

    After the last entry it yields (order, None) whenever ``order.seen`` has changed. It ends after the
    terminal entry. Use it as a context manager, so that the subscription is always released.
    """

    def __init__(self, feeds: "Feeds", order_id: str, watched: _Watched, after: int) -> None:
        self._feeds = feeds
        self._order_id = order_id
        self._watched = watched
        self._sequence = after
        self._seen: Seen | None = None

    @property
    def account(self) -> str | None:
        """The account that owns the order."""
        return None if self._watched.order is None else self._watched.order.account

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._feeds._leave(self._order_id)  # noqa: SLF001 - Feeds and Watch belong together

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Order, int | None]:
        while (order := self._watched.order) is None or self._sequence >= order.version:
            if order is not None and order.ended:
                raise StopAsyncIteration
            if order is not None and order.seen != self._seen:
                self._seen = order.seen
                return order, None
            await self._watched.change()
        self._sequence += 1
        self._seen = None
        return order, self._sequence


class Feeds:
    """The orders that are watched on this instance.

    Args:
        orders: Reads an order when its watch begins, and when steps are missing.
        clock: Times the comparison with the store.
    """

    def __init__(self, orders: Orders, clock: Clock) -> None:
        self._orders = orders
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._comparing = Background("feeds", self._compare_forever, clock)

    def start(self) -> None:
        """Begin to compare the watched orders with the store, which repairs lost messages within a second."""
        self._comparing.start()

    async def stop(self) -> None:
        """Stop comparing."""
        await self._comparing.stop()
        await cancel([watched.reading for watched in self._watched.values() if watched.reading is not None])

    async def watch(self, order_id: str, after: int = 0) -> Watch | None:
        """Begin to watch an order, after the entry of the given sequence; None if there is no such order.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        watched = self._watched.setdefault(order_id, _Watched())
        watched.watchers += 1
        try:
            if watched.order is None:
                await self._read(order_id, watched)
        except BaseException:
            self._leave(order_id)
            raise
        if watched.order is None:
            self._leave(order_id)
            return None
        return Watch(self, order_id, watched, after)

    def deliver(self, steps: Iterable[Committed]) -> None:
        """Deliver committed steps, of this or another instance, to the watchers."""
        for step in steps:
            watched = self._watched.get(step.order_id)
            if watched is not None and not watched.apply(step):
                self._read_soon(step.order_id, watched)

    def deliver_seen(self, order_id: str, version: int, seen: Seen | None) -> None:
        """Deliver where an order's transaction was seen to its watchers."""
        watched = self._watched.get(order_id)
        if watched is not None:
            watched.see(version, seen)

    async def compare(self) -> None:
        """Read the watched orders that have steps which this instance missed."""
        if not self._watched:
            return
        versions = await self._orders.versions(list(self._watched))
        behind = [
            (order_id, watched)
            for order_id, watched in self._watched.items()
            if watched.order is not None and versions.get(order_id, 0) > watched.order.version
        ]
        await asyncio.gather(*(self._read(order_id, watched) for order_id, watched in behind))

    async def _compare_forever(self) -> None:
        while True:
            await self._clock.sleep(_COMPARE_EVERY_S)
            try:
                await self.compare()
            except UnavailableError as error:
                log.debug("feeds: PostgreSQL is unavailable (%s)", error)

    async def _read(self, order_id: str, watched: _Watched) -> None:
        """Read an order, and once more if a newer step arrived during the first read."""
        for _ in range(_MAX_READS):
            order = await self._orders.get_whole(order_id)
            if order is None or watched.update_from_store(order):
                return

    def _read_soon(self, order_id: str, watched: _Watched) -> None:
        if watched.reading is None or watched.reading.done():
            watched.reading = asyncio.create_task(self._try_to_read(order_id, watched), name="feed gap")

    async def _try_to_read(self, order_id: str, watched: _Watched) -> None:
        try:
            await self._read(order_id, watched)
        except UnavailableError as error:
            log.debug("feeds: reading %s failed, will retry (%s)", order_id, error)

    def _leave(self, order_id: str) -> None:
        watched = self._watched[order_id]
        watched.watchers -= 1
        if watched.watchers == 0:
            del self._watched[order_id]
