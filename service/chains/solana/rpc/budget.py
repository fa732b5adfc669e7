"""How many calls per second an endpoint is sent, and the pauses that it asks for."""

from service.clock import Clock

_DEFAULT_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
# After a 429 the rate is halved, at most to an eighth; each answer gives back a hundredth.
_SMALLEST_SHARE = 1 / 8
_RECOVERY_SHARE = 1 / 100


class CallBudget:
    """A token bucket that holds one second's calls, and shrinks when the endpoint refuses one.

    Args:
        clock: Measures time.
        rps: Calls per second; None: no limit but the pauses.
    """

    def __init__(self, clock: Clock, rps: int | None) -> None:
        self._clock = clock
        self._rps = rps
        self._rate = float(rps or 0)
        self._tokens = self._rate
        self._counted_at = clock.monotonic()
        self._paused_until = self._counted_at

    @property
    def rate(self) -> float | None:
        """Calls per second now; None: no limit."""
        return None if self._rps is None else self._rate

    def wait_s(self) -> float:
        """Return in how many seconds a call may start."""
        now = self._clock.monotonic()
        paused_s = max(0.0, self._paused_until - now)
        if self._rps is None:
            return paused_s
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        return max(paused_s, (1 - self._tokens) / self._rate, 0.0)

    async def take(self, timeout_s: float) -> bool:
        """Wait for a call's turn, first come, first served; return whether it came in time."""
        wait_s = self.wait_s()
        if wait_s > timeout_s:
            return False
        self._tokens -= 1
        await self._clock.sleep(wait_s)
        return True

    def pause(self, retry_after_s: float | None) -> None:
        """Obey a 429: start nothing for a while, and then less per second."""
        pause_s = _DEFAULT_PAUSE_S if retry_after_s is None else min(retry_after_s, _LONGEST_PAUSE_S)
        self._paused_until = max(self._paused_until, self._clock.monotonic() + pause_s)
        if self._rps is not None:
            self.wait_s()
            self._rate = max(self._rate / 2, self._rps * _SMALLEST_SHARE)

    def recover(self) -> None:
        """Raise the rate a little: a call was answered."""
        if self._rps is not None:
            self.wait_s()
            self._rate = min(float(self._rps), self._rate + self._rps * _RECOVERY_SHARE)
