"""Statuses of signatures, from a node's answer."""

from typing import Any

import pytest

from service.chains.solana.statuses import (
    ConfirmationStatus,
    MalformedStatusError,
    SignatureStatus,
    read_statuses,
)

STATUS = {"slot": 7, "confirmations": 1, "err": None, "confirmationStatus": "confirmed"}


def test_each_signature_has_its_status() -> None:
    failed = {**STATUS, "confirmationStatus": "finalized", "err": {"InstructionError": [0, {"Custom": 1}]}}
    assert read_statuses([STATUS, None, failed], 3) == [
        SignatureStatus(7, ConfirmationStatus.CONFIRMED, failed=False),
        None,
        SignatureStatus(7, ConfirmationStatus.FINALIZED, failed=True),
    ]


def test_a_status_from_far_after_the_answers_slot_is_refused() -> None:
    """It would be waited for until the chain gets there, and a finalized one for good."""
    final = {**STATUS, "slot": 200, "confirmationStatus": "finalized"}
    assert read_statuses([final], 1, 50)
    with pytest.raises(MalformedStatusError):
        read_statuses([STATUS, final], 2, 49)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        [STATUS, STATUS],
        [7],
        [{}],
        [{**STATUS, "slot": "7"}],
        [{**STATUS, "confirmationStatus": None}],
        [{**STATUS, "confirmationStatus": "final"}],
        [{key: value for key, value in STATUS.items() if key != "err"}],
    ],
)
def test_another_answer_is_refused(value: Any) -> None:
    with pytest.raises(MalformedStatusError):
        read_statuses(value, 1)
