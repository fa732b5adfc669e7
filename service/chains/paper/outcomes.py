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

    async def wait(self, key: str, timeout_s: float) -> Outcome | None:
        """Wait for the outcome of a signature or a command's id; None after the time-out."""
        if key in self._recent:
            return self._recent[key]
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, []).append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            return None
        finally:
            waiters = self._waiters.get(key)
            if waiters is not None:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[key]

    def deliver(self, key: str, outcome: Outcome) -> None:
        """Deliver a final outcome to the callers that wait for it."""
        self._recent[key] = outcome
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        for waiter in self._waiters.get(key, ()):
            if not waiter.done():
                waiter.set_result(outcome)
