"""Named points at which a test can kill the process, as ``kill -9`` would.

``CRASH_AT=name`` kills the process the first time it reaches the point, ``CRASH_AT=name:7`` the seventh time.
Without the setting, a point is a call of a function that does nothing.
"""

import os
import re
import signal
from collections.abc import Callable

POINTS = (
    "before insert",
    "after insert",
    "before acknowledge",
    "after acknowledge",
    "before claim",
    "after claim",
    "before building",
    "after building",
    "before sign",
    "after sign",
    "before submitted",
    "after submitted",
    "before submit",
    "before send",
    "after send",
    "after submit",
    "before settle",
    "after settle",
    "before receipt",
    "after receipt",
    "before confirmed",
    "after confirmed",
    "before pending",
    "after pending",
    "before failed",
    "after failed",
    "before open",
    "after open",
    "before expired",
    "after expired",
    "before fire",
    "after fire",
    "before request cancel",
    "after request cancel",
    "before end cancelled",
    "after end cancelled",
    "before end expired",
    "after end expired",
    "before amend",
    "after amend",
    "before approve",
    "after approve",
    "before refuse",
    "after refuse",
    "before reserve",
    "after reserve",
    "before store response",
    "after store response",
    "before set timer",
    "after set timer",
    "before end timer",
    "before publish",
    "after publish",
)
"""All crash points, roughly in the sequence in which an order reaches them.

A status stands for the write that moves an order to it (``pending``: a retry), ``submit`` for sending its
transaction, ``settle`` for the paper chain's commit of its execution. On Solana only, ``sign`` is the
signature of a transaction that is not stored yet, ``send`` the call of one endpoint (after it, the others
may have the transaction or not), and ``receipt`` the reading of what a confirmed or finalized one did.
``open`` is the write that returns it to rest, ``fire`` a trigger's write. A cancellation is a request and an
end; ``end expired`` is the expiry of a waiting order; ``approve`` and ``refuse`` are the decisions about one
that awaits approval. ``reserve`` is an idempotency key's reservation, ``store response`` the response under
it; ``set timer`` and ``end timer`` are a cancel timer's.
"""


def _do_nothing(_name: str) -> None:
    pass


reach: Callable[[str], None] = _do_nothing
"""Report that a point is reached. Call it as ``crash_points.reach``, so that arming takes effect."""


def arm(setting: str | None) -> None:
    """Kill the process at a point; None disarms.

    Args:
        setting: A name of ``POINTS``, with ``:n`` for the n-th time.

    Raises:
        ValueError: There is no such point.
    """
    global reach  # noqa: PLW0603 - called a million times, so it must cost nothing when disarmed
    if setting is None:
        reach = _do_nothing
        return
    wanted, _, times = setting.partition(":")
    if wanted not in POINTS or not re.fullmatch(r"[1-9][0-9]{0,8}", times or "1"):
        raise ValueError(f"must be one of {', '.join(POINTS)}, with :n for the n-th time")
    left = int(times or "1")

    def die_here(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    reach = die_here
