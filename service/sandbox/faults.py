"""Faults of one endpoint, and what a test or an operator may arm.

A fault is taken by the next requests that it fits, as many as it says; one without a number stays until it is
cleared. With a rate it is taken at random, from the seed. docs/solana.md lists the kinds.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

PPM = 1_000_000

KINDS: Mapping[str, Mapping[str, int | str]] = {
    # What happens to a transaction that is sent.
    "drop": {},
    "late": {},
    # What happens to an answer.
    "lose_answer": {},
    "rate_limit": {"retry_after_s": 1},
    "unavailable": {"status": 503},
    "error": {"code": -32603, "message": "Internal error"},
    "garbage": {"form": "html"},
    "slow": {"delay_ms": 1_000},
    "down": {},
    # What the endpoint knows.
    "behind": {"slots": 10},
    "unhealthy": {"slots": 10},
    "no_history": {},
    "hole": {"slots": 100},
    "no_transactions": {},
    "torn": {"slots": 1},
    # What subscribers hear.
    "ws_drop": {},
    "ws_silent": {},
    "ws_repeat": {},
    "ws_reverse": {},
}
"""The kinds of faults with their arguments and these arguments' defaults."""

GARBAGE = ("html", "empty", "truncated", "wrong_id", "null_result")
"""The forms of a garbled answer."""


class InvalidFaultError(ValueError):
    """There is no such fault; the message says what there is."""


@dataclass(slots=True)
class EndpointFault:
    """An armed fault.

    Attributes:
        kind: One of ``KINDS``.
        times: How many more requests take it; None: all.
        rate_ppm: How many of a million requests that fit take it.
        method: The only method that it fits; None: all.
        arguments: The arguments of its kind.
    """

    kind: str
    times: int | None = 1
    rate_ppm: int = PPM
    method: str | None = None
    arguments: Mapping[str, int | str] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """Return an argument that is a number."""
        value = self.arguments[name]
        if not isinstance(value, int):
            raise TypeError(f"{name} is not a number")
        return value


class Faults:
    """The armed faults of one endpoint."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator
        self._armed: list[EndpointFault] = []

    def arm(
        self,
        kind: str,
        *,
        times: int | None = 1,
        rate_ppm: int = PPM,
        method: str | None = None,
        **arguments: int | str,
    ) -> None:
        """Arm a fault.

        Raises:
            InvalidFaultError: The kind or an argument is unknown.
        """
        defaults = KINDS.get(kind)
        if defaults is None:
            raise InvalidFaultError(f"kind must be one of {', '.join(KINDS)}")
        for name, value in arguments.items():
            if name not in defaults or type(value) is not type(defaults[name]):
                raise InvalidFaultError(f"{kind} has no argument {name} of this type")
        if times is not None and (type(times) is not int or times < 1):
            raise InvalidFaultError("times must be a whole number from 1, or null")
        if type(rate_ppm) is not int or not 0 < rate_ppm <= PPM:
            raise InvalidFaultError(f"rate_ppm must be a whole number from 1 to {PPM}")
        if method is not None and not isinstance(method, str):
            raise InvalidFaultError("method must be a method's name, or null")
        if kind == "garbage" and arguments.get("form", "html") not in GARBAGE:
            raise InvalidFaultError(f"form must be one of {', '.join(GARBAGE)}")
        self._armed.append(EndpointFault(kind, times, rate_ppm, method, {**defaults, **arguments}))

    def clear(self, kind: str | None = None) -> None:
        """Disarm the faults of a kind, or all."""
        self._armed = [fault for fault in self._armed if kind not in (None, fault.kind)]

    def standing(self, kind: str) -> EndpointFault | None:
        """Return an armed fault of a kind without taking it."""
        return next((fault for fault in self._armed if fault.kind == kind), None)

    def take(self, kind: str, method: str | None = None) -> EndpointFault | None:
        """Return the first fault of a kind that this request takes; None if it takes none."""
        for fault in self._armed:
            if fault.kind != kind or fault.method not in (None, method):
                continue
            if fault.rate_ppm < PPM and self._random.randrange(PPM) >= fault.rate_ppm:
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self._armed.remove(fault)
            return fault
        return None
