"""Strict JSON: no duplicate members, at any depth and in any notation."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.strict_json import DEEPEST, MOST_MEMBERS, NotJsonError, read_json

MODEST = settings(max_examples=100, deadline=None)

names = st.sampled_from(["a", "b", ":", "", '"', "\\", "\u00e9", "a:b"]) | st.text("abé:{[,\\", max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e9, 1e9) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"a":1,"a":2}', '"a"'),
        (b'{"a":1,"b":2,"a":1}', '"a"'),
        (b'{"a":null,"a":null}', '"a"'),
        (b'{"a":1,"\\u0061":2}', '"a"'),
        (b'{"a":":","a":"::"}', '"a"'),
        (b'{"a":"\\u003a","a":"\\u003a"}', '"a"'),
        (b'{"":1,"":2}', '""'),
        (b'[[{"x":[{"a":{"b":1,"b":{}}}]}]]', '"b"'),
        (b'{"a":{"b":1},"a":{"b":1}}', '"a"'),
        (b'{"' + b"x" * 5_000 + b'":1,"' + b"x" * 5_000 + b'":2}', '"' + "x" * 64 + '"'),
        ('{"\u00e9":1,"\\u00e9":2}'.encode(), '"\\u00e9"'),
    ],
    ids=repr,
)
def test_a_duplicate_member_is_rejected_by_name(text: bytes, name: str) -> None:
    with pytest.raises(NotJsonError) as refusal:
        read_json(text)
    assert str(refusal.value) == f"The body has a duplicate member: {name}."


@MODEST
@given(values)
def test_json_without_duplicates_is_parsed_like_any_json(value: Any) -> None:
    for text in (orjson.dumps(value, option=orjson.OPT_INDENT_2), json.dumps(value).encode()):
        assert read_json(text) == orjson.loads(text)


@MODEST
@given(st.lists(st.tuples(names, values), min_size=1, max_size=5), st.integers(0, 3))
def test_a_duplicate_at_any_depth_is_found(pairs: list[tuple[str, Any]], depth: int) -> None:
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
    for _ in range(depth):
        text = f'{{"x":[{text}, "::"]}}'
    if len(dict(pairs)) == len(pairs):
        assert read_json(text.encode()) == orjson.loads(text)
    else:
        with pytest.raises(NotJsonError, match="duplicate member"):
            read_json(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a":":","b":NaN}',
        b'{"a":":","b":' + b"9" * 5_000 + b"}",
        b'"\xff"',
        b'"\\ud800"',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"[" * DEEPEST + b"{}" + b"]" * DEEPEST,
        b'{":":' * 900 + b"1" + b"}" * 900,
        orjson.dumps({str(number): 1 for number in range(MOST_MEMBERS + 1)}),
        orjson.dumps([[]] * (MOST_MEMBERS + 1)),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_json_that_is_invalid_too_deep_or_too_large_is_rejected(text: bytes) -> None:
    with pytest.raises(NotJsonError):
        read_json(text)


def test_the_largest_accepted_json() -> None:
    deep = b"[" * (DEEPEST - 1) + b'{":":1}' + b"]" * (DEEPEST - 1)
    assert read_json(deep) == orjson.loads(deep)
    wide = {str(number): ":" for number in range(MOST_MEMBERS)}
    assert read_json(orjson.dumps(wide)) == wide
    assert read_json(b'{"a":":","b":-0.0,"c":1e300}') == {"a": ":", "b": -0.0, "c": 1e300}
