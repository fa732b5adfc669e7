"""When a failed try is followed by another: a pure policy."""

from dataclasses import dataclass

from service.domain.failures import Failure, Remedy


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``max_retries`` more tries: after ``base_delay_ms``, then after twice as long each time."""

    max_retries: int
    base_delay_ms: int

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
