"""A market order from POST to its end, over the wire, on real servers."""

from collections.abc import Awaitable, Callable
from fractions import Fraction

import pytest
from aiohttp.web import Application
from service.api.schemas import OrderListSchema, OrderSchema
from solders.signature import Signature

from tests.conftest import service_on
from tests.support.orders import LIFE, MARKET_ORDER, Client, execute, get, place, statuses
from tests.support.servers import TestCluster, TestServers

Start = Callable[..., Awaitable[Client]]


async def test_an_order_is_accepted_as_it_was_sent(start: Start) -> None:
    client = await start()
    placed = await place(client, amountIn="1.50")
    assert placed["status"] == "pending"
    assert placed["amountIn"] == "1.50"
    assert placed["slippageBps"] == 100
    assert placed["orderId"] == placed["id"]
    assert placed["createdAt"].endswith("Z")
    assert placed["statusHistory"] == [{"sequence": 1, "status": "pending", "timestamp": placed["createdAt"]}]


async def test_a_market_order_goes_through_its_life_once_each(start: Start) -> None:
    client = await start()
    order = await execute(client)
    assert statuses(order) == LIFE
    assert [entry["sequence"] for entry in order["statusHistory"]] == [1, 2, 3, 4, 5]
    timestamps = [entry["timestamp"] for entry in order["statusHistory"]]
    assert timestamps == sorted(timestamps)
    assert order["attempts"] == 1
    assert OrderSchema().validate(order) == {}


async def test_the_better_offer_is_taken_and_both_are_kept(start: Start) -> None:
    client = await start()
    order = await execute(client)
    offers = {offer["venue"]: offer for offer in order["quotes"]}
    assert set(offers) == {"raydium", "meteora"}
    best = max(offers.values(), key=lambda offer: Fraction(offer["amountOut"]))
    assert best["chosen"]
    assert order["venue"] == best["venue"]
    # Nobody else trades, so the pool pays just what it quoted.
    assert order["amountOut"] == best["amountOut"]


async def test_the_fill_is_that_of_the_venue_s_ledger(start: Start, servers: TestServers) -> None:
    client = await start()
    order = await execute(client, amountIn="2")
    assert len(bytes(Signature.from_string(order["txHash"]))) == 64
    assert Fraction(order["executedPrice"]) == Fraction(order["amountOut"]) / 2
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT signature, status, attempt, venue, amount_in, amount_out FROM paper_transactions"
            " WHERE order_id = %s",
            (order["id"],),
        )
        [(signature, status, attempt, venue, amount_in, amount_out)] = cursor.fetchall()
    assert (signature, status, attempt, venue) == (order["txHash"], "landed", 1, order["venue"])
    assert amount_in == 2 * 10**9
    assert Fraction(order["amountOut"]) == Fraction(int(amount_out), 10**6)


async def test_the_market_brings_the_pool_back_in_the_same_commit(start: Start, servers: TestServers) -> None:
    client = await start()
    order = await execute(client, amountIn="5000")
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT order_id IS NULL, token_in, settled_at FROM paper_transactions"
            " WHERE pool_id = (SELECT pool_id FROM paper_transactions WHERE signature = %s)"
            " ORDER BY order_id NULLS LAST",
            (order["txHash"],),
        )
        (own, sold, landed_at), (market, bought, restored_at) = cursor.fetchall()
    assert (own, sold, market, bought) == (False, "SOL", True, "USDC")
    assert landed_at == restored_at
    again = await execute(client, amountIn="5000")
    assert abs(Fraction(again["amountOut"]) / Fraction(order["amountOut"]) - 1) < Fraction(1, 10_000)


