"""Request schemas: what they accept, and that they reject everything else."""

import base64
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from service.api.fields import Cursor, ListPosition, camel_case, is_uuid
from service.api.list_requests import LIST_QUERY
from service.api.market_requests import POOL_QUERY, QUOTE_QUERY
from service.api.paper_requests import NEW_POOL
from service.api.requests import CANCEL, NEW_ORDER, STREAM_QUERY
from service.domain.amounts import U64_MAX
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.domain.quote import Dex, SwapMode
from service.domain.tokens import TOKENS, Token
from service.store.orders import Position

MODEST = settings(max_examples=50, deadline=None)

ORDER: dict[str, Any] = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50", "orderType": "market"}
BUY: dict[str, Any] = {"tokenIn": "SOL", "tokenOut": "USDC", "amountOut": "1.50", "orderType": "market"}
QUERY = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50"}
ORDER_ID = "0190a8f5-0000-7000-8000-000000000000"

WRONG_KINDS = [None, True, False, [], {}, ["SOL"], {"a": 1}, 0, 1, -1, 1.5, 10**30, "", " "]
RIGHT_AFTER_ALL = [("slippageBps", 0), ("slippageBps", 1), ("slippageBps", None), ("clientOrderId", None)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def errors_of(schema: Any, data: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as refusal:
        schema.load(data)
    assert isinstance(refusal.value.messages, dict)
    return refusal.value.messages


def test_an_order_gets_its_defaults_and_keeps_its_amount_as_sent() -> None:
    assert NEW_ORDER.load(ORDER) == {
        "token_in": "SOL",
        "token_out": "USDC",
        "swap_mode": SwapMode.EXACT_IN,
        "amount": 1_500_000_000,
        "amount_text": "1.50",
        "order_type": OrderType.MARKET,
        "slippage_bps": 100,
        "limit_price": None,
        "time_in_force": None,
        "expires_at": None,
        "sniper_conditions": None,
        "client_order_id": None,
        "label": None,
    }


OPTIONAL = [
    "amountOut",
    "slippageBps",
    "limitPrice",
    "timeInForce",
    "expiresAt",
    "sniperConditions",
    "clientOrderId",
    "label",
]


def test_null_is_the_same_as_omitted() -> None:
    assert NEW_ORDER.load({**ORDER, **dict.fromkeys(OPTIONAL)}) == NEW_ORDER.load(ORDER)
    assert NEW_ORDER.load({**BUY, "amountIn": None}) == NEW_ORDER.load(BUY)
    pool = {"program": "raydium_cpmm", "tokenA": "GEM", "tokenB": "USDC", "amountA": "1", "amountB": "1"}
    assert NEW_POOL.load({**pool, "decimals": None}) == NEW_POOL.load(pool)


@pytest.mark.parametrize("name", ["tokenIn", "tokenOut", "amountIn", "orderType"])
def test_a_required_member_that_is_null_is_missing(name: str) -> None:
    [message] = errors_of(NEW_ORDER, {**ORDER, name: None})[name]
    assert message.startswith("Missing data for required field")


def test_an_unknown_member_is_rejected_even_if_it_is_null() -> None:
    assert errors_of(NEW_ORDER, {**ORDER, "price": None}) == {"price": ["Unknown field."]}


def test_an_amount_out_is_parsed_in_units_of_the_bought_token() -> None:
    loaded = NEW_ORDER.load(BUY)
    assert (loaded["swap_mode"], loaded["amount"], loaded["amount_text"]) == (
        SwapMode.EXACT_OUT,
        1_500_000,
        "1.50",
    )


@pytest.mark.parametrize("field", ORDER)
def test_a_missing_field_is_named(field: str) -> None:
    rest = {name: value for name, value in ORDER.items() if name != field}
    [(name, [message])] = errors_of(NEW_ORDER, rest).items()
    assert name == field
    assert message.startswith("Missing data for required field")
    assert ("amountOut" in message) == (field == "amountIn")


@pytest.mark.parametrize("body", [{**ORDER, "amountOut": "1"}, {**BUY, "amountIn": "1"}, {**ORDER, **BUY}])
def test_an_order_with_both_amounts_is_rejected(body: dict[str, Any]) -> None:
    assert errors_of(NEW_ORDER, body) == {"amountOut": ["Give amountIn or amountOut, not both."]}


@pytest.mark.parametrize("value", ["", "x", 1])
def test_a_second_amount_is_rejected_whatever_its_value(value: object) -> None:
    assert "amountOut" in errors_of(NEW_ORDER, {**ORDER, "amountOut": value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in [*ORDER, "slippageBps", "clientOrderId"]
        for value in WRONG_KINDS
        if not any(field == f and value is v for f, v in RIGHT_AFTER_ALL)
    ],
)
def test_a_field_of_the_wrong_kind_is_named(field: str, value: Any) -> None:
    assert list(errors_of(NEW_ORDER, {**ORDER, field: value})) == [field]


@pytest.mark.parametrize("value", WRONG_KINDS[1:])
def test_an_amount_out_of_the_wrong_kind_is_named(value: Any) -> None:
    assert list(errors_of(NEW_ORDER, {**BUY, "amountOut": value})) == ["amountOut"]


@pytest.mark.parametrize(
    "amount",
    [
        *("abc", "-1", "0", "0.0", "NaN", "Infinity", "1e400", "1e-400", "9" * 5_000, "0.0000000001"),
        *("\uff11\uff12", "1\uff12", "0x10", "1_000", " 1", "1\n", "+1", "01", ".5", "1.", f"{U64_MAX + 1}"),
    ],
)
def test_an_invalid_amount_is_named_and_explained(amount: str) -> None:
    for request, field in ((ORDER, "amountIn"), (BUY, "amountOut")):
        [message] = errors_of(NEW_ORDER, {**request, field: amount})[field]
        assert message.startswith("The amount ")


def test_an_amount_is_checked_against_its_tokens_decimals() -> None:
    fine = {"tokenIn": "BONK", "tokenOut": "SOL", "orderType": "market"}
    assert NEW_ORDER.load({**fine, "amountOut": "0.000000001"})["amount"] == 1
    [message] = errors_of(NEW_ORDER, {**fine, "amountIn": "0.000001"})["amountIn"]
    assert "5 decimals" in message


@pytest.mark.parametrize("field", ["tokenIn", "tokenOut"])
@pytest.mark.parametrize(
    ("token", "hint"),
    [
        ("sol", "Did you mean SOL?"),
        ("BONKK", "Did you mean BONK?"),
        ("UDSC", "Did you mean USDC?"),
        ("DOGE", "GET /api/tokens lists them."),
        ("", "GET /api/tokens lists them."),
        ("x" * 10_000, "GET /api/tokens lists them."),
        ("So11111111111111111111111111111111111111113", "GET /api/tokens lists them."),
    ],
)
def test_an_unknown_token_suggests_the_closest_one(field: str, token: str, hint: str) -> None:
    assert errors_of(NEW_ORDER, {**ORDER, field: token})[field] == [f"Unknown token. {hint}"]


def test_an_error_is_no_longer_with_a_thousand_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1_000):
        symbol = f"TOKEN{number}"
        monkeypatch.setitem(TOKENS, symbol, Token(symbol, f"{number}".rjust(40, "x"), 6))
    [message] = errors_of(NEW_ORDER, {**ORDER, "tokenIn": "TOKEN1000"})["tokenIn"]
    assert len(message) < 60


def test_a_token_may_be_given_by_its_mint_everywhere() -> None:
    sol, usdc = TOKENS["SOL"].mint, TOKENS["USDC"].mint
    for schema, request in (
        (NEW_ORDER, ORDER),
        (NEW_ORDER, {**ORDER, "orderType": "sniper", "sniperConditions": {"price": {"above": "1"}}}),
        (QUOTE_QUERY, QUERY),
        (LIST_QUERY, {"tokenIn": "SOL", "tokenOut": "USDC"}),
        (CANCEL, {"tokenIn": "SOL", "tokenOut": "USDC"}),
    ):
        assert schema.load({**request, "tokenIn": sol, "tokenOut": usdc}) == schema.load(request)
    assert POOL_QUERY.load({"token": sol})["token"] == "SOL"
    pool = {"program": "raydium_cpmm", "tokenA": "GEM", "tokenB": "USDC", "amountA": "1", "amountB": "1"}
    assert NEW_POOL.load({**pool, "tokenB": usdc}) == NEW_POOL.load(pool)


def test_only_a_token_that_may_be_listed_later_is_named_by_an_unknown_mint() -> None:
    unknown = "7vfCXTUXx5WJV5JADk17DUJ4ksgau7utNKj4b963voxs"
    sniper = {**ORDER, "orderType": "sniper", "sniperConditions": {"poolCreated": {"venue": "any"}}}
    assert NEW_ORDER.load({**sniper, "tokenOut": unknown})["token_out"] == unknown
    assert LIST_QUERY.load({"tokenOut": unknown})["token_out"] == unknown
    assert list(errors_of(NEW_ORDER, {**ORDER, "tokenOut": unknown})) == ["tokenOut"]
    assert list(errors_of(NEW_ORDER, {**sniper, "tokenIn": unknown})) == ["tokenIn"]
    # The texts are no addresses: of another length in bytes, or with a digit that base58 does not have.
    for no_mint in (f"{unknown}s", unknown[:-2], unknown.replace("7", "0")):
        assert list(errors_of(NEW_ORDER, {**sniper, "tokenOut": no_mint})) == ["tokenOut"]


def test_a_token_is_not_swapped_for_itself_by_its_mint() -> None:
    same = {**ORDER, "tokenOut": TOKENS["SOL"].mint}
    assert errors_of(NEW_ORDER, same) == {"tokenOut": ["Must differ from tokenIn."]}


@pytest.mark.parametrize("symbol", ["usdc", "Usdc", "sol", "BONk"])
def test_a_look_alike_symbol_is_rejected(symbol: str) -> None:
    pool = {"program": "raydium_cpmm", "tokenA": symbol, "tokenB": "JUP", "amountA": "1", "amountB": "1"}
    [message] = errors_of(NEW_POOL, pool)["tokenA"]
    assert message.endswith(f"Did you mean {symbol.upper()}?")
    [message] = errors_of(NEW_POOL, {**pool, "tokenA": "JUP", "tokenB": symbol})["tokenB"]
    assert message.startswith("Symbols are unique")


@pytest.mark.parametrize("field", ["tokenIn", "tokenOut"])
@pytest.mark.parametrize("token", ["SOL ", "\uff33\uff2f\uff2c", "SOL\0", "SOL\n", "x" * 17])
def test_an_invalid_symbol_is_rejected(field: str, token: str) -> None:
    assert list(errors_of(NEW_ORDER, {**ORDER, field: token})) == [field]


def test_a_token_is_not_swapped_for_itself() -> None:
    assert errors_of(NEW_ORDER, {**ORDER, "tokenOut": "SOL"}) == {"tokenOut": ["Must differ from tokenIn."]}


def test_an_unknown_field_is_rejected() -> None:
    assert errors_of(NEW_ORDER, {**ORDER, "price": "1"}) == {"price": ["Unknown field."]}


@pytest.mark.parametrize(
    "name", ["token_in", "amount_in", "amount", "amount_text", "swap_mode", "swapMode", "order_type", "id"]
)
def test_a_field_has_no_second_name(name: str) -> None:
    assert list(errors_of(NEW_ORDER, {**ORDER, name: "SOL"})) == [name]


@pytest.mark.parametrize("bps", [0, 1, 10_000])
def test_the_slippage_may_be_0_to_100_percent(bps: int) -> None:
    assert NEW_ORDER.load({**ORDER, "slippageBps": bps})["slippage_bps"] == bps


@pytest.mark.parametrize("bps", [-1, 10_001, True, False, 1.0, 0.5, "100", 10**400])
def test_any_other_slippage_is_rejected(bps: Any) -> None:
    assert list(errors_of(NEW_ORDER, {**ORDER, "slippageBps": bps})) == ["slippageBps"]


@pytest.mark.parametrize("client_id", ["a", "0", "A.b_c:d-e", "-", "...", ".a", "x" * 64])
def test_a_client_order_id_is_accepted(client_id: str) -> None:
    assert NEW_ORDER.load({**ORDER, "clientOrderId": client_id})["client_order_id"] == client_id


@pytest.mark.parametrize(
    "client_id",
    ["", ".", "..", "x" * 65, "a\n", "\na", "a\0", "\0", "a b", "a/b", "é", "a%20b", "\uff11", "a\u200b"],
)
def test_a_client_order_id_with_other_characters_is_rejected(client_id: str) -> None:
    assert list(errors_of(NEW_ORDER, {**ORDER, "clientOrderId": client_id})) == ["clientOrderId"]


@pytest.mark.parametrize("body", [None, [], [ORDER], "text", 1, True])
def test_a_body_that_is_no_object_is_rejected(body: Any) -> None:
    assert errors_of(NEW_ORDER, body) == {"_schema": ["Invalid input type."]}


fields = st.sampled_from([*ORDER, "amountOut", "slippageBps", "clientOrderId"])


@MODEST
@given(json_values | st.dictionaries(fields, json_values).map(lambda changes: {**ORDER, **changes}))
def test_any_body_is_parsed_or_rejected(body: Any) -> None:
    try:
        loaded = NEW_ORDER.load(body)
    except ValidationError:
        return
    assert loaded["token_in"] != loaded["token_out"]
    assert 1 <= loaded["amount"] <= U64_MAX
    assert loaded["swap_mode"] is (
        SwapMode.EXACT_IN if body.get("amountIn") is not None else SwapMode.EXACT_OUT
    )
    assert type(loaded["slippage_bps"]) is int


EVERY_ORDER: dict[str, Any] = {
    "status": None,
    "venue": None,
    "order_type": None,
    "token_in": None,
    "token_out": None,
    "label": None,
    "account": None,
    "created_from": None,
    "created_to": None,
    "client_order_id_prefix": None,
    "awaiting_approval": None,
    "limit": 100,
    "cursor": None,
}


def test_a_list_query_has_defaults() -> None:
    assert LIST_QUERY.load({}) == EVERY_ORDER


@pytest.mark.parametrize("status", Status)
def test_orders_are_listed_by_each_status(status: Status) -> None:
    listed = LIST_QUERY.load({"status": status.value, "limit": "500"})
    assert listed == {**EVERY_ORDER, "status": frozenset({status}), "limit": 500}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("limit", text)
            for text in ("0", "501", "-1", "+1", "01", "1.0", "", " 1", "1\n", "\uff11", "9" * 99)
        ),
        *(("status", text) for text in ("", "done", "PENDING", "Status.PENDING", "pending\n")),
        *(("cursor", text) for text in ("", "x", "é", "=" * 9, "AAAA", "\0", "9" * 5_000)),
        ("offset", "1"),
    ],
)
def test_an_invalid_query_value_is_named(name: str, value: str) -> None:
    assert list(errors_of(LIST_QUERY, {name: value})) == [name]


