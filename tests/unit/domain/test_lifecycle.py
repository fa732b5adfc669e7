"""The state machine: the next status for every pair of a status and an event."""

from itertools import product

import pytest

from service.domain.lifecycle import (
    TERMINAL,
    Event,
    IllegalTransitionError,
    Status,
    next_status,
    next_statuses,
)

# Repeated here on purpose: a change of the machine needs a change of this test.
EXPECTED = {
    ("pending", "start"): "routing",
    ("pending", "rest"): "open",
    ("pending", "cancel"): "cancelled",
    ("pending", "expire"): "expired",
    ("open", "amend"): "open",
    ("open", "approve"): "open",
    ("open", "refuse"): "cancelled",
    ("open", "fire"): "routing",
    ("open", "cancel"): "cancelled",
    ("open", "expire"): "expired",
    ("routing", "quoted"): "building",
    ("routing", "retry"): "pending",
    ("routing", "fail"): "failed",
    ("routing", "rest"): "open",
    ("routing", "cancel"): "cancelled",
    ("routing", "expire"): "expired",
    ("building", "prepared"): "submitted",
    ("building", "retry"): "pending",
    ("building", "fail"): "failed",
    ("building", "rest"): "open",
    ("building", "cancel"): "cancelled",
    ("building", "expire"): "expired",
    ("submitted", "landed"): "confirmed",
    ("submitted", "retry"): "pending",
    ("submitted", "fail"): "failed",
    ("submitted", "rest"): "open",
    ("submitted", "cancel"): "cancelled",
    ("submitted", "expire"): "expired",
}


@pytest.mark.parametrize(("status", "trigger"), list(product(Status, Event)))
def test_every_pair_is_a_row_of_the_table_or_invalid(status: Status, trigger: Event) -> None:
    expected = EXPECTED.get((status.value, trigger.value))
    if expected is None:
        with pytest.raises(IllegalTransitionError, match=f"{trigger} is not possible in {status}"):
            next_status(status, trigger)
    else:
        assert next_status(status, trigger) == Status(expected)


def test_the_table_has_only_existing_statuses_and_events() -> None:
    assert {status for status, _ in EXPECTED} <= set(Status)
    assert {trigger for _, trigger in EXPECTED} == set(Event)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_nothing_follows_a_terminal_status(status: Status) -> None:
    assert next_statuses(status) == set()
    for trigger in Event:
        with pytest.raises(IllegalTransitionError):
            next_status(status, trigger)


def test_the_terminal_statuses_are_those_of_the_contract() -> None:
    assert {str(status) for status in TERMINAL} == {"confirmed", "failed", "cancelled", "expired"}


def test_a_market_order_without_failures_takes_each_step_once() -> None:
    status, life = Status.PENDING, ["pending"]
    for trigger in (Event.START, Event.QUOTED, Event.PREPARED, Event.LANDED):
        status = next_status(status, trigger)
        life.append(status.value)
    assert life == ["pending", "routing", "building", "submitted", "confirmed"]


@pytest.mark.parametrize("status", [Status.ROUTING, Status.BUILDING, Status.SUBMITTED])
def test_an_attempt_may_fail_at_every_step_of_execution(status: Status) -> None:
    assert next_status(status, Event.RETRY) is Status.PENDING
    assert next_status(status, Event.FAIL) is Status.FAILED


@pytest.mark.parametrize("status", Status)
def test_the_successors_of_a_status_follow_from_its_events(status: Status) -> None:
    assert next_statuses(status) == {after for (before, _), after in EXPECTED.items() if before == status}


def test_an_order_rests_before_its_first_attempt_and_between_attempts() -> None:
    status, life = Status.PENDING, ["pending"]
    for trigger in (
        *(Event.REST, Event.AMEND, Event.FIRE, Event.QUOTED, Event.REST),
        *(Event.FIRE, Event.QUOTED, Event.PREPARED, Event.LANDED),
    ):
        status = next_status(status, trigger)
        life.append(status.value)
    assert life[:6] == ["pending", "open", "open", "routing", "building", "open"]
    assert life[6:] == ["routing", "building", "submitted", "confirmed"]


def test_a_market_order_that_must_be_approved_is_open_until_then() -> None:
    status, life = Status.PENDING, ["pending"]
    for trigger in (Event.REST, Event.APPROVE, Event.FIRE, Event.QUOTED, Event.PREPARED, Event.LANDED):
        status = next_status(status, trigger)
        life.append(status.value)
    assert life == ["pending", "open", "open", "routing", "building", "submitted", "confirmed"]
    assert next_status(Status.OPEN, Event.REFUSE) is Status.CANCELLED


def test_only_a_landed_attempt_confirms() -> None:
    to_confirmed = [pair for pair, after in EXPECTED.items() if after == "confirmed"]
    assert to_confirmed == [("submitted", "landed")]
