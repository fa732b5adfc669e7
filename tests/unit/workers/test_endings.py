"""The loop that ends orders on time."""

from typing import cast

from service.store.endings import MAX_PER_STATEMENT, Endings
from service.workers.endings import EndingLoop
from tests.support.clock import ManualClock, settle


class FakeEndings:
    """Reports how many orders each statement ended, as given, and records the calls."""

    def __init__(self, *ended: int) -> None:
        self._ended = [*ended]
        self.asked: list[str] = []

    async def end_expired(self) -> int:
        self.asked.append("expired")
        return self._ended.pop(0) if self._ended else 1

    async def end_cancelled(self) -> int:
        self.asked.append("cancelled")
        return 0


async def test_many_expired_orders_do_not_delay_cancelled_ones() -> None:
    endings, clock = FakeEndings(MAX_PER_STATEMENT, MAX_PER_STATEMENT, 3), ManualClock()
    loop = EndingLoop(cast("Endings", endings), clock)
    loop.start()
    await settle()
    assert endings.asked == ["expired", "expired", "expired", "cancelled"]
    await clock.advance(0.5)
    assert endings.asked[4:] == ["expired", "cancelled"]
    await loop.stop()
