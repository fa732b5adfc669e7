"""The pump: sends the events of all orders to the sockets on this instance, each once and in order.

One pump serves all sockets. It takes a snapshot of PostgreSQL, reads the events since the snapshot before,
and writes each message once for all sockets with the same filter. It does so soon after it is told that
something was committed, and four times a second in any case, since such a message may be lost.

The backlog of a client that resumes is read for it until it has reached the pump.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from service.background import Background
from service.clock import Clock
from service.events.event_reader import EventReader, Writer
from service.events.message_queue import MessageQueue
from service.postgres.database import UnavailableError
from service.postgres.deployment import Deployment
from service.store.event_position import EventPosition
from service.store.order_events import OrderEvents
from service.store.orders import ListFilter

log = logging.getLogger(__name__)

_POLL_S = 0.25
# After a step the pump pauses for twice as long as the step took, so that other work gets its share.
_LEAST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_PAUSE_PER_BUSY_S = 2.0
_QUIET_S = 10.0
_RETRY_S = 0.5
_SEND_TOGETHER = 50

T = TypeVar("T")
Send = Callable[[bytes], Awaitable[None]]


class EraChangedError(Exception):
    """Positions of before are not valid any more: PostgreSQL was restored, or another one has taken over."""


@dataclass(slots=True)
class _Group:
    """The sockets with the same filter, and when they were last sent a message."""

    sent_at: float
    queues: dict[MessageQueue, None] = field(default_factory=dict)


_Members = tuple[ListFilter, _Group, list[MessageQueue]]
"""A group and its sockets when a step began."""


class EventPump:
    """Sends events to sockets.

    Args:
        events: Reads the events.
        clock: Times the reads.
        deployment: The deployment whose positions these are.
        writer: Writes the messages.
    """

    def __init__(self, events: OrderEvents, clock: Clock, deployment: Deployment, writer: Writer) -> None:
        self._reader = EventReader(events, clock, deployment, writer)
        self._clock = clock
        self._deployment = deployment
        self._writer = writer
        self._groups: dict[ListFilter, _Group] = {}
        # How far the events have been read for the sockets; one that joins reads up to here by itself.
        self._reached: EventPosition | None = None
        self._awake = asyncio.Event()
        self._waiting: list[asyncio.Future[EventPosition]] = []
        self._pumping = Background("event pump", self._pump_forever, clock)
        self._polling = Background("event poll", self._poll_forever, clock)

    def start(self) -> None:
        """Begin to send."""
        self._pumping.start()
        self._polling.start()

    async def stop(self) -> None:
        """Stop sending."""
        await self._polling.stop()
        await self._pumping.stop()
        await self._reader.stop()
        self._fail_waiting("the service is stopping")

    def wake(self, _steps: object = None) -> None:
        """Look for new events: something was committed. Does not block."""
        if self._groups:
            self._awake.set()

    async def horizon(self) -> EventPosition:
        """Return the position after all events that have been committed. Concurrent calls are one read.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        answer: asyncio.Future[EventPosition] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._awake.set()
        return await answer

    async def can_resume(self, position: EventPosition, horizon: EventPosition) -> bool:
        """Return whether a stream can begin after a position; ``horizon`` is what ``horizon`` returned.

        Raises:
            UnavailableError: PostgreSQL is unavailable.
        """
        return await self._reader.can_resume(position, horizon)

    async def follow(
        self, wanted: ListFilter, position: EventPosition, horizon: EventPosition, send: Send
    ) -> None:
        """Send the messages of a client, for ever; the first one has no events.

        Args:
            wanted: Selects the events.
            position: After which the events are sent.
            horizon: What ``horizon`` has returned.
            send: Sends a message to the client; awaited for each.

        Raises:
            SlowReaderError: The client is too slow.
            EraChangedError: The client must connect again, and its position is not valid any more.
        """
        await send(self._writer.message([], position.encode(self._deployment.id)))
        # While a long backlog is sent, a new one arises; a short rest of it can wait in the queue.
        while (await self._send_backlog(wanted, position, horizon, send)) > 1:
            position, horizon = horizon, await self._patiently(self.horizon)
            _check_era(position, horizon)
        with self._join(wanted) as (queue, reached):
            _check_era(horizon, reached)
            await self._send_backlog(wanted, horizon, reached, send)
            while True:
                await send(await queue.get())

    async def _send_backlog(
        self, wanted: ListFilter, done: EventPosition, until: EventPosition, send: Send
    ) -> int:
        """Send the events between two positions, and return how many pages they were.

        A message without events says how far it is, so that a client whose connection breaks does not start
        again.
        """
        pages = 0
        sent_at = self._clock.monotonic()
        while done.target is not None or done.base != until.base:
            read = partial(self._reader.read_shared, done, until, wanted.orders.account)
            page = await self._patiently(read)
            for part in page.parts:
                if texts := part.matching(wanted):
                    await send(self._writer.message(texts, part.position))
                    sent_at = self._clock.monotonic()
            done, pages = page.position, pages + 1
            if sent_at <= self._clock.monotonic() - _QUIET_S:
                await send(self._writer.message([], done.encode(self._deployment.id)))
                sent_at = self._clock.monotonic()
        return pages

    @contextmanager
    def _join(self, wanted: ListFilter) -> Iterator[tuple[MessageQueue, EventPosition]]:
        """Have the messages of a filter put into a queue; those after a position that is returned too."""
        if self._reached is None:
            raise RuntimeError("the horizon was not read")
        queue = MessageQueue()
        group = self._groups.setdefault(wanted, _Group(self._clock.monotonic()))
        group.queues[queue] = None
        try:
            yield queue, self._reached
        finally:
            del group.queues[queue]
            if not group.queues:
                del self._groups[wanted]

    async def _poll_forever(self) -> None:
        while True:
            await self._clock.sleep(_POLL_S)
            self.wake()

    async def _pump_forever(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            began = self._clock.monotonic()
            await self._step()
            busy_s = self._clock.monotonic() - began
            pause_s = max(_LEAST_PAUSE_S, _PAUSE_PER_BUSY_S * busy_s)
            await self._clock.sleep(min(pause_s, _LONGEST_PAUSE_S))

    async def _step(self) -> None:
        """Read how far the events are, and send those up to there."""
        # Later calls need a later read.
        waiting = list(self._waiting)
        try:
            horizon = await self._reader.horizon()
        except UnavailableError as error:
            self._fail_waiting(error)
            return
        except Exception:
            self._fail_waiting("internal error")
            raise
        for answer in waiting:
            if not answer.done():
                answer.set_result(horizon)
        self._waiting = [answer for answer in self._waiting if not answer.done()]
        # From here to the copy of the groups nothing is awaited: who joins later joins at this horizon.
        before, self._reached = self._reached, horizon
        groups = [(wanted, group, list(group.queues)) for wanted, group in self._groups.items()]
        if before is None or not groups:
            return
        try:
            _check_era(before, horizon)
            await self._deliver(before, horizon, groups)
        except EraChangedError as error:
            _fail(groups, error)
        except Exception as error:
            # These sockets would miss the events: their clients connect again and resume.
            _fail(groups, error)
            raise

    async def _deliver(self, done: EventPosition, horizon: EventPosition, groups: list[_Members]) -> None:
        """Send the events between two positions."""
        named = {wanted.orders.account for wanted, _group, _queues in groups}
        accounts = None if None in named else [account for account in named if account is not None]
        while done.base != horizon.base:
            page = await self._patiently(partial(self._reader.read, done, horizon, accounts))
            for part in page.parts:
                for wanted, group, queues in groups:
                    if texts := part.matching(wanted):
                        await self._put(group, queues, self._writer.message(texts, part.position))
                    else:
                        # Hundreds of filters may match nothing.
                        await asyncio.sleep(0)
            done = page.position
        quiet_since = self._clock.monotonic() - _QUIET_S
        for _wanted, group, queues in groups:
            if group.sent_at <= quiet_since:
                await self._put(group, queues, self._writer.message([], horizon.encode(self._deployment.id)))

    async def _put(self, group: _Group, queues: list[MessageQueue], message: bytes) -> None:
        """Put a message into the queues of a group, with yields to the event loop, in which they are sent."""
        group.sent_at = self._clock.monotonic()
        for first in range(0, len(queues), _SEND_TOGETHER):
            for queue in queues[first : first + _SEND_TOGETHER]:
                queue.put(message)
            await asyncio.sleep(0)

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Repeat a read until PostgreSQL answers."""
        while True:
            try:
                return await read()
            except UnavailableError as error:
                self._fail_waiting(error)
                await self._clock.sleep(_RETRY_S)

    def _fail_waiting(self, reason: object) -> None:
        """Fail the calls that wait for the horizon."""
        log.debug("events: not read (%s)", reason)
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            if not answer.done():
                answer.set_exception(UnavailableError(str(reason), unknown=False))


def _check_era(before: EventPosition, after: EventPosition) -> None:
    if before.era != after.era or before.base.next_xid > after.base.next_xid:
        raise EraChangedError


def _fail(groups: list[_Members], error: Exception) -> None:
    for _wanted, _group, queues in groups:
        for queue in queues:
            queue.fail(error)
