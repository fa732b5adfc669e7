"""The OpenAPI document is valid, lists every route, and is true of what goes in and out."""

import re
from typing import Any, cast

import pytest
from marshmallow import ValidationError
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from service.api.health import HealthRoute
from service.api.orders import OrderRoutes
from service.api.routes import application
from service.api.schemas import NEW_ORDER, ORDER, ORDER_LIST, STATUS_UPDATE
from service.api.specs import document
from service.api.stream import StreamRoutes
from service.api.views import OrderAt
from service.store.journal import Entry
from service.store.orders import Order, Position

ORDER_ID = "0190a8f5-0000-7000-8000-000000000000"
NOW = "2026-11-22T10:00:00.000Z"

NEW: dict[str, Any] = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50", "orderType": "market"}

FAILED: tuple[Entry, ...] = (
    {"sequence": 1, "status": "pending", "timestamp": NOW},
    {"sequence": 2, "status": "routing", "timestamp": NOW, "attempt": 1},
    {"sequence": 3, "status": "building", "timestamp": NOW, "venue": "raydium"},
    {
        "sequence": 4,
        "status": "failed",
        "timestamp": NOW,
        "attempt": 1,
        "reason": "slippage_exceeded",
        "detail": "Less than the minimum.",
    },
)
OFFERS: list[Entry] = [
    {
        "venue": "raydium",
        "poolId": "raydium:SOL-USDC",
        "amountOut": "149.25",
        "fee": "0.0025",
        "priceImpact": "0.000012",
        "chosen": True,
    },
    {"venue": "meteora", "reason": "quotes_unavailable"},
]


def an_order() -> Order:
    return Order(
        id=ORDER_ID,
        client_order_id=None,
        order_type="market",
        token_in="SOL",
        token_out="USDC",
        amount_in=1_500_000_000,
        amount_in_text="1.50",
        slippage_bps=100,
        history=FAILED,
        created_at=NOW,
        fill=None,
        offers={3: OFFERS},
    )


def is_valid(component: str, value: Any) -> bool:
    """Judge a value by a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{component}", "components": document()["components"]}
    # As JSON has it: arrays are lists.
    return bool(OAS31Validator(schema).is_valid({**value, **arrays(value)}))


def arrays(value: dict[str, Any]) -> dict[str, Any]:
    """Return the members of an answer that are tuples, or hold an answer, as JSON has them."""
    changed: dict[str, Any] = {}
    for name, member in value.items():
        if isinstance(member, tuple):
            changed[name] = list(member)
        elif isinstance(member, dict):
            changed[name] = {**member, **arrays(member)}
        elif name == "orders":
            changed[name] = [{**order, **arrays(order)} for order in member]
    return changed


def test_the_document_is_a_valid_openapi_document() -> None:
    validate(cast("Any", document()))


def test_the_document_lists_exactly_the_routes_there_are() -> None:
    unused: Any = None
    app = application(
        OrderRoutes(journal=unused, orders=unused, clock=unused, wake=unused, insert_timeout_s=1),
        StreamRoutes(unused, unused),
        HealthRoute(orders=unused, link=unused, executing=unused, unknown_outcomes=unused),
    )
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    listed = {
        (method.upper(), re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", path))
        for path, operations in document()["paths"].items()
        for method in operations
    }
    # The one thing that nobody looks up in the document is where the document is.
    assert listed == served


def test_every_operation_has_a_name_of_its_own_and_a_summary() -> None:
    operations = [each for path in document()["paths"].values() for each in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"slippageBps": 0},
        {"slippageBps": 10_000, "clientOrderId": "mine-1"},
        {"clientOrderId": None},
        {"slippageBps": -1},
        {"slippageBps": 10_001},
        {"slippageBps": "1"},
        {"amountIn": 1},
        {"amountIn": "-1"},
        {"amountIn": "1e3"},
        {"tokenIn": "DOGE"},
        {"orderType": "stop"},
        {"price": "1"},
        {"clientOrderId": ""},
    ],
    ids=str,
)
def test_the_document_takes_the_orders_that_the_service_takes(changes: dict[str, Any]) -> None:
    order = {**NEW, **changes}
    try:
        NEW_ORDER.load(order)
    except ValidationError:
        assert not is_valid("NewOrder", order)
    else:
        assert is_valid("NewOrder", order)


@pytest.mark.parametrize("sequence", range(1, 5))
def test_an_order_is_as_the_document_says_at_each_sequence(sequence: int) -> None:
    view = OrderAt(an_order(), sequence)
    assert is_valid("Order", ORDER.dump(view))
    assert is_valid("StatusUpdate", STATUS_UPDATE.dump(view))


def test_a_page_is_as_the_document_says() -> None:
    for position in (Position(1, ORDER_ID), None):
        assert is_valid(
            "OrderList", ORDER_LIST.dump({"orders": [OrderAt(an_order())], "next_cursor": position})
        )


@pytest.mark.parametrize("field", ["id", "status", "quotes", "txHash"])
def test_an_order_without_one_of_its_fields_is_not_what_the_document_says(field: str) -> None:
    order = ORDER.dump(OrderAt(an_order()))
    del order[field]
    assert not is_valid("Order", order)
