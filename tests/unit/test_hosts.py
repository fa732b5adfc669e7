"""Hosts, origins, networks and root paths, as settings and requests name them."""

import pytest

from service.hosts import (
    InvalidHostError,
    is_loopback,
    parse_host_patterns,
    parse_networks,
    parse_origins,
    parse_root_path,
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("engine.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("[::1]", True),
        ("0.0.0.0", False),  # noqa: S104 - no address to bind
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_lists_are_parsed() -> None:
    assert parse_host_patterns(" Engine, .Example.com ,,*") == ("engine", ".example.com", "*")
    assert parse_host_patterns("") == ()
    assert parse_origins("https://a.example, http://localhost:5173") == (
        "https://a.example",
        "http://localhost:5173",
    )
    assert [str(network) for network in parse_networks("10.0.0.5,fd00::/8")] == ["10.0.0.5/32", "fd00::/8"]
    assert parse_root_path("/a/b-1") == "/a/b-1"


@pytest.mark.parametrize("text", ["a:80", "https://a", "a b", "*.a", "..a", "a/b"])
def test_other_host_patterns_are_rejected(text: str) -> None:
    with pytest.raises(InvalidHostError):
        parse_host_patterns(text)


@pytest.mark.parametrize(
    "text",
    ["*", "a.example", "https://a/", "https://a?x", "https://a:port", "null", "https://A", "https://u@a"],
)
def test_other_origins_are_rejected(text: str) -> None:
    with pytest.raises(InvalidHostError):
        parse_origins(text)


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "10.0.0.0/33"])
def test_other_networks_are_rejected(text: str) -> None:
    with pytest.raises(InvalidHostError):
        parse_networks(text)


@pytest.mark.parametrize("text", ["/", "engine", "/engine/", "//a", "/a?b"])
def test_other_root_paths_are_rejected(text: str) -> None:
    with pytest.raises(InvalidHostError):
        parse_root_path(text)
