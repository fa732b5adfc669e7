"""Logging to standard error, with a rate limit for recurring faults.

A log line about a fault that may persist names it with ``extra={"fault": "postgresql"}``. Of each fault one
line per second is written, with the number of suppressed ones.
"""

import logging
import sys
from pathlib import Path

from service.clock import Clock

_QUIET_S = 1.0


class OneLineASecond(logging.Filter):
    """Passes one line per second for each fault."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is written."""
        fault: str | None = getattr(record, "fault", None)
        if fault is None:
            return True
        now = self._clock.monotonic()
        if now - self._last.get(fault, -_QUIET_S) < _QUIET_S:
            self._held_back[fault] = self._held_back.get(fault, 0) + 1
            return False
        self._last[fault] = now
        held_back = self._held_back.pop(fault, 0)
        if held_back:
            record.msg = f"{record.msg} (and {held_back} similar lines)"
        return True


def to_stderr(level: str, clock: Clock) -> None:
    """Log lines of a level and above to standard error."""
    _log_to(logging.StreamHandler(sys.stderr), level, clock, instead=False)


def to_file(level: str, clock: Clock, file: Path) -> None:
    """Log lines of a level and above to a file from now on, and nowhere else."""
    _log_to(logging.FileHandler(file), level, clock, instead=True)


def _log_to(handler: logging.Handler, level: str, clock: Clock, *, instead: bool) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(OneLineASecond(clock))
    logging.basicConfig(level=level, handlers=[handler], force=instead)
    # It logs the subprotocols that a client offers, one of which may be a ticket.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # taskiq logs every job it starts.
    logging.getLogger("taskiq").setLevel(logging.WARNING)
