"""What the wallet holds, over the wire, and the orders that it cannot pay."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import pytest
from aiohttp.web import Application

from service.api import funds
from service.api.problem_schemas import ProblemSchema
from service.app import Service
from service.domain.key_limits import KeyLimits
from service.postgres.database import UnavailableError
from service.postgres.queries import Query
from tests.acceptance.test_dry_run import dry_run, refused
from tests.acceptance.test_key_limits import Keys, keys, send
from tests.support.gem_market import (
    LIMIT_ORDER,
    SNIPER_ORDER,
    forget_listed_tokens,
    list_pool,
    poll,
    rows,
)
from tests.support.orders import Client, Json, execute, order_of, place
from tests.support.servers import TestServers
from tests.support.statements import meddle
from tests.unit.api.test_openapi import is_valid

__all__ = ["forget_listed_tokens", "keys"]  # fixtures: pytest finds them here

Start = Callable[..., Awaitable[Client]]

EXECUTE, BATCH = "/api/orders/execute", "/api/orders/batch"
IOC: Json = {"orderType": "limit", "limitPrice": "1", "timeInForce": "IOC"}
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000"}
FIRES_NEVER = {"price": {"above": "1000000"}}


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


async def refusal(client: Client, **changes: Any) -> Json:
    """Place an order that the wallet cannot pay; return the problem."""
    async with client.post(EXECUTE, json=order_of(**changes)) as answer:
        problem: Json = await answer.json()
        assert (answer.status, problem["type"]) == (422, "urn:problem-type:insufficient-balance"), problem
    assert ProblemSchema().validate(problem) == {}
    return problem


def reads_of(service: Service, *, fail: bool = False) -> Counter[str]:
    """Count the statements of a service's venue by name; those that read balances may fail."""
    counted: Counter[str] = Counter()

    async def count(query: Query[Any]) -> None:
        counted[query.name] += 1
        if fail and query.name == "paper_get_balances":
            raise UnavailableError("away", unknown=False)

    meddle(service.market.database, count)
    return counted


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the read takes on a busy machine, its answer decides; test_funds.py tests the time."""
    monkeypatch.setattr(funds, "_PATIENCE_S", 20.0)


async def test_the_balances_say_what_is_free_in_flight_and_worth(start: Start) -> None:
    # Transactions are submitted and do not land while the test runs.
    late = {"EXECUTION_DELAY_MS": "600000", "OUTCOME_TIMEOUT_MS": "0", "SHUTDOWN_GRACE_S": "0"}
    late["PAPER_TX_VALID_SLOTS"] = "100000"
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
    assert (await refusal(client, amountIn="2.1"))["free"] == "2"


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
    # What was bought can be sold, and no more.
    assert (await refusal(client, tokenIn="GEM", tokenOut="JUP", amountIn="100000"))["free"] == gem["free"]
    sold = await execute(client, tokenIn="GEM", tokenOut="JUP", amountIn=gem["free"], slippageBps=10_000)
    assert sold["status"] == "confirmed"
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


async def test_an_order_that_the_wallet_cannot_pay_is_refused_unless_it_rests(
    start: Start, servers: TestServers, keys: Keys
) -> None:
    client = await start(PAPER_BALANCES="SOL=1,USDC=0")
    problem = await refusal(client, amountIn="1.000000001", clientOrderId="mine")
    assert problem == {
        "type": "urn:problem-type:insufficient-balance",
        "title": "Insufficient balance",
        "status": 422,
        "detail": "The wallet cannot pay the order now.",
        "free": "1",
        "errors": [{"detail": "1 SOL is free in the wallet.", "pointer": "#/amountIn"}],
    }
    assert (await refusal(client, **IOC, amountIn="2"))["free"] == "1"
    # Of an exact amount out it is not known before the quote what it costs, except that it costs something.
    bought = await refusal(client, tokenIn="USDC", tokenOut="SOL", amountOut="0.000000001")
    assert [error["pointer"] for error in bought["errors"]] == ["#/amountOut"]
    assert rows(servers, "SELECT count(*) FROM orders") == [(0,)]
    # A dry run says the same.
    assert await refused(client, order_of(amountIn="1.000000001", clientOrderId="mine")) == problem
    told = await dry_run(client, order_of(amountIn="1.000000001"))
    assert (told["balance"], told["quote"]["amountIn"]) == ("1", "1.000000001")
    unknown = await refused(client, order_of(amountOut="100000"))
    assert (unknown["type"], unknown["reason"]) == ("about:blank", "insufficient_balance")
    # What rests, or awaits approval, is accepted.
    await list_pool(client)
    for body in (
        order_of(**RESTING, amountIn="1000"),
        {**LIMIT_ORDER, "limitPrice": "1000"},
        {**SNIPER_ORDER, "sniperConditions": FIRES_NEVER},
    ):
        assert (await dry_run(client, body))["accepted"]
        assert (await place(client, **{"amountIn": None, **body}))["status"] == "pending"
    # The id of what was refused is free.
    assert (await place(client, amountIn="1", clientOrderId="mine"))["clientOrderId"] == "mine"
    watched = await keys.header(KeyLimits(requires_approval=True))
    status, waiting = await send(client, watched, order_of(amountIn="1000"))
    assert (status, waiting["awaitingApproval"]) == (201, True)


async def test_what_was_placed_is_answered_again_whatever_the_wallet_holds(start: Start) -> None:
    client = await start(PAPER_BALANCES="SOL=1.5")
    once = {"Idempotency-Key": "a-key"}
    # Too little to be sold.
    named = await place(client, amountIn="0.000000001", clientOrderId="mine")
    async with client.post(EXECUTE, json=order_of(), headers=once) as answer:
        first = await answer.json()
        assert answer.status == 201

    async def empty() -> bool:
        return bool((await held(client))["SOL"]["free"] == "0")

    await poll(empty, 10)
    await refusal(client, amountIn="0.000000001")
    async with client.post(EXECUTE, json=order_of(), headers=once) as answer:
        assert (answer.status, (await answer.json())["id"]) == (201, first["id"])
        assert answer.headers["Idempotent-Replayed"] == "true"
    async with client.post(EXECUTE, json=order_of(amountIn="0.000000001", clientOrderId="mine")) as answer:
        assert (answer.status, (await answer.json())["id"]) == (200, named["id"])
    async with client.post(EXECUTE, json=order_of(amountIn="1", clientOrderId="mine")) as answer:
        assert answer.status == 409


@pytest.fixture
def counted(
    make_service: Callable[..., Service], aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> Callable[..., Awaitable[tuple[Client, Counter[str]]]]:
    """Return a function that starts a service whose venue's statements are counted."""

    async def start(*, fail: bool = False, **environment: str) -> tuple[Client, Counter[str]]:
        service = make_service(**environment)
        reads = reads_of(service, fail=fail)
        return await aiohttp_client(service.web), reads

    return start


