"""A market order from POST to its end, over the wire, on real servers."""

from collections.abc import Awaitable, Callable
from fractions import Fraction

import pytest
from aiohttp.web import Application
from solders.signature import Signature

from service.api.responses import OrderListSchema, OrderSchema
from service.domain.tokens import TOKENS
from tests.conftest import service_on
from tests.support.gem_market import rows
from tests.support.judge import audit_now
from tests.support.orders import (
    LIFE,
    MARKET_ORDER,
    Client,
    Json,
    execute,
    get,
    order_of,
    place,
    statuses,
    watch,
)
from tests.support.paper import quiet_slot_ms
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


async def test_a_market_order_has_each_status_once(start: Start) -> None:
    client = await start()
    order = await execute(client)
    assert statuses(order) == LIFE
    assert [entry["sequence"] for entry in order["statusHistory"]] == [1, 2, 3, 4, 5]
    timestamps = [entry["timestamp"] for entry in order["statusHistory"]]
    assert timestamps == sorted(timestamps)
    assert order["attempts"] == 1
    assert OrderSchema().validate(order) == {}


async def test_the_best_quote_is_taken_and_all_are_stored(start: Start, servers: TestServers) -> None:
    client = await start(SLOT_MS=str(quiet_slot_ms(servers)))
    order = await execute(client)
    offers = order["quotes"]
    assert {offer["venue"] for offer in offers} == {"raydium", "meteora"}
    assert len({offer["poolId"] for offer in offers}) == len(offers) == 4
    assert all(offer["amountIn"] == "1.5" for offer in offers)
    best = max(offers, key=lambda offer: Fraction(offer["amountOut"]))
    assert [offer for offer in offers if offer["chosen"]] == [best]
    assert order["venue"] == order["route"]["venue"] == best["venue"]
    [path] = order["route"]["paths"]
    [leg] = path["legs"]
    assert (leg["poolId"], leg["amountOut"]) == (best["poolId"], best["amountOut"])
    # The runner-up is the second best.
    second = max((o for o in offers if o is not best), key=lambda offer: Fraction(offer["amountOut"]))
    beat = order["route"]["beat"]
    assert (beat["venue"], beat["poolIds"]) == (second["venue"], [second["poolId"]])
    assert beat["amountOut"] == second["amountOut"]
    # There are no other trades, so the pool pays exactly its quote.
    assert order["amountOut"] == best["amountOut"]
    assert order["realisedSlippage"] == "0"


async def test_the_fill_equals_the_venues_ledger(start: Start, servers: TestServers) -> None:
    client = await start()
    order = await execute(client, amountIn="2")
    assert len(bytes(Signature.from_string(order["txHash"]))) == 64
    assert Fraction(order["executedPrice"]) == Fraction(order["amountOut"]) / 2
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT signature, status, attempt, amount_in, amount_out, maximum_in, minimum_out,"
            " message::jsonb, landed_slot, rfc3339(settled_at) FROM paper_transactions WHERE order_id = %s",
            (order["id"],),
        )
        [(signature, status, attempt, amount_in, amount_out, maximum_in, minimum_out, message, *landing)] = (
            cursor.fetchall()
        )
        cursor.execute("SELECT venue FROM transactions WHERE order_id = %s", (order["id"],))
        assert cursor.fetchall() == [(order["venue"],)]
    assert (signature, status, attempt) == (order["txHash"], "landed", 1)
    assert amount_in == maximum_in == 2 * 10**9
    assert Fraction(order["amountOut"]) == Fraction(int(amount_out), 10**6)
    submitted = order["statusHistory"][3]
    assert (submitted["quotedIn"], submitted["maximumIn"]) == ("2", "2")
    assert Fraction(submitted["minimumOut"]) == Fraction(int(minimum_out), 10**6)
    quoted = Fraction(submitted["quotedOut"])
    assert int(minimum_out) == quoted * 10**6 * 99 // 100
    confirmed = order["statusHistory"][4]
    assert [confirmed["landedSlot"], confirmed["landedAt"]] == landing
    assert submitted["timestamp"] <= confirmed["landedAt"] <= confirmed["timestamp"]
    # The order shows the signed transaction.
    legs = [[leg["poolId"], leg["tokenIn"], leg["tokenOut"]] for leg in order["route"]["paths"][0]["legs"]]
    assert [path["legs"] for path in message["paths"]] == [legs]


