"""What clients send: bodies and queries, read and checked. The OpenAPI document is made from these."""

import re
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates_schema

from service.api.fields import AMOUNT, Cursor, QueryInteger, Request, StrictInteger
from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.lifecycle import Status
from service.domain.order import DEFAULT_SLIPPAGE_BPS, OrderType
from service.domain.quote import Dex, SwapMode
from service.domain.tokens import TOKENS

DEFAULT_PAGE = 100
LARGEST_PAGE = 500


def _known_token(symbol: str) -> None:
    if symbol not in TOKENS:
        raise ValidationError("Unknown token; known are " + ", ".join(TOKENS) + ".")


def _token(role: str) -> fields.String:
    return fields.String(
        required=True, validate=_known_token, metadata={"description": f"Symbol of the token {role}."}
    )


def _amount(description: str) -> fields.String:
    return fields.String(load_default=None, allow_none=False, metadata={"description": description, **AMOUNT})


def _is_client_order_id(text: str) -> None:
    # The document's pattern, read with Python's eyes: its $ would let a line feed pass.
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValidationError("Takes 1 to 64 of A-Z a-z 0-9 . _ : -")


class _SwapRequest(Request):
    """A swap of one token for another, of which one side's amount is fixed."""

    token_in = _token("sold")
    token_out = _token("bought")
    amount_in = _amount("Amount to sell, in display units of tokenIn, as a string. This or amountOut.")
    amount_out = _amount("Amount to buy, in display units of tokenOut, as a string. This or amountIn.")

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_amounts(self, _data: dict[str, Any], sent: Any, **_options: Any) -> None:
        """Refuse a swap of no amount, or of two."""
        if not isinstance(sent, dict):
            return  # which has been said
        given = [name for name in ("amountIn", "amountOut") if name in sent]
        if not given:
            raise ValidationError("Missing data for required field; give it, or amountOut.", "amountIn")
        if len(given) > 1:
            raise ValidationError("Give amountIn or amountOut, not both.", "amountOut")

    @validates_schema(skip_on_field_errors=True)
    def check_tokens(self, data: dict[str, Any], **_options: Any) -> None:
        """Refuse a swap of a token for itself."""
        if data["token_in"] == data["token_out"]:
            raise ValidationError("Must differ from tokenIn.", "tokenOut")

    @post_load
    def read_amount(self, data: dict[str, Any], **_options: Any) -> dict[str, Any]:
        """Read the amount in base units; it is kept as it was sent as well."""
        amount_in, amount_out = data.pop("amount_in"), data.pop("amount_out")
        if amount_in is not None:
            mode, name, text, token = SwapMode.EXACT_IN, "amountIn", amount_in, data["token_in"]
        else:
            mode, name, text, token = SwapMode.EXACT_OUT, "amountOut", amount_out, data["token_out"]
        try:
            amount = parse_amount(text, TOKENS[token].decimals)
        except InvalidAmountError as error:
            raise ValidationError(f"The amount {error}.", name) from None
        return {**data, "swap_mode": mode, "amount": amount, "amount_text": text}


class NewOrderSchema(_SwapRequest):
    """POST /api/orders/execute."""

    order_type = fields.Enum(OrderType, by_value=True, required=True)
    slippage_bps = StrictInteger(
        load_default=DEFAULT_SLIPPAGE_BPS,
        validate=validate.Range(0, 10_000),
        metadata={"description": "How much worse than the quote the swap may be, in 1/10000."},
    )
    client_order_id = fields.String(
        load_default=None,
        validate=_is_client_order_id,
        metadata={
            "description": "The client's own id of the order, unique for good.",
            "pattern": "^[A-Za-z0-9._:-]{1,64}$",
        },
    )


class QuoteQuerySchema(_SwapRequest):
    """The query of GET /api/quotes."""

    slippage_bps = QueryInteger(
        load_default=DEFAULT_SLIPPAGE_BPS,
        validate=validate.Range(0, 10_000),
        metadata={"description": "How much worse than the quote the swap may be, in 1/10000."},
    )


class PoolQuerySchema(Request):
    """The query of GET /api/pools."""

    venue = fields.Enum(Dex, by_value=True, load_default=None)
    token = fields.String(
        load_default=None,
        validate=_known_token,
        metadata={"description": "Only pools that trade this token."},
    )


class ListQuerySchema(Request):
    """The query of GET /api/orders."""

    status = fields.Enum(Status, by_value=True, load_default=None)
    limit = QueryInteger(load_default=DEFAULT_PAGE, validate=validate.Range(1, LARGEST_PAGE))
    cursor = Cursor(load_default=None, metadata={"type": "string", "description": "nextCursor of a page."})


class StreamQuerySchema(Request):
    """The query of GET /api/orders/{orderId}/ws."""

    after = QueryInteger(
        data_key="from",
        load_default=0,
        metadata={"description": "Resume after the entry of this sequence."},
    )


# Building a schema costs more than using it.
NEW_ORDER = NewOrderSchema()
LIST_QUERY = ListQuerySchema()
STREAM_QUERY = StreamQuerySchema()
QUOTE_QUERY = QuoteQuerySchema()
POOL_QUERY = PoolQuerySchema()
