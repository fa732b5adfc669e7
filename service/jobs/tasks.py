"""What a wake-up runs."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from taskiq import AsyncTaskiqDecoratedTask

from service.jobs.broker import WakeUpBroker

Execute = Callable[[str], Awaitable[None]]
"""Works on the order of an id, if there is anything to do."""


class Jobs:
    """The jobs there are: one.

    Args:
        broker: where wake-ups go.
        execute: works on an order.
    """

    def __init__(self, broker: WakeUpBroker, execute: Execute) -> None:
        async def execute_order(order_id: str) -> None:
            # Cancelled is what a job is when the service stops; taskiq would log it as an error.
            with suppress(asyncio.CancelledError):
                await execute(order_id)

        self._execute_order: AsyncTaskiqDecoratedTask[..., object] = broker.register_task(
            execute_order, task_name="execute_order"
        )

    async def wake(self, order_ids: Iterable[str]) -> None:
        """Have somebody look at orders, soon. Never fails: a wake-up that is lost is sent again."""
        for order_id in order_ids:
            await self._execute_order.kiq(order_id)
