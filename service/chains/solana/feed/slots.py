"""The slot now, and how long slots are, by what nodes have answered.

The length of slots changes with the cluster's releases, so it is measured, by the chain's own clock. Between
two reads the slot is extrapolated by this machine's monotonic clock, never by its time of day.
"""

from collections import deque
from typing import NamedTuple

from service.clock import Clock

_DEFAULT_SLOT_MS = 400
_MEASURED_OVER_S = 60
# Less than this says little: the chain's clock has whole seconds.
_SHORTEST_SPAN_S = 10
_SHORTEST_SLOT_MS, _LONGEST_SLOT_MS = 50, 2_000
_REMEMBERED_S = 10.0
MOST_AHEAD = 150
"""A notification from further in the future is not believed, and what is known from there not kept."""


# How far a time may be from what the slots between two reads make plausible, and how many these may be.
_TOLERANCE_S = 60
_MOST_SLOTS_BETWEEN = 100_000


class _Reading(NamedTuple):
    """A slot, and the chain's time in it."""

    slot: int
    timestamp_s: int

    def fits(self, later: "_Reading") -> bool:
        """Whether one that was read later can be of the same chain: its time does not go back, nor jump."""
        passed_s = later.timestamp_s - self.timestamp_s
        slots = min(max(0, later.slot - self.slot), _MOST_SLOTS_BETWEEN)
        longest_s = slots * _LONGEST_SLOT_MS // 1000
        return -_TOLERANCE_S <= passed_s <= longest_s + _TOLERANCE_S


class SlotClock:
    """Estimates the newest slot, and measures the length of slots.

    Args:
        clock: This machine's monotonic clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self._times: deque[tuple[int, int]] = deque()
        self._last: _Reading | None = None
        self._refused: _Reading | None = None

    @property
    def slot_ms(self) -> int:
        """A slot's length over the last minute; until ten seconds have been measured, 400."""
        if not self._times:
            return _DEFAULT_SLOT_MS
        (first_s, first), (last_s, last) = self._times[0], self._times[-1]
        if last_s - first_s < _SHORTEST_SPAN_S:
            return _DEFAULT_SLOT_MS
        return max(_SHORTEST_SLOT_MS, min((last_s - first_s) * 1000 // (last - first), _LONGEST_SLOT_MS))

    def now(self) -> int:
        """Return the slot that the chain should have reached; 0 before anything is known."""
        if not self._seen:
            return 0
        now, slot_s = self._clock.monotonic(), self.slot_ms / 1000
        return max(slot + int((now - at) / slot_s) for at, slot in self._seen)

    def observe(self, slot: int, timestamp_s: int) -> bool:
        """Note a slot that was read, and the chain's time in it; return whether that time is believed.

        One that does not fit the time before is not, unless the one after it agrees: then the time before was
        wrong, or the chain has stood still.
        """
        read = _Reading(slot, timestamp_s)
        if self._last is not None and not self._last.fits(read):
            if self._refused is None or not self._refused.fits(read):
                self._refused = read
                return False
            self._times.clear()
        self._last, self._refused = read, None
        self._note(slot)
        if self._times and slot < self._times[-1][1] - MOST_AHEAD:
            # No endpoint that lags so far is read from: what was read before was wrong.
            self._times.clear()
        if not self._times or (slot > self._times[-1][1] and timestamp_s >= self._times[-1][0]):
            self._times.append((timestamp_s, slot))
            while timestamp_s - self._times[0][0] > _MEASURED_OVER_S:
                self._times.popleft()
        return True

    def hint(self, slot: int) -> None:
        """Note a slot that was heard of, if it is plausible."""
        if slot <= self.now() + MOST_AHEAD:
            self._note(slot)

    def _note(self, slot: int) -> None:
        now = self._clock.monotonic()
        if not self._seen or slot > self._seen[-1][1] or self._seen[-1][0] < now:
            self._seen.append((now, slot))
        while self._seen[0][0] < now - _REMEMBERED_S:
            self._seen.popleft()
