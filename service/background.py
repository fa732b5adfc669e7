"""A loop that runs beside everything else for as long as the service does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from service.clock import Clock

log = logging.getLogger(__name__)

_CANCEL_AGAIN_S = 0.1
_BEGIN_ANEW_S = 0.5


async def cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks, and return when they have ended.

    Again and again: Python 3.11's wait_for, which libraries use, swallows a cancellation that comes
    together with an answer.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _done, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)


class Background:
    """Starts and stops one coroutine that never returns; both may be called twice.

    Args:
        name: For the log and for debuggers.
        run: The loop. It deals with the errors it knows; any other is logged, and it begins anew.
        clock: How long that takes.
    """

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._name = name
        self._run = run
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run."""
        if self._task is None:
            self._task = asyncio.create_task(self._run_for_ever(), name=self._name)

    async def stop(self) -> None:
        """Stop running, and return when it has."""
        task, self._task = self._task, None
        if task is not None:
            await cancel([task])

    async def _run_for_ever(self) -> None:
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("%s: an error of the service's own", self._name)
            await self._clock.sleep(_BEGIN_ANEW_S)
