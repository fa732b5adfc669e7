"""The orders that this process is executing, each with its task."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from service.background import cancel


class RunningOrders:
    """Tracks the orders in execution, so that none is executed twice at the same time.

    An order runs in a worker's task from ``begin`` to ``end``. Between the two it may move to a background
    task of its own, which occupies no worker, and then runs until that task ends.

    Args:
        requeue: Called with an order that has stopped running, if a wake-up was consumed while it ran: it
            may be due again, if the wake-up was sent after its last step.
    """

    def __init__(self, requeue: Callable[[str], None]) -> None:
        self._requeue = requeue
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

    def end(self, order_id: str) -> None:
        """Deregister an order from the task that began it."""
        if order_id not in self._in_background:
            self._remove(order_id)

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
        self._in_background.discard(order_id)
        self._remove(order_id)

    def _remove(self, order_id: str) -> None:
        del self._tasks[order_id]
        if order_id in self._woken:
            self._woken.remove(order_id)
            self._requeue(order_id)

    async def cancel(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        await cancel([task for task in self._tasks.values() if task is not None])
