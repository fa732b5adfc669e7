"""Background loops that run as long as the service does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from service.clock import Clock

log = logging.getLogger(__name__)

_CANCEL_AGAIN_S = 0.1
_RESTART_PAUSE_S = 0.5


async def cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks, and return when they have ended.

    It cancels repeatedly: Python 3.11's wait_for, which libraries use, swallows a cancellation that arrives
    together with the result. For the same reason the caller may be cancelled more than once: that is raised
    only when the tasks have ended, so that none of them is left running.
    """
    left = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while left:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
        left = {task for task in left if not task.done()}
    if cancelled is not None:
        raise cancelled


class Background:
    """Starts and stops one coroutine that never returns; both are idempotent.

    Args:
        name: For the log and for debuggers.
        run: The loop. It handles expected errors itself; others are logged, and the loop is restarted.
        clock: Times the pause before a restart.
    """

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._name = name
        self._run = run
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run_forever(), name=self._name)

    async def stop(self) -> None:
        """Stop the loop, and return when it has ended."""
        task, self._task = self._task, None
        if task is not None:
            await cancel([task])

    async def _run_forever(self) -> None:
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("%s: internal error", self._name)
            await self._clock.sleep(_RESTART_PAUSE_S)