@MODEST
@given(st.dictionaries(st.sampled_from(["limit", "status", "cursor"]), st.text(max_size=40)))
def test_any_query_is_parsed_or_rejected(query: dict[str, str]) -> None:
    try:
        loaded = LIST_QUERY.load(query)
    except ValidationError:
        return
    assert 1 <= loaded["limit"] <= 500


def test_a_quote_takes_the_same_parameters_as_an_order() -> None:
    assert QUOTE_QUERY.load(QUERY) == {
        "token_in": "SOL",
        "token_out": "USDC",
        "swap_mode": SwapMode.EXACT_IN,
        "amount": 1_500_000_000,
        "amount_text": "1.50",
        "slippage_bps": 100,
    }
    assert QUOTE_QUERY.load({**QUERY, "slippageBps": "0"})["slippage_bps"] == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *(({"slippageBps": text}, "slippageBps") for text in ("", "-1", "10001", "1.5", "+1", "01", "x")),
        *(({"amountIn": text}, "amountIn") for text in ("", "0", "1e3", "-1", "\uff11", "9" * 5_000)),
        ({"amountOut": "1"}, "amountOut"),
        ({"tokenIn": "DOGE"}, "tokenIn"),
        ({"tokenOut": ""}, "tokenOut"),
        ({"tokenOut": "SOL"}, "tokenOut"),
        ({"orderType": "market"}, "orderType"),
        ({"clientOrderId": "a"}, "clientOrderId"),
    ],
)
def test_an_invalid_value_in_a_quote_query_is_named(changes: dict[str, str], field: str) -> None:
    assert list(errors_of(QUOTE_QUERY, {**QUERY, **changes})) == [field]


