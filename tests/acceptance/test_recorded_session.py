"""A recorded session: every route responds as recorded, member for member.

Members are sorted: stored JSON has PostgreSQL's order, and live messages have their order of creation.
Values that differ between runs (ids, times, transactions, slots) are numbered or masked, and so are texts for
people, which may change. ``RECORD_SESSION=1 pytest`` on this file records it again: read the
difference, because it is a change of the public contract.
"""

import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import WSMsgType

from tests.support.gem_market import GEM_POOL, LIMIT_ORDER, SNIPER_ORDER, forget_listed_tokens
from tests.support.orders import Client, Json

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

GOLDEN = Path(__file__).parents[1] / "golden" / "http"

MARKET: Json = {"tokenIn": "USDC", "tokenOut": "GEM", "amountIn": "100", "orderType": "market"}
UNKNOWN = "5f0c6ed4-3c1a-4b8e-9d51-0a6c6d1c7b42"

_TEXT = re.compile(r'"(detail|failureDetail|title|summary|description)":"(?:[^"\\]|\\.)*"')
_MASKED = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "<time>"),
    (re.compile(r'("nextCursor"):"[^"]*"'), r"\1:<cursor>"),
    (re.compile(r'("(?:slot|landedSlot|version)"):(?:"[^"]*"|[\d.]+)'), r"\1:<number>"),
)
# UUIDs, and 64 bytes in base 58: a transaction's signature.
_NUMBERED = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[1-9A-HJ-NP-Za-km-z]{80,90}\b")


def _sorted(text: str | bytes) -> str:
    """Return JSON with its members sorted; None for an empty body."""
    return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode() if text else ""


class Recorder:
    """A client that records its requests and their responses."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._names: dict[str, str] = {}
        self.lines: list[str] = []

    async def ask(self, method: str, path: str, body: Json | bytes | None = None, **headers: str) -> Any:
        """Send a request, record it and its response, and return the response's body."""
        sent: dict[str, Any] = {"json": body} if isinstance(body, dict) else {"data": body}
        self._note(f"> {method} {path} {body!r:.300}")
        async with self._client.request(method, path, headers=headers, **sent) as answer:
            text = await answer.read()
            self._note(f"< {answer.status} {answer.content_type} {_sorted(text)}".rstrip())
            return orjson.loads(text) if text else None

    async def follow(self, order_id: str, after: int = 0) -> None:
        """Watch an order to its end, and record every message."""
        self._note(f"> WS {order_id} {after}")
        async with self._client.ws_connect(f"/api/orders/{order_id}/ws?from={after}") as socket:
            async for message in socket:
                assert message.type is WSMsgType.TEXT
                self._note(f"< {_sorted(message.data)}")
        self._note(f"< closed with {socket.close_code}")

    async def until(self, order_id: str, status: str) -> None:
        """Wait until an order has a status, without recording anything."""
        async with self._client.ws_connect(f"/api/orders/{order_id}/ws") as socket:
            while (await socket.receive_json())["status"] != status:
                pass

    def _note(self, line: str) -> None:
        line = _TEXT.sub(r'"\1":"<text>"', line)
        for pattern, masked in _MASKED:
            line = pattern.sub(masked, line)
        self.lines.append(_NUMBERED.sub(self._name, line))

    def _name(self, found: re.Match[str]) -> str:
        text = found.group()
        return text if text == UNKNOWN else self._names.setdefault(text, f"<id {len(self._names) + 1}>")


