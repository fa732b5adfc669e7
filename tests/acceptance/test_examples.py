"""The examples in the OpenAPI document are true: a session with the service gives them again.

``RECORD_EXAMPLES=1 pytest`` on this file records them anew. Values that differ between runs are compared
by their form only. A new route needs a line in the session below.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from service.api.examples import FOLDER, PROBLEMS, Example, read_example, shared_problems
from service.api.fields import camel_case
from service.api.idempotency import BEING_HANDLED, HEADER
from service.api.problems import ConflictError, problem_json
from service.api.routes import ROUTES
from service.domain.api_key import Scope
from service.domain.key_limits import KeyLimits
from service.store.api_keys import NewKey
from service.store.webhook_endpoints import MOST_ENDPOINTS
from tests.support.gem_market import GEM_POOL
from tests.support.keys import create_keys
from tests.support.orders import Json
from tests.support.process import NO_DELAYS, ServiceProcess
from tests.support.raw import HOST, JSON, answer_on, connected
from tests.support.servers import TestServers

UNKNOWN = "5f0c6ed4-3c1a-4b8e-9d51-0a6c6d1c7b42"

MARKET: Json = {"tokenIn": "USDC", "tokenOut": "GEM", "amountIn": "100", "orderType": "market"}
LIMIT: Json = {
    "tokenIn": "SOL",
    "tokenOut": "USDC",
    "amountIn": "1.5",
    "orderType": "limit",
    "limitPrice": "1000000",
    "clientOrderId": "grid-7",
    "label": "grid",
}

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}

_BY_ID = {route.operation_id: route for route in ROUTES}

_FORMS = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"[0-9a-f]{16,}"), "<hex>"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "<secret>"),
    (re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,90}"), "<base58>"),
    (re.compile(r"-?\d+(\.\d+)?"), "<decimal>"),
)


def form(value: object) -> object:
    """Return JSON with the values that differ between runs replaced by their forms."""
    if isinstance(value, dict):
        return {name: "<cursor>" if name == "nextCursor" else form(each) for name, each in value.items()}
    if isinstance(value, list):
        return [form(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return "<number>"
    if isinstance(value, str):
        whole = next((name for pattern, name in _FORMS if pattern.fullmatch(value)), None)
        return whole or re.sub(r"\b[0-9a-f]{16}\b", "<hex>", value)
    return value


class Session:
    """A client that calls operations by their ids, and keeps each one's first answers as its example."""

    def __init__(self, client: ClientSession, tokens: dict[Scope, str]) -> None:
        self._client = client
        self._tokens = tokens
        self.examples: dict[str, Example] = {}
        self.problems: Json = {}

    async def ask(
        self, operation_id: str, expected: int, body: Any = None, /, name: str = "", **parameters: Any
    ) -> Any:
        """Call an operation, and keep its answer in its example, under a name if it has several."""
        headers = UPGRADE if _BY_ID[operation_id].websocket else {}
        read = await self.call(operation_id, expected, body, parameters, headers)
        example = self.examples.setdefault(operation_id, Example(parameters, body))
        if read is not None:
            example.responses.setdefault(f"{expected} {name}".strip(), read)
        return read

    async def fail(self, operation_id: str, expected: int, body: Any = None, **headers: str) -> None:
        """Call an operation, and keep its answer as the example of a problem that is the same everywhere."""
        self.problems[str(expected)] = await self.call(operation_id, expected, body, {}, headers)

    async def call(
        self, operation_id: str, expected: int, body: Any, parameters: Json, headers: Json | None = None
    ) -> Any:
        """Call an operation, check the status of its answer, and return the answer's body."""
        route = _BY_ID[operation_id]
        path, query = self._split(operation_id, parameters)
        sent: Json = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self._client.request(
            route.method,
            path,
            params=query,
            headers=self._header(route.scope) | (headers or {}),
            **sent,
        ) as answer:
            text = await answer.read()
            assert answer.status == expected, (operation_id, text)
            return orjson.loads(text) if answer.content_type.endswith("json") else None

    async def watch(
        self, operation_id: str, until: Callable[[Json], bool] = bool, /, **parameters: str | int
    ) -> None:
        """Open a WebSocket, and read messages until one fulfils a condition."""
        self.examples.setdefault(operation_id, Example(parameters))
        path, query = self._split(operation_id, parameters)
        header = self._header(Scope.READ)
        async with self._client.ws_connect(path, params=query, headers=header) as socket:
            while not until(await socket.receive_json()):
                pass

    async def follow(self, order_id: str, status: str) -> None:
        """Watch an order until it has a status."""
        parameters: Json = {"orderId": order_id, "from": 0}
        await self.watch("streamOrder", lambda message: message["status"] == status, **parameters)

    def _split(self, operation_id: str, parameters: Json) -> tuple[str, Json]:
        """Return an operation's path and query."""
        path = _BY_ID[operation_id].path
        in_path = {name: parameters[camel_case(name)] for name in re.findall(r"\{(\w+)\}", path)}
        query = {name: each for name, each in parameters.items() if name not in map(camel_case, in_path)}
        return path.format(**in_path), query

    def _header(self, scope: Scope | None) -> dict[str, str]:
        token = self._tokens[Scope.ADMIN if scope is Scope.ADMIN else Scope.TRADE]
        return {} if scope is None else {"Authorization": f"Bearer {token}"}


