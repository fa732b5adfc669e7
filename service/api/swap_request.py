"""The swap in a request for an order or a quote: two tokens, and the amount of one of them."""

from collections.abc import Callable
from typing import TypedDict, TypeVar

from marshmallow import ValidationError, fields, post_load, validates_schema

from service.api.fields import AMOUNT, Request, TokenName
from service.domain.amounts import LONGEST_NUMBER, InvalidAmountError, parse_amount
from service.domain.quote import SwapMode
from service.domain.tokens import TOKENS, Token

T = TypeVar("T")


def required_token(
    role: str, *, listed: bool = True, check: Callable[[str], None] | None = None
) -> TokenName:
    """Return the field of a required token.

    Args:
        role: The token's role, for the description.
        listed: Whether it must be listed already.
        check: Validates the symbol.
    """
    description = f"Symbol or mint address of the token {role}."
    return TokenName(description, listed=listed, required=True, validate=check)


def optional_token(role: str) -> TokenName:
    """Return the field of an optional token, which need not be listed."""
    return TokenName(f"Symbol or mint address of the token {role}.", listed=False, load_default=None)


def _amount(description: str) -> fields.String:
    return fields.String(
        load_default=None, metadata={"description": description, "maxLength": LONGEST_NUMBER, **AMOUNT}
    )


def parse_amount_of(text: str, token: Token, name: str) -> int:
    """Return an amount in base units.

    Args:
        text: The amount in display units.
        token: The token.
        name: The member with the amount.

    Raises:
        ValidationError: It is not an amount, or has too many decimal places; reported at the member.
    """
    try:
        return parse_amount(text, token.decimals)
    except InvalidAmountError as error:
        raise ValidationError(f"The amount {error}.", name) from None


class Swap(TypedDict):
    """The members of a swap as sent; after validation exactly one of the amounts is given."""

    token_in: str
    token_out: str
    amount_in: str | None
    amount_out: str | None


class SwapRequest(Request[T]):
    """A swap of one token for another, with the amount of one side fixed."""

    token_in = required_token("sold")
    token_out = required_token("bought")
    amount_in = _amount("Amount to sell, in display units of tokenIn, as a string. This or amountOut.")
    amount_out = _amount("Amount to buy, in display units of tokenOut, as a string. This or amountIn.")

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_amounts(self, _data: object, sent: object, **_options: object) -> None:
        """Reject a swap without an amount, or with two."""
        if not isinstance(sent, dict):
            return  # already reported
        given = [name for name in ("amountIn", "amountOut") if sent.get(name) is not None]
        if not given:
            raise ValidationError("Missing data for required field; give it, or amountOut.", "amountIn")
        if len(given) > 1:
            raise ValidationError("Give amountIn or amountOut, not both.", "amountOut")

    @validates_schema(skip_on_field_errors=True)
    def check_tokens(self, data: Swap, **_options: object) -> None:
        """Reject a swap of a token for itself."""
        if data["token_in"] == data["token_out"]:
            raise ValidationError("Must differ from tokenIn.", "tokenOut")

    @post_load
    def read_amount(self, data: Swap, **_options: object) -> dict[str, object]:
        """Convert the amount to base units, and keep its text as sent."""
        if (text := data["amount_in"]) is not None:
            mode, name, token = SwapMode.EXACT_IN, "amountIn", data["token_in"]
        elif (text := data["amount_out"]) is not None:
            mode, name, token = SwapMode.EXACT_OUT, "amountOut", data["token_out"]
        else:
            raise ValueError("a swap without an amount passed validation")
        amount = parse_amount_of(text, TOKENS[token], name)
        read: dict[str, object] = {**data, "swap_mode": mode, "amount": amount, "amount_text": text}
        del read["amount_in"], read["amount_out"]
        return read