async def test_each_order_of_a_batch_has_its_own_answer_and_all_share_a_read(
    counted: Callable[..., Awaitable[tuple[Client, Counter[str]]]],
) -> None:
    client, reads = await counted(PAPER_BALANCES="SOL=1", QUEUE_RATE_LIMIT="1")
    orders = [
        order_of(**changes) for changes in ({"amountIn": "0.5"}, {"amountIn": "1.5"}, {**RESTING}, {**IOC})
    ]
    async with client.post(BATCH, json={"orders": orders * 25}) as answer:
        results = (await answer.json())["results"]
    assert [result["status"] for result in results] == [201, 422, 201, 422] * 25
    for number in (1, 99):
        assert results[number]["problem"]["type"] == "urn:problem-type:insufficient-balance"
        [error] = results[number]["problem"]["errors"]
        assert error["pointer"] == f"#/orders/{number}/amountIn"
    assert reads["paper_get_balances"] == 1
    # Of what the wallet has plenty, none is read.
    plenty = order_of(tokenIn="USDC", tokenOut="SOL", amountIn="1")
    async with client.post(BATCH, json={"orders": [plenty] * 10}) as answer:
        assert {result["status"] for result in (await answer.json())["results"]} == {201}
    await place(client, **plenty)
    assert reads["paper_get_balances"] == 1


async def test_no_order_is_lost_while_the_balance_is_not_known(
    counted: Callable[..., Awaitable[tuple[Client, Counter[str]]]],
) -> None:
    client, reads = await counted(fail=True, PAPER_BALANCES="SOL=1")
    # What the wallet holds when it is executed decides.
    assert (await execute(client, amountIn="2"))["failureReason"] == "insufficient_balance"
    assert (await execute(client, amountIn="1"))["status"] == "confirmed"
    assert reads["paper_get_balances"] == 2
    told = await dry_run(client, order_of(amountIn="2"))
    assert (told["accepted"], told["balance"]) == (True, None)
    async with client.get("/api/balances") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_the_venue_tells_where_orders_are_executed_and_within_which_limits(start: Start) -> None:
    limited = {
        "MAX_ORDER_AMOUNTS": "USDC=1500.5,SOL=10",
        "MAX_DAY_AMOUNTS": "SOL=70",
        "MAX_PRICE_IMPACT_BPS": "300",
    }
    clients = [await start(), await start(**limited, MAX_MARKET_ORDER_AGE_S="60")]

    async def venue(client: Client) -> Json:
        async with client.get("/api/venue") as answer:
            body: Json = await answer.json()
            assert answer.status == 200
        assert is_valid("Venue", body)
        return body

    unlimited = {
        "maxOrderAmounts": None,
        "maxDayAmounts": None,
        "maxPriceImpactBps": None,
        "maxMarketOrderAgeS": None,
    }
    assert await venue(clients[0]) == {
        "venue": "paper",
        "mode": "paper",
        "wallet": None,
        "halted": None,
        "limits": unlimited,
    }
    assert (await venue(clients[1]))["limits"] == {
        "maxOrderAmounts": {"SOL": "10", "USDC": "1500.5"},
        "maxDayAmounts": {"SOL": "70"},
        "maxPriceImpactBps": 300,
        "maxMarketOrderAgeS": 60,
    }
    assert (await clients[0].post("/api/admin/halt", json={"reason": "a fire"})).status == 200
    # On every instance at once, and as /health has it.
    told, shown = await asyncio.gather(venue(clients[1]), clients[0].get("/health"))
    assert told["halted"]["reason"] == "a fire"
    assert told["halted"] == (await shown.json())["halted"]
