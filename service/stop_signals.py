"""SIGTERM and SIGINT while the service starts: they stop it where it is, and what was begun is undone.

The first process of a container has no default for a signal: one without a handler is lost. So the handlers
come first, before the imports that take most of the start. The event loop has its own as soon as it runs.
"""

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal(SystemExit):
    """The process was asked to stop before it served; ends it with 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


_received: list[int] = []


def listen() -> None:
    """Raise StopSignal in the main thread when the process is asked to stop, once."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def check() -> None:
    """Stop now if that was asked for: Python drops what is raised while it collects garbage."""
    if _received:
        raise StopSignal(_received[0])


def _stop(number: int, _frame: FrameType | None) -> None:
    # What is undone now must not be stopped half way by an impatient second one.
    _received.append(number)
    if len(_received) == 1:
        raise StopSignal(number)
