"""Batches: requests that arrive while a statement is running are combined into the next one.

For writes this is group commit: one statement and one commit for any number of requests.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.background import cancel
from service.clock import Clock
from service.postgres.database import UnavailableError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_FIRST_PAUSE_S = 0.05
# As often as a connection is attempted: while there is none, a statement fails at once and costs little.
_LONGEST_PAUSE_S = 0.25
_STOP_AFTER_S = 1.0


class QueueFullError(Exception):
    """The queue has reached its limit; the caller should try again later."""


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Result]
    maybe_written: bool = False


class Batcher(Generic[Item, Result]):
    """Runs a statement for many items at once; each caller gets its own result or its own error.

    While PostgreSQL is unavailable, a patient batcher repeats the current group, with a pause that doubles up
    to a quarter of a second. So ``run`` must be idempotent: for items that it has already written, it
    returns their results.

    Args:
        run: Takes a group and returns one result (or exception) for each item, in order.
        clock: Times the pauses between repeats.
        name: For the log.
        key: Two items of the same key never go into one group.
        largest: Maximum number of items in a group.
        limit: Maximum number of waiting items; None is no limit.
        patient: Whether to wait for PostgreSQL instead of failing while it is unavailable.
        on_unclaimed: Called with an item that was written after its caller was cancelled or timed out.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        clock: Clock,
        name: str,
        key: Callable[[Item], Hashable],
        largest: int,
        limit: int | None = None,
        patient: bool = True,
        on_unclaimed: Callable[[Item], None] | None = None,
    ) -> None:
        self._run = run
        self._patient = patient
        self._on_unclaimed = on_unclaimed
        self._clock = clock
        self._name = name
        self._key = key
        self._largest = largest
        self._limit = limit
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, item: Item, timeout_s: float | None = None) -> Result:
        """Add an item to a group, and return its result.

        Raises:
            QueueFullError: The limit is reached; the item was not added.
            UnavailableError: Time-out; ``unknown`` if the item may have been written, or may still be.
            Exception: The item's exception from ``run``.
        """
        if self._limit is not None and len(self._queue) >= self._limit:
            # Items of cancelled callers do not count against the limit.
            self._queue = deque(w for w in self._queue if not w.answer.cancelled())
            if len(self._queue) >= self._limit:
                raise QueueFullError(self._name)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(item, answer)
        self._queue.append(waiting)
        if self._runner is None:
            # A separate task, so that all submissions of this iteration of the event loop share a group.
            self._runner = asyncio.create_task(self._run_all(), name=self._name)
        if timeout_s is None:
            return await answer
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise UnavailableError("no answer in time", unknown=waiting.maybe_written) from None

    async def stop(self) -> None:
        """Wait until the queue is empty, but not long if PostgreSQL is unavailable."""
        runner = self._runner
        if runner is not None and not runner.done():
            await asyncio.wait([runner], timeout=_STOP_AFTER_S)
            await cancel([runner])

    async def _run_all(self) -> None:
        try:
            while self._queue:
                group = self._take_group()
                if group:
                    await self._run_group(group)
        finally:
            self._runner = None

    def _take_group(self) -> list[_Waiting[Item, Result]]:
        """Take the oldest items, without those of cancelled callers and further ones of the same key."""
        group: list[_Waiting[Item, Result]] = []
        later: list[_Waiting[Item, Result]] = []
        keys: set[Hashable] = set()
        while self._queue and len(group) < self._largest:
            waiting = self._queue.popleft()
            if waiting.answer.cancelled():
                continue
            key = self._key(waiting.item)
            if key in keys:
                later.append(waiting)
            else:
                keys.add(key)
                group.append(waiting)
        self._queue.extendleft(reversed(later))
        return group

    async def _run_group(self, group: list[_Waiting[Item, Result]]) -> None:
        try:
            results = await self._run_until_answered(group)
        except UnavailableError as error:
            for waiting in group:
                self._answer(waiting, error)
        except Exception as error:  # noqa: BLE001 - the caller handles it
            # One bad item must not fail the others, whatever is wrong with it: run them one by one.
            if len(group) == 1:
                self._answer(group[0], error)
                return
            for waiting in group:
                await self._run_group([waiting])
        else:
            for waiting, result in zip(group, results, strict=True):
                self._answer(waiting, result)

    async def _run_until_answered(self, group: list[_Waiting[Item, Result]]) -> Sequence[Result | Exception]:
        """Run the group until PostgreSQL answers; items of cancelled callers are dropped if never sent."""
        pause_s = _FIRST_PAUSE_S
        while True:
            # A caller that timed out before its item was sent was told that it is not written. Keep that
            # true.
            group[:] = [w for w in group if w.maybe_written or not w.answer.cancelled()]
            if not group:
                return []
            unsent = [waiting for waiting in group if not waiting.maybe_written]
            for waiting in unsent:
                waiting.maybe_written = True
            try:
                results = await self._run([waiting.item for waiting in group])
            except UnavailableError as error:
                if not self._patient:
                    raise
                if not error.unknown:
                    for waiting in unsent:
                        waiting.maybe_written = False
                log.warning(
                    "%s: PostgreSQL is unavailable (%s); retrying",
                    self._name,
                    error,
                    extra={"fault": "postgresql"},
                )
            else:
                if len(results) != len(group):
                    raise RuntimeError(f"{self._name}: {len(results)} results for {len(group)} items")
                return results
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _answer(self, waiting: _Waiting[Item, Result], result: Result | Exception) -> None:
        if waiting.answer.done():
            if self._on_unclaimed is not None and not isinstance(result, Exception):
                self._on_unclaimed(waiting.item)
        elif isinstance(result, Exception):
            waiting.answer.set_exception(result)
        else:
            waiting.answer.set_result(result)
