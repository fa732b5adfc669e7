"""Positions survive their way to a client and back; whatever else a client sends is none."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.store.event_position import (
    LONGEST_TOKEN,
    VALID_S,
    EventPosition,
    EventSnapshot,
    InvalidPositionError,
    decode_position,
    hashed,
)

DEPLOYMENT = "0190a8f5-0000-4000-8000-000000000000"
ERA = hashed("7000000000000000000.00000001")
MODEST = settings(max_examples=200, deadline=None)


@st.composite
def snapshots(draw: st.DrawFn) -> EventSnapshot:
    xmax = draw(st.integers(500, 10**17))
    ages = draw(st.sets(st.integers(1, 490), max_size=20))
    running = tuple(sorted(xmax - age for age in ages))
    next_xid = xmax + draw(st.integers(0, 10**6))
    last_hash = draw(st.sampled_from(["0" * 8, "7f" * 4]))
    return EventSnapshot(xmax, next_xid, running, draw(st.integers(0, 10**17)), last_hash)


POSITIONS = st.builds(
    EventPosition,
    base=snapshots(),
    at=st.integers(0, 10**10).map(float),
    era=st.just(ERA),
    target=st.none(),
) | st.builds(
    EventPosition,
    base=snapshots(),
    at=st.integers(0, 10**10).map(float),
    era=st.just(ERA),
    target=snapshots(),
    after=st.integers(0, 10**17),
)


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@given(POSITIONS)
@MODEST
def test_a_position_comes_back_as_it_was(position: EventPosition) -> None:
    token = position.encode(DEPLOYMENT)
    assert decode_position(token, DEPLOYMENT) == position
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(POSITIONS)
@MODEST
def test_another_deployments_position_is_none(position: EventPosition) -> None:
    token = position.encode("ffffffff" + DEPLOYMENT[8:])
    with pytest.raises(InvalidPositionError):
        decode_position(token, DEPLOYMENT)


MARK = "0123abcd"
HEAD = f"1.{DEPLOYMENT[:8]}.{ERA}.1800000000"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "ä",
        "\0",
        encoded("1"),
        encoded(f"2{HEAD[1:]}.100-0.7.{MARK}"),
        encoded(f"{HEAD}.100"),
        encoded(f"{HEAD}.0-0.7.{MARK}"),
        encoded(f"{HEAD}.100-0.-7.{MARK}"),
        encoded(f"{HEAD}.100-0.07.{MARK}"),
        encoded(f"{HEAD}.100-0-100.7.{MARK}"),
        encoded(f"{HEAD}.100-0-5-5.7.{MARK}"),
        encoded(f"{HEAD}.100-0-5-6.7.{MARK}"),
        encoded(f"{HEAD}.100-0-0.7.{MARK}"),
        encoded(f"{HEAD}.100-.7.{MARK}"),
        encoded(f"{HEAD}.100-0.7"),
        encoded(f"{HEAD}.100-0.7.{MARK}\n"),
        encoded(f"{HEAD}.100-0.7.{MARK}.200-0.9.{MARK}"),
        encoded(f"{HEAD}.100.7.{MARK}"),
        encoded(f"{HEAD}.100-0.7.{MARK[1:]}g"),
        encoded(f"{HEAD}.{'9' * 19}-0.7.{MARK}"),
        encoded(f"{HEAD}.100-0.{'9' * 19}.{MARK}"),
        encoded(f"{HEAD}.1000000-0{'-1' * LONGEST_TOKEN}.7.{MARK}"),
    ],
)
def test_other_texts_are_no_positions(token: str) -> None:
    with pytest.raises(InvalidPositionError):
        decode_position(token, DEPLOYMENT)


def test_the_form_of_a_position() -> None:
    decoded = decode_position(encoded(f"{HEAD}.100-3-7-5.40.{MARK}.200-0.50.{MARK}.45"), DEPLOYMENT)
    base, target = EventSnapshot(100, 103, (93, 95), 40, MARK), EventSnapshot(200, 200, (), 50, MARK)
    assert decoded == EventPosition(base, 1_800_000_000.0, ERA, target, 45)


@given(st.text(max_size=60))
@MODEST
def test_no_text_fails_otherwise(text: str) -> None:
    for token in (text, encoded(f"{HEAD}.{text}") if text.isascii() else text):
        try:
            decode_position(token, DEPLOYMENT)
        except InvalidPositionError:
            continue


def test_five_hundred_running_transactions_fit_into_a_position() -> None:
    running = tuple(range(10**9, 10**9 + 10_000, 20))
    snapshot = EventSnapshot(10**9 + 10_001, 10**9 + 70_000, running, 10**12)
    token = EventPosition(snapshot, 0.0, ERA, snapshot, 10**12).encode(DEPLOYMENT)
    assert len(token) <= LONGEST_TOKEN


def test_a_snapshot_has_the_form_of_postgresql() -> None:
    for text in ("10:10:", "10:20:10", "10:20:10,14,19"):
        assert EventSnapshot.of(text, 25, 3).text == text
    # Those below the first that runs have ended, as far as anyone can tell from the list.
    assert EventSnapshot.of("9:20:10", 20, 3).text == "10:20:10"


def test_what_has_ended_between_two_snapshots() -> None:
    base, later = EventSnapshot(20, 20, (10, 14, 19), 7), EventSnapshot(30, 30, (14, 25), 7)
    assert base.ended_by(later) == [10, 19]
    assert base.may_differ(later)
    assert not base.may_differ(base)
    assert not base.may_differ(EventSnapshot(30, 30, (10, 14, 19, 25), 7))
    assert base.may_differ(EventSnapshot(30, 30, (10, 14, 19), 8))
    # Of those that had been assigned, one may have ended.
    assigned = EventSnapshot(20, 24, (), 7)
    assert assigned.may_differ(EventSnapshot(24, 24, (20, 21, 22), 7))
    assert not assigned.may_differ(EventSnapshot(20, 26, (), 7))
    # An earlier snapshot has nothing new.
    assert not later.may_differ(base)


NOW = EventPosition(EventSnapshot(1_000, 1_000, (), 50), 1_800_000_000.0, ERA)


@pytest.mark.parametrize(
    ("position", "valid"),
    [
        (NOW, True),
        (EventPosition(EventSnapshot(900, 900, (), 50), NOW.at - VALID_S, ERA), True),
        (EventPosition(EventSnapshot(900, 900, (), 50), NOW.at - VALID_S - 1, ERA), False),
        (EventPosition(EventSnapshot(900, 900, (), 50), NOW.at, hashed("another")), False),
        (EventPosition(EventSnapshot(1_001, 1_001, (), 50), NOW.at, ERA), False),
        (
            EventPosition(
                EventSnapshot(900, 900, (), 50), NOW.at, ERA, EventSnapshot(1_000, 1_000, (), 60), 55
            ),
            True,
        ),
        (
            EventPosition(
                EventSnapshot(900, 900, (), 50), NOW.at, ERA, EventSnapshot(1_001, 1_001, (), 60), 55
            ),
            False,
        ),
    ],
)
def test_a_position_is_valid_for_a_day_in_its_era(position: EventPosition, valid: bool) -> None:
    assert position.is_valid_at(NOW) is valid
