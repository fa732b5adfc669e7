"""Schemas of request bodies and queries about orders; see also ``market_requests``."""

import re
from collections.abc import Mapping
from typing import TypedDict

from marshmallow import ValidationError, fields, missing, validate, validates_schema

from service.api.fields import (
    AMOUNT,
    QueryInteger,
    Request,
    ShortList,
    StrictBoolean,
    StrictInteger,
    camel_case,
    unknown_token,
)
from service.api.sniper_schema import CONDITIONS
from service.api.swap_request import Swap, SwapRequest, optional_token, required_token
from service.domain.amounts import LONGEST_NUMBER
from service.domain.api_key import ACCOUNT_PATTERN, is_account_name
from service.domain.order import DEFAULT_SLIPPAGE_BPS, TERM_OWNERS, JsonObject, OrderType, TimeInForce
from service.domain.quote import SwapMode
from service.domain.tokens import TOKENS

LARGEST_BATCH = 100


def _slippage(load_default: object = missing) -> StrictInteger:
    return StrictInteger(
        load_default=load_default,
        validate=validate.Range(0, 10_000),
        metadata={"description": "The maximum slippage from the quote, in basis points."},
    )


def _limit_price(load_default: object = missing) -> fields.String:
    return fields.String(
        load_default=load_default,
        metadata={
            "description": "Limit orders only: the minimum price, tokenOut per tokenIn, net of fees.",
            "maxLength": LONGEST_NUMBER,
            **AMOUNT,
        },
    )


def _expires_at(load_default: object = missing) -> fields.String:
    return fields.String(
        load_default=load_default,
        metadata={
            "description": "When the order expires, unless its transaction has landed. It makes a limit "
            "order GTD; a sniper order has either this or timeWindow.notAfter.",
            "format": "date-time",
        },
    )


def _conditions(load_default: object = missing) -> fields.Raw:
    return fields.Raw(load_default=load_default, metadata=CONDITIONS)


def _is_label(text: str) -> None:
    # PostgreSQL's text cannot contain the first control character, and no label needs the others.
    if not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{1,64}", text):
        raise ValidationError("Must be 1 to 64 characters, none of them a control character.")


def _is_timeout(value: int) -> None:
    if value != 0 and not 1_000 <= value <= 86_400_000:
        raise ValidationError("Must be 0, or from 1000 to 86400000.")


def label_field(description: str) -> fields.String:
    """Return the field of a label."""
    return fields.String(
        load_default=None,
        validate=_is_label,
        metadata={"description": description, "pattern": r"^[^\x00-\x1f\x7f-\x9f]{1,64}$"},
    )


def account_field(verb: str) -> fields.String:
    """Return the field of an account, of which a request does something to the orders."""
    return fields.String(
        load_default=None,
        validate=_is_account,
        metadata={
            "description": f"{verb} this account's orders; only admin keys may name another than their own.",
            "pattern": ACCOUNT_PATTERN,
        },
    )


def _is_account(text: str) -> None:
    if not is_account_name(text):
        raise ValidationError(
            "Must be 1 to 63 characters of a-z 0-9 - _, and begin with a letter or a digit."
        )


def _is_client_order_id(text: str) -> None:
    # The OpenAPI pattern, adapted to Python, where $ also matches before a final line feed.
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValidationError("Must be 1 to 64 characters of A-Z a-z 0-9 . _ : -")
    if text in {".", ".."}:
        raise ValidationError('"." and ".." cannot be read back: clients remove them from a URL\'s path.')


class SentOrder(TypedDict):
    """What ``NEW_ORDER`` loads; ``sniper_conditions`` are not validated before ``read_terms``."""

    client_order_id: str | None
    label: str | None
    order_type: OrderType
    token_in: str
    token_out: str
    swap_mode: SwapMode
    amount: int
    amount_text: str
    slippage_bps: int
    time_in_force: TimeInForce | None
    limit_price: str | None
    sniper_conditions: JsonObject | None
    expires_at: str | None


class _NewOrder(Swap):
    """The members that ``check_type`` reads."""

    order_type: OrderType