quote_names = st.sampled_from(["tokenIn", "tokenOut", "amountIn", "amountOut", "slippageBps"])


@MODEST
@given(
    st.dictionaries(quote_names, st.sampled_from(["SOL", "BONK", "1.5", "0", "100"]) | st.text(max_size=8))
)
def test_any_quote_query_is_parsed_or_rejected(query: dict[str, str]) -> None:
    try:
        loaded = QUOTE_QUERY.load(query)
    except ValidationError:
        return
    assert loaded["token_in"] != loaded["token_out"]
    assert 1 <= loaded["amount"] <= U64_MAX
    assert 0 <= loaded["slippage_bps"] <= 10_000


def test_pools_are_filtered_by_venue_and_token() -> None:
    assert POOL_QUERY.load({}) == {"venue": None, "token": None}
    assert POOL_QUERY.load({"venue": "meteora", "token": "BONK"}) == {"venue": Dex.METEORA, "token": "BONK"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("venue", ""),
        ("venue", "orca"),
        ("venue", "multiple"),
        ("token", ""),
        ("token", "DOGE"),
        ("limit", "1"),
    ],
)
def test_an_invalid_value_in_a_pool_query_is_named(name: str, value: str) -> None:
    assert list(errors_of(POOL_QUERY, {name: value})) == [name]


