"""The market's WebSocket on two instances: prices and best quotes as orders move the market."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from fractions import Fraction
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer

from service.api.market_messages import MarketUpdateSchema
from service.api.problem_schemas import ProblemSchema
from service.app import Service
from service.domain.tokens import TOKENS
from tests.conftest import service_on
from tests.support.gem_market import list_pool
from tests.support.orders import Client, Json, execute
from tests.support.paper import chain_of, quiet_slot_ms
from tests.support.servers import TestCluster, TestServers
from tests.support.sockets import PING, PONG, TEXT, RawSocket, connect_to, frame

# Two services for all tests; only their orders move the market.
pytestmark = pytest.mark.asyncio(loop_scope="module")

WATCH = "/api/market/ws?pairs="
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "A" * 22 + "==",
}
BUY: Json = {"tokenIn": "USDC", "tokenOut": "GEM", "amountIn": "100"}


class Watchable:
    """An instance: a service, and a client of it."""

    def __init__(self, service: Service, client: Client) -> None:
        self.service = service
        self.client = client

    async def quote(self, token_in: str, token_out: str, amount_in: str) -> Json:
        """Return the quote of the REST API."""
        query = {"tokenIn": token_in, "tokenOut": token_out, "amountIn": amount_in}
        async with self.client.get("/api/quotes", params=query) as answer:
            body: Json = await answer.json()
            assert answer.status == 200, body
            return body


Serve = Callable[..., Awaitable[Watchable]]


async def open_service(stack: AsyncExitStack, servers: TestServers, **environment: str) -> Watchable:
    environment = {
        "SLOT_MS": str(quiet_slot_ms(servers)),
        "PAPER_SEED": "7",
        "MARKET_UPDATE_MS": "10",
        "SHUTDOWN_GRACE_S": "0",
        **environment,
    }
    service = service_on(servers, **environment)
    return Watchable(service, await stack.enter_async_context(TestClient(TestServer(service.web))))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def instances(cluster: TestCluster) -> AsyncIterator[list[Watchable]]:
    """Return two instances of one market, with a pool for GEM, and one for ORE that no hub can reach."""
    known, servers = set(TOKENS), cluster.new()
    async with AsyncExitStack() as stack:
        both = [await open_service(stack, servers) for _ in range(2)]
        await list_pool(both[0].client)
        await list_pool(both[0].client, tokenA="ORE", tokenB="JUP")
        yield both
    for symbol in set(TOKENS) - known:
        del TOKENS[symbol]


@pytest_asyncio.fixture(loop_scope="module")
async def serve(servers: TestServers) -> AsyncIterator[Serve]:
    """Return a starter of services for one test."""
    async with AsyncExitStack() as stack:

        async def serve(**environment: str) -> Watchable:
            return await open_service(stack, servers, **environment)

        yield serve


async def settled_quote(instances: list[Watchable]) -> Json:
    """Return the quote of ``BUY`` after all trades so far, which the market's leader knows first."""
    [leader] = [each for each in instances if chain_of(each.service).leading]
    return await leader.quote("USDC", "GEM", "100")


async def received(socket: ClientWebSocketResponse, kind: str = "market_update") -> list[Json]:
    """Return the pairs of the next message."""
    message: Json = await socket.receive_json(timeout=10)
    assert MarketUpdateSchema().validate(message) == {}
    assert message["type"] == kind
    pairs: list[Json] = message["pairs"]
    return pairs


async def until(socket: ClientWebSocketResponse, amount_out: str) -> Json:
    """Receive until the first pair's quote pays an amount, and return the pair."""
    while True:
        [pair, *_others] = await received(socket)
        if pair["quote"]["amountOut"] == amount_out:
            return pair


async def no_watchers(instance: Watchable) -> None:
    """Wait until the instance has noticed that all watchers have left."""
    async with asyncio.timeout(10):
        while instance.service.market.feed.watched:  # noqa: ASYNC110 - a count, not an event
            await asyncio.sleep(0.01)


def check(pair: Json, quote: Json) -> None:
    """Check that a pair's quote is that of the REST API."""
    legs = [leg for path in quote["route"]["paths"] for leg in path["legs"]]
    assert pair["quote"] == {
        **{name: quote[name] for name in ("amountIn", "amountOut", "price", "priceImpact", "venue")},
        "poolIds": [leg["poolId"] for leg in legs],
    }


