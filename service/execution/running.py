"""The orders that this process is executing, each with its task."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from service.background import cancel


class RunningOrders:
    """Tracks the orders in execution, so that none is executed twice at the same time.

    An order runs in a worker's task from ``begin`` to ``end``. Between the two it may move to a background
    task of its own, which occupies no worker, and then runs until that task ends.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None] | None] = {}
        self._in_background: set[str] = set()
        # Orders in the background whose transaction may have landed, without a word of the venue.
        self._unknown: set[str] = set()
        # Orders for which a wake-up arrived while they ran.
        self._woken: set[str] = set()

    @property
    def ids(self) -> list[str]:
        """The ids of all orders in execution."""
        return list(self._tasks)

    @property
    def in_background(self) -> int:
        """The number of orders in the background."""
        return len(self._in_background)

    @property
    def unknown_outcomes(self) -> int:
        """The number of orders whose transaction was sent, and of which the venue reports nothing."""
        return len(self._unknown)

    def begin(self, order_id: str) -> bool:
        """Register an order for the current task; if it is registered already, note the wake-up: False."""
        if order_id in self._tasks:
            self._woken.add(order_id)
            return False
        self._tasks[order_id] = asyncio.current_task()
        return True

    def was_woken(self, order_id: str) -> bool:
        """Return whether a wake-up has arrived for an order since it began."""
        return order_id in self._woken

    def end(self, order_id: str) -> None:
        """Deregister an order from the task that began it."""
        self._woken.discard(order_id)
        if order_id not in self._in_background:
            del self._tasks[order_id]

    def continue_in_background(self, order_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Continue an order in a background task of its own, without occupying a worker.

        Args:
            order_id: An order that has begun and not ended.
            work: The rest of its execution.
        """
        task = asyncio.create_task(work, name=f"background {order_id}")
        # Not in the coroutine itself: if cancelled before it starts, it runs no code.
        task.add_done_callback(lambda _task: self._forget(order_id))
        self._in_background.add(order_id)
        self._tasks[order_id] = task

    def set_unknown(self, order_id: str, *, unknown: bool) -> bool:
        """Set whether the outcome of an order in the background is unknown; return whether that is new."""
        if unknown == (order_id in self._unknown):
            return False
        if unknown:
            self._unknown.add(order_id)
        else:
            self._unknown.remove(order_id)
        return True

    def _forget(self, order_id: str) -> None:
        self._unknown.discard(order_id)
        self._woken.discard(order_id)
        self._in_background.discard(order_id)
        del self._tasks[order_id]

    async def cancel(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        await cancel([task for task in self._tasks.values() if task is not None])
