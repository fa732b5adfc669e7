"""The wire contract: camelCase, decimal strings, RFC 3339 times in UTC.

Requests are loaded by these schemas and answers dumped by them; the OpenAPI document is made from them.
"""

import base64
import binascii
import re
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validate, validates_schema

from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.failures import FailureCode
from service.domain.lifecycle import Status
from service.domain.order import DEFAULT_SLIPPAGE_BPS, OrderType
from service.domain.quote import Dex
from service.domain.tokens import TOKENS
from service.store.orders import Position

DEFAULT_PAGE = 100
LARGEST_PAGE = 500

_AMOUNT = {"pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"}
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID in its usual form."""
    return _UUID.fullmatch(text) is not None


class StrictInteger(fields.Integer):
    """A JSON integer: no string, no fraction, and not true, which Python takes for one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(strict=True, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class QueryInteger(fields.Integer):
    """A whole number in a query string: digits, and nothing that int() would also take."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> int:
        if not _WHOLE_NUMBER.fullmatch(value):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Cursor(fields.Field[Position]):
    """A place in a list of orders, opaque to the client."""

    def _serialize(self, value: Position | None, *_where: Any, **_options: Any) -> str | None:
        if value is None:
            return None
        text = f"{value.created_us}.{value.order_id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def _deserialize(self, value: Any, *_where: Any, **_options: Any) -> Position:
        try:
            text = base64.urlsafe_b64decode(value.encode("ascii") + b"==").decode("ascii")
        except (binascii.Error, UnicodeError):
            text = ""
        created_us, _, order_id = text.partition(".")
        if not (re.fullmatch(r"[0-9]{1,18}", created_us) and is_uuid(order_id)):
            raise ValidationError("Not a cursor that this service gave out.")
        return Position(int(created_us), order_id)


def _token(role: str) -> fields.String:
    return fields.String(
        required=True,
        validate=validate.OneOf(TOKENS, error="Unknown token; known are " + ", ".join(TOKENS) + "."),
        metadata={"description": f"Symbol of the token {role}."},
    )


def _is_client_order_id(text: str) -> None:
    # The document's pattern, read with Python's eyes: its $ would let a line feed pass.
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValidationError("Takes 1 to 64 of A-Z a-z 0-9 . _ : -")


class NewOrderSchema(Schema):
    """POST /api/orders/execute."""

    class Meta:
        unknown = RAISE

    token_in = _token("sold")
    token_out = _token("bought")
    amount_in = fields.String(
        required=True,
        metadata={"description": "Amount to sell, in display units of tokenIn, as a string.", **_AMOUNT},
    )
    order_type = fields.Enum(OrderType, by_value=True, required=True)
    slippage_bps = StrictInteger(
        load_default=DEFAULT_SLIPPAGE_BPS,
        validate=validate.Range(0, 10_000),
        metadata={"description": "How much less than the quote may be paid out, in 1/10000."},
    )
    client_order_id = fields.String(
        load_default=None,
        validate=_is_client_order_id,
        metadata={
            "description": "The client's own id of the order, unique for good.",
            "pattern": "^[A-Za-z0-9._:-]{1,64}$",
        },
    )

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Name fields in camelCase on the wire."""
        field_obj.data_key = camel_case(field_name)

    @validates_schema(skip_on_field_errors=True)
    def check_tokens(self, data: dict[str, Any], **_options: Any) -> None:
        """Refuse a swap of a token for itself."""
        if data["token_in"] == data["token_out"]:
            raise ValidationError("Must differ from tokenIn.", "tokenOut")

    @post_load
    def read_amount(self, data: dict[str, Any], **_options: Any) -> dict[str, Any]:
        """Read the amount in base units; it is kept as it was sent as well."""
        text = data["amount_in"]
        try:
            data["amount_in"] = parse_amount(text, TOKENS[data["token_in"]].decimals)
        except InvalidAmountError as error:
            raise ValidationError(f"The amount {error}.", "amountIn") from None
        return {**data, "amount_in_text": text}


class ListQuerySchema(Schema):
    """The query of GET /api/orders."""

    class Meta:
        unknown = RAISE

    status = fields.Enum(Status, by_value=True, load_default=None)
    limit = QueryInteger(load_default=DEFAULT_PAGE, validate=validate.Range(1, LARGEST_PAGE))
    cursor = Cursor(load_default=None, metadata={"type": "string", "description": "nextCursor of a page."})


class StreamQuerySchema(Schema):
    """The query of GET /api/orders/{orderId}/ws."""

    class Meta:
        unknown = RAISE

    after = QueryInteger(
        data_key="from",
        load_default=0,
        metadata={"description": "Resume after the entry of this sequence."},
    )


class _Answer(Schema):
    """What the service says, in camelCase."""

    class Meta:
        ordered = True

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = camel_case(field_name)


class Stored(fields.Nested):
    """Objects that are stored in the wire's form, and go out as they are; the schema describes them."""

    def serialize(self, attr: str, obj: Any, accessor: Any = None, **_options: Any) -> Any:
        """Return the value itself."""
        return self.get_value(obj, attr, accessor=accessor)


class HistoryEntrySchema(_Answer):
    """One step of an order."""

    sequence = fields.Integer(required=True, metadata={"description": "From 1, without gaps."})
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    timestamp = fields.String(required=True, metadata={"format": "date-time"})
    attempt = fields.Integer(metadata={"description": "The number of the try."})
    venue = fields.String(validate=validate.OneOf(list(Dex)))
    txHash = fields.String()  # noqa: N815 - entries are stored in the wire's form
    reason = fields.String(validate=validate.OneOf(list(FailureCode)))
    detail = fields.String()
    nextTryAt = fields.String(metadata={"format": "date-time"})  # noqa: N815


class OfferSchema(_Answer):
    """What a DEX answered when it was asked for a quote: amounts, or a reason why not."""

    venue = fields.String(required=True, validate=validate.OneOf(list(Dex)))
    poolId = fields.String()  # noqa: N815
    amountOut = fields.String(metadata=_AMOUNT)  # noqa: N815
    fee = fields.String(metadata={"description": "In tokenIn, contained in amountIn.", **_AMOUNT})
    priceImpact = fields.String(metadata={"description": "A fraction: 0.01 is 1 %.", **_AMOUNT})  # noqa: N815
    chosen = fields.Boolean()
    reason = fields.String(validate=validate.OneOf(list(FailureCode)))


class OrderSchema(_Answer):
    """An order."""

    id = fields.String(required=True, metadata={"format": "uuid"})
    order_id = fields.String(required=True, metadata={"format": "uuid", "description": "The same as id."})
    client_order_id = fields.String(required=True, allow_none=True)
    token_in = fields.String(required=True)
    token_out = fields.String(required=True)
    amount_in = fields.String(required=True, metadata={"description": "As it was sent.", **_AMOUNT})
    order_type = fields.String(required=True, validate=validate.OneOf(list(OrderType)))
    slippage_bps = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    status_history = Stored(HistoryEntrySchema, many=True, required=True)
    created_at = fields.String(required=True, metadata={"format": "date-time"})
    updated_at = fields.String(required=True, metadata={"format": "date-time"})
    attempts = fields.Integer(required=True, metadata={"description": "Tries begun."})
    quotes = Stored(OfferSchema, many=True, required=True, allow_none=True)
    venue = fields.String(required=True, allow_none=True)
    amount_out = fields.String(required=True, allow_none=True, metadata=_AMOUNT)
    executed_price = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "amountOut / amountIn, 18 significant digits, rounded down.", **_AMOUNT},
    )
    tx_hash = fields.String(required=True, allow_none=True)
    failure_reason = fields.String(required=True, allow_none=True)
    failure_detail = fields.String(required=True, allow_none=True)


