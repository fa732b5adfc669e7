"""What is shown of what a node writes."""

import pytest

from service.chains.solana.rpc.urls import parse_rpc_urls
from service.chains.solana.rpc.words import LONGEST_WORDS, NodeWords

KEY, OTHER = "k3y-0f-the-user", "k3y-0f-the-user-and-more"
WORDS = NodeWords(parse_rpc_urls(f"https://a.example/v2/{KEY},https://b.example/?api-key={OTHER}%2B"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("slot skipped", "slot skipped"),
        (f"bad key {KEY}!", "bad key ***!"),
        # One node may repeat the key of another one, and a key may begin with another one.
        (f"bad keys {OTHER}+ {OTHER}%2B {KEY}", "bad keys *** *** ***"),
        ("pay at https://c.example/?key=x, now", "pay at (a URL) now"),
        (f"wss://a.example/v2/{KEY}", "(a URL)"),
        ("two\nlines\r\n\tand \x1b[31mred\u2028", "two lines and [31mred"),
        ("", ""),
    ],
)
def test_a_text_shows_no_key_and_no_url_on_one_line(text: str, shown: str) -> None:
    assert WORDS.shown(text) == shown


@pytest.mark.parametrize("before", [0, LONGEST_WORDS - 5, 9_990, 10_000])
def test_a_long_text_is_cut_and_shows_no_part_of_a_key(before: int) -> None:
    shown = WORDS.shown("x" * before + KEY * 2_000_000)
    assert len(shown) <= LONGEST_WORDS + len("...")
    assert not set(shown) - set("x*.")
    assert not set(WORDS.shown(f" {KEY}" * 10_000)) - set(" *.")


def test_the_texts_of_json_are_shown_alike() -> None:
    data = {"numSlotsBehind": 7, f"of {KEY}": [None, True, f"key {OTHER}%2B", {"url": "https://c.example"}]}
    assert WORDS.shown_data(data) == {
        "numSlotsBehind": 7,
        "of ***": [None, True, "key ***", {"url": "(a URL)"}],
    }
    nested: list[object] = []
    for _ in range(5_000):
        nested = [nested]
    assert "None" in str(WORDS.shown_data(nested))