async def test_arbitrage_moves_the_pools_back_in_the_same_commit(start: Start, servers: TestServers) -> None:
    client = await start(SLOT_MS=str(quiet_slot_ms(servers)))
    before = await market_of(client)
    order = await execute(client, amountIn="5000")
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT sequence FROM paper_leader")
        # One commit: the order and the arbitrage that follows it.
        assert cursor.fetchall() == [(1,)]
        cursor.execute("SELECT count(*) FROM paper_wallets WHERE owner = 'traders' AND balance <> funded")
        assert cursor.fetchall() == [(2,)]
    after = await market_of(client)
    moved = {leg["poolId"] for path in order["route"]["paths"] for leg in path["legs"]}
    assert {pool_id for pool_id in after if after[pool_id] != before[pool_id]} == moved
    for pool_id in moved:
        price, was = Fraction(after[pool_id]["price"]), Fraction(before[pool_id]["price"])
        # One DLMM bin: the widest gap that the arbitrage leaves.
        assert abs(price / was - 1) < Fraction(2, 1_000), pool_id
    again = await execute(client, amountIn="5000")
    assert abs(Fraction(again["amountOut"]) / Fraction(order["amountOut"]) - 1) < Fraction(5, 1_000)


async def market_of(client: Client) -> dict[str, Json]:
    """Return every pool by id."""
    async with client.get("/api/pools") as answer:
        return {pool["id"]: pool for pool in (await answer.json())["pools"]}


