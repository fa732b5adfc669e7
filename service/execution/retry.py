"""What follows a failed try: another one, rest, or the end. A pure policy."""

from dataclasses import dataclass

from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.lifecycle import Trigger
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


@dataclass(frozen=True, slots=True)
class Next:
    """What follows: ``failure`` is what the history says, ``delay_ms`` how long a retry waits."""

    trigger: Trigger
    failure: Failure
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``max_retries`` more tries: after ``base_delay_ms``, then after twice as long each time."""

    max_retries: int
    base_delay_ms: int

    def after(self, order: Claimed, failure: Failure) -> Next:
        """Return what follows a failed try of an order.

        A limit order whose price is gone rests again, which uses up no retry; one that was for now or
        never has expired.
        """
        if order.time_in_force is not None and not order.time_in_force.rests:
            code = FailureCode.NOT_FILLED_IMMEDIATELY
            return Next(Trigger.EXPIRE, Failure(code, f"{Failure.of(code).detail} {failure.detail}"))
        if order.order_type is OrderType.LIMIT and failure.code in _PRICE_IS_GONE:
            return Next(Trigger.REST, failure)
        delay_ms = self.delay_ms(failure, order.tries_since_rest)
        if delay_ms is None:
            return Next(Trigger.FAIL, failure)
        return Next(Trigger.RETRY, failure, delay_ms)

    def delay_ms(self, failure: Failure, tries: int) -> int | None:
        """Return how long to wait before the next try, or None when there is none.

        Args:
            failure: why the last try failed.
            tries: how many have been made, at least one.
        """
        if failure.remedy is Remedy.NONE or tries > self.max_retries:
            return None
        return self.base_delay_ms << (tries - 1)

    def jitter_ms(self) -> int:
        """Return how much may be added to a delay, so that orders that failed together spread out."""
        return self.base_delay_ms // 20
