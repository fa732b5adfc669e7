"""What clients send: bodies and queries, read and checked. The OpenAPI document is made from these."""

import re
from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar

from marshmallow import ValidationError, fields, missing, post_load, validate, validates_schema

from service.api.fields import (
    AMOUNT,
    Cursor,
    QueryInteger,
    Request,
    StrictBoolean,
    StrictInteger,
    TokenName,
    camel_case,
    not_a_look_alike,
    unknown_token,
)
from service.chains.paper.listing import NewPool, token_of
from service.chains.paper.pool_json import PROGRAMS
from service.domain.amounts import InvalidAmountError, parse_amount
from service.domain.lifecycle import Status
from service.domain.order import DEFAULT_SLIPPAGE_BPS, TERM_OWNERS, JsonObject, OrderType, TimeInForce
from service.domain.quote import Dex, SwapMode
from service.domain.tokens import TOKENS, Token
from service.store.orders import Position

DEFAULT_PAGE = 100
LARGEST_PAGE = 500

T = TypeVar("T")


def _token(role: str, *, listed: bool = True, check: Callable[[str], None] | None = None) -> TokenName:
    description = f"Symbol or mint address of the token {role}."
    return TokenName(description, listed=listed, required=True, validate=check)


def _any_token(role: str) -> TokenName:
    return TokenName(f"Symbol or mint address of the token {role}.", listed=False, load_default=None)


def _amount(description: str) -> fields.String:
    return fields.String(load_default=None, metadata={"description": description, **AMOUNT})


def _read_amount(text: str, token: Token, name: str) -> int:
    try:
        return parse_amount(text, token.decimals)
    except InvalidAmountError as error:
        raise ValidationError(f"The amount {error}.", name) from None


def _slippage(load_default: object = missing) -> StrictInteger:
    return StrictInteger(
        load_default=load_default,
        validate=validate.Range(0, 10_000),
        metadata={"description": "How much worse than the quote the swap may be, in 1/10000."},
    )


def _limit_price(load_default: object = missing) -> fields.String:
    return fields.String(
        load_default=load_default,
        metadata={
            "description": "Of a limit order: at least so much tokenOut for one tokenIn, fees paid.",
            **AMOUNT,
        },
    )


def _expires_at(load_default: object = missing) -> fields.String:
    return fields.String(
        load_default=load_default,
        metadata={
            "description": "When the order expires, unless its transaction has landed. A limit order becomes "
            "GTD by it; a sniper order has it instead of timeWindow.notAfter.",
            "format": "date-time",
        },
    )


def _conditions(load_default: object = missing) -> fields.Raw:
    return fields.Raw(
        load_default=load_default,
        metadata={
            "type": "object",
            "description": "Of a sniper order: any of poolCreated, minLiquidity, price, volume, timeWindow; "
            "all that are given must hold.",
        },
    )


def _is_client_order_id(text: str) -> None:
    # The document's pattern, read with Python's eyes: its $ would let a line feed pass.
    if not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text):
        raise ValidationError("Takes 1 to 64 of A-Z a-z 0-9 . _ : -")
    if text in {".", ".."}:
        raise ValidationError('"." and ".." cannot be read back: clients take them out of a URL\'s path.')


class _Swap(TypedDict):
    """The members of a swap as they are given; one of the amounts is, when all has been checked."""

    token_in: str
    token_out: str
    amount_in: str | None
    amount_out: str | None


class _SwapRequest(Request[T]):
    """A swap of one token for another, of which one side's amount is fixed."""

    token_in = _token("sold")
    token_out = _token("bought")
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
    def check_tokens(self, data: _Swap, **_options: object) -> None:
        """Refuse a swap of a token for itself."""
        if data["token_in"] == data["token_out"]:
            raise ValidationError("Must differ from tokenIn.", "tokenOut")

    @post_load
    def read_amount(self, data: _Swap, **_options: object) -> dict[str, object]:
        """Read the amount in base units; it is kept as it was sent as well."""
        if (text := data["amount_in"]) is not None:
            mode, name, token = SwapMode.EXACT_IN, "amountIn", data["token_in"]
        elif (text := data["amount_out"]) is not None:
            mode, name, token = SwapMode.EXACT_OUT, "amountOut", data["token_out"]
        else:
            raise ValueError("a swap without an amount was let through")
        amount = _read_amount(text, TOKENS[token], name)
        read: dict[str, object] = {**data, "swap_mode": mode, "amount": amount, "amount_text": text}
        del read["amount_in"], read["amount_out"]
        return read