class NewOrderSchema(SwapRequest[SentOrder]):
    """POST /api/orders/execute."""

    # Only a sniper order may wait for a token that is not listed yet.
    token_out = required_token("bought", listed=False)
    order_type = fields.Enum(OrderType, by_value=True, required=True)
    slippage_bps = _slippage(load_default=DEFAULT_SLIPPAGE_BPS)
    limit_price = _limit_price(load_default=None)
    time_in_force = fields.Enum(
        TimeInForce,
        by_value=True,
        load_default=None,
        metadata={
            "description": "Limit orders only; the default is GTC, or GTD with an expiresAt. IOC and FOK "
            "expire unless they are submitted within 1.5 s of being accepted."
        },
    )
    expires_at = _expires_at(load_default=None)
    sniper_conditions = _conditions(load_default=None)
    client_order_id = fields.String(
        load_default=None,
        validate=_is_client_order_id,
        metadata={
            "description": "The client's own id of the order, unique forever.",
            "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,64}$",
        },
    )
    label = label_field(
        "Free text, such as the name of a strategy; orders can be listed and cancelled by it."
    )

    @validates_schema(skip_on_field_errors=True)
    def check_type(self, data: _NewOrder, **_options: object) -> None:
        """Reject terms that the order's type does not have, and require those that it must have."""
        kind = data["order_type"]
        members: Mapping[str, object] = data
        errors = {}
        if kind is not OrderType.SNIPER and data["token_out"] not in TOKENS:
            errors["tokenOut"] = unknown_token(data["token_out"]).messages
        for name, owner in TERM_OWNERS.items():
            if members[name] is not None and kind is not owner:
                errors[camel_case(name)] = [f"Only {owner} orders have it."]
        needed = {OrderType.LIMIT: "limit_price", OrderType.SNIPER: "sniper_conditions"}.get(kind)
        if needed and members[needed] is None:
            errors[camel_case(needed)] = [f"Missing data for required field of {kind} orders."]
        if data["amount_out"] is not None and kind is not OrderType.MARKET:
            errors["amountOut"] = ["Only market orders can have it."]
        if errors:
            raise ValidationError(errors)


class NoQuerySchema(Request[dict[str, object]]):
    """The query of a route that has none, and would otherwise ignore what means something elsewhere."""

    has_nulls = False


class Batch(TypedDict):
    """Orders as sent; each is validated on its own."""

    orders: list[object]


class BatchSchema(Request[Batch]):
    """The body of POST /api/orders/batch."""

    orders = ShortList(
        # An order that is not valid is rejected in its own result.
        fields.Raw(allow_none=True, metadata={"anyOf": [{"$ref": "#/components/schemas/NewOrder"}, {}]}),
        required=True,
        longest=LARGEST_BATCH,
    )


class SentTerms(TypedDict, total=False):
    """What ``AMENDMENT`` loads: as in ``SentOrder``; omitted terms are absent."""

    slippage_bps: int
    limit_price: str
    sniper_conditions: JsonObject
    expires_at: str | None


class AmendmentSchema(Request[SentTerms]):
    """PATCH /api/orders/{orderId}: omitted terms do not change; an expiresAt of null removes the expiry."""

    meaningful_nulls = frozenset({"expiresAt"})

    slippage_bps = _slippage()
    limit_price = _limit_price()
    expires_at = _expires_at()
    sniper_conditions = _conditions()

    @validates_schema(pass_original=True, skip_on_field_errors=True)
    def check_any(self, data: dict[str, object], _sent: object, **_options: object) -> None:
        """Reject an amendment without a term."""
        if not data:
            raise ValidationError("Give at least one term to change.")


class SentFilter(TypedDict):
    """A filter of orders; None matches any."""

    account: str | None
    order_type: OrderType | None
    token_in: str | None
    token_out: str | None
    label: str | None


class CancelFilter(SentFilter):
    """A filter of open orders, or all of them."""

    all: bool


class CancelSchema(Request[CancelFilter]):
    """POST /api/orders/cancel: a filter of open orders."""

    account = account_field("Cancel")
    all = StrictBoolean(load_default=False, metadata={"description": "Every open order."})
    order_type = fields.Enum(OrderType, by_value=True, load_default=None)
    token_in = optional_token("sold")
    token_out = optional_token("bought")
    label = label_field("Only orders that have this label.")

    @validates_schema(skip_on_field_errors=True)
    def check_filter(self, data: CancelFilter, **_options: object) -> None:
        """Reject a filter that is empty, or combined with ``all``."""
        members = data["order_type"], data["token_in"], data["token_out"], data["label"]
        if any(each is not None for each in members) == data["all"]:
            raise ValidationError(
                "Give either all: true, or at least one of orderType, tokenIn, tokenOut, label."
            )


class CancelAfter(TypedDict):
    """In how many milliseconds all open orders are cancelled; 0: never."""

    timeout_ms: int


class CancelAfterSchema(Request[CancelAfter]):
    """The body of POST /api/orders/cancel-after."""

    timeout_ms = StrictInteger(
        required=True,
        validate=_is_timeout,
        metadata={
            "description": "0: no timer; otherwise 1000 (1 s) to 86400000 (a day).",
            "anyOf": [{"enum": [0]}, {"minimum": 1_000, "maximum": 86_400_000}],
        },
    )


class StreamQuery(TypedDict):
    """The sequence after which the stream resumes; 0: from the beginning."""

    after: int


class StreamQuerySchema(Request[StreamQuery]):
    """The query of GET /api/orders/{orderId}/ws."""

    has_nulls = False

    after = QueryInteger(
        data_key="from",
        load_default=0,
        metadata={"description": "Resume after the entry with this sequence."},
    )


# Building a schema costs more than using it.
NEW_ORDER = NewOrderSchema()
STREAM_QUERY = StreamQuerySchema()
AMENDMENT = AmendmentSchema()
CANCEL = CancelSchema()
BATCH = BatchSchema()
NO_QUERY = NoQuerySchema()
CANCEL_AFTER = CancelAfterSchema()