async def test_the_same_seed_time_and_orders_give_the_same_fills(
    cluster: TestCluster, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    fills = []
    first = cluster.new()
    # One slot for both: prices, and fees that move, follow from it.
    slot_ms = str(quiet_slot_ms(first))
    for servers in (first, cluster.new()):
        client = await aiohttp_client(service_on(servers, PAPER_SEED="42", SLOT_MS=slot_ms).web)
        orders = [await execute(client, amountIn=amount) for amount in ("1", "70000", "3")]
        orders.append(await execute(client, tokenIn="JUP", tokenOut="BONK", amountOut="12345"))
        fills.append([(order["amountIn"], order["amountOut"]) for order in orders])
        await client.close()
    assert fills[0] == fills[1]


async def test_an_exact_out_order_pays_exactly_the_requested_amount(start: Start) -> None:
    client = await start()
    placed = await place(client, amountOut="150.000001", slippageBps=50)
    assert (placed["swapMode"], placed["amountIn"], placed["amountOut"]) == ("exactOut", None, "150.000001")
    messages = await watch(client, placed["id"])
    assert [message["status"] for message in messages] == LIFE
    for message in messages[:-1]:
        seen = message["order"]
        assert (seen["amountIn"], seen["amountOut"]) == (None, "150.000001")
        assert seen["executedPrice"] is None
    order = await get(client, placed["id"])
    assert messages[-1]["order"] == order
    assert OrderSchema().validate(order) == {}
    submitted = order["statusHistory"][3]
    assert (submitted["quotedOut"], submitted["minimumOut"]) == ("150.000001", "150.000001")
    quoted, most, paid = (
        Fraction(t) for t in (submitted["quotedIn"], submitted["maximumIn"], order["amountIn"])
    )
    assert most == quoted * 10**9 * 10_050 // 10_000 / Fraction(10**9)
    assert 0 < paid <= most
    assert order["amountOut"] == "150.000001"
    assert abs(Fraction(order["realisedSlippage"]) - (paid - quoted) / quoted) < Fraction(1, 10**8)
    assert Fraction(order["executedPrice"]) <= Fraction("150.000001") / paid
    assert all(offer["amountOut"] == "150.000001" for offer in order["quotes"])


async def test_an_order_is_the_same_in_another_notation(start: Start) -> None:
    client = await start()
    limit = order_of(orderType="limit", limitPrice="900", expiresAt="2099-01-01T00:00:00Z", clientOrderId="l")
    placed = await get(client, (await place(client, **limit))["id"])
    sol, usdc = (TOKENS[symbol].mint for symbol in ("SOL", "USDC"))
    same = {
        "limitPrice": "900.0",
        "expiresAt": "2099-01-01T02:00:00.000+02:00",
        "tokenIn": sol,
        "tokenOut": usdc,
        "amountIn": "1.50000000000000000",
        "timeInForce": "GTD",
        "slippageBps": 100,
        "sniperConditions": None,
    }
    async with client.post("/api/orders/execute", json={**limit, **same}) as answer:
        assert (answer.status, await answer.json()) == (200, placed)
    async with client.post("/api/orders/execute", json={**limit, "limitPrice": "900.0001"}) as answer:
        assert answer.status == 409
    # It is shown with its symbols, even if it was placed with mints.
    async with client.get(f"/api/orders?tokenIn={sol}&tokenOut={usdc}") as answer:
        assert [order["tokenIn"] for order in (await answer.json())["orders"]] == ["SOL"]
    async with client.get(f"/api/quotes?tokenIn={sol}&tokenOut=USDC&amountIn=1") as answer:
        assert (await answer.json())["tokenIn"] == "SOL"
    # An amendment to an equal value adds no entry.
    async with client.patch(f"/api/orders/{placed['id']}", json={"limitPrice": "900.00"}) as answer:
        assert await answer.json() == placed
    async with client.post("/api/orders/cancel", json={"tokenIn": sol, "orderType": None}) as answer:
        assert (await answer.json())["cancelled"] == 1


async def test_an_exact_out_order_is_placed_once_by_its_client_order_id(start: Start) -> None:
    client = await start()
    placed = await place(client, amountOut="1.50", clientOrderId="buy-1")
    body = order_of(amountOut="1.5", clientOrderId="buy-1")
    async with client.post("/api/orders/execute", json=body) as again:
        assert again.status == 200
        assert (await again.json())["id"] == placed["id"]
    # The same number, on the other side of the swap, is another order.
    async with client.post(
        "/api/orders/execute", json=order_of(amountIn="1.5", clientOrderId="buy-1")
    ) as other:
        assert other.status == 409


async def test_more_than_the_wallet_holds_fails_once(start: Start) -> None:
    client = await start(PAPER_BALANCES="SOL=1.5", RETRY_BASE_DELAY_MS="20")
    # What it would pay is not known when it is placed.
    poor = await execute(client, amountOut="100000")
    assert statuses(poor) == ["pending", "routing", "building", "submitted", "failed"]
    assert (poor["failureReason"], poor["attempts"]) == ("insufficient_balance", 1)
    assert (poor["amountIn"], poor["txHash"], poor["executedPrice"]) == (None, None, None)
    assert (await execute(client, amountIn="1.5"))["status"] == "confirmed"
    # The wallet has more than enough of the bought token, and nothing of the sold one: a resting order, which
    # is not compared with it when it is placed, fails when it fires.
    fired = await execute(client, amountIn="1", orderType="limit", limitPrice="0.000001")
    assert (fired["status"], fired["failureReason"]) == ("failed", "insufficient_balance")
    assert (await execute(client, tokenIn="USDC", tokenOut="SOL", amountIn="1"))["status"] == "confirmed"
    buy = await execute(client, amountOut="100000")
    assert (buy["failureReason"], buy["attempts"], buy["amountIn"]) == ("insufficient_balance", 1, None)


@pytest.mark.parametrize("amount", [{"amountIn": "100"}, {"amountOut": "100000"}])
async def test_a_pair_without_a_pool_is_filled_in_two_swaps(
    start: Start, servers: TestServers, amount: dict[str, str]
) -> None:
    client = await start(SLOT_MS=str(quiet_slot_ms(servers)))
    order = await execute(client, tokenIn="JUP", tokenOut="BONK", **amount)
    assert statuses(order) == LIFE
    assert order["quotes"] == []
    residue: dict[str, Fraction] = {}
    for path in order["route"]["paths"]:
        first, second = path["legs"]
        assert (first["tokenIn"], second["tokenOut"]) == ("JUP", "BONK")
        hub = first["tokenOut"]
        assert hub == second["tokenIn"]
        assert hub in {"SOL", "USDC"}
        left = Fraction(first["amountOut"]) - Fraction(second["amountIn"])
        # Five of ten thousand, rounded to a base unit.
        assert abs(left - Fraction(first["amountOut"]) * 5 / 10_000) < Fraction(2, 10**6)
        residue[hub] = residue.get(hub, Fraction(0)) + left
    assert (order["amountIn"], order["amountOut"]) == (
        order["route"]["amountIn"],
        order["route"]["amountOut"],
    )
    assert OrderSchema().validate(order) == {}
    assert {left["token"]: Fraction(left["amount"]) for left in order["residue"]} == residue
    # What the first swap paid and the second did not sell is in the wallet.
    wallet = rows(
        servers,
        "SELECT token, balance - funded FROM paper_wallets"
        " WHERE owner = 'user' AND token IN ('SOL', 'USDC') AND balance <> funded",
    )
    decimals = {"SOL": 9, "USDC": 6}
    assert {token: Fraction(int(gain), 10 ** decimals[token]) for token, gain in wallet} == residue
    assert await audit_now(servers) == []


async def test_a_large_order_is_split(start: Start, servers: TestServers) -> None:
    client = await start(SLOT_MS=str(quiet_slot_ms(servers)), PAPER_SEED="7")
    order = await execute(client, amountIn="20000")
    route = order["route"]
    legs = [leg for path in route["paths"] for leg in path["legs"]]
    assert {leg["venue"] for leg in legs} == {"raydium", "meteora"}
    assert order["venue"] == route["venue"] == "multiple"
    assert len({leg["poolId"] for leg in legs}) == len(legs) <= 4
    assert sum(Fraction(path["amountIn"]) for path in route["paths"]) == 20_000
    assert sum(Fraction(path["amountOut"]) for path in route["paths"]) == Fraction(route["amountOut"])
    # It is better than the best single pool by more than a basis point.
    best = max(Fraction(offer["amountOut"]) for offer in order["quotes"])
    assert Fraction(route["beat"]["amountOut"]) == best
    assert Fraction(route["amountOut"]) > best * Fraction(10_001, 10_000)
    assert {offer["poolId"] for offer in order["quotes"] if offer["chosen"]} <= {
        leg["poolId"] for leg in legs
    }
    # In one transaction.
    assert order["amountOut"] == route["amountOut"]
    with servers.connect() as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM paper_transactions WHERE order_id = %s", (order["id"],))
        assert cursor.fetchall() == [(1,)]
    await client.close()
    single = await start(SLOT_MS=str(quiet_slot_ms(servers)), MAX_ROUTE_LEGS="1")
    assert (await execute(single, amountIn="20000"))["venue"] in {"raydium", "meteora"}


async def test_more_than_all_pools_hold_waits_and_then_fails(start: Start) -> None:
    client = await start(MAX_RETRIES="1", RETRY_BASE_DELAY_MS="20")
    order = await execute(client, amountOut="18446744073709")
    assert statuses(order) == ["pending", "routing", "pending", "routing", "failed"]
    assert order["failureReason"] == "insufficient_liquidity"
    assert {offer["reason"] for offer in order["quotes"]} == {"insufficient_liquidity"}
    assert order["route"] is None


@pytest.mark.parametrize(
    ("kind", "code", "tries"),
    [
        ("transient", "transaction_failed", 4),
        ("slippage", "slippage_exceeded", 4),
        ("permanent", "transaction_rejected", 1),
    ],
)
async def test_a_failed_attempt_is_retried_unless_it_is_permanent(
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


async def test_an_amount_without_output_fails_permanently(start: Start) -> None:
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


async def test_a_label_is_returned_and_orders_are_listed_and_cancelled_by_it(start: Start) -> None:
    client = await start()
    far = {"orderType": "limit", "limitPrice": "100000"}
    grid = await place(client, **far, label="grid 7", clientOrderId="a")
    other = await place(client, **far, label="grid 8")
    bare = await place(client, **far)
    assert [order["label"] for order in (grid, other, bare)] == ["grid 7", "grid 8", None]
    assert (await get(client, grid["id"]))["label"] == "grid 7"
    # It is part of the request.
    for label, status in (("grid 7", 200), ("grid 8", 409)):
        again = order_of(**far, label=label, clientOrderId="a")
        async with client.post("/api/orders/execute", json=again) as answer:
            assert answer.status == status
    for query, found in (
        ({"label": "grid 7"}, {grid["id"]}),
        ({"label": "grid 8", "status": "open"}, {other["id"]}),
        ({"label": "grid"}, set()),
    ):
        async with client.get("/api/orders", params=query) as answer:
            assert {order["id"] for order in (await answer.json())["orders"]} == found
    async with client.post("/api/orders/cancel", json={"label": "grid 7"}) as answer:
        assert await answer.json() == {"cancelled": 1, "cancelRequested": 0}
    assert (await get(client, other["id"]))["status"] == "open"
    async with client.get("/api/orders", params={"label": "grid 7", "status": "cancelled"}) as answer:
        assert [order["id"] for order in (await answer.json())["orders"]] == [grid["id"]]


async def test_an_order_id_is_accepted_in_capitals(start: Start) -> None:
    client = await start()
    placed = await place(client)
    assert (await get(client, placed["id"].upper()))["id"] == placed["id"]


async def test_health_shows_both_servers(start: Start) -> None:
    client = await start()
    async with client.get("/health") as answer:
        assert answer.status == 200
        assert (await answer.json())["status"] == "ok"
