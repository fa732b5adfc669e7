"""The OpenAPI document is valid, lists every route, and matches the requests and responses."""

import json
import re
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from marshmallow import Schema, ValidationError
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from service.api.access import Access
from service.api.admin import AdminRoutes
from service.api.application import Guards, application
from service.api.approvals import ApprovalRoutes
from service.api.batch import BatchRoutes
from service.api.docs import DocsRoutes
from service.api.document import DocumentRoutes
from service.api.fields import ListPosition
from service.api.health import HealthRoute
from service.api.idempotency import Idempotency
from service.api.keys import KeyRoutes
from service.api.market import MarketRoutes
from service.api.market_schemas import QUOTE, PoolListSchema, TokenListSchema
from service.api.market_stream import MarketStreamRoutes
from service.api.order_changes import ChangeRoutes
from service.api.orders import OrderRoutes
from service.api.orders_stream import OrdersStreamRoutes
from service.api.origins import Origins
from service.api.paper import PaperRoutes
from service.api.proxies import TrustedProxies
from service.api.requests import AMENDMENT, CANCEL, NEW_ORDER
from service.api.responses import ORDER, ORDER_LIST, STATUS_UPDATE
from service.api.route import RouteGroups
from service.api.routes import served
from service.api.specs import openapi_document
from service.api.stopping import Stopping
from service.api.stream import StreamRoutes
from service.api.venue import VenueRoutes
from service.api.views import OrderAt
from service.api.webhooks import WebhookRoutes
from service.domain.failures import FailureCode
from service.domain.history import HistoryEntry
from service.domain.mode import TradingMode
from service.domain.order import Order, OrderType, Terms
from service.domain.quote import Choice, Dex, Leg, NoQuote, Path, PoolQuote, Route, SwapMode
from service.domain.routing_record import RoutingRecord, record_choice, record_refusal
from service.domain.tokens import TOKENS
from service.domain.transaction import Fill
from service.store.orders import Position
from tests.support import openapi

ORDER_ID = "0190a8f5-0000-7000-8000-000000000000"
NOW = "2026-11-22T10:00:00.000Z"

NEW: dict[str, Any] = {"tokenIn": "SOL", "tokenOut": "USDC", "amountIn": "1.50", "orderType": "market"}