async def market_orders(record: Recorder) -> None:
    """Quotes, executions, reads, listings and rejections."""
    ask = record.ask
    await ask("POST", "/api/paper/pools", GEM_POOL)
    await ask("POST", "/api/paper/pools", {**GEM_POOL, "program": "meteora_damm_v2"})
    await ask("POST", "/api/paper/pools", GEM_POOL)
    await ask("GET", "/api/pools?token=GEM")
    await ask("GET", "/api/quotes?tokenIn=USDC&tokenOut=GEM&amountIn=100")
    await ask("GET", "/api/quotes?tokenIn=USDC&tokenOut=GEM&amountOut=100&slippageBps=50")
    await ask("POST", "/api/orders/execute?dryRun=true", {**MARKET, "clientOrderId": "first"})
    bought = await ask("POST", "/api/orders/execute", {**MARKET, "clientOrderId": "first"})
    await record.follow(bought["orderId"])
    await record.follow(bought["orderId"], after=3)
    for body in ({**MARKET, "amountIn": "100.0"}, {**MARKET, "amountIn": "7"}):
        await ask("POST", "/api/orders/execute", {**body, "clientOrderId": "first"})
        await ask("POST", "/api/orders/execute?dryRun=true", {**body, "clientOrderId": "first"})
    exact = {"tokenIn": "USDC", "tokenOut": "GEM", "amountOut": "12.5", "orderType": "market"}
    paid = await ask("POST", "/api/orders/execute", {**exact, "slippageBps": 30})
    await record.follow(paid["orderId"])
    await ask("GET", f"/api/orders/{paid['orderId']}")
    await ask("GET", "/api/orders/by-client-id/first")
    await ask("GET", "/api/orders?limit=1")
    await ask("DELETE", f"/api/orders/{paid['orderId']}")
    await ask("PATCH", f"/api/orders/{paid['orderId']}", {"slippageBps": 7})


async def resting_orders(record: Recorder) -> None:
    """Limit and sniper orders that rest, are amended and cancelled, fire and expire."""
    ask = record.ask
    await ask("POST", "/api/orders/execute?dryRun=true", {**LIMIT_ORDER, "limitPrice": "1000"})
    near = await ask("POST", "/api/orders/execute", {**LIMIT_ORDER, "limitPrice": "1000"})
    await record.until(near["orderId"], "open")
    later = "2999-01-01T00:00:00+01:00"
    await ask("PATCH", f"/api/orders/{near['orderId']}", {"limitPrice": "900.50", "slippageBps": 10})
    await ask("PATCH", f"/api/orders/{near['orderId']}", {"expiresAt": later})
    await ask("PATCH", f"/api/orders/{near['orderId']}", {"expiresAt": None})
    await ask("PATCH", f"/api/orders/{near['orderId']}", {"expiresAt": None})
    await ask("GET", "/api/orders?status=open&orderType=limit")
    await ask("PATCH", f"/api/orders/{near['orderId']}", {"limitPrice": "0.5"})
    await record.follow(near["orderId"])
    hidden = await ask(
        "POST", "/api/orders/execute", {**LIMIT_ORDER, "limitPrice": "1000", "expiresAt": later}
    )
    await record.until(hidden["orderId"], "open")
    await ask("DELETE", f"/api/orders/{hidden['orderId']}")
    await record.follow(hidden["orderId"])
    now = {**LIMIT_ORDER, "limitPrice": "1000", "timeInForce": "IOC"}
    killed = await ask("POST", "/api/orders/execute", now)
    await record.follow(killed["orderId"])
    conditions = {"price": {"above": "0.01"}, "minLiquidity": {"amount": "10", "unit": "usd"}}
    sniped = await ask("POST", "/api/orders/execute", {**SNIPER_ORDER, "sniperConditions": conditions})
    await record.follow(sniped["orderId"])
    waits = {"poolCreated": {"venue": "any"}, "price": {"below": "0.01"}}
    waiting = await ask("POST", "/api/orders/execute", {**SNIPER_ORDER, "sniperConditions": waits})
    await record.until(waiting["orderId"], "open")
    await ask(
        "PATCH", f"/api/orders/{waiting['orderId']}", {"sniperConditions": {"price": {"above": "7000"}}}
    )
    await ask("POST", "/api/orders/cancel", {"orderType": "sniper", "tokenOut": "GEM"})
    await record.follow(waiting["orderId"])
    await ask("GET", "/api/orders?tokenIn=USDC&tokenOut=GEM&status=cancelled")


