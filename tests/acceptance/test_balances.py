"""What the wallet holds, over the wire."""

import asyncio
from collections.abc import Awaitable, Callable
from fractions import Fraction

from tests.support.gem_market import forget_listed_tokens, list_pool, poll
from tests.support.orders import Client, Json, execute, place
from tests.unit.api.test_openapi import is_valid

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]


async def balances(client: Client, query: str = "") -> Json:
    """Return a page of balances."""
    async with client.get(f"/api/balances{query}") as answer:
        body: Json = await answer.json()
        assert answer.status == 200, body
    assert is_valid("BalanceList", body)
    return body


async def held(client: Client) -> dict[str, Json]:
    """Return all balances, by token."""
    page = await balances(client)
    assert page["nextCursor"] is None
    return {each.pop("token"): each for each in page["balances"]}


async def test_the_balances_say_what_is_free_in_flight_and_worth(start: Start) -> None:
    # Transactions are submitted and do not land while the test runs.
    late = {"EXECUTION_DELAY_MS": "600000", "OUTCOME_TIMEOUT_MS": "0", "SHUTDOWN_GRACE_S": "0"}
    client = await start(PAPER_BALANCES="SOL=3.5,JUP=0", **late)
    before = await held(client)
    assert list(before) == ["BONK", "JUP", "RAY", "SOL", "USDC", "USDT"]
    nothing = {"free": "0", "inFlight": "0", "reserved": "0", "usd": "0"}
    assert before["JUP"] == nothing
    assert before["USDC"] == {**nothing, "free": "1000000000000", "usd": "1000000000000"}
    assert (before["SOL"]["free"], before["SOL"]["inFlight"], before["SOL"]["reserved"]) == ("3.5", "0", "0")
    async with client.get("/api/quotes?tokenIn=SOL&tokenOut=USDC&amountIn=0.1") as answer:
        price = Fraction((await answer.json())["price"])
    assert 0.9 < Fraction(before["SOL"]["usd"]) / (price * Fraction("3.5")) < 1.1
    await place(client, amountIn="1.5")

    async def in_flight() -> bool:
        return bool((await held(client))["SOL"]["inFlight"] != "0")

    await poll(in_flight, 10)
    during = (await held(client))["SOL"]
    assert (during["free"], during["inFlight"]) == ("2", "1.5")
    # Both are worth something.
    assert 0.9 < Fraction(during["usd"]) / Fraction(before["SOL"]["usd"]) < 1.1


async def test_balances_come_in_pages_and_may_have_no_price(start: Start) -> None:
    client = await start(PAPER_BALANCES="JUP=100")
    # A token that only JUP is traded for has no price in USDC.
    await list_pool(client, tokenB="JUP", amountB="1000")
    await execute(client, tokenIn="JUP", tokenOut="GEM", amountIn="1", slippageBps=10_000)
    found: list[Json] = []
    sizes: list[int] = []
    query = "?limit=3"
    while not sizes or query.count("=") == 2:
        page = await balances(client, query)
        found += page["balances"]
        sizes.append(len(page["balances"]))
        query = "?limit=3" + (f"&cursor={page['nextCursor']}" if page["nextCursor"] else "")
    assert sizes == [3, 3, 1]
    assert [each["token"] for each in found] == ["BONK", "GEM", "JUP", "RAY", "SOL", "USDC", "USDT"]
    assert found == (await balances(client))["balances"]
    gem = found[1]
    assert (gem["usd"], gem["inFlight"]) == (None, "0")
    assert Fraction(gem["free"]) > 0
    assert (await balances(client, "?cursor=zzz"))["balances"] == []
    for query, pointer in (
        ("?limit=0", "#/limit"),
        ("?limit=501", "#/limit"),
        ("?cursor=", "#/cursor"),
        ("?cursor=a%0A", "#/cursor"),
        ("?token=SOL", "#/token"),
    ):
        async with client.get(f"/api/balances{query}") as answer:
            assert answer.status == 422
            assert [error["pointer"] for error in (await answer.json())["errors"]] == [pointer]


async def test_the_venue_tells_where_orders_are_executed_and_within_which_limits(start: Start) -> None:
    limited = {"MAX_ORDER_AMOUNTS": "USDC=1500.5,SOL=10", "MAX_PRICE_IMPACT_BPS": "300"}
    clients = [await start(), await start(**limited, MAX_MARKET_ORDER_AGE_S="60")]

    async def venue(client: Client) -> Json:
        async with client.get("/api/venue") as answer:
            body: Json = await answer.json()
            assert answer.status == 200
        assert is_valid("Venue", body)
        return body

    unlimited = {"maxOrderAmounts": None, "maxPriceImpactBps": None, "maxMarketOrderAgeS": None}
    assert await venue(clients[0]) == {
        "venue": "paper",
        "mode": "paper",
        "wallet": None,
        "halted": None,
        "limits": unlimited,
    }
    assert (await venue(clients[1]))["limits"] == {
        "maxOrderAmounts": {"SOL": "10", "USDC": "1500.5"},
        "maxPriceImpactBps": 300,
        "maxMarketOrderAgeS": 60,
    }
    assert (await clients[0].post("/api/admin/halt", json={"reason": "a fire"})).status == 200
    # On every instance at once, and as /health has it.
    told, shown = await asyncio.gather(venue(clients[1]), clients[0].get("/health"))
    assert told["halted"]["reason"] == "a fire"
    assert told["halted"] == (await shown.json())["halted"]