class SentOrder(TypedDict):
    """What ``NEW_ORDER`` reads; ``sniper_conditions`` may be anything until ``read_terms`` has checked it."""

    client_order_id: str | None
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


class _NewOrder(_Swap):
    """The members of a new order of which the type is asked."""

    order_type: OrderType


class NewOrderSchema(_SwapRequest[SentOrder]):
    """POST /api/orders/execute."""

    # Only a sniper order may wait for a token that is not listed yet.
    token_out = _token("bought", listed=False)
    order_type = fields.Enum(OrderType, by_value=True, required=True)
    slippage_bps = _slippage(load_default=DEFAULT_SLIPPAGE_BPS)
    limit_price = _limit_price(load_default=None)
    time_in_force = fields.Enum(
        TimeInForce,
        by_value=True,
        load_default=None,
        metadata={
            "description": "Of a limit order; GTC, or GTD if there is an expiresAt. IOC and FOK expire "
            "unless they are submitted within 1.5 s of being accepted."
        },
    )
    expires_at = _expires_at(load_default=None)
    sniper_conditions = _conditions(load_default=None)
    client_order_id = fields.String(
        load_default=None,
        validate=_is_client_order_id,
        metadata={
            "description": "The client's own id of the order, unique for good.",
            "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,64}$",
        },
    )

    @validates_schema(skip_on_field_errors=True)
    def check_type(self, data: _NewOrder, **_options: object) -> None:
        """Refuse what an order of the type does not have, and ask for what it must."""
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
            errors["amountOut"] = ["Only market orders can fix it."]
        if errors:
            raise ValidationError(errors)


class SentTerms(TypedDict, total=False):
    """What ``AMENDMENT`` reads: as ``SentOrder``, and what was left out is not there."""

    slippage_bps: int
    limit_price: str
    sniper_conditions: JsonObject
    expires_at: str | None


class AmendmentSchema(Request[SentTerms]):
    """PATCH /api/orders/{orderId}: what is left out stays as it is; an expiresAt of null ends the expiry."""

    meant_nulls = frozenset({"expiresAt"})

    slippage_bps = _slippage()
    limit_price = _limit_price()
    expires_at = _expires_at()
    sniper_conditions = _conditions()

    @validates_schema(pass_original=True, skip_on_field_errors=True)
    def check_any(self, data: dict[str, object], _sent: object, **_options: object) -> None:
        """Refuse an amendment of nothing."""
        if not data:
            raise ValidationError("Give at least one term to change.")


class CancelFilter(TypedDict):
    """Which of the open orders are meant; None: any."""

    all: bool
    order_type: OrderType | None
    token_in: str | None
    token_out: str | None


class CancelSchema(Request[CancelFilter]):
    """POST /api/orders/cancel: which of the open orders are meant."""

    all = StrictBoolean(load_default=False, metadata={"description": "Every open order."})
    order_type = fields.Enum(OrderType, by_value=True, load_default=None)
    token_in = _any_token("sold")
    token_out = _any_token("bought")

    @validates_schema(skip_on_field_errors=True)
    def check_filter(self, data: CancelFilter, **_options: object) -> None:
        """Refuse a filter that says nothing, or two things."""
        named = any(each is not None for each in (data["order_type"], data["token_in"], data["token_out"]))
        if named == data["all"]:
            raise ValidationError("Give either all: true, or at least one of orderType, tokenIn, tokenOut.")