async def test_the_same_seed_and_orders_give_the_same_fills(
    cluster: TestCluster, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    fills = []
    for _ in range(2):
        client = await aiohttp_client(service_on(cluster.new(), PAPER_SEED="42").web)
        fills.append([(await execute(client, amountIn=amount))["amountOut"] for amount in ("1", "700", "3")])
        await client.close()
    assert fills[0] == fills[1]


@pytest.mark.parametrize(
    ("kind", "code", "tries"),
    [
        ("transient", "transaction_failed", 4),
        ("slippage", "slippage_exceeded", 4),
        ("permanent", "transaction_rejected", 1),
    ],
)
async def test_a_try_that_fails_is_followed_by_others_unless_it_is_for_good(
    start: Start, kind: str, code: str, tries: int
) -> None:
    client = await start(PAPER_FAILURE_RATE=f"{kind}=1", RETRY_BASE_DELAY_MS="20")
    order = await execute(client)
    one_try = ["routing", "building", "submitted"]
    assert statuses(order) == ["pending", *[*one_try, "pending"] * (tries - 1), *one_try, "failed"]
    assert order["failureReason"] == code
    assert order["failureDetail"]
    assert order["attempts"] == tries
    assert (order["amountOut"], order["txHash"], order["executedPrice"]) == (None, None, None)
    for number, entry in enumerate(order["statusHistory"][4:-1:4], start=1):
        assert entry["attempt"] == number
        assert entry["reason"] == code
        assert entry["nextTryAt"] > entry["timestamp"]


async def test_an_amount_that_buys_nothing_fails_for_good(start: Start) -> None:
    client = await start()
    order = await execute(client, tokenIn="BONK", amountIn="0.00001", tokenOut="SOL")
    # A hundred-thousandth of a BONK is less than one lamport.
    assert statuses(order) == ["pending", "routing", "failed"]
    assert order["failureReason"] == "amount_too_small"
    assert {offer["reason"] for offer in order["quotes"]} == {"amount_too_small"}


async def test_orders_are_listed_newest_first_by_page_and_by_status(start: Start) -> None:
    client = await start()
    ids = [(await execute(client, amountIn=str(amount)))["id"] for amount in range(1, 6)]
    seen: list[str] = []
    query = "limit=2"
    while True:
        async with client.get(f"/api/orders?{query}") as answer:
            page = await answer.json()
        assert OrderListSchema().validate(page) == {}
        seen += [order["id"] for order in page["orders"]]
        if page["nextCursor"] is None:
            break
        query = f"limit=2&cursor={page['nextCursor']}"
    assert seen == ids[::-1]
    async with client.get("/api/orders?status=confirmed&limit=3") as answer:
        assert [order["id"] for order in (await answer.json())["orders"]] == ids[:1:-1]
    async with client.get("/api/orders?status=pending") as answer:
        assert (await answer.json())["orders"] == []


async def test_unfinished_orders_are_listed_by_status(start: Start) -> None:
    client = await start(EXECUTION_DELAY_MS="60000", OUTCOME_TIMEOUT_MS="60000", SHUTDOWN_GRACE_S="0")
    placed = await place(client)
    async with client.ws_connect(f"/api/orders/{placed['id']}/ws") as socket:
        while (await socket.receive_json())["status"] != "submitted":
            pass
    async with client.get("/api/orders?status=submitted") as answer:
        assert [order["id"] for order in (await answer.json())["orders"]] == [placed["id"]]


async def test_a_client_order_id_places_one_order(start: Start) -> None:
    client = await start()
    placed = await place(client, clientOrderId="bot:7.a_b-c")
    body = {**MARKET_ORDER, "clientOrderId": "bot:7.a_b-c"}
    async with client.post("/api/orders/execute", json={**body, "slippageBps": 100}) as again:
        assert again.status == 200
        assert (await again.json())["id"] == placed["id"]
    async with client.post("/api/orders/execute", json={**body, "amountIn": "2"}) as other:
        assert other.status == 409
    async with client.get("/api/orders/by-client-id/bot:7.a_b-c") as found:
        assert (await found.json())["id"] == placed["id"]
    async with client.get("/api/orders/by-client-id/nobody") as none:
        assert none.status == 404


async def test_the_id_of_an_order_is_read_in_capitals_too(start: Start) -> None:
    client = await start()
    placed = await place(client)
    assert (await get(client, placed["id"].upper()))["id"] == placed["id"]


async def test_health_tells_of_both_servers(start: Start) -> None:
    client = await start()
    async with client.get("/health") as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == "ok"
