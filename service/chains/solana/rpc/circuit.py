"""A circuit breaker: no calls for a while after several failed in a row."""

from service.clock import Clock

_FAILURES_TO_OPEN = 3
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Circuit:
    """Opens after three failures in a row for a second, and twice as long after each further one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open_until = clock.monotonic()
        self._pause_s = 0.0
        self.failures = 0

    @property
    def is_open(self) -> bool:
        """Whether no call may be made now."""
        return self._clock.monotonic() < self._open_until

    def admit(self) -> bool:
        """Whether a call may be made now; after a pause only one may, until it has been answered."""
        if self.is_open:
            return False
        if self._pause_s:
            # If this call never ends, because it is cancelled, another one may be made after the same pause.
            self._open_until = self._clock.monotonic() + self._pause_s
        return True

    def succeed(self) -> None:
        """Close: a call was answered."""
        self.failures = 0
        self._pause_s = 0.0
        self._open_until = self._clock.monotonic()

    def fail(self) -> None:
        """Count a failure, and open if they are too many."""
        self.failures += 1
        if self.failures >= _FAILURES_TO_OPEN:
            self._pause_s = min(self._pause_s * 2 or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
            self._open_until = self._clock.monotonic() + self._pause_s