async def market(session: Session) -> None:
    """Pools, tokens, quotes."""
    ask = session.ask
    await ask("listPool", 201, GEM_POOL)
    await ask("listPool", 409, GEM_POOL)
    await ask("listPool", 422, {**GEM_POOL, "program": "uniswap"})
    await ask("listTokens", 200)
    await ask("listPools", 200, token="GEM")
    await ask("listPools", 422, venue="orca")
    await ask("getQuote", 200, tokenIn="USDC", tokenOut="GEM", amountIn="100")
    await ask("getQuote", 422, tokenIn="USDC", tokenOut="USDC", amountIn="100")
    await ask("listBalances", 200, limit=2)
    await ask("listBalances", 422, limit=0)
    await session.watch("streamMarket", pairs="SOL-USDC,USDC-GEM:100")
    await ask("streamMarket", 422, pairs="SOL")


async def orders(session: Session) -> None:
    """Placing, reading, amending and cancelling."""
    ask = session.ask
    filled, submitted = [(await session.call("executeOrder", 201, MARKET, {}))["id"] for _ in range(2)]
    resting = (await ask("executeOrder", 201, LIMIT))["id"]
    await ask("executeOrder", 200, LIMIT, name="repeated")
    await ask("executeOrder", 200, MARKET, name="dry run", dryRun="true")
    await ask("executeOrder", 409, {**LIMIT, "amountIn": "2"})
    await ask("executeOrder", 422, {**LIMIT, "tokenOut": "USDX", "amountIn": 1.5})
    await ask(
        "executeOrders", 200, {"orders": [{**LIMIT, "clientOrderId": "grid-8"}, {**LIMIT, "amountIn": "0"}]}
    )
    await ask("executeOrders", 422, {"orders": []})
    await ask("getOrderByClientId", 200, clientOrderId="grid-7")
    await ask("getOrderByClientId", 404, clientOrderId="grid-6")
    await ask("listOrders", 200, status="open", limit=1)
    await ask("listOrders", 422, status="done")
    await ask("amendOrder", 200, {"limitPrice": "900000"}, orderId=resting)
    await ask("amendOrder", 404, {"limitPrice": "900000"}, orderId=UNKNOWN)
    await ask("amendOrder", 422, {"limitPrice": "cheap"}, orderId=resting)
    await ask("cancelOrder", 200, orderId=resting)
    await ask("cancelOrder", 404, orderId=UNKNOWN)
    await session.follow(submitted, "submitted")
    await ask("cancelOrder", 202, orderId=submitted)
    await session.follow(filled, "confirmed")
    await ask("getOrder", 200, orderId=filled)
    await ask("getOrder", 404, orderId=UNKNOWN)
    await ask("amendOrder", 409, {"slippageBps": 50}, orderId=filled)
    await ask("cancelOrder", 409, orderId=filled)
    await ask("cancelOrders", 200, {"orderType": "limit", "tokenIn": "SOL"})
    await ask("cancelOrders", 422, {})
    await ask("cancelOrdersAfter", 200, {"timeoutMs": 60_000})
    await ask("cancelOrdersAfter", 422, {"timeoutMs": 5})
    await session.watch("streamOrders", status="confirmed,failed", label="grid")
    await ask("streamOrders", 422, status="done")
    await ask("streamOrder", 404, orderId=UNKNOWN)
    await ask("streamOrder", 422, orderId=resting, **{"from": "the beginning"})
    # If it were in flight until then, the example of a webhook would tell of a message about it.
    await session.follow(submitted, "confirmed")
    await session.fail("listTokens", 401, Authorization="Bearer ?")


