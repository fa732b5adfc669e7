"""What follows a failed attempt: a retry, rest, or the end. A pure policy."""

from dataclasses import dataclass

from service.domain.failures import Failure, FailureCode, Remedy
from service.domain.lifecycle import Event
from service.domain.order import OrderType
from service.store.claims import Claimed

_PRICE_IS_GONE = frozenset(
    {
        FailureCode.LIMIT_NOT_REACHED,
        FailureCode.PRICE_IMPACT_TOO_HIGH,
        FailureCode.NETWORK_FEE_TOO_HIGH,
        FailureCode.ROUTE_TOO_LARGE,
        FailureCode.SLIPPAGE_EXCEEDED,
        FailureCode.INSUFFICIENT_LIQUIDITY,
        FailureCode.NO_ROUTE,
        FailureCode.AMOUNT_TOO_SMALL,
        FailureCode.POOL_DISABLED,
        FailureCode.POOL_NOT_OPEN,
        FailureCode.UNSUPPORTED_POOL,
    }
)
"""Failures that a change of the market may resolve: a limit order rests until then."""

_ENDS_ANY_ORDER = frozenset({FailureCode.OVER_LIMIT, FailureCode.SIMULATED})
"""What an order of any time in force ends as failed with: it is not about the price."""


RESERVED_ENTRIES = 50
"""Entries reserved for resting again, beyond the bound on amendments; amendments do not use them."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """What follows: ``failure`` is recorded in the history, ``delay_ms`` is the delay of a retry."""

    event: Event
    failure: Failure
    delay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``max_retries`` more attempts: after ``base_delay_ms``, then after double the delay each time.

    ``max_history_entries`` bounds the history that amendments may create; see ``RESERVED_ENTRIES``.
    """

    max_retries: int
    base_delay_ms: int
    max_history_entries: int

    def after(self, order: Claimed, failure: Failure, entries: int) -> NextStep:
        """Return what follows a failed attempt of an order whose history has ``entries`` entries.

        A limit order whose price is gone rests again, which uses no retry; it fails if its history is full.
        An order whose time in force does not let it rest expires.
        """
        if failure.code in _ENDS_ANY_ORDER:
            return NextStep(Event.FAIL, failure)
        if order.time_in_force is not None and not order.time_in_force.rests:
            return NextStep(Event.EXPIRE, _because(FailureCode.NOT_FILLED_IMMEDIATELY, failure))
        if order.order_type is OrderType.LIMIT and failure.code in _PRICE_IS_GONE:
            if entries >= self.max_history_entries + RESERVED_ENTRIES:
                return NextStep(Event.FAIL, _because(FailureCode.HISTORY_FULL, failure))
            return NextStep(Event.REST, failure)
        delay_ms = self.delay_ms(failure, order.attempts_since_rest)
        if delay_ms is None:
            return NextStep(Event.FAIL, failure)
        return NextStep(Event.RETRY, failure, delay_ms)

    def delay_ms(self, failure: Failure, attempts: int) -> int | None:
        """Return how long to wait before the next attempt, or None if there is none.

        Args:
            failure: Why the last attempt failed.
            attempts: The number of attempts so far, at least one.
        """
        if failure.remedy is Remedy.NONE or attempts > self.max_retries:
            return None
        return self.base_delay_ms << (attempts - 1)

    @property
    def longest_delay_ms(self) -> int:
        """The longest time from a failed attempt to the next, with its jitter."""
        return (self.base_delay_ms << max(self.max_retries - 1, 0)) + self.jitter_ms()

    def jitter_ms(self) -> int:
        """Return the maximum jitter of a delay, so that orders that failed together spread out."""
        return self.base_delay_ms // 20


def _because(code: FailureCode, failure: Failure) -> Failure:
    """Return a failure with the given code, whose detail includes the failure that caused it."""
    return Failure(code, f"{Failure.of(code).detail} {failure.detail}")
