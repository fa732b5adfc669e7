"""The tokens that can be traded: those that were always there, and those that are listed as we go."""

from dataclasses import dataclass


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
