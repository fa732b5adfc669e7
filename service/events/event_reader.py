"""Reads events page by page, as the parts of messages."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.clock import Clock
from service.postgres.deployment import Deployment
from service.store.event_position import EventPosition
from service.store.order_events import EventPage, OrderEvent, OrderEvents
from service.store.orders import ListFilter
from service.turns import Steps, Turns

_READ_AT_ONCE = 2
_MOST_SHARED_PAGES = 32
_LARGEST_MESSAGE = 128 * 1024


_Key = tuple[EventPosition, EventPosition, str | None]


class Writer(Protocol):
    """Writes messages."""

    def event(self, event: OrderEvent) -> bytes:
        """Return an event in JSON."""
        ...

    def message(self, events: Sequence[bytes], position: str) -> bytes:
        """Return a message with events, and the position after them."""
        ...


@dataclass(frozen=True, slots=True)
class MessagePart:
    """A part of a page, for one message: its events, in JSON too, and the position after them."""

    events: list[OrderEvent]
    texts: list[bytes]
    position: str

    def matching(self, wanted: ListFilter) -> list[bytes]:
        """Return the events that a filter selects, in JSON."""
        return [text for event, text in zip(self.events, self.texts, strict=True) if matches(wanted, event)]


@dataclass(frozen=True, slots=True)
class MessageParts:
    """A page in parts, and the position after it."""

    parts: list[MessagePart]
    position: EventPosition


class EventReader:
    """Reads events.

    Args:
        events: The stored events.
        clock: Measures how long the event loop is blocked.
        deployment: The deployment whose positions these are.
        writer: Writes events in JSON.
    """

    def __init__(self, events: OrderEvents, clock: Clock, deployment: Deployment, writer: Writer) -> None:
        self._events = events
        self._deployment = deployment
        self._writer = writer
        self._turns = Turns(clock)
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        # What is between two positions never changes.
        self._shared: dict[_Key, asyncio.Task[MessageParts]] = {}

    async def horizon(self) -> EventPosition:
        """Return the position after all events that have been committed.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        return await self._events.horizon()

    async def can_resume(self, position: EventPosition, horizon: EventPosition) -> bool:
        """Return whether the events after a position can be read; ``horizon`` is what ``horizon`` returned.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        return position.is_valid_at(horizon) and await self._events.has_last_of(position)

    async def read(
        self, done: EventPosition, until: EventPosition, accounts: Collection[str] | None
    ) -> MessageParts:
        """Read the next page between two positions; arguments as of ``OrderEvents.page``.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        page = await self._events.page(done, until, accounts)
        return MessageParts(await self._turns.run(self._parts(page)), page.position)

    async def read_shared(
        self, done: EventPosition, until: EventPosition, account: str | None
    ) -> MessageParts:
        """Read a page, a few at once; one that was just read for another client is not read again.

        When a service restarts, all its clients resume at once, from few different positions.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        key = (done, until, account)
        task = self._shared.get(key)
        if task is None:
            task = self._shared[key] = asyncio.create_task(self._read_in_turn(*key), name="event backlog")
            task.add_done_callback(lambda task: self._drop_failed(key, task))
            self._drop_oldest()
        # Others may wait for it too.
        return await asyncio.shield(task)

    async def _read_in_turn(
        self, done: EventPosition, until: EventPosition, account: str | None
    ) -> MessageParts:
        async with self._reading:
            return await self.read(done, until, None if account is None else [account])

    async def stop(self) -> None:
        """Stop the reads that are shared."""
        running = [task for task in self._shared.values() if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _drop_oldest(self) -> None:
        if len(self._shared) > _MOST_SHARED_PAGES:
            read = [key for key, task in self._shared.items() if task.done()]
            for key in read[: len(self._shared) - _MOST_SHARED_PAGES]:
                del self._shared[key]

    def _drop_failed(self, key: _Key, task: asyncio.Task[MessageParts]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed and self._shared.get(key) is task:
            del self._shared[key]

    def _parts(self, page: EventPage) -> Steps[list[MessagePart]]:
        parts: list[MessagePart] = []
        events: list[OrderEvent] = []
        texts: list[bytes] = []
        size = 0
        for event in page.events:
            events.append(event)
            texts.append(self._writer.event(event))
            size += len(texts[-1])
            if size >= _LARGEST_MESSAGE or event is page.events[-1]:
                position = page.position_after(event).encode(self._deployment.id)
                parts.append(MessagePart(events, texts, position))
                events, texts, size = [], [], 0
            yield
        return parts


def matches(wanted: ListFilter, event: OrderEvent) -> bool:
    """Return whether a filter selects an event. The statuses are those of the event, not of the order."""
    orders = wanted.orders
    prefix = wanted.client_order_id_prefix
    return (
        orders.account in {None, event.account}
        and orders.order_type in {None, event.order_type}
        and orders.token_in in {None, event.token_in}
        and orders.token_out in {None, event.token_out}
        and orders.label in {None, event.label}
        and (not wanted.statuses or event.entry["status"] in wanted.statuses)
        and (prefix is None or (event.client_order_id or "").startswith(prefix))
    )
