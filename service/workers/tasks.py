"""What a wake-up runs."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from taskiq import AsyncTaskiqDecoratedTask

from service.redis.link import RedisLink
from service.workers.broker import WakeUpBroker
from service.workers.receiver import Execute


class Jobs:
    """The jobs there are: one.

    Args:
        broker: Where wake-ups go.
        link: Tells whether they can.
        execute: Works on an order.
        take: Has this process's workers do so while Redis is away.
    """

    def __init__(
        self,
        broker: WakeUpBroker,
        link: RedisLink,
        *,
        execute: Execute,
        take: Callable[[Iterable[str]], None],
    ) -> None:
        async def execute_order(order_id: str) -> None:
            # Cancelled is what a job is when the service stops; taskiq would log it as an error.
            with suppress(asyncio.CancelledError):
                await execute(order_id)

        self._link = link
        self._take = take
        self._execute_order: AsyncTaskiqDecoratedTask[..., object] = broker.register_task(
            execute_order, task_name="execute_order"
        )

    async def wake(self, order_ids: Iterable[str]) -> None:
        """Have somebody look at orders, soon. Never fails: a wake-up that is lost is sent again."""
        if not self._link.available:
            self._take(order_ids)
            return
        for order_id in order_ids:
            await self._execute_order.kiq(order_id)