@pytest.mark.parametrize(("text", "after"), [("0", 0), ("7", 7), ("999999999", 999_999_999)])
def test_a_stream_resumes_after_a_sequence(text: str, after: int) -> None:
    assert STREAM_QUERY.load({"from": text}) == {"after": after}


@pytest.mark.parametrize("text", ["-1", "1.5", "", "x", "01", "1000000000", "\uff11"])
def test_a_stream_resumes_after_nothing_else(text: str) -> None:
    assert list(errors_of(STREAM_QUERY, {"from": text})) == ["from"]


@MODEST
@given(st.integers(0, 10**18 - 1), st.uuids())
def test_a_cursor_decodes_to_its_position(created_us: int, order_id: UUID) -> None:
    position = ListPosition(Position(created_us, str(order_id)), "0123456789ab")
    text = Cursor()._serialize(position, "", None)
    assert text is not None
    assert text.isascii()
    assert "=" not in text
    assert LIST_QUERY.load({"cursor": text})["cursor"] == position


@pytest.mark.parametrize(
    "text",
    ["1", ".", f"{ORDER_ID}", f"-1.{ORDER_ID}", f"1.{ORDER_ID}\n", f"{10**18}.{ORDER_ID}", f"1e3.{ORDER_ID}"],
)
def test_an_invalid_cursor_is_rejected(text: str) -> None:
    cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    assert list(errors_of(LIST_QUERY, {"cursor": cursor})) == ["cursor"]


@pytest.mark.parametrize("text", [ORDER_ID, ORDER_ID.upper()])
def test_a_uuid_is_accepted_in_either_case(text: str) -> None:
    assert is_uuid(text)


@pytest.mark.parametrize("text", ["", "1", ORDER_ID.replace("-", ""), f"{ORDER_ID}\n", f"{{{ORDER_ID}}}"])
def test_other_forms_of_a_uuid_are_rejected(text: str) -> None:
    assert not is_uuid(text)


def test_names_are_in_camel_case() -> None:
    assert [camel_case(n) for n in ("id", "token_in", "client_order_id")] == [
        "id",
        "tokenIn",
        "clientOrderId",
    ]
