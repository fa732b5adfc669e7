"""JSON-RPC: the bytes of a call, and the answer in a node's bytes, checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from service.chains.solana.rpc.errors import RpcError

# Methods for which null says that the node does not know it. For others it is no answer.
_MAY_BE_NULL = frozenset({"getAgGenesisCert", "getBlock", "getBlockTime", "getTransaction"})


_Read = TypeVar("_Read")


class NotAnAnswerError(Exception):
    """The bytes are no answer to the call; the message says why, without repeating them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A node's answer.

    Attributes:
        result: The result; if it came with a context, its ``value``.
        slot: The slot of the state that it was read from, if the node said so.
        endpoint: The name of the endpoint that answered.
    """

    result: Any
    slot: int | None
    endpoint: str


def reading(read: Callable[[Answer], _Read], malformed: type[Exception]) -> Callable[[Answer], _Read]:
    """Return a function that reads an answer for ``Endpoints.read``: one that is malformed is no answer.

    Args:
        read: Reads it.
        malformed: What it raises if the answer has another form; its message says what is wrong.
    """

    def parse(answer: Answer) -> _Read:
        try:
            return read(answer)
        except malformed as error:
            raise NotAnAnswerError(str(error)) from error

    return parse


def call_bytes(number: int, method: str, params: Sequence[Any]) -> bytes:
    """Return a call's body."""
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)})


def read_answer(body: bytes, number: int, method: str, endpoint: str) -> Answer:
    """Return the answer in a body.

    Raises:
        RpcError: The answer is an error.
        NotAnAnswerError: It is not JSON-RPC, not an answer to this call, or has no result.
    """
    try:
        found = orjson.loads(body)
    except ValueError:
        raise NotAnAnswerError("it did not answer in JSON") from None
    if not isinstance(found, dict):
        raise NotAnAnswerError("it did not answer in JSON-RPC")
    match found.get("error"):
        # An error may come without the id: the node could not read it.
        case {"code": int(code), "message": str(message), **rest} if found.get("id") in (number, None):
            raise RpcError(code, message, rest.get("data"))
    if found.get("id") != number:
        raise NotAnAnswerError("it answered another call")
    result = found.get("result")
    if result is None and not ("result" in found and method in _MAY_BE_NULL):
        raise NotAnAnswerError("it answered without a result")
    match result:
        case {"context": {"slot": int(slot)}, "value": value}:
            return Answer(value, slot, endpoint)
        case {"context": _}:
            raise NotAnAnswerError("it answered without a slot")
    return Answer(result, None, endpoint)
