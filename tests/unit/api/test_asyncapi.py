"""The AsyncAPI document is valid, describes every WebSocket, and matches the messages of a stream."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator

from service.api.access import STREAM_PROTOCOL, TICKET_PREFIX
from service.api.asyncapi import asyncapi_document
from service.api.close_codes import CLOSE_CODES, close_code_table
from service.api.routes import ROUTES
from service.api.timeline import Timeline, execution_message
from service.domain.history import HistoryEntry
from service.domain.order import Order
from service.domain.quote import SwapMode
from service.domain.transaction import Fill, Seen, SeenCommitment
from tests.support import openapi
from tests.unit.api.test_openapi import CONFIRMED, FAILED, ORDER_ID, an_order
from tests.unit.api.test_views import FILLED

ASYNCAPI_SCHEMA = Path(__file__).parents[2] / "golden" / "asyncapi" / "3.0.0-without-$id.json"
API_MANUAL = Path(__file__).parents[3] / "docs" / "api.md"

DOCUMENT: dict[str, Any] = orjson.loads(asyncapi_document(ROUTES))
SOCKETS = [route for route in ROUTES if route.websocket]
STREAM = DOCUMENT["channels"]["streamOrder"]


@pytest.fixture(scope="module")
def asyncapi() -> Draft7Validator:
    """Return a validator of AsyncAPI documents."""
    return Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_text()))


def resolve(reference: dict[str, str]) -> Any:
    """Return what a reference in the document points to."""
    [(key, pointer)] = reference.items()
    assert (key, pointer[:2]) == ("$ref", "#/")
    found: Any = DOCUMENT
    for step in pointer[2:].split("/"):
        found = found[step]
    return found


def references(node: Any) -> list[dict[str, str]]:
    """Return all objects with a reference."""
    if isinstance(node, list):
        return [found for child in node for found in references(child)]
    if not isinstance(node, dict):
        return []
    own = [node] if "$ref" in node else []
    return own + [found for child in node.values() for found in references(child)]


def of_stream() -> Draft7Validator:
    """Return a validator of the stream's messages, by what the document says of them."""
    messages = DOCUMENT["operations"]["streamOrder"]["messages"]
    payloads = [resolve(resolve(message))["payload"] for message in messages]
    return Draft7Validator({"anyOf": payloads, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("root_path", ["", "/engine"])
def test_the_document_is_a_valid_asyncapi_document(asyncapi: Draft7Validator, root_path: str) -> None:
    document = json.loads(asyncapi_document(ROUTES, root_path))
    assert [error.message for error in asyncapi.iter_errors(document)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("asyncapi",), "2.6.0"),
        (("info",), {}),
        (("servers", "engine", "host"), None),
        (("operations", "streamOrder", "action"), "subscribe"),
        (("channels", "streamOrder", "address"), 1),
        (("channels", "streamOrder", "bindings", "ws", "method"), "PUT"),
        (("components", "securitySchemes", "apiKey", "type"), "bearer"),
        (("components", "schemas", "Order", "type"), "record"),
    ],
    ids=str,
)
def test_asyncapis_schema_rejects_other_documents(
    asyncapi: Draft7Validator, path: tuple[str, ...], value: object
) -> None:
    document = json.loads(asyncapi_document(ROUTES))
    *parents, last = path
    node = document
    for step in parents:
        node = node[step]
    assert node[last] != value
    node[last] = value
    assert not asyncapi.is_valid(document)


def test_every_reference_has_a_target_and_nothing_beside_it() -> None:
    # Draft 7 ignores what stands beside a reference.
    found = references(DOCUMENT)
    assert len(found) > 5
    for reference in found:
        assert resolve(reference)


def test_each_websocket_of_the_table_has_a_channel_and_an_operation() -> None:
    names = [route.operation_id for route in SOCKETS]
    assert names
    assert list(DOCUMENT["channels"]) == list(DOCUMENT["operations"]) == names
    for route in SOCKETS:
        operation = DOCUMENT["operations"][route.operation_id]
        channel = DOCUMENT["channels"][route.operation_id]
        assert (operation["action"], operation["x-scope"]) == ("send", route.scope)
        assert resolve(operation["channel"]) == channel
        assert [resolve(message) for message in operation["messages"]] == list(channel["messages"].values())
        assert len(operation["messages"]) == len(route.messages) > 0


def test_only_websockets_have_messages() -> None:
    assert [route for route in ROUTES if route.messages] == SOCKETS


def test_an_address_and_its_parameters_are_those_of_the_openapi_document() -> None:
    for channel in DOCUMENT["channels"].values():
        parameters = openapi.document()["paths"][channel["address"]]["get"]["parameters"]
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel["parameters"])
        for where, told in (
            ("path", channel["parameters"]),
            ("query", channel["bindings"]["ws"]["query"]["properties"]),
        ):
            assert set(told) == {each["name"] for each in parameters if each["in"] == where}