FAILED: tuple[HistoryEntry, ...] = (
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
CONFIRMED: tuple[HistoryEntry, ...] = (
    *FAILED[:3],
    {
        "sequence": 4,
        "status": "submitted",
        "timestamp": NOW,
        "txHash": "5sig",
        "quotedIn": "1.5",
        "quotedOut": "225.5",
        "maximumIn": "1.5",
        "minimumOut": "223.245",
    },
    {"sequence": 5, "status": "confirmed", "timestamp": NOW, "txHash": "5sig"},
)


def a_choice(mode: SwapMode = SwapMode.EXACT_IN) -> Choice:
    """Return a route that uses every feature: a split, two hops, fees on either side."""
    one = Leg(Dex.RAYDIUM, "raydium:1", "SOL", "USDC", 10**9, 150_000_000, 2_500_000, 0, 12)
    two = Leg(Dex.METEORA, "meteora:2", "SOL", "USDT", 5 * 10**8, 76_000_000, 0, 200_000, 0)
    three = Leg(Dex.METEORA, "meteora:3", "USDT", "USDC", 76_000_000, 75_500_000, 1, 1, 1_000_000)
    return Choice(
        quotes=(
            PoolQuote(Dex.RAYDIUM, "raydium:1", 15 * 10**8, 224_000_000, 3_750_000, 0, 18),
            NoQuote(Dex.METEORA, "meteora:1", FailureCode.QUOTES_UNAVAILABLE),
        ),
        route=Route(mode, "SOL", "USDC", (Path((one,)), Path((two, three))), 2_000),
        runner_up=Route(mode, "SOL", "USDC", (Path((one,)),), 12),
    )


def an_order(
    history: tuple[HistoryEntry, ...] = FAILED,
    kept: RoutingRecord | None = None,
    mode: SwapMode = SwapMode.EXACT_IN,
    fill: Fill | None = None,
) -> Order:
    return Order(
        id=ORDER_ID,
        account="default",
        mode=TradingMode.PAPER,
        client_order_id=None,
        order_type=OrderType.MARKET,
        token_in="SOL",
        token_out="USDC",
        swap_mode=mode,
        amount=1_500_000_000,
        amount_text="1.50",
        terms=Terms(slippage_bps=100),
        decimals_in=9,
        decimals_out=6,
        history=history,
        created_at=NOW,
        quoted=None,
        fill=fill,
        routing={3: kept or record_choice(a_choice(mode))},
    )


def is_valid(component: str, value: Any) -> bool:
    """Validate a value against a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{component}", "components": openapi.document()["components"]}
    # As JSON has it: arrays are lists.
    return bool(OAS31Validator(schema).is_valid({**value, **arrays(value)}))


def arrays(value: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a response that are tuples, or contain a response, as they are in JSON."""
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
    validate(openapi.document())


def documented_and_served(groups: RouteGroups, guards: Guards) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Return the document of an application, and its routes by method and path."""
    document: dict[str, Any] = orjson.loads(openapi_document(served(groups)))
    routes = application(groups, guards).router.routes()
    return document, {
        (route.method, route.resource.canonical)
        for route in routes
        if route.resource is not None and route.method != "HEAD"
    }


def of_a_service(paper: PaperRoutes | None) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Return the same of the service; ``paper``: the routes that only the paper market has."""
    unused: Any = None
    return documented_and_served(
        RouteGroups(
            OrderRoutes(unused, unused, unused, unused, unused),
            BatchRoutes(unused, unused),
            ChangeRoutes(unused, unused, unused, unused, unused, unused, 200, 3_600, unused),
            StreamRoutes(unused, unused, unused),
            OrdersStreamRoutes(unused, unused, unused, unused),
            MarketRoutes(unused, unused, unused, unused, unused),
            MarketStreamRoutes(unused, unused, unused, unused),
            paper,
            HealthRoute(
                halt=unused,
                write_error=unused,
                link=unused,
                executing=unused,
                unknown_outcomes=unused,
                anonymous=unused,
                mode=unused,
            ),
            KeyRoutes(unused, unused, unused),
            DocumentRoutes(unused, unused),
            DocsRoutes(),
            AdminRoutes(unused),
            WebhookRoutes(unused, unused, unused),
            ApprovalRoutes(unused, unused, unused),
            VenueRoutes(unused, unused, unused, unused, None, None, unused),
        ),
        Guards(
            TrustedProxies(()),
            Origins((), ()),
            Access(unused, unused, unused),
            Idempotency(unused),
            Stopping(),
        ),
    )


def operations_of(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Return a document's operations, by method and path."""
    return {
        (method.upper(), re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", path))
        for path, operations in document["paths"].items()
        for method in operations
    }


def test_the_document_lists_exactly_the_existing_routes() -> None:
    unused: Any = None
    document, routes = of_a_service(PaperRoutes(unused, unused))
    assert document == openapi.document()
    assert operations_of(document) == routes


def test_another_venue_does_not_have_the_routes_of_the_paper_market() -> None:
    document, routes = of_a_service(None)
    validate(document)
    assert operations_of(document) == routes
    of_paper = {("POST", "/api/paper/pools"), ("DELETE", "/api/paper/pools/{pool_id}")}
    assert operations_of(openapi.document()) - routes == of_paper
    # Nor does another part of the document know them.
    assert not re.search(r"/api/paper|NewPool|listPool\b", orjson.dumps(document).decode())


def test_every_operation_has_a_unique_name_and_a_summary() -> None:
    operations = [each for path in openapi.document()["paths"].values() for each in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"slippageBps": 0},
        {"slippageBps": 10_000, "clientOrderId": "mine-1"},
        {"clientOrderId": None},
        {"slippageBps": None, "limitPrice": None, "timeInForce": None, "expiresAt": None},
        {"sniperConditions": None},
        {"orderType": None},
        {"clientOrderId": "."},
        {"clientOrderId": ".."},
        {"clientOrderId": "..."},
        {"slippageBps": -1},
        {"slippageBps": 10_001},
        {"slippageBps": "1"},
        {"amountIn": 1},
        {"amountIn": "-1"},
        {"amountIn": "1e3"},
        {"amountIn": None},
        {"amountOut": "1"},
        {"amountOut": None},
        # The tokens change while the service runs: /api/tokens lists them.
        {"tokenIn": 1},
        {"orderType": "stop"},
        {"price": "1"},
        {"clientOrderId": ""},
    ],
    ids=str,
)
def test_the_document_accepts_the_orders_that_the_service_accepts(changes: dict[str, Any]) -> None:
    order = {**NEW, **changes}
    try:
        NEW_ORDER.load(order)
    except ValidationError:
        assert not is_valid("NewOrder", order)
    else:
        assert is_valid("NewOrder", order)


@pytest.mark.parametrize(
    "amounts",
    [
        *({}, {"amountOut": "1.50"}, {"amountOut": "x"}, {"amountOut": 1}, {"amountOut": None}),
        *({"amountOut": "1.50", "amountIn": None}, {"amountOut": None, "amountIn": None}),
    ],
    ids=str,
)
def test_the_document_requires_exactly_one_amount_on_either_side(amounts: dict[str, Any]) -> None:
    order = {name: value for name, value in NEW.items() if name != "amountIn"} | amounts
    try:
        NEW_ORDER.load(order)
    except ValidationError:
        assert not is_valid("NewOrder", order)
    else:
        assert is_valid("NewOrder", order)


@pytest.mark.parametrize(
    ("component", "schema", "body"),
    [
        ("Amendment", AMENDMENT, {"expiresAt": None}),
        ("Amendment", AMENDMENT, {"slippageBps": 1, "limitPrice": None}),
        ("Cancel", CANCEL, {"all": False, "tokenIn": "SOL", "orderType": None}),
        ("Cancel", CANCEL, {"all": 1}),
        ("Cancel", CANCEL, {"all": True, "tokenOut": "So11111111111111111111111111111111111111112!"}),
    ],
)
def test_the_document_accepts_the_amendments_that_the_service_accepts(
    component: str, schema: Schema, body: dict[str, Any]
) -> None:
    assert is_valid(component, body) == (not schema.validate(body))


def test_the_document_allows_no_null_in_a_query() -> None:
    for path in openapi.document()["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                assert "null" not in parameter["schema"].get("type", ""), parameter
                assert None not in parameter["schema"].get("enum", []), parameter


def test_the_defaults_in_the_document_are_valid() -> None:
    schemas = openapi.document()["components"]["schemas"]
    for schema in schemas.values():
        for name, member in schema["properties"].items():
            if "default" in member:
                assert OAS31Validator(member).is_valid(member["default"]), name


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize(
    "kept", [record_choice(a_choice()), record_refusal(a_choice().quotes, token_in="SOL", token_out="USDC")]
)
@pytest.mark.parametrize("sequence", range(1, 5))
def test_an_order_matches_the_document_at_each_sequence(
    sequence: int, kept: RoutingRecord, mode: SwapMode
) -> None:
    view = OrderAt(an_order(kept=kept, mode=mode), sequence)
    assert is_valid("Order", ORDER.dump(view))
    assert is_valid("StatusUpdate", STATUS_UPDATE.dump(view))


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize("got", [225_500_000, 225_000_000, 226_000_000])
def test_a_filled_order_matches_the_document(mode: SwapMode, got: int) -> None:
    order = an_order(CONFIRMED, mode=mode, fill=Fill(1_500_000_001, got, "5sig"))
    for sequence in range(1, 6):
        assert is_valid("Order", ORDER.dump(OrderAt(order, sequence)))


@pytest.mark.parametrize("mode", SwapMode)
def test_a_quote_matches_the_document(mode: SwapMode) -> None:
    kept = record_choice(a_choice(mode))
    assert kept.route is not None
    quote = QUOTE.dump(
        {
            "token_in": "SOL",
            "token_out": "USDC",
            "swap_mode": mode,
            "slippage_bps": 100,
            "amount_in": "1.5",
            "amount_out": "225.5",
            "maximum_in": "1.5",
            "minimum_out": "223.245",
            "price": "150.333333333333333",
            "price_impact": "0.002",
            "venue": "multiple",
            "route": kept.route,
            "quotes": kept.quotes,
            "quoted_at": NOW,
            "expires_at": NOW,
        }
    )
    assert is_valid("Quote", quote)
    assert not is_valid("Quote", {**quote, "route": None})
    assert not is_valid("Quote", {**quote, "route": {**kept.route, "paths": None}})


def test_tokens_and_pools_match_the_document() -> None:
    tokens = [asdict(token) for token in TOKENS.values()]
    assert is_valid("TokenList", TokenListSchema().dump({"tokens": tokens}))
    pool = {
        "id": "raydium:SOL-USDC:cpmm",
        "venue": Dex.RAYDIUM,
        "program": "raydium-cpmm",
        "token_a": "SOL",
        "token_b": "USDC",
        "amount_a": "1",
        "amount_b": "150",
        "price": "150",
    }
    assert is_valid("PoolList", PoolListSchema().dump({"slot": 1, "pools": [pool, {**pool, "price": None}]}))
    assert not is_valid("PoolList", PoolListSchema().dump({"slot": 1, "pools": [{**pool, "venue": "orca"}]}))


def test_a_page_matches_the_document() -> None:
    for position in (ListPosition(Position(1, ORDER_ID), "0123456789ab"), None):
        assert is_valid(
            "OrderList", ORDER_LIST.dump({"orders": [OrderAt(an_order())], "next_cursor": position})
        )


@pytest.mark.parametrize(
    "field", ["id", "status", "swapMode", "quotes", "route", "txHash", "realisedSlippage"]
)
def test_an_order_without_one_of_its_fields_violates_the_document(field: str) -> None:
    order = ORDER.dump(OrderAt(an_order()))
    del order[field]
    assert not is_valid("Order", order)


@pytest.mark.parametrize("client_id", ["a b", "x" * 65])
def test_the_document_rejects_the_client_order_ids_that_the_service_rejects(client_id: str) -> None:
    assert not is_valid("NewOrder", {**NEW, "clientOrderId": client_id})


@pytest.mark.parametrize(
    ("label", "taken"),
    [
        ("grid 7", True),
        ("ä€😀" * 21, True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("a\0b", False),
        ("a\nb", False),
        ("\x7f", False),
        ("\x85", False),
        (7, False),
    ],
)
def test_the_document_and_the_service_accept_the_same_labels(label: object, taken: bool) -> None:
    assert is_valid("NewOrder", {**NEW, "label": label}) is taken
    assert ("label" not in NEW_ORDER.validate({**NEW, "label": label})) is taken


def test_the_documents_patterns_are_anchored_and_in_ecma_262() -> None:
    pattern = openapi.document()["components"]["schemas"]["NewOrder"]["properties"]["clientOrderId"][
        "pattern"
    ]
    assert pattern == r"^(?!\.{1,2}$)[A-Za-z0-9._:-]{1,64}$"


def test_the_document_lists_itself() -> None:
    assert "/openapi.json" in openapi.document()["paths"]


def test_no_description_has_a_tag_that_a_page_would_hide() -> None:
    # Descriptions are Markdown, in which ``<id>`` is HTML unless it is code.
    text = json.dumps(openapi.document())
    described = re.findall(r'"(?:description|summary)": "((?:[^"\\]|\\.)*)"', text)
    assert described
    assert [each for each in described if re.search(r"<\w", re.sub("`[^`]*`", "", each))] == []