async def approvals(session: Session, watched: str) -> None:
    """Orders that an admin approves or refuses.

    Args:
        session: The session.
        watched: The token of a key whose orders require approval.
    """
    ask = session.ask
    header = {"Authorization": f"Bearer {watched}"}
    body = {name: value for name, value in LIMIT.items() if name != "clientOrderId"}
    ids = [(await session.call("executeOrder", 201, body, {}, header))["id"] for _ in range(2)]
    for operation_id, order_id in zip(("approveOrder", "refuseOrder"), ids, strict=True):
        await ask(operation_id, 200, {"reason": "As agreed."}, orderId=order_id)
        await ask(operation_id, 404, {}, orderId=UNKNOWN)
        await ask(operation_id, 409, {}, orderId=order_id)
        await ask(operation_id, 422, {"reason": ""}, orderId=order_id)
    await session.call("cancelOrder", 200, None, {"orderId": ids[0]})


async def webhooks(session: Session) -> None:
    """Webhook endpoints, whose host does not exist."""
    ask = session.ask
    endpoint = {"url": "https://hooks.example.com/orders", "events": ["confirmed", "failed"]}
    created = (await ask("createWebhook", 201, endpoint))["id"]
    await ask("createWebhook", 422, {"url": "http://10.0.0.1/orders"})
    for _ in range(MOST_ENDPOINTS - 1):
        await session.call("createWebhook", 201, endpoint, {})
    await ask("createWebhook", 409, endpoint)
    for other in (await session.call("listWebhooks", 200, None, {}))["webhooks"][1:]:
        await ask("deleteWebhook", 204, webhookId=other["id"])
    await ask("deleteWebhook", 404, webhookId=UNKNOWN)
    await ask("listWebhooks", 200)
    await ask("listWebhooks", 422, account="?")
    await ask("getWebhook", 200, webhookId=created)
    await ask("getWebhook", 404, webhookId=UNKNOWN)
    await ask("rotateWebhookSecret", 200, webhookId=created)
    await ask("rotateWebhookSecret", 404, webhookId=UNKNOWN)
    await ask("updateWebhook", 200, {"enabled": False}, webhookId=created)
    await ask("updateWebhook", 404, {"enabled": False}, webhookId=UNKNOWN)
    await ask("updateWebhook", 422, {}, webhookId=created)


async def operation(session: Session) -> None:
    """Keys, health, the documents, the kill switch."""
    ask = session.ask
    await ask("getOwnKey", 200)
    await ask("createStreamTicket", 201)
    await ask("getVenue", 200)
    await ask("health", 200)
    await ask("docsAsset", 200, asset="swagger-ui.css")
    await ask("docsAsset", 404, asset="none.js")
    own = await session.call("listPools", 200, None, {"token": "GEM"})
    others = await session.call("listPools", 200, None, {"token": "SOL"})
    await ask("delistPool", 204, poolId=own["pools"][0]["id"])
    await ask("delistPool", 404, poolId="none")
    await ask("delistPool", 409, poolId=others["pools"][0]["id"])
    await ask("haltTrading", 200, {"reason": "The market is too volatile."})
    await ask("haltTrading", 422, {"reason": ""})
    await session.fail("executeOrder", 503, MARKET | {"tokenOut": "SOL"})
    await ask("resumeTrading", 200)


