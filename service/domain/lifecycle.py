"""The order's state machine as one table: (status, event) -> status.

.. code-block:: text

    pending -> routing -> building -> submitted -> confirmed
       ^          |           |           |
       +----------+-----------+-----------+   retry: another attempt, later
                  +-----------+-----------+-> failed

    pending -> open -> routing ...            an order that rests until a trigger fires it, or awaits approval
                ^         |
                +---------+                   rest: the price is gone again
                                              (open -> open: amended, approved)

Every status that is not terminal can change to ``cancelled`` or ``expired``; ``submitted`` only when its
transaction can no longer land.
"""

from enum import StrEnum


class Status(StrEnum):
    """An order's status. The values are those of the API and the database."""

    PENDING = "pending"
    OPEN = "open"
    ROUTING = "routing"
    BUILDING = "building"
    SUBMITTED = "submitted"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What happens to an order."""

    REST = "rest"
    AMEND = "amend"
    APPROVE = "approve"
    REFUSE = "refuse"
    FIRE = "fire"
    START = "start"
    QUOTED = "quoted"
    PREPARED = "prepared"
    LANDED = "landed"
    RETRY = "retry"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"


TERMINAL = frozenset({Status.CONFIRMED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})
"""Statuses without a successor."""

_TRANSITIONS: dict[tuple[Status, Event], Status] = {
    (Status.PENDING, Event.START): Status.ROUTING,
    (Status.PENDING, Event.REST): Status.OPEN,
    (Status.OPEN, Event.AMEND): Status.OPEN,
    (Status.OPEN, Event.APPROVE): Status.OPEN,
    (Status.OPEN, Event.REFUSE): Status.CANCELLED,
    (Status.OPEN, Event.FIRE): Status.ROUTING,
    (Status.ROUTING, Event.QUOTED): Status.BUILDING,
    (Status.BUILDING, Event.PREPARED): Status.SUBMITTED,
    (Status.SUBMITTED, Event.LANDED): Status.CONFIRMED,
    # Before `submitted` nothing has been sent; after it, only if the transaction can never land.
    (Status.ROUTING, Event.RETRY): Status.PENDING,
    (Status.BUILDING, Event.RETRY): Status.PENDING,
    (Status.SUBMITTED, Event.RETRY): Status.PENDING,
    (Status.ROUTING, Event.REST): Status.OPEN,
    (Status.BUILDING, Event.REST): Status.OPEN,
    (Status.SUBMITTED, Event.REST): Status.OPEN,
    (Status.ROUTING, Event.FAIL): Status.FAILED,
    (Status.BUILDING, Event.FAIL): Status.FAILED,
    (Status.SUBMITTED, Event.FAIL): Status.FAILED,
    **{
        (status, event): end
        for status in (Status.PENDING, Status.OPEN, Status.ROUTING, Status.BUILDING, Status.SUBMITTED)
        for event, end in ((Event.CANCEL, Status.CANCELLED), (Event.EXPIRE, Status.EXPIRED))
    },
}


def next_statuses(status: Status) -> set[Status]:
    """Return the possible next statuses."""
    return {after for (before, _event), after in _TRANSITIONS.items() if before is status}


class IllegalTransitionError(Exception):
    """The order's status does not allow the event: a bug in this program, not invalid input."""


def next_status(status: Status, event: Event) -> Status:
    """Return the status after ``event``.

    Raises:
        IllegalTransitionError: The table has no such row.
    """
    try:
        return _TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransitionError(f"{event} is not possible in {status}") from None
