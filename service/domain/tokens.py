"""The tokens that can be traded: those that were always there, and those that are listed as we go.

A token is named by its symbol or by its mint's address. A symbol is written in one way only, and no other
token may have one that differs in the case of its letters.
"""

import difflib
from dataclasses import dataclass

LONGEST_SYMBOL = 16
"""Characters of a symbol at most. A mint's address has 32 or more, so it is never taken for a symbol."""


@dataclass(frozen=True, slots=True)
class Token:
    """An SPL token.

    ``decimals`` is the number of decimal places of one display unit: 1 SOL is 10**9 base units.
    """

    symbol: str
    mint: str
    decimals: int


TOKENS: dict[str, Token] = {
    token.symbol: token
    for token in (
        Token("SOL", "So11111111111111111111111111111111111111112", 9),
        Token("USDC", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", 6),
        Token("USDT", "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", 6),
        Token("JUP", "JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN", 6),
        Token("RAY", "4k3Dyjzvzp8eMZWUXbBCjEvwSkkk59S5iCNLY3QrkX6R", 6),
        Token("BONK", "DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263", 5),
    )
}


def list_token(token: Token) -> None:
    """Make a token known to this process. Once known it stays as it is: orders were made with it."""
    TOKENS.setdefault(token.symbol, token)


def find_token(name: str) -> Token | None:
    """Return the token of this symbol or mint address; None if no known token has it."""
    if len(name) <= LONGEST_SYMBOL:
        return TOKENS.get(name)
    return next((token for token in TOKENS.values() if token.mint == name), None)


def look_alike(symbol: str) -> Token | None:
    """Return the token whose symbol a new one would repeat but for the case of its letters."""
    if symbol in TOKENS:
        return None
    folded = symbol.lower()
    return next((token for token in TOKENS.values() if token.symbol.lower() == folded), None)


def nearest_symbol(name: str) -> str | None:
    """Return the known symbol that a mistyped one is nearest to; None if none comes near."""
    if not 1 <= len(name) <= LONGEST_SYMBOL:
        return None
    typed = name.lower()
    # To compare with each of a thousand tokens takes milliseconds; most slips keep an end of the word.
    symbols = {symbol.lower(): symbol for symbol in TOKENS if _share_an_end(symbol.lower(), typed)}
    near = difflib.get_close_matches(typed, symbols, n=1)
    return symbols[near[0]] if near else None


def _share_an_end(one: str, other: str) -> bool:
    return one[0] == other[0] or one[-1] == other[-1]