async def failures(session: Session, service: ServiceProcess, limited: str) -> None:
    """Problems that are the same everywhere, and those of the connection.

    Args:
        session: The session.
        service: The service.
        limited: The token of a key that may send one request a second.
    """
    fail = session.fail
    await fail("executeOrder", 400, b'{"tokenIn":', **{"Content-Type": "application/json"})
    await fail("executeOrder", 415, b"tokenIn=SOL", **{"Content-Type": "text/plain"})
    await fail("executeOrder", 403, MARKET | {"tokenOut": "SOL", "slippageBps": 1_000})
    await fail("listTokens", 421, Host="example.com")
    await session.call("cancelOrders", 200, {"all": True}, {}, {HEADER: "key-of-another"})
    await fail("cancelOrders", 422, {"label": "grid"}, **{HEADER: "key-of-another"})
    session.problems["426"] = await session.call("streamOrder", 426, None, {"orderId": UNKNOWN})
    session.problems["409"] = problem_json(ConflictError(BEING_HANDLED))
    post = b"POST /api/orders/execute HTTP/1.1\r\n" + HOST + JSON
    for status, sent in (
        (408, post + b"Content-Length: 9\r\n"),
        (413, post + b"Content-Length: 99999\r\n\r\n"),
        (414, b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (417, post + b"Expect: more\r\nContent-Length: 2\r\n\r\n{}"),
        (431, b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9_000 + b"\r\n\r\n"),
    ):
        with connected(service, sent) as link:
            answer = await asyncio.to_thread(answer_on, link)
        assert answer.status == status
        session.problems[str(status)] = answer.problem
    # Two in a row may be in two seconds.
    while "429" not in session.problems:
        with contextlib.suppress(AssertionError):
            await fail("getOwnKey", 429, Authorization=f"Bearer {limited}")


def write(session: Session) -> None:
    """Record the examples that have another form than before."""
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    for operation_id, example in session.examples.items():
        if form(asdict(read_example(operation_id))) != form(asdict(example)):
            (FOLDER / f"{operation_id}.json").write_bytes(orjson.dumps(asdict(example), option=pretty))
    if form(shared_problems()) != form(session.problems):
        PROBLEMS.write_bytes(orjson.dumps(dict(sorted(session.problems.items())), option=pretty))


async def test_a_session_gives_the_examples_again(
    servers: TestServers, spawn: Callable[..., ServiceProcess]
) -> None:
    limits = KeyLimits(max_slippage_bps=500, max_sockets=20)
    trade, admin, limited, watched = create_keys(
        servers,
        NewKey("default", "my-bot", Scope.TRADE, None, limits),
        NewKey("default", "desk", Scope.ADMIN),
        NewKey("default", "slow", Scope.READ, None, KeyLimits(requests_per_second=1)),
        NewKey("default", "new-bot", Scope.TRADE, None, KeyLimits(requires_approval=True)),
    )
    tokens = {Scope.TRADE: trade, Scope.ADMIN: admin}
    # Long enough to find an order submitted.
    service = spawn(**NO_DELAYS | {"EXECUTION_DELAY_MS": "1500", "HEAD_TIMEOUT_S": "1"})
    async with ClientSession(service.url) as client:
        session = Session(client, tokens)
        await market(session)
        await orders(session)
        await approvals(session, watched)
        await webhooks(session)
        await operation(session)
        await failures(session, service, limited)
    if os.environ.get("RECORD_EXAMPLES"):
        write(session)
        pytest.skip("recorded anew")
    for operation_id, example in session.examples.items():
        assert form(asdict(read_example(operation_id))) == form(asdict(example)), operation_id
    assert form(shared_problems()) == form(session.problems)
