"""A client of an instance of the service: places orders, and follows them to their end."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout

from service.clock import Clock
from service.domain.lifecycle import TERMINAL
from service.smoke.report import StepFailedError

Json = dict[str, Any]

_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.2
_LARGEST_PAGE = 500


class OrderClient:
    """A client of one instance; a context manager.

    Args:
        url: Where the instance listens.
        clock: Times the waits.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock

    async def __aenter__(self) -> Self:
        self._session = ClientSession(self._url, timeout=ClientTimeout(_TIMEOUT_S))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    async def place(self, **members: str) -> str:
        """Place an order, and return its id.

        Raises:
            StepFailedError: It was refused.
        """
        async with self._session.post("/api/orders/execute", json=members) as response:
            body = await response.json()
            if response.status not in (200, 201):
                raise StepFailedError(f"the order was refused: {body.get('detail') or body.get('title')}")
            return str(body["id"])

    async def get(self, path: str) -> Json:
        """Return what a route answers.

        Raises:
            StepFailedError: It answers with a problem.
        """
        async with self._session.get(path) as response:
            body: Json = await response.json()
            if not response.ok:
                raise StepFailedError(f"{path}: {body.get('detail') or body.get('title')}")
            return body

    async def end_of(self, order_id: str, patience_s: float) -> Json:
        """Wait for an order's end, and return it.

        Raises:
            StepFailedError: It has not ended in time.
        """
        return await self._wait(order_id, patience_s, lambda order: order["status"] in TERMINAL)

    async def end_unless_dead(
        self, order_id: str, patience_s: float, is_dead: Callable[[], bool]
    ) -> Json | None:
        """Wait for an order's end, or the instance's; return the order, or None if the instance is dead.

        Raises:
            StepFailedError: Neither has ended in time.
        """
        try:
            order = await self._wait(
                order_id, patience_s, lambda order: is_dead() or order["status"] in TERMINAL
            )
        except ClientError:
            # Its connection is closed before its end can be seen.
            return None
        return None if is_dead() else order

    async def _wait(self, order_id: str, patience_s: float, is_over: Callable[[Json], bool]) -> Json:
        give_up = self._clock.monotonic() + patience_s
        while True:
            order = await self.get(f"/api/orders/{order_id}")
            if is_over(order):
                return order
            if self._clock.monotonic() > give_up:
                raise StepFailedError(
                    f"order {order_id} has not ended after {patience_s:.0f} s: {order['status']}"
                )
            await self._clock.sleep(_LOOK_EVERY_S)

    async def balances(self) -> dict[str, Decimal]:
        """Return what the wallet holds, in display units by token."""
        page = await self.get(f"/api/balances?limit={_LARGEST_PAGE}")
        return {
            each["token"]: sum((Decimal(each[part]) for part in ("free", "inFlight", "reserved")), Decimal())
            for each in page["balances"]
        }
