"""What became of transactions, for those who wait for it on this instance."""

import asyncio

from service.domain.attempt import AttemptStatus

_RECENT = 10_000


class Outcomes:
    """Tells outcomes to those who wait, and to those who ask just after."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[asyncio.Future[AttemptStatus]]] = {}
        self._recent: dict[str, AttemptStatus] = {}

    async def wait(self, signature: str, timeout_s: float) -> AttemptStatus | None:
        """Wait for a transaction's outcome to be told here; None when that does not happen in time."""
        if signature in self._recent:
            return self._recent[signature]
        waiter: asyncio.Future[AttemptStatus] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(signature, []).append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            waiters = self._waiters.get(signature)
            if waiters is not None:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[signature]

    def tell(self, signature: str, status: AttemptStatus) -> None:
        """Tell a final status."""
        self._recent[signature] = status
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        for waiter in self._waiters.get(signature, ()):
            if not waiter.done():
                waiter.set_result(status)