async def test_the_state_comes_first_and_is_that_of_the_quotes(instances: list[Watchable]) -> None:
    mint = TOKENS["BONK"].mint
    for instance in instances:
        async with instance.client.ws_connect(f"{WATCH}GEM-USDC:100,SOL-USDC,{mint}-JUP:20000") as socket:
            gem, sol, bonk = await received(socket, "market_state")
        assert [pair["pair"] for pair in (gem, sol, bonk)] == ["GEM-USDC", "SOL-USDC", "BONK-JUP"]
        check(gem, await instance.quote("GEM", "USDC", "100"))
        # Without an amount it is one unit.
        check(sol, await instance.quote("SOL", "USDC", "1"))
        check(bonk, await instance.quote("BONK", "JUP", "20000"))
        assert len(bonk["quote"]["poolIds"]) > 1
        for pair in (gem, sol, bonk):
            assert pair["reason"] is None
            # The price for nearly nothing is no worse than the one for an amount, and close to it.
            ratio = Fraction(pair["quote"]["price"]) / Fraction(pair["price"])
            assert Fraction(97, 100) < ratio <= 1
            assert pair["slot"] > 0


async def test_a_trade_is_reported_on_both_instances(instances: list[Watchable]) -> None:
    leading = [chain_of(instance.service).leading for instance in instances]
    assert sorted(leading) == [False, True]
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(
                instance.client.ws_connect(f"{WATCH}USDC-GEM:100,GEM-USDC,SOL-USDC,ORE-JUP")
            )
            for instance in instances
        ]
        before = [await received(socket, "market_state") for socket in sockets]
        # Whichever instance executes the orders.
        for instance in instances:
            await execute(instance.client, **BUY)
        quote = await settled_quote(instances)
        for socket, states in zip(sockets, before, strict=True):
            after = await until(socket, quote["amountOut"])
            check(after, quote)
            assert Fraction(after["price"]) < Fraction(states[0]["price"])
            assert after["sequence"] > states[0]["sequence"]
            assert after["timestamp"] > states[0]["timestamp"]


async def test_an_update_has_the_pairs_that_have_moved(instances: list[Watchable]) -> None:
    watcher, trader = instances
    async with watcher.client.ws_connect(f"{WATCH}SOL-USDC,GEM-USDC,JUP-ORE,USDC-GEM,GEM-BONK") as socket:
        await received(socket, "market_state")
        await execute(trader.client, **BUY)
        assert [pair["pair"] for pair in await received(socket)] == ["GEM-USDC", "USDC-GEM", "GEM-BONK"]


async def sent_until_heard(client: RawSocket) -> list[Json]:
    """Return the messages that were sent to a client so far."""
    client.send(frame(PING, b"heard?"))
    messages = []
    while (got := await client.receive()) != (PONG, b"heard?"):
        if got[0] == TEXT:
            messages.append(json.loads(got[1]))
    return messages


async def test_a_slow_client_gets_the_newest_and_no_backlog(instances: list[Watchable]) -> None:
    slow_at, trader = instances
    async with (
        connect_to(slow_at.client.port, f"{WATCH}USDC-GEM:100") as slow,
        slow_at.client.ws_connect(f"{WATCH}USDC-GEM:100") as fast,
    ):
        opcode, first = await slow.receive()
        assert (opcode, json.loads(first)["type"]) == (TEXT, "market_state")
        opcode, unanswered = await slow.receive()
        assert opcode == PING
        await received(fast, "market_state")
        for _ in range(20):
            await execute(trader.client, **BUY)
        quote = await settled_quote(instances)
        await until(fast, quote["amountOut"])
        # Until it has read the first message, it is sent nothing else.
        assert await sent_until_heard(slow) == []
        slow.send(frame(PONG, unanswered))
        opcode, update = await slow.receive()
        assert opcode == TEXT
        [before], [after] = json.loads(first)["pairs"], json.loads(update)["pairs"]
        check(after, quote)
        assert after["sequence"] - before["sequence"] > 5
        opcode, unanswered = await slow.receive()
        slow.send(frame(PONG, unanswered))
        assert (opcode, await sent_until_heard(slow)) == (PING, [])


