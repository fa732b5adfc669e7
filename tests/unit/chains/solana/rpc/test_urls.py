"""The list of RPC URLs: roles, budgets, names, and errors that repeat nothing of it."""

import pytest

from service.chains.solana.rpc.urls import InvalidRpcUrlsError, Role, parse_rpc_urls, websocket_url

SECRET = "k3y-0f-the-user"


def test_each_url_has_its_role_its_budget_and_the_host_as_its_name() -> None:
    first, second, third, fourth = parse_rpc_urls(
        f"https://a.example/{SECRET}, https://b.example/?api-key={SECRET}#read;rps=25 ,"
        f"http://user:{SECRET}@C.example:8899;rps=1#send,,https://d.example#both"
    )
    assert (first.url, first.name, first.role, first.rps) == (
        f"https://a.example/{SECRET}",
        "a.example",
        Role.BOTH,
        None,
    )
    assert (second.url, second.name, second.role, second.rps) == (
        f"https://b.example/?api-key={SECRET}",
        "b.example",
        Role.READ,
        25,
    )
    assert (third.url, third.name, third.role, third.rps) == (
        f"http://user:{SECRET}@c.example:8899/",
        "c.example",
        Role.SEND,
        1,
    )
    assert [(each.reads, each.sends) for each in (first, second, third, fourth)] == [
        (True, True),
        (True, False),
        (False, True),
        (True, True),
    ]
    assert SECRET not in repr((first, second, third, fourth))


def test_urls_of_one_host_are_told_apart_by_their_places() -> None:
    names = [
        each.name for each in parse_rpc_urls("https://a.example/1,https://b.example,https://a.example/2")
    ]
    assert names == ["a.example (1)", "b.example", "a.example (3)"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "must have at least one URL"),
        (" , ", "must have at least one URL"),
        (f"https://a.example/{SECRET}#raed", "URL 1 may be followed by #read, #send or #both, and ;rps="),
        (f"https://a.example,https://b.example/#{SECRET}", "URL 2 may be followed by"),
        (f"https://a.example/{SECRET};rps=0", "URL 1 may be followed by"),
        (f"https://a.example/{SECRET};rps=10001", "URL 1 may be followed by"),
        (f"https://a.example/{SECRET};rps=2.5", "URL 1 may be followed by"),
        (f"https://a.example/{SECRET}#read#send", "URL 1 has its role twice"),
        (f"https://a.example/{SECRET};rps=1;rps=2", "URL 1 has its rps twice"),
        (f"a.example/{SECRET}", "URL 1 must be one with a host, beginning with https:// or http://"),
        (f"wss://a.example/{SECRET}", "URL 1 must be one with a host"),
        (f"https:///{SECRET}", "URL 1 must be one with a host"),
        (f"https://a.example:{SECRET}", "URL 1 must be one with a host"),
        (f"https://a.example/{SECRET} x", "URL 1 must be one with a host"),
        (f"https://a.example/{SECRET},https://A.example/{SECRET}", "URL 2 is there twice"),
        (f"https://a.example/{SECRET}#read", "needs an endpoint to read from and one to send to"),
        (f"https://a.example/{SECRET}#send", "needs an endpoint to read from and one to send to"),
    ],
)
def test_what_is_no_list_of_urls_is_refused_without_repeating_it(text: str, fault: str) -> None:
    with pytest.raises(InvalidRpcUrlsError) as end:
        parse_rpc_urls(text)
    assert str(end.value).startswith(fault)
    assert SECRET not in str(end.value)


@pytest.mark.parametrize(
    "url",
    [
        f"https://a.example/v2/{SECRET}",
        f"https://a.example/?api-key={SECRET}&x=1",
        f"https://{SECRET}:x@a.example/",
        f"https://x:{SECRET}@a.example/",
    ],
)
def test_what_a_node_repeats_of_its_url_is_struck_out(url: str) -> None:
    [parsed] = parse_rpc_urls(url)
    assert parsed.redact(f"invalid key {SECRET}!") == "invalid key ***!"


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/?SECRET%2Bof/it",
        "https://a.example/?x=1&SECRET%2Bof/it",
        "https://a.example/?x=1;SECRET%2Bof/it",
        "https://a.example/?key=SECRET%2Bof%2Fit",
        "https://a.example/v2/SECRET%2Bof%2Fit",
        "https://u:SECRET%2Bof%2Fit@a.example/",
    ],
)
def test_a_key_is_struck_out_as_written_and_as_decoded(url: str) -> None:
    [parsed] = parse_rpc_urls(url.replace(";", "%3B") if ";SECRET" in url else url)
    written = url.partition("SECRET")[2].partition("@")[0]
    for key in "SECRET" + written, "SECRET+of/it":
        assert "SECRET" not in parsed.redact(f"invalid key {key}!")


@pytest.mark.parametrize(
    ("url", "socket"),
    [
        ("https://a.example/?api-key=x", "wss://a.example/?api-key=x"),
        ("http://127.0.0.1:8899/", "ws://127.0.0.1:8900/"),
        ("http://127.0.0.1:9000/2", "ws://127.0.0.1:9000/2"),
        ("https://u:8899@a.example:8899/", "wss://u:8899@a.example:8900/"),
    ],
)
def test_the_websocket_follows_from_the_url(url: str, socket: str) -> None:
    assert websocket_url(url) == socket
