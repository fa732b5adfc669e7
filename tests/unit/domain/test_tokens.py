"""Which names a token has, and which of two tokens has a symbol."""

import pytest

from service.domain.tokens import (
    TOKENS,
    Token,
    find_token,
    is_mint,
    list_token,
    look_alike,
    nameless,
    nearest_symbol,
    set_mint,
)

MINT = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
OTHER = "9n4nbM75f5Ui33ZbPYXn59EwSgE8CGsHtAeTH5YFeJ9E"
ZEROS = "1" * 32


pytestmark = pytest.mark.usefixtures("forget_tokens")


def test_a_listed_token_has_both_names() -> None:
    gem = Token("GEM", MINT, 6)
    assert list_token(gem) is gem
    assert find_token("GEM") is find_token(MINT) is gem


@pytest.mark.parametrize("symbol", ["GEM", "gem", "USDC", "usdc"])
def test_of_two_mints_with_one_symbol_the_second_is_known_by_its_mint_only(symbol: str) -> None:
    gem = list_token(Token("GEM", MINT, 6))
    assert list_token(Token(symbol, OTHER, 9)) == Token(OTHER, OTHER, 9)
    assert find_token(OTHER) == TOKENS[OTHER] == nameless(OTHER, 9)
    assert find_token("GEM") is TOKENS["GEM"] is gem
    assert find_token(symbol) in {gem, TOKENS["USDC"], None}


@pytest.mark.parametrize("symbol", ["", "$GEM", "GEM ", "G" * 17, "G\N{COMBINING DIAERESIS}M", OTHER])
def test_a_token_with_no_valid_symbol_is_known_by_its_mint_only(symbol: str) -> None:
    assert list_token(Token(symbol, MINT, 6)) == nameless(MINT, 6)
    assert find_token(symbol) is None
    assert find_token(MINT) == nameless(MINT, 6)


def test_a_known_token_never_changes() -> None:
    gem = list_token(Token("GEM", MINT, 6))
    for other in (Token("GEM", MINT, 9), Token("ORE", MINT, 6), nameless(MINT, 6)):
        assert list_token(other) is gem
    assert find_token("ORE") is None
    unnamed = list_token(nameless(OTHER, 6))
    assert list_token(Token("ORE", OTHER, 6)) is unnamed
    assert "ORE" not in TOKENS


def test_a_mint_is_neither_a_look_alike_nor_suggested() -> None:
    list_token(nameless(MINT, 6))
    assert look_alike(MINT.swapcase()) is None
    assert nearest_symbol(MINT[:16]) is None


@pytest.mark.parametrize("name", [MINT, OTHER, ZEROS, *(token.mint for token in TOKENS.values())])
def test_an_address_of_32_bytes_can_be_a_mint(name: str) -> None:
    assert is_mint(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "GEM", "1" * 31, "1" * 33, "z" * 32, "z" * 44, MINT[:-2], f"{MINT}1", f"{MINT}\n"),
        MINT.replace("7", "0"),
        MINT.replace("7", "l"),
    ],
)
def test_no_other_text_can(name: str) -> None:
    assert not is_mint(name)


def test_a_token_can_have_another_mint_on_another_cluster() -> None:
    before = TOKENS["USDC"].mint
    there = Token("USDC", OTHER, 6)
    assert set_mint(there) is there
    assert find_token("USDC") is find_token(OTHER) is there
    assert find_token(before) is None
    gem = Token("GEM", MINT, 9)
    assert set_mint(gem) is find_token("GEM") is gem


@pytest.mark.parametrize(
    "token", [Token("USDC", OTHER, 9), Token("usdc", OTHER, 6), Token("GEM", TOKENS["JUP"].mint, 6)]
)
def test_amounts_and_names_keep_their_meaning_with_another_mint(token: Token) -> None:
    before = dict(TOKENS)
    with pytest.raises(ValueError, match=token.symbol):
        set_mint(token)
    assert before == TOKENS
