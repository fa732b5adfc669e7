"""What a trigger saw, in the wire's form."""

from service.domain.amounts import format_price
from service.domain.tokens import TOKENS


def seen_price(amount_out: int, token_out: str, amount_in: int, token_in: str) -> str:
    """Return a price that was quoted, tokenOut for one tokenIn in display units. Amounts are base units."""
    return format_price(amount_out, TOKENS[token_out].decimals, amount_in, TOKENS[token_in].decimals)
