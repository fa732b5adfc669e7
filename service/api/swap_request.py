"""A swap in a request, of an order or of a quote: two tokens, and an amount on one side."""

from collections.abc import Callable
from typing import TypedDict, TypeVar

from marshmallow import ValidationError, fields, post_load, validates_schema

from service.api.fields import AMOUNT, Request, TokenName
from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.quote import SwapMode
from service.domain.tokens import TOKENS, Token

T = TypeVar("T")


def required_token(
    role: str, *, listed: bool = True, check: Callable[[str], None] | None = None
) -> TokenName:
    """Return the field of a token that must be named.

    Args:
        role: What the token is there for.
        listed: Whether it must be known already.
        check: Refuses symbols.
    """
    description = f"Symbol or mint address of the token {role}."
    return TokenName(description, listed=listed, required=True, validate=check)


def optional_token(role: str) -> TokenName:
    """Return the field of a token that may be left out, and need not be listed."""
    return TokenName(f"Symbol or mint address of the token {role}.", listed=False, load_default=None)


def _amount(description: str) -> fields.String:
    return fields.String(load_default=None, metadata={"description": description, **AMOUNT})


def parse_amount_of(text: str, token: Token, name: str) -> int:
    """Return an amount in base units.

    Args:
        text: The amount in display units.
        token: What it is an amount of.
        name: The member that holds it.

    Raises:
        ValidationError: It is no amount, or has too many decimal places; at the member.
    """
    try:
        return parse_amount(text, token.decimals)
    except InvalidAmountError as error:
        raise ValidationError(f"The amount {error}.", name) from None


class Swap(TypedDict):
    """The members of a swap as they are given; one of the amounts is, when all has been checked."""

    token_in: str
    token_out: str
    amount_in: str | None
    amount_out: str | None


class SwapRequest(Request[T]):
    """A swap of one token for another, of which one side's amount is fixed."""

    token_in = required_token("sold")
    token_out = required_token("bought")
    amount_in = _amount("Amount to sell, in display units of tokenIn, as a string. This or amountOut.")
    amount_out = _amount("Amount to buy, in display units of tokenOut, as a string. This or amountIn.")

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_amounts(self, _data: object, sent: object, **_options: object) -> None:
        """Refuse a swap of no amount, or of two."""
        if not isinstance(sent, dict):
            return  # which has been said
        given = [name for name in ("amountIn", "amountOut") if sent.get(name) is not None]
        if not given:
            raise ValidationError("Missing data for required field; give it, or amountOut.", "amountIn")
        if len(given) > 1:
            raise ValidationError("Give amountIn or amountOut, not both.", "amountOut")

    @validates_schema(skip_on_field_errors=True)
    def check_tokens(self, data: Swap, **_options: object) -> None:
        """Refuse a swap of a token for itself."""
        if data["token_in"] == data["token_out"]:
            raise ValidationError("Must differ from tokenIn.", "tokenOut")

    @post_load
    def read_amount(self, data: Swap, **_options: object) -> dict[str, object]:
        """Read the amount in base units; it is kept as it was sent as well."""
        if (text := data["amount_in"]) is not None:
            mode, name, token = SwapMode.EXACT_IN, "amountIn", data["token_in"]
        elif (text := data["amount_out"]) is not None:
            mode, name, token = SwapMode.EXACT_OUT, "amountOut", data["token_out"]
        else:
            raise ValueError("a swap without an amount was let through")
        amount = parse_amount_of(text, TOKENS[token], name)
        read: dict[str, object] = {**data, "swap_mode": mode, "amount": amount, "amount_text": text}
        del read["amount_in"], read["amount_out"]
        return read