async def refusals(record: Recorder) -> None:
    """Rejected requests."""
    ask = record.ask
    for body in (
        {},
        {**MARKET, "amountIn": 5, "extra": 1},
        {**MARKET, "amountOut": "1"},
        {**MARKET, "tokenOut": "USDC"},
        {**MARKET, "tokenOut": "GEMS", "slippageBps": 20_000},
        {**MARKET, "limitPrice": "1", "clientOrderId": ".."},
        {**LIMIT_ORDER},
        {**LIMIT_ORDER, "limitPrice": "1", "timeInForce": "GTD"},
        {**LIMIT_ORDER, "limitPrice": "1", "expiresAt": "yesterday"},
        {**SNIPER_ORDER, "sniperConditions": {}},
        {**SNIPER_ORDER, "sniperConditions": {"price": {"abov~e": "1"}, "a/b": [1]}},
        {**SNIPER_ORDER, "sniperConditions": {"volume": {"amount": "1", "seconds": 0}}},
        {
            **SNIPER_ORDER,
            "sniperConditions": {"timeWindow": {"notBefore": 7}, "minLiquidity": {"amount": "x"}},
        },
    ):
        await ask("POST", "/api/orders/execute", body)
    await ask("POST", "/api/orders/execute?dryRun=true", {**MARKET, "amountIn": "0"})
    await ask("POST", "/api/orders/execute?dryRun=maybe", MARKET)
    json = {"Content-Type": "application/json"}
    await ask("POST", "/api/orders/execute", b"{", **json)
    await ask("POST", "/api/orders/execute", b"[]", **json)
    await ask("POST", "/api/orders/execute", b'{"a":1,"a":2}', **json)
    await ask("POST", "/api/orders/execute", b" " * 70_000, **json)
    await ask("POST", "/api/orders/execute", b"x", **{"Content-Type": "text/plain"})
    await ask("POST", "/api/orders/cancel", {})
    await ask("POST", "/api/orders/cancel", {"all": True, "tokenIn": "SOL"})
    await ask("POST", "/api/paper/pools", {"program": "uniswap", "tokenA": "SOL"})
    await ask("PATCH", f"/api/orders/{UNKNOWN}", {})
    for method, path in (
        ("GET", f"/api/orders/{UNKNOWN}"),
        ("GET", "/api/orders/none"),
        ("DELETE", f"/api/orders/{UNKNOWN}"),
        ("POST", f"/api/orders/{UNKNOWN}/approve"),
        ("GET", "/api/orders/by-client-id/none"),
        ("GET", f"/api/orders/{UNKNOWN}/ws"),
        ("GET", "/api/orders?limit=0&status=done&cursor=x"),
        ("GET", "/api/orders?limit=1&limit=2"),
        ("GET", "/api/quotes?tokenIn=GEM"),
        ("GET", "/api/quotes?tokenIn=USDC&tokenOut=GEM&amountIn=0.0000001"),
        ("GET", "/api/pools?venue=orca"),
        ("DELETE", "/api/paper/pools/none"),
        ("GET", "/nowhere"),
        ("PUT", "/api/orders"),
    ):
        await ask(method, path)


async def the_rest(record: Recorder) -> None:
    """Tokens, a delisted pool, health, and the documents."""
    await record.ask("GET", "/api/tokens")
    pools = await record.ask("GET", "/api/pools?token=GEM&venue=raydium")
    await record.ask("DELETE", f"/api/paper/pools/{pools['pools'][0]['id']}")
    await record.ask("GET", "/api/venue")
    # Not the tokens whose worth moves by itself.
    await record.ask("GET", "/api/balances?limit=1&cursor=SOL")
    await record.ask("GET", "/api/balances?limit=0&cursor=?")
    await record.ask("GET", "/health")
    await record.ask("GET", "/openapi.json")
    await record.ask("GET", "/asyncapi.json")


async def failures(record: Recorder) -> None:
    """A transaction that fails until no attempts are left."""
    await record.ask("POST", "/api/paper/pools", GEM_POOL)
    failed = await record.ask("POST", "/api/orders/execute", MARKET)
    await record.follow(failed["orderId"])
    await record.ask("GET", f"/api/orders/{failed['orderId']}")


Part = Callable[[Recorder], Awaitable[None]]


@pytest.mark.parametrize(
    ("name", "parts", "environment"),
    [
        ("session", (market_orders, resting_orders, refusals, the_rest), {}),
        ("failures", (failures,), {"PAPER_FAILURE_RATE": "slippage=1", "RETRY_BASE_DELAY_MS": "50"}),
    ],
)
async def test_every_route_responds_as_recorded(
    start: Callable[..., Awaitable[Client]], name: str, parts: tuple[Part, ...], environment: dict[str, str]
) -> None:
    record = Recorder(await start(**environment))
    for part in parts:
        await part(record)
    recorded = GOLDEN / f"{name}.txt"
    if os.environ.get("RECORD_SESSION"):
        recorded.write_text("\n".join(record.lines) + "\n")
        pytest.skip("recorded anew")
    for line, expected in zip(record.lines, recorded.read_text().splitlines(), strict=True):
        assert line == expected