def test_the_stream_of_an_order() -> None:
    assert STREAM["address"] == "/api/orders/{orderId}/ws"
    assert STREAM["parameters"] == {"orderId": {"description": "In the format uuid."}}
    query = STREAM["bindings"]["ws"]["query"]
    validator = Draft7Validator(query)
    assert query["properties"]["from"]["default"] == 0
    assert validator.is_valid({"from": 3})
    assert validator.is_valid({})
    assert not validator.is_valid({"from": "x"})
    assert not validator.is_valid({"after": 3})


def test_the_schemas_are_those_of_the_openapi_document() -> None:
    schemas = openapi.document()["components"]["schemas"]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema == schemas[name]
    assert "NewOrder" not in DOCUMENT["components"]["schemas"]


def test_a_key_or_a_ticket_opens_a_stream() -> None:
    key, ticket = (resolve(scheme) for scheme in DOCUMENT["operations"]["streamOrder"]["security"])
    assert key == openapi.document()["components"]["securitySchemes"]["apiKey"]
    assert (key["type"], key["scheme"]) == ("http", "bearer")
    assert (ticket["type"], ticket["in"]) == ("httpApiKey", "header")
    assert ticket["name"] == "Sec-WebSocket-Protocol"
    for text in (ticket["description"], STREAM["description"]):
        assert f"`{STREAM_PROTOCOL}`" in text
        assert f"`{TICKET_PREFIX}<ticket>`" in text


def test_the_document_and_the_manual_have_the_same_table_of_close_codes() -> None:
    assert close_code_table() in DOCUMENT["info"]["description"]
    assert close_code_table() in API_MANUAL.read_text()


def test_descriptions_name_no_other_close_codes() -> None:
    named = {int(code) for code in re.findall(r"\b[14]0\d\d\b", json.dumps(DOCUMENT["channels"]))}
    assert named <= set(CLOSE_CODES)


@pytest.mark.parametrize("root_path", ["", "/engine"])
def test_the_server_and_the_address_make_the_url(root_path: str) -> None:
    document = orjson.loads(asyncapi_document(ROUTES, root_path))
    [server] = document["servers"].values()
    host = server["host"].format(host=server["variables"]["host"]["default"])
    address = document["channels"]["streamOrder"]["address"].format(orderId=ORDER_ID)
    url = f"{server['protocol']}://{host}{server.get('pathname', '')}{address}"
    assert url == f"ws://localhost:3000{root_path}/api/orders/{ORDER_ID}/ws"


@pytest.mark.parametrize("mode", SwapMode)
@pytest.mark.parametrize("history", [FAILED, CONFIRMED], ids=["failed", "confirmed"])
def test_each_message_of_a_stream_matches_the_document(
    history: tuple[HistoryEntry, ...], mode: SwapMode
) -> None:
    fill = Fill(1_500_000_001, 225_500_000, "5sig") if history is CONFIRMED else None
    check_messages(an_order(history, mode=mode, fill=fill))


def test_each_message_of_a_retried_order_matches_the_document() -> None:
    check_messages(replace(FILLED, routing={}))


def check_messages(order: Order) -> None:
    """Check the messages of a stream, as they are sent."""
    validator, timeline = of_stream(), Timeline()
    for sequence in range(1, order.version + 1):
        message = json.loads(timeline.message(order, sequence))
        assert [error.message for error in validator.iter_errors(message)] == []
        assert (message["sequence"], message["order"]["id"]) == (sequence, ORDER_ID)


@pytest.mark.parametrize(
    "seen",
    [
        None,
        Seen(905, SeenCommitment.PROCESSED),
        Seen(2**40, SeenCommitment.CONFIRMED, Fill(10**9, 99_000_000, "5sig")),
    ],
)
def test_a_message_of_a_seen_execution_matches_the_document(seen: Seen | None) -> None:
    order = replace(an_order(CONFIRMED[:4]), seen=seen)
    message = json.loads(execution_message(order))
    assert [error.message for error in of_stream().iter_errors(message)] == []
    assert (message["type"], message["orderId"]) == ("execution_seen", ORDER_ID)
    assert (message["execution"] is None) == (seen is None)
    assert "sequence" not in message
    assert not of_stream().is_valid({**message, "execution": {"slot": 905}})


@pytest.mark.parametrize("member", ["type", "orderId", "sequence", "status", "timestamp", "order"])
def test_a_message_without_one_of_its_members_violates_the_document(member: str) -> None:
    message = json.loads(Timeline().message(an_order(), 2))
    assert of_stream().is_valid(message)
    assert not of_stream().is_valid({**message, member: None})
    del message[member]
    assert not of_stream().is_valid(message)


def test_a_message_of_another_type_violates_the_document() -> None:
    message = json.loads(Timeline().message(an_order(), 2))
    assert not of_stream().is_valid({**message, "type": "order_update"})
    assert not of_stream().is_valid({**message, "order": {**message["order"], "status": "done"}})
