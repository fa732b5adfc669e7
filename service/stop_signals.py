"""SIGTERM and SIGINT while the service starts: they interrupt the start, which then cleans up.

PID 1 of a container has no default signal actions: a signal without a handler is lost. So the handlers are
installed first, before the imports that take most of the start. The event loop later installs its own.
"""

import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal(SystemExit):
    """A stop signal arrived before the service was ready; exits with 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


_received: list[int] = []


def listen() -> None:
    """Raise StopSignal in the main thread at the first stop signal."""
    for number in SIGNALS:
        signal.signal(number, _stop)
    sys.unraisablehook = _report_unraisable


def check() -> None:
    """Stop now if a signal has arrived.

    Python drops exceptions that are raised during garbage collection or in a callback of its own.
    """
    if _received:
        raise StopSignal(_received[0])


def _report_unraisable(dropped: "sys.UnraisableHookArgs") -> None:
    # A dropped stop is not an error: check() raises it again.
    if not isinstance(dropped.exc_value, StopSignal):
        sys.__unraisablehook__(dropped)


def _stop(number: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the clean-up.
    _received.append(number)
    if len(_received) == 1:
        raise StopSignal(number)
