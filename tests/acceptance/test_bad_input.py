"""Every invalid request gets a clear 4xx: problem+json that points at the error."""

import io
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from service.api.problem_schemas import ProblemSchema
from tests.conftest import service_on
from tests.support.orders import MARKET_ORDER, Client
from tests.support.servers import TestCluster

# One service for all these tests: none changes anything.
pytestmark = pytest.mark.asyncio(loop_scope="module")

EXECUTE = "/api/orders/execute"
LARGEST_PROBLEM = 24 * 1024
"""Bytes of an error, whatever was sent."""

JSON = {"Content-Type": "application/json"}
# Fixed: all processes that share the tests need the same cases.
UNKNOWN = "5f0c6ed4-3c1a-4b8e-9d51-0a6c6d1c7b42"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cluster: TestCluster) -> AsyncIterator[Client]:
    async with TestClient(TestServer(service_on(cluster.new()).web)) as client:
        yield client


async def problem_of(answer: ClientResponse, status: int) -> dict[str, Any]:
    assert len(await answer.read()) < LARGEST_PROBLEM
    body: dict[str, Any] = await answer.json(content_type="application/problem+json")
    assert answer.status == status, body
    assert ProblemSchema().validate(body) == {}
    assert body["status"] == status
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'{"tokenIn":NaN}',
        b"{'a':1}",
        b'"\xff\xfe"',
        b'{"tokenIn":"\xc3\x28"}',
        b'"\\ud800"',
        b"[" * 20_000 + b"]" * 20_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"tokenIn":"SOL","tokenIn":"SOL"}',
        b'{"sniperConditions":{"price":{"above":"1","\\u0061bove":"2"}}}',
        b"{" + b",".join(b'"%d":0' % number for number in range(5_000)) + b"}",
    ],
    ids=[
        "empty",
        "cut",
        "text",
        "NaN",
        "quotes",
        "utf-8",
        "utf-8 in json",
        "surrogate",
        "deep",
        "deep objects",
        "a duplicate member",
        "a duplicate member, nested",
        "thousands of members",
    ],
)
async def test_invalid_json_is_400(client: Client, body: bytes) -> None:
    async with client.post(EXECUTE, data=body, headers=JSON) as answer:
        await problem_of(answer, 400)


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"true", b"[{}]"])
async def test_json_that_is_no_object_is_422(client: Client, body: bytes) -> None:
    async with client.post(EXECUTE, data=body, headers=JSON) as answer:
        problem = await problem_of(answer, 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#"]


async def test_a_body_that_is_too_large_is_413(client: Client) -> None:
    async with client.post(EXECUTE, data=io.BytesIO(b"x" * 2_000_000), headers=JSON) as answer:
        await problem_of(answer, 413)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_another_content_type_is_415(client: Client, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    async with client.post(
        EXECUTE, data=b"{}", headers=headers, skip_auto_headers=["Content-Type"]
    ) as answer:
        await problem_of(answer, 415)


BAD_AMOUNTS: list[object] = [
    *(
        "abc",
        "-1",
        "0",
        "0.0",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "1e-400",
        "",
        " 1",
        "1 ",
        "1\n",
        "+1",
    ),
    *("9" * 5_000, "1.0000000001", "\uff11", "0x10", "1_000", "1,5", ".5", "5.", "01", "1\u0000"),
    *(None, True, False, [], {}, 1, 1.5, 10**30, "18446744073.709551616"),
]


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=lambda amount: repr(amount)[:24])
async def test_an_invalid_amount_is_422(client: Client, amount: object) -> None:
    async with client.post(EXECUTE, json={**MARKET_ORDER, "amountIn": amount}) as answer:
        problem = await problem_of(answer, 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/amountIn"]


@pytest.mark.parametrize("field", ["tokenIn", "tokenOut"])
@pytest.mark.parametrize(
    "token",
    ["DOGE", "", "sol", "SOL\u0000", "x" * 10_000, "\u0000", None, 1, True, [], {}, ["SOL"]],
    ids=repr,
)
async def test_an_unknown_token_is_422(client: Client, field: str, token: object) -> None:
    async with client.post(EXECUTE, json={**MARKET_ORDER, field: token}) as answer:
        problem = await problem_of(answer, 422)
    assert [error["pointer"] for error in problem["errors"]] == [f"#/{field}"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"tokenOut": "SOL"}, "#/tokenOut"),
        ({"orderType": "iceberg"}, "#/orderType"),
        ({"orderType": None}, "#/orderType"),
        ({"orderType": ["market"]}, "#/orderType"),
        ({"slippageBps": -1}, "#/slippageBps"),
        ({"slippageBps": 10_001}, "#/slippageBps"),
        ({"slippageBps": 10**30}, "#/slippageBps"),
        ({"slippageBps": "100"}, "#/slippageBps"),
        ({"slippageBps": 1.5}, "#/slippageBps"),
        ({"slippageBps": 100.0}, "#/slippageBps"),
        ({"slippageBps": True}, "#/slippageBps"),
        ({"clientOrderId": ""}, "#/clientOrderId"),
        ({"clientOrderId": "."}, "#/clientOrderId"),
        ({"clientOrderId": ".."}, "#/clientOrderId"),
        ({"clientOrderId": "a b"}, "#/clientOrderId"),
        ({"clientOrderId": "a\n"}, "#/clientOrderId"),
        ({"clientOrderId": "x" * 65}, "#/clientOrderId"),
        ({"clientOrderId": 7}, "#/clientOrderId"),
        ({"unknown": 1}, "#/unknown"),
        ({"a/b~c": 1}, "#/a~1b~0c"),
    ],
    ids=repr,
)
async def test_an_invalid_field_is_422_and_named(
    client: Client, changes: dict[str, object], pointer: str
) -> None:
    async with client.post(EXECUTE, json={**MARKET_ORDER, **changes}) as answer:
        problem = await problem_of(answer, 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_an_error_is_short_for_any_request(client: Client) -> None:
    for body in (
        {**MARKET_ORDER, **{f"{number}" + "\N{SNOWMAN}" * 10: 1 for number in range(900)}},
        {**MARKET_ORDER, "tokenIn": "x" * 60_000, "orderType": "y" * 100, "amountIn": "1" * 4_000},
        {**MARKET_ORDER, "~" * 60_000: 1},
        {**MARKET_ORDER, "orderType": "sniper", "sniperConditions": {"%" * 60_000: 1}},
    ):
        async with client.post(EXECUTE, json=body) as answer:
            problem = await problem_of(answer, 422)
        assert 1 <= len(problem["errors"]) <= 20


@pytest.mark.parametrize("missing", MARKET_ORDER)
async def test_a_missing_field_is_422_and_named(client: Client, missing: str) -> None:
    body = {name: value for name, value in MARKET_ORDER.items() if name != missing}
    async with client.post(EXECUTE, json=body) as answer:
        problem = await problem_of(answer, 422)
    assert [error["pointer"] for error in problem["errors"]] == [f"#/{missing}"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        *(
            (f"limit={limit}", "#/limit")
            for limit in ("-1", "0", "abc", "1" + "0" * 20, "501", "", "1.5", "%00")
        ),
        *(
            (f"status={status}", "#/status")
            for status in ("done", "", "PENDING", "%00", "pending,", "pending,done")
        ),
        *((f"cursor={cursor}", "#/cursor") for cursor in ("x", "", "%00", "MQ", "9" * 3000)),
        ("page=2", "#/page"),
    ],
)
async def test_a_bad_query_is_422_and_named(client: Client, query: str, pointer: str) -> None:
    async with client.get(f"/api/orders?{query}") as answer:
        problem = await problem_of(answer, 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


@pytest.mark.parametrize("order_id", [UNKNOWN, "no-uuid", "%00", "x" * 5_000, "1", f"{{{UNKNOWN}}}"])
@pytest.mark.parametrize("path", ["/api/orders/{}", "/api/orders/{}/ws", "/api/orders/by-client-id/{}"])
async def test_an_unknown_order_is_404(client: Client, path: str, order_id: str) -> None:
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with client.get(path.format(order_id), headers=headers if path.endswith("ws") else {}) as answer:
        await problem_of(answer, 404)


async def test_the_stream_without_a_websocket_is_426(client: Client) -> None:
    async with client.get(f"/api/orders/{uuid4()}/ws") as answer:
        await problem_of(answer, 426)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", EXECUTE, 405), ("PUT", EXECUTE, 405), ("POST", "/health", 405)],
)
async def test_an_unknown_path_is_a_problem(client: Client, method: str, path: str, status: int) -> None:
    async with client.request(method, path) as answer:
        await problem_of(answer, status)
