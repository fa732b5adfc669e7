"""Idempotency keys: how they are parsed, and which requests are the same."""

import pytest

from service.domain.idempotency import hash_request, parse_key


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        (" abc ", "abc"),
        ("x" * 255, "x" * 255),
        ("", None),
        ('""', None),
        ('"', None),
        ('a"b', None),
        ("a b", None),
        ("x" * 256, None),
        ("\u00e9", None),
        ("a\x00", None),
    ],
)
def test_a_key_may_be_quoted(header: str, key: str | None) -> None:
    assert parse_key(header) == key


def test_the_same_request_has_the_same_hash() -> None:
    first = hash_request("POST", "/a", b'{"x": 1, "y": {"b": 2, "a": 3}}')
    assert hash_request("POST", "/a", b'{"y":{"a":3,"b":2},"x":1}') == first
    others = [
        ("POST", "/a", b'{"x": 1, "y": {"b": 2, "a": 4}}'),
        ("POST", "/b", b'{"x": 1, "y": {"b": 2, "a": 3}}'),
        ("PUT", "/a", b'{"x": 1, "y": {"b": 2, "a": 3}}'),
        ("POST", "/a", b"not JSON"),
        ("POST", "/a", b""),
    ]
    hashes = {hash_request(*other) for other in others}
    assert len(hashes) == len(others)
    assert first not in hashes
