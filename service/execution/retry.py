"""What follows a failed attempt: another one, rest, or the end. A pure policy."""

from dataclasses import dataclass

from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.lifecycle import Event
from service.domain.order import OrderType
from service.store.claims import Claimed

_PRICE_IS_GONE = frozenset(
    {
        FailureCode.LIMIT_NOT_REACHED,
        FailureCode.SLIPPAGE_EXCEEDED,
        FailureCode.INSUFFICIENT_LIQUIDITY,
        FailureCode.NO_ROUTE,
        FailureCode.AMOUNT_TOO_SMALL,
        FailureCode.POOL_DISABLED,
        FailureCode.POOL_NOT_OPEN,
        FailureCode.UNSUPPORTED_POOL,
    }
)
"""What the market may make good by moving: a limit order waits for that."""


ROOM_TO_RETURN = 50
"""Entries past the bound of amendments up to which an order may rest again: amending uses up none of them."""


@dataclass(frozen=True, slots=True)
class Next:
    """What follows: ``failure`` is what the history says, ``delay_ms`` how long a retry waits."""

    trigger: Event
    failure: Failure
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``max_retries`` more attempts: after ``base_delay_ms``, then after twice as long each time.

    ``max_history_entries`` bounds what amendments may make of a history; see ``ROOM_TO_RETURN``.
    """

    max_retries: int
    base_delay_ms: int
    max_history_entries: int

    def after(self, order: Claimed, failure: Failure, entries: int) -> Next:
        """Return what follows a failed attempt of an order whose history has so many entries.

        A limit order whose price is gone rests again, which uses up no retry, unless its history is full:
        then it has failed. One that was for now or never has expired.
        """
        if order.time_in_force is not None and not order.time_in_force.rests:
            return Next(Event.EXPIRE, _because(FailureCode.NOT_FILLED_IMMEDIATELY, failure))
        if order.order_type is OrderType.LIMIT and failure.code in _PRICE_IS_GONE:
            if entries >= self.max_history_entries + ROOM_TO_RETURN:
                return Next(Event.FAIL, _because(FailureCode.HISTORY_FULL, failure))
            return Next(Event.REST, failure)
        delay_ms = self.delay_ms(failure, order.attempts_since_rest)
        if delay_ms is None:
            return Next(Event.FAIL, failure)
        return Next(Event.RETRY, failure, delay_ms)

    def delay_ms(self, failure: Failure, attempts: int) -> int | None:
        """Return how long to wait before the next attempt, or None when there is none.

        Args:
            failure: Why the last attempt failed.
            attempts: How many have been made, at least one.
        """
        if failure.remedy is Remedy.NONE or attempts > self.max_retries:
            return None
        return self.base_delay_ms << (attempts - 1)

    def jitter_ms(self) -> int:
        """Return how much may be added to a delay, so that orders that failed together spread out."""
        return self.base_delay_ms // 20


def _because(code: FailureCode, failure: Failure) -> Failure:
    """Return a failure that another one led to, and say both."""
    return Failure(code, f"{Failure.of(code).detail} {failure.detail}")
