"""The orders that this process works on, each with its task."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from service.background import cancel


class RunningOrders:
    """Which orders are worked on here, so that none is worked on twice at once.

    An order runs in a worker's task from ``begin`` to ``end``. One that is set aside between the two goes on
    in a task of its own, which holds up no worker, until that task ends.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None] | None] = {}
        self._aside: set[str] = set()
        # Those set aside whose transaction may have landed.
        self._unknown: set[str] = set()
        # Those for which a wake-up came while they ran.
        self._woken: set[str] = set()

    @property
    def ids(self) -> list[str]:
        """The ids of all orders."""
        return list(self._tasks)

    @property
    def unknown_outcomes(self) -> int:
        """How many transactions have been sent of which the venue has not told the outcome in time."""
        return len(self._unknown)

    def begin(self, order_id: str) -> bool:
        """Work on an order in the current task; False if it is worked on already, which notes the wake-up."""
        if order_id in self._tasks:
            self._woken.add(order_id)
            return False
        self._tasks[order_id] = asyncio.current_task()
        return True

    def was_woken(self, order_id: str) -> bool:
        """Return whether a wake-up has come for an order since it began."""
        return order_id in self._woken

    def end(self, order_id: str) -> None:
        """Work on an order no more in the task that began it."""
        self._woken.discard(order_id)
        if order_id not in self._aside:
            del self._tasks[order_id]

    def set_aside(
        self, order_id: str, work: Coroutine[Any, Any, None], *, outcome_unknown: bool = False
    ) -> None:
        """Go on with an order without holding up a worker.

        Args:
            order_id: Which order; it has begun and not ended.
            work: What is left to do.
            outcome_unknown: Whether a transaction of it may have landed.
        """
        if outcome_unknown:
            self._unknown.add(order_id)
        task = asyncio.create_task(work, name=f"aside {order_id}")
        # Not at the coroutine's own end: one that is cancelled before it has begun has none.
        task.add_done_callback(lambda _task: self._forget(order_id))
        self._aside.add(order_id)
        self._tasks[order_id] = task

    def _forget(self, order_id: str) -> None:
        self._unknown.discard(order_id)
        self._aside.discard(order_id)
        del self._tasks[order_id]

    async def cancel(self) -> None:
        """Cancel all work, and return when it has ended."""
        await cancel([task for task in self._tasks.values() if task is not None])