class QuoteQuery(TypedDict):
    """A swap to quote; ``amount`` is in base units of the token whose amount is fixed."""

    token_in: str
    token_out: str
    swap_mode: SwapMode
    amount: int
    amount_text: str
    slippage_bps: int


class QuoteQuerySchema(_SwapRequest[QuoteQuery]):
    """The query of GET /api/quotes."""

    has_nulls = False

    slippage_bps = QueryInteger(
        load_default=DEFAULT_SLIPPAGE_BPS,
        validate=validate.Range(0, 10_000),
        metadata={"description": "How much worse than the quote the swap may be, in 1/10000."},
    )


class PoolQuery(TypedDict):
    """Which pools are meant; None: any."""

    venue: Dex | None
    token: str | None


class PoolQuerySchema(Request[PoolQuery]):
    """The query of GET /api/pools."""

    has_nulls = False

    venue = fields.Enum(Dex, by_value=True, load_default=None)
    token = TokenName("Only pools that trade this token, named by symbol or mint address.", load_default=None)


class _NewPool(TypedDict):
    """The members of a new pool as they are given."""

    program: str
    token_a: str
    token_b: str
    amount_a: str
    amount_b: str
    decimals: int


class NewPoolSchema(Request[NewPool]):
    """POST /api/paper/pools: at most one of the tokens may be new."""

    program = fields.String(
        required=True, validate=validate.OneOf(PROGRAMS, error="Known are " + ", ".join(PROGRAMS) + ".")
    )
    token_a = _token("A", listed=False, check=not_a_look_alike)
    token_b = _token("B", listed=False, check=not_a_look_alike)
    amount_a = fields.String(required=True, metadata=AMOUNT)
    amount_b = fields.String(required=True, metadata=AMOUNT)
    decimals = StrictInteger(
        load_default=6,
        validate=validate.Range(0, 12),
        metadata={"description": "Of the token that is new, if one is."},
    )

    @post_load
    def read_pool(self, data: _NewPool, **_options: object) -> NewPool:
        """Read tokens and amounts."""
        if data["token_a"] == data["token_b"]:
            raise ValidationError("Must differ from tokenA.", "tokenB")
        if not TOKENS.keys() & {data["token_a"], data["token_b"]}:
            raise ValidationError("One of the two tokens must be known already.", "tokenB")
        token_a, token_b = (
            TOKENS.get(symbol) or token_of(symbol, data["decimals"])
            for symbol in (data["token_a"], data["token_b"])
        )
        amount_a = _read_amount(data["amount_a"], token_a, "amountA")
        amount_b = _read_amount(data["amount_b"], token_b, "amountB")
        return NewPool(data["program"], token_a, token_b, amount_a, amount_b)


class ListQuery(TypedDict):
    """Which orders are meant, None: any; how many; and after which one, None: from the newest."""

    status: Status | None
    order_type: OrderType | None
    token_in: str | None
    token_out: str | None
    limit: int
    cursor: Position | None


class ListQuerySchema(Request[ListQuery]):
    """The query of GET /api/orders."""

    has_nulls = False

    status = fields.Enum(Status, by_value=True, load_default=None)
    order_type = fields.Enum(OrderType, by_value=True, load_default=None)
    token_in = _any_token("sold")
    token_out = _any_token("bought")
    limit = QueryInteger(
        load_default=DEFAULT_PAGE,
        validate=validate.Range(1, LARGEST_PAGE),
        metadata={"description": "Orders at most; a page of long ones ends earlier."},
    )
    cursor = Cursor(load_default=None, metadata={"type": "string", "description": "nextCursor of a page."})


class StreamQuery(TypedDict):
    """After which sequence the stream is resumed; 0: from the beginning."""

    after: int


class StreamQuerySchema(Request[StreamQuery]):
    """The query of GET /api/orders/{orderId}/ws."""

    has_nulls = False

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
NEW_POOL = NewPoolSchema()
AMENDMENT = AmendmentSchema()
CANCEL = CancelSchema()
