"""Outcomes of transactions and commands, for callers that wait for them on this instance."""

import asyncio
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")

_RECENT = 10_000


class Outcomes(Generic[Outcome]):
    """Delivers outcomes to waiting callers, and keeps recent ones for later callers."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._recent: dict[str, Outcome] = {}

    async def wait(self, asked: str, timeout_s: float) -> Outcome | None:
        """Wait for the outcome of an id; None after the time-out."""
        if asked in self._recent:
            return self._recent[asked]
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(asked, []).append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            waiters = self._waiters.get(asked)
            if waiters is not None:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[asked]

    def tell(self, asked: str, outcome: Outcome) -> None:
        """Deliver a final outcome."""
        self._recent[asked] = outcome
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        for waiter in self._waiters.get(asked, ()):
            if not waiter.done():
                waiter.set_result(outcome)
