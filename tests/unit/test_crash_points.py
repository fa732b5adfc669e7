"""Crash points: armed at one point only."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import crash_points
from service.domain.lifecycle import Status
from tests.support.approvals import APPROVAL_POINTS
from tests.support.resting import REQUEST_POINTS, RESTING_POINTS
from tests.support.solana_sandbox import SOLANA_POINTS


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: killed.append(number))
    yield killed
    crash_points.arm(None)


def test_an_armed_point_kills_at_the_nth_time_only(kills: list[int]) -> None:
    crash_points.arm("after submitted:2")
    for place in ("after submitted", "before submit", "after submitted", "after submitted"):
        crash_points.reach(place)
    assert kills == [9]


def test_without_arming_nothing_happens(kills: list[int]) -> None:
    for place in crash_points.POINTS:
        crash_points.reach(place)
    assert kills == []


@pytest.mark.parametrize("times", ["x", "-1", "0", "\u0661", "1_0"])
def test_a_number_of_times_has_plain_digits(times: str) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        crash_points.arm(f"after submitted:{times}")


@pytest.mark.parametrize("setting", ["nowhere", ""])
def test_an_unknown_point_is_rejected(setting: str) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        crash_points.arm(setting)


def test_the_points_in_the_code_are_exactly_the_known_ones() -> None:
    service = Path(crash_points.__file__).parent
    code = "\n".join(path.read_text() for path in service.rglob("*.py"))
    reached = set(re.findall(r'crash_points\.reach\("([^"]+)"\)', code))
    moves = {f"{when} {status}" for when in ("before", "after") for status in Status}
    known = set(crash_points.POINTS)
    assert reached <= known
    assert known <= reached | moves


def test_the_fault_tests_use_every_point() -> None:
    # The points of resting orders and of requests are in the tests' lists, all others in the service's.
    assert {*RESTING_POINTS, *REQUEST_POINTS, *SOLANA_POINTS} <= set(crash_points.POINTS)
    for what in ("sign", "send", "receipt"):
        assert {f"before {what}", f"after {what}"} <= set(SOLANA_POINTS)
    for what in ("open", "expired", "fire", "request cancel", "end cancelled", "end expired", "amend"):
        assert {f"before {what}", f"after {what}"} <= set(RESTING_POINTS)
    decisions = {point for point in crash_points.POINTS if point.endswith(("approve", "refuse"))}
    assert decisions == set(APPROVAL_POINTS)
