"""The tokens that can be traded: built-in ones, and those that are listed at run time.

A token is named by its symbol or by its mint address. Symbols are case-sensitive, but no two differ only in
case. A token without a symbol of its own is known by its mint address alone: nobody has named it, or another
token had the symbol first.
"""

import difflib
import re
from dataclasses import dataclass

LONGEST_SYMBOL = 16
"""Maximum length of a symbol. A mint address has 32 or more characters, so the two cannot be confused."""

SYMBOL = f"[A-Za-z0-9]{{1,{LONGEST_SYMBOL}}}"
"""A symbol, as a regular expression."""

MINT = "[1-9A-HJ-NP-Za-km-z]{32,44}"
"""The form of a mint address, as a regular expression: base58. ``is_mint`` checks its length in bytes too."""

_SYMBOL = re.compile(SYMBOL)
_MINT = re.compile(MINT)
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_MINT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Token:
    """An SPL token.

    ``symbol`` is its name here, in orders and pools: its mint address if it has no symbol of its own.
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


def list_token(token: Token) -> Token:
    """Add a token to this process's list, and return it as it is known from now on.

    A known token never changes: orders refer to it. A token whose symbol is not valid, or is another token's
    (ignoring case), is known by its mint address only.
    """
    known = _by_mint(token.mint)
    if known is not None:
        return known
    if not is_symbol(token.symbol) or token.symbol in TOKENS or look_alike(token.symbol):
        token = nameless(token.mint, token.decimals)
    TOKENS[token.symbol] = token
    return token


def set_mint(token: Token) -> Token:
    """Add a token under its symbol and with its mint, also if a token of the same symbol is built in.

    For a cluster on which the built-in mints do not exist; before anything refers to a token.

    Raises:
        ValueError: The built-in token has other decimals, or another token has the symbol or the mint.
    """
    known = TOKENS.get(token.symbol)
    if known is not None and known.decimals != token.decimals:
        raise ValueError(f"{token.symbol} has {known.decimals} decimals, not {token.decimals}")
    if _by_mint(token.mint) not in (None, known) or (known is None and look_alike(token.symbol)):
        raise ValueError(f"another token has the symbol {token.symbol} or its mint")
    TOKENS[token.symbol] = token
    return token


def nameless(mint: str, decimals: int) -> Token:
    """Return a token that is known by its mint address only."""
    return Token(mint, mint, decimals)


def is_mint(name: str) -> bool:
    """Return whether a name can be a mint address: 32 bytes in base58."""
    if not _MINT.fullmatch(name):
        return False
    number = 0
    for digit in name:
        number = number * len(_BASE58) + _BASE58.index(digit)
    zeros = len(name) - len(name.lstrip(_BASE58[0]))
    return zeros + (number.bit_length() + 7) // 8 == _MINT_BYTES


def is_symbol(name: str) -> bool:
    """Return whether a name can be a symbol."""
    return _SYMBOL.fullmatch(name) is not None


def find_token(name: str) -> Token | None:
    """Return the token of this symbol or mint address; None if no known token has it."""
    if len(name) <= LONGEST_SYMBOL:
        return TOKENS.get(name)
    return _by_mint(name)


def _by_mint(mint: str) -> Token | None:
    return next((token for token in TOKENS.values() if token.mint == mint), None)


def look_alike(symbol: str) -> Token | None:
    """Return the token whose symbol differs from a new one only in case; None if there is none."""
    if symbol in TOKENS or len(symbol) > LONGEST_SYMBOL:
        return None
    folded = symbol.lower()
    return next((token for token in TOKENS.values() if token.symbol.lower() == folded), None)


def nearest_symbol(name: str) -> str | None:
    """Return the known symbol closest to a mistyped one; None if none is close."""
    if not 1 <= len(name) <= LONGEST_SYMBOL:
        return None
    typed = name.lower()
    # Comparing with a thousand tokens takes milliseconds. Most typos keep the first or the last letter.
    symbols = {
        symbol.lower(): symbol
        for symbol in TOKENS
        if len(symbol) <= LONGEST_SYMBOL and _share_an_end(symbol.lower(), typed)
    }
    near = difflib.get_close_matches(typed, symbols, n=1)
    return symbols[near[0]] if near else None


def _share_an_end(one: str, other: str) -> bool:
    return one[0] == other[0] or one[-1] == other[-1]