class OrderListSchema(_Answer):
    """A page of orders, newest first."""

    orders = fields.List(fields.Nested(OrderSchema), required=True)
    next_cursor = Cursor(required=True, allow_none=True, metadata={"type": "string"})


class StatusUpdateSchema(_Answer):
    """A WebSocket message: one entry of the history, and the order as it stood then."""

    type = fields.Constant("status_update", required=True)
    order_id = fields.String(required=True, metadata={"format": "uuid"})
    sequence = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(list(Status)))
    timestamp = fields.String(required=True, attribute="updated_at", metadata={"format": "date-time"})
    order = fields.Nested(OrderSchema, required=True)


class ProblemErrorSchema(Schema):
    """One thing that is not valid, and where."""

    detail = fields.String(required=True)
    pointer = fields.String(required=True, metadata={"description": "RFC 6901, as a URI fragment."})


class ProblemSchema(Schema):
    """An error (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.List(fields.Nested(ProblemErrorSchema))
    orderId = fields.String(  # noqa: N815
        metadata={"description": "Of a 503: the id under which the order may exist."}
    )


def camel_case(name: str) -> str:
    """Return a snake_case name as it is on the wire."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


# Building a schema costs more than using it.
NEW_ORDER = NewOrderSchema()
LIST_QUERY = ListQuerySchema()
STREAM_QUERY = StreamQuerySchema()
ORDER = OrderSchema()
ORDER_LIST = OrderListSchema()
STATUS_UPDATE = StatusUpdateSchema()
