"""Limit and sniper orders over the wire, in a market whose prices only the test moves.

A token listed by the test has no reference price, so there is no arbitrage in its pool: price impact is
permanent, and a quote stays valid until the next trade.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from service.domain.tokens import TOKENS
from tests.support.orders import Client, Json, execute, place
from tests.support.servers import TestServers

GEM_POOL: Json = {
    "program": "raydium_cpmm",
    "tokenA": "GEM",
    "tokenB": "USDC",
    "amountA": "1000000",
    "amountB": "100000",
}
"""Ten GEM for a USDC; a swap of 100 USDC costs about a third of a per cent."""

LIMIT_ORDER: Json = {"tokenIn": "USDC", "tokenOut": "GEM", "amountIn": "100", "orderType": "limit"}
SNIPER_ORDER: Json = {**LIMIT_ORDER, "orderType": "sniper"}

FIRED_LIFE = ["pending", "open", "routing", "building", "submitted", "confirmed"]
"""The statuses of a resting order without failures."""

UNIT = 10**6
"""Base units of one GEM, and of one USDC."""


@pytest.fixture(autouse=True)
def forget_listed_tokens() -> Iterator[None]:
    """Remove the tokens that a test has listed, since all services of the process share the table."""
    known = set(TOKENS)
    yield
    for symbol in set(TOKENS) - known:
        del TOKENS[symbol]


async def list_pool(client: Client, **changes: Any) -> Json:
    """List a pool, GEM's unless changed, and return it."""
    async with client.post("/api/paper/pools", json={**GEM_POOL, **changes}) as answer:
        body: Json = await answer.json()
        assert answer.status == 201, body
        return body


async def quoted(
    client: Client,
    amount_in: str = "100",
    token_in: str = "USDC",  # noqa: S107 - a token to trade
    token_out: str = "GEM",  # noqa: S107
) -> Fraction:
    """Return the current output for an amount, in display units."""
    query = f"tokenIn={token_in}&tokenOut={token_out}&amountIn={amount_in}"
    async with client.get(f"/api/quotes?{query}") as answer:
        body = await answer.json()
        assert answer.status == 200, body
        return Fraction(body["amountOut"])


async def best_price(client: Client, amount_in: str = "100", **tokens: str) -> Fraction:
    """Return the highest limit price at which an amount would execute now."""
    return await quoted(client, amount_in, **tokens) / Fraction(amount_in)


def in_words(number: Fraction) -> str:
    """Return a price or an amount as a decimal string; it must have a finite expansion."""
    digits = 0
    while (number * 10**digits).denominator != 1:
        digits += 1
        assert digits < 60, "not a finite decimal number"
    whole, part = divmod(int(number * 10**digits), 10**digits)
    return f"{whole}.{part:0{digits}}" if digits else str(whole)


async def limit(client: Client, price: Fraction | str, **changes: Any) -> Json:
    """Place a limit order that buys GEM, and return the response."""
    text = price if isinstance(price, str) else in_words(price)
    return await place(client, **{**LIMIT_ORDER, "limitPrice": text, **changes})


async def sniper(client: Client, conditions: Json, **changes: Any) -> Json:
    """Place a sniper order that buys GEM, and return the response."""
    return await place(client, **{**SNIPER_ORDER, "sniperConditions": conditions, **changes})


async def buy(client: Client, usdc: str) -> Json:
    """Buy GEM, so that its price rises: one USDC then buys less of it."""
    return await execute(client, tokenIn="USDC", tokenOut="GEM", amountIn=usdc, slippageBps=10_000)


async def sell(client: Client, gem: str) -> Json:
    """Sell GEM that was bought before, so that one USDC buys more of it."""
    return await execute(client, tokenIn="GEM", tokenOut="USDC", amountIn=gem, slippageBps=10_000)


class Follower:
    """A watcher that keeps its position in the stream."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self.messages: list[Json] = []

    async def until(self, status: str, within_s: float = 20) -> Json:
        """Wait for the next entry with a status, and return the order as of that entry."""
        async with asyncio.timeout(within_s):
            while True:
                message: Json = await self._socket.receive_json()
                self.messages.append(message)
                if message["status"] == status:
                    order: Json = message["order"]
                    return order

    async def end(self, within_s: float = 20) -> Json:
        """Wait until the socket closes, as it must, and return the order's final state."""
        async with asyncio.timeout(within_s):
            while (message := await self._socket.receive()).type is WSMsgType.TEXT:
                self.messages.append(message.json())
        # The server's close code: a busy client may find the connection already gone.
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1000)
        order: Json = self.messages[-1]["order"]
        return order


@asynccontextmanager
async def following(client: Client, order: Json, after: int = 0) -> AsyncIterator[Follower]:
    """Watch an order, starting after an entry."""
    async with client.ws_connect(f"/api/orders/{order['id']}/ws?from={after}") as socket:
        yield Follower(socket)


async def until_status(client: Client, order: Json, status: str, within_s: float = 20) -> Json:
    """Wait until an order reaches or has reached a status; return it as of that entry."""
    async with following(client, order) as follower:
        return await follower.until(status, within_s)


async def ended(client: Client, order: Json, within_s: float = 20) -> Json:
    """Wait until an order has ended, and return it."""
    async with following(client, order) as follower:
        return await follower.end(within_s)


async def open_state(servers: TestServers, order: Json) -> Json:
    """Return an order's row in ``open_orders``, and the row versions of its two rows."""
    [row] = rows(
        servers,
        "SELECT to_jsonb(p) || jsonb_build_object('row', p.xmin::text || p.ctid::text || o.xmin::text"
        " || o.ctid::text, 'limit_out', o.limit_out, 'pause_s',"
        " extract(epoch FROM p.not_before - p.rested_at)::float8)"
        " FROM open_orders AS p JOIN orders AS o ON o.id = p.order_id WHERE p.order_id = %s",
        order["id"],
    )
    state: Json = row[0]
    return state


def rows(servers: TestServers, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run a statement directly on the database, and return its rows."""
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


def transactions(servers: TestServers, order: Json) -> list[tuple[int, int]]:
    """Return the minimum output and the last valid slot of each of an order's transactions."""
    return [
        (int(minimum), height)
        for minimum, height in rows(
            servers,
            "SELECT minimum_out, last_valid_slot FROM transactions WHERE order_id = %s ORDER BY sequence",
            order["id"],
        )
    ]


def fire_by_hand(servers: TestServers, order: Json) -> None:
    """Fire a resting order like a trigger whose price is already gone."""
    fired = rows(
        servers,
        """UPDATE open_orders
        SET fired = '{"triggeredBy": {"price": "1"}}', due_at = now(), wake_at = now()
        WHERE order_id = %s AND resting AND fired IS NULL RETURNING 1""",
        order["id"],
    )
    assert fired == [(1,)]


async def poll(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 20) -> float:
    """Wait until a condition holds, or fail after a time-out; return how long it took."""
    began = time.monotonic()
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return time.monotonic() - began
        assert time.monotonic() - began < within_s, "the condition did not hold in time"
        await asyncio.sleep(0.01)