async def test_two_watchers_of_a_pair_cost_one_quote(instances: list[Watchable]) -> None:
    watched_at, trader = instances
    await no_watchers(watched_at)
    feed = watched_at.service.market.feed
    before = feed.quotes
    async with (
        watched_at.client.ws_connect(f"{WATCH}USDC-GEM:100") as one,
        watched_at.client.ws_connect(f"{WATCH}USDC-GEM:100") as other,
    ):
        assert await received(one, "market_state") == await received(other, "market_state")
        assert feed.quotes == before + 1
        await execute(trader.client, **BUY)
        quote = await settled_quote(instances)
        states = [await until(socket, quote["amountOut"]) for socket in (one, other)]
        assert states[0] == states[1]
        # Each state was quoted once.
        assert feed.quotes == before + states[0]["sequence"]
    await no_watchers(watched_at)
    after = feed.quotes
    await execute(trader.client, **BUY)
    await execute(watched_at.client, **BUY)
    assert feed.quotes == after


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("", ["#/pairs"]),
        ("pairs=", ["#/pairs/0"]),
        ("pairs=SOL", ["#/pairs/0"]),
        ("pairs=SOL-USDC-JUP", ["#/pairs/0"]),
        ("pairs=SOL-USDC,", ["#/pairs/1"]),
        ("pairs=SOL-USDC,SOL-DOGE,sol-USDC", ["#/pairs/1"]),
        ("pairs=SOL-SOL", ["#/pairs/0"]),
        ("pairs=SOL-%00", ["#/pairs/0"]),
        ("pairs=SOL-USDC,JUP-USDC,SOL-USDC:5", ["#/pairs/2"]),
        *(
            (f"pairs=SOL-USDC:{amount}", ["#/pairs/0"])
            for amount in ("", "0", "-1", "x", "1:2", "1.0000000001", "18446744074", "9" * 2_000)
        ),
        ("pairs=" + ",".join(["SOL-USDC"] * 21), ["#/pairs"]),
        # No pool trades it, nor two through a hub.
        ("pairs=SOL-USDC,ORE-USDC", ["#/pairs/1"]),
        ("pairs=SOL-USDC&from=1", ["#/from"]),
        ("pairs=SOL-USDC&pairs=SOL-USDT", ["#/pairs"]),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_bad_query_is_422_before_the_upgrade(
    instances: list[Watchable], query: str, pointers: list[str]
) -> None:
    async with instances[1].client.get(f"/api/market/ws?{query}", headers=UPGRADE) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert answer.status == 422
    assert ProblemSchema().validate(problem) == {}
    assert [error["pointer"] for error in problem["errors"]] == pointers


async def test_a_request_without_an_upgrade_is_426(instances: list[Watchable]) -> None:
    async with instances[0].client.get(f"{WATCH}SOL-USDC") as answer:
        assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "evil.example"}, 421)],
)
async def test_a_foreign_page_watches_nothing(
    instances: list[Watchable], headers: dict[str, str], status: int
) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await instances[0].client.ws_connect(f"{WATCH}SOL-USDC", headers=headers)
    assert refused.value.status == status


async def test_an_instance_watches_only_so_many_quotes(serve: Serve) -> None:
    instance = await serve(MAX_MARKET_QUOTES="2")
    client = instance.client
    async with client.ws_connect(f"{WATCH}SOL-USDC,JUP-USDC"):
        async with client.get(f"{WATCH}SOL-USDC:2", headers=UPGRADE) as answer:
            problem: Any = await answer.json(content_type="application/problem+json")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert problem["detail"] == "Too many different pairs and amounts are watched here."
        # What is watched already may be watched by any number.
        await (await client.ws_connect(f"{WATCH}JUP-USDC")).close()
    await no_watchers(instance)
    await (await client.ws_connect(f"{WATCH}SOL-USDC:2")).close()


async def test_a_stop_closes_with_1012(serve: Serve) -> None:
    client = (await serve()).client
    async with client.ws_connect(f"{WATCH}SOL-USDC") as socket:
        await received(socket, "market_state")
        stopping = asyncio.create_task(client.server.close())
        message = await socket.receive(timeout=10)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
        await stopping
