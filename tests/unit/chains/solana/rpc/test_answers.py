"""Which bytes are an answer to a call."""

import json
from typing import Any

import pytest

from service.chains.solana.rpc.answers import Answer, NotAnAnswerError, read_answer
from service.chains.solana.rpc.errors import RpcError


def read(answer: Any, method: str = "getSlot") -> Answer:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_answer(body, 7, method, "a.example")


def test_an_answer_with_a_context_has_its_slot() -> None:
    assert read({"id": 7, "result": {"context": {"slot": 5}, "value": [None]}}) == Answer(
        [None], 5, "a.example"
    )
    assert read({"id": 7, "result": 12}) == Answer(12, None, "a.example")


def test_null_is_an_answer_only_where_it_says_that_something_is_unknown() -> None:
    assert read({"id": 7, "result": None}, "getTransaction").result is None
    with pytest.raises(NotAnAnswerError):
        read({"id": 7, "result": None}, "getMultipleAccounts")
    with pytest.raises(NotAnAnswerError):
        read({"id": 7}, "getTransaction")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b'{"id": 7, "result": ',
        b"[" * 100_000,
        [],
        "ok",
        {"id": 8, "result": 1},
        {"result": 1},
        {"id": "7", "result": 1},
        {"id": 7, "error": "no"},
        {"id": 8, "error": {"code": -32601, "message": "of another call"}},
        {"id": 7, "result": {"context": {}, "value": 1}},
        {"id": 7, "result": {"context": {"slot": "5"}, "value": 1}},
    ],
    ids=str,
)
def test_anything_else_is_no_answer(answer: Any) -> None:
    with pytest.raises(NotAnAnswerError):
        read(answer)


def test_an_error_is_an_answer() -> None:
    error = {
        "code": -32016,
        "message": "Minimum context slot",
        "data": {"contextSlot": 3},
    }
    for number in 7, None:
        with pytest.raises(RpcError) as end:
            read({"id": number, "error": error})
        assert (end.value.code, end.value.data, end.value.is_of_the_node) == (
            -32016,
            {"contextSlot": 3},
            True,
        )
    with pytest.raises(RpcError) as end:
        read({"id": 7, "error": {"code": -32602, "message": "Invalid params"}})
    assert not end.value.is_of_the_node
    assert not end.value.is_failure
