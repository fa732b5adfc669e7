"""The tokens that can be traded: built-in ones, and those that are listed at run time.

A token is named by its symbol or by its mint address. Symbols are case-sensitive, but no two differ only in
case.
"""

import difflib
from dataclasses import dataclass

LONGEST_SYMBOL = 16
"""Maximum length of a symbol. A mint address has 32 or more characters, so the two cannot be confused."""


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
    """Add a token to this process's list. A known token never changes: orders refer to it."""
    TOKENS.setdefault(token.symbol, token)


def find_token(name: str) -> Token | None:
    """Return the token of this symbol or mint address; None if no known token has it."""
    if len(name) <= LONGEST_SYMBOL:
        return TOKENS.get(name)
    return next((token for token in TOKENS.values() if token.mint == name), None)


def look_alike(symbol: str) -> Token | None:
    """Return the token whose symbol differs from a new one only in case; None if there is none."""
    if symbol in TOKENS:
        return None
    folded = symbol.lower()
    return next((token for token in TOKENS.values() if token.symbol.lower() == folded), None)


def nearest_symbol(name: str) -> str | None:
    """Return the known symbol closest to a mistyped one; None if none is close."""
    if not 1 <= len(name) <= LONGEST_SYMBOL:
        return None
    typed = name.lower()
    # Comparing with a thousand tokens takes milliseconds. Most typos keep the first or the last letter.
    symbols = {symbol.lower(): symbol for symbol in TOKENS if _share_an_end(symbol.lower(), typed)}
    near = difflib.get_close_matches(typed, symbols, n=1)
    return symbols[near[0]] if near else None


def _share_an_end(one: str, other: str) -> bool:
    return one[0] == other[0] or one[-1] == other[-1]
