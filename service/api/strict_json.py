"""Strict JSON parsing of request bodies: duplicate members are rejected, even with equal values."""

import json
from collections.abc import Iterable

import orjson

DEEPEST = 64
"""Maximum levels of objects and arrays; an order has four."""

MOST_MEMBERS = 1_000
"""Maximum number of members, or of elements that are objects or arrays; more would block the event loop."""

_LONGEST_NAME = 64


class NotJsonError(ValueError):
    """The text is not JSON, or has a duplicate member; the message says why, for the client."""


def read_json(text: bytes, most_members: int = MOST_MEMBERS) -> object:
    """Parse JSON (RFC 8259) without duplicate members (RFC 7493).

    Args:
        text: The text.
        most_members: The maximum number of members.

    Raises:
        NotJsonError: It is not; also for invalid UTF-8, NaN, lone surrogates, and exceeded limits.
    """
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJsonError(f"The body is not JSON: {error}.") from None
    # Of duplicate members orjson silently keeps the last. Each member has a colon, so if there are as many
    # colons as members, none is missing. This saves most bodies the second parsing, which takes several times
    # as long.
    if text.count(b":") != _members(value, most_members):
        _PAIRS.decode(text.decode())
    return value


def _members(value: object, most: int) -> int:
    """Return the total number of members of all objects in a value."""
    count = 0
    level = [value] if type(value) is dict or type(value) is list else []
    for _ in range(DEEPEST):
        inner: list[dict[str, object] | list[object]] = []
        for node in level:
            if type(node) is dict:
                count += len(node)
                children: Iterable[object] = node.values()
            else:
                children = node
            inner += [each for each in children if type(each) is dict or type(each) is list]
        if count + len(inner) > most:
            raise NotJsonError(f"The body has more than {most} members.")
        if not inner:
            return count
        level = inner
    raise NotJsonError(f"The body is nested deeper than {DEEPEST} levels.")


def _reject_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen = set()
    for name, _value in pairs:
        if name in seen:
            raise NotJsonError(f"The body has a duplicate member: {json.dumps(name[:_LONGEST_NAME])}.")
        seen.add(name)


# Numbers stay text, since they may have any length.
_PAIRS = json.JSONDecoder(object_pairs_hook=_reject_duplicates, parse_int=str, parse_float=str)
