"""Budgets of a key over the wire, on two instances: orders alone and in batches, endings, repetitions."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from service.api.admin_schemas import KeySchema
from service.api.problem_schemas import ProblemSchema
from service.clock import Clock
from service.domain.api_key import Scope
from service.domain.key_limits import NO_LIMITS, KeyLimits, LargestAmount
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.api_keys import ApiKeys, NewKey
from tests.support.gem_market import forget_listed_tokens, poll, rows
from tests.support.judge import audit_now
from tests.support.orders import Client, Json, order_of
from tests.support.paper import NO_REDIS
from tests.support.servers import TestServers

__all__ = ["forget_listed_tokens"]  # a fixture: pytest finds it here

Start = Callable[..., Awaitable[Client]]

SOL, USD = 10**9, 10**6
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
BUYING: Json = {**RESTING, "tokenIn": "USDC", "tokenOut": "SOL"}
NONE: Json = {"maxAmountPerDay": None, "maxUsdPerDay": None, "maxOpenOrders": None}


def sol_per_day(amount: int) -> KeyLimits:
    """Return a limit of whole SOL in 24 hours."""
    return KeyLimits(max_amount_per_day={"SOL": LargestAmount(amount * SOL, 9)})


class Bots:
    """Keys of one account, and the requests that they send."""

    def __init__(self, keys: ApiKeys) -> None:
        self.keys = keys
        self._ids: dict[str, str] = {}

    async def key(self, limits: KeyLimits = NO_LIMITS, scope: Scope = Scope.TRADE) -> str:
        """Create a key, and return its token."""
        key_id, token = await self.keys.create(NewKey("desk", "bot", scope, limits=limits))
        self._ids[token] = key_id
        return token

    async def limit(self, token: str, limits: KeyLimits) -> None:
        """Replace the limits of a token's key."""
        assert await self.keys.set_limits(self._ids[token], limits)

    async def send(self, client: Client, token: str, body: Json, **headers: str) -> tuple[int, Json]:
        """Place an order; return the status and the body."""
        headers["Authorization"] = f"Bearer {token}"
        async with client.post("/api/orders/execute", json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def place(self, client: Client, token: str, **changes: Any) -> Json:
        """Place an order that must be accepted, and return it."""
        status, order = await self.send(client, token, order_of(**changes))
        assert status == 201, order
        return order

    async def batch(self, client: Client, token: str, bodies: list[Json], **headers: str) -> list[Json]:
        """Place orders in a batch, and return the results."""
        headers["Authorization"] = f"Bearer {token}"
        async with client.post("/api/orders/batch", json={"orders": bodies}, headers=headers) as answer:
            assert answer.status == 200
            results: list[Json] = (await answer.json())["results"]
            return results

    async def me(self, client: Client, token: str) -> Json:
        """Return what the service tells a key of itself."""
        async with client.get("/api/keys/me", headers={"Authorization": f"Bearer {token}"}) as answer:
            body: Json = await answer.json()
            assert KeySchema().validate(body) == {}
            return body

    async def used(self, client: Client, token: str) -> Json:
        """Return what a key's orders use."""
        used: Json = (await self.me(client, token))["used"]
        return used

    async def amend(self, client: Client, token: str, order: Json, **changes: object) -> tuple[int, Json]:
        """Amend an order; return the status and the body."""
        headers = {"Authorization": f"Bearer {token}"}
        async with client.patch(f"/api/orders/{order['id']}", json=changes, headers=headers) as answer:
            return answer.status, await answer.json()

    async def cancel(self, client: Client, token: str, order: Json) -> None:
        """Cancel an order."""
        headers = {"Authorization": f"Bearer {token}"}
        async with client.delete(f"/api/orders/{order['id']}", headers=headers) as answer:
            assert answer.status == 200


@pytest.fixture
async def bots(servers: TestServers) -> AsyncIterator[Bots]:
    """Return the keys of the test's database, before any service starts on it."""
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    yield Bots(ApiKeys(database, Clock()))
    await database.close()


def told(problem: Json) -> tuple[object, ...]:
    """Return the rule, the limit and what is left, of a problem, which has to be one."""
    assert ProblemSchema().validate(problem) == {}
    assert (problem["status"], problem["title"]) == (403, "Forbidden")
    return problem["rule"], problem["limit"], problem["left"]


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize(
    ("limits", "order", "exhausted", "used"),
    [
        pytest.param(
            sol_per_day(10),
            RESTING,
            ("maxAmountPerDay", "10", "0"),
            {"maxAmountPerDay": {"SOL": "10"}},
            id="amount",
        ),
        # USDC is the dollar.
        pytest.param(
            KeyLimits(max_usd_per_day=105 * USD),
            BUYING,
            ("maxUsdPerDay", "105", "5"),
            {"maxUsdPerDay": "100"},
            id="dollars",
        ),
        pytest.param(
            KeyLimits(max_open_orders=10),
            RESTING,
            ("maxOpenOrders", 10, 0),
            {"maxOpenOrders": 10},
            id="open orders",
        ),
    ],
)
async def test_a_hundred_orders_at_once_under_a_budget_for_ten(
    start: Start,
    bots: Bots,
    servers: TestServers,
    instances: int,
    limits: KeyLimits,
    order: Json,
    exhausted: tuple[object, ...],
    used: Json,
) -> None:
    token, free = await bots.key(limits), await bots.key()
    clients = [await start() for _ in range(instances)]
    body = order_of(**order, amountIn="10" if order is BUYING else "1")
    alone = [bots.send(clients[at % instances], token, body) for at in range(60)]
    batches = [bots.batch(clients[at % instances], token, [body] * 20) for at in range(2)]
    others = [bots.send(clients[at % instances], free, body) for at in range(20)]
    answers, results, unlimited = await asyncio.gather(
        asyncio.gather(*alone), asyncio.gather(*batches), asyncio.gather(*others)
    )
    ends = [*answers, *((each["status"], each["problem"]) for found in results for each in found)]
    assert Counter(status for status, _body in ends) == {201: 10, 403: 90}
    assert {status for status, _body in unlimited} == {201}
    assert rows(servers, "SELECT count(*) FROM orders") == [(30,)]
    refusals = [told(problem) for status, problem in ends if status == 403]
    assert exhausted in refusals
    assert {each[:2] for each in refusals} == {exhausted[:2]}
    # The next one is told the same, by each instance.
    for client in clients:
        assert told((await bots.send(client, token, body))[1]) == exhausted
        assert await bots.used(client, token) == {**NONE, **used}


async def test_a_batch_is_decided_in_its_order(start: Start, bots: Bots) -> None:
    token = await bots.key(sol_per_day(10))
    client = await start()
    bodies = [order_of(**RESTING, amountIn=amount) for amount in ("6", "4.5", "4", "0.1")]
    results = await bots.batch(client, token, bodies)
    assert [each["status"] for each in results] == [201, 403, 201, 403]
    assert [told(each["problem"]) for each in results if each["problem"]] == [
        ("maxAmountPerDay", "10", "4"),
        ("maxAmountPerDay", "10", "0"),
    ]


async def test_an_unfilled_order_gives_back_what_it_uses(
    start: Start, bots: Bots, servers: TestServers
) -> None:
    limits = replace(sol_per_day(3), max_usd_per_day=10**12, max_open_orders=3)
    token = await bots.key(limits)
    client = await start(PAPER_FAILURE_RATE="permanent=1")
    none = {"maxAmountPerDay": {"SOL": "0"}, "maxUsdPerDay": "0", "maxOpenOrders": 0}
    [[soon]] = rows(servers, "SELECT rfc3339(now() + interval '1 second')")
    cancelled = await bots.place(client, token, **RESTING, amountIn="1")
    expired = await bots.place(
        client, token, **{**RESTING, "timeInForce": "GTD"}, expiresAt=soon, amountIn="1"
    )
    failed = await bots.place(client, token, amountIn="1")
    for order, status in ((failed, "failed"), (expired, "expired")):
        header = {"Authorization": f"Bearer {token}"}
        async with client.ws_connect(f"/api/orders/{order['id']}/ws", headers=header) as socket:
            messages = [message.json() async for message in socket]
        assert messages[-1]["status"] == status
    used = await bots.used(client, token)
    assert (used["maxAmountPerDay"], used["maxOpenOrders"]) == ({"SOL": "1"}, 1)
    assert told((await bots.send(client, token, order_of(**RESTING, amountIn="3")))[1]) == (
        "maxAmountPerDay",
        "3",
        "2",
    )
    await bots.cancel(client, token, cancelled)
    assert await bots.used(client, token) == none
    await bots.place(client, token, **RESTING, amountIn="3")
    assert await audit_now(servers) == []


async def test_a_filled_order_keeps_what_it_uses(start: Start, bots: Bots) -> None:
    token = await bots.key(
        KeyLimits(
            max_amount_per_day={"USDC": LargestAmount(100 * USD, 6)},
            max_usd_per_day=160 * USD,
            max_open_orders=1,
        )
    )
    client = await start()
    header = {"Authorization": f"Bearer {token}"}
    # It buys a fixed amount, whatever it pays.
    for amount, left in (("60.5", "39.5"), ("39.5", "0")):
        order = await bots.place(client, token, amountOut=amount)
        async with client.ws_connect(f"/api/orders/{order['id']}/ws", headers=header) as socket:
            messages = [message.json() async for message in socket]
        assert messages[-1]["status"] == "confirmed"
        status, problem = await bots.send(client, token, order_of(amountOut="50"))
        assert (status, told(problem)) == (403, ("maxAmountPerDay", "100", left))
    assert await bots.used(client, token) == {
        "maxAmountPerDay": {"USDC": "100"},
        "maxUsdPerDay": "100",
        "maxOpenOrders": 0,
    }
    # SOL has no limit of its own, but its value has.
    status, problem = await bots.send(client, token, order_of(**RESTING, amountIn="1"))
    assert (status, told(problem)) == (403, ("maxUsdPerDay", "160", "60"))


async def test_an_order_that_awaits_approval_counts_until_it_is_refused(start: Start, bots: Bots) -> None:
    token = await bots.key(replace(sol_per_day(3), max_open_orders=1, requires_approval=True))
    boss = {"Authorization": f"Bearer {await bots.key(scope=Scope.ADMIN)}"}
    client = await start()
    order = await bots.place(client, token, amountIn="2")
    assert order["awaitingApproval"]
    assert await bots.used(client, token) == {
        **NONE,
        "maxAmountPerDay": {"SOL": "2"},
        "maxOpenOrders": 1,
    }
    status, problem = await bots.send(client, token, order_of(amountIn="1"))
    assert (status, told(problem)) == (403, ("maxOpenOrders", 1, 0))
    async with client.post(f"/api/orders/{order['id']}/refuse", headers=boss, json={}) as answer:
        assert answer.status == 200, await answer.text()
    assert await bots.used(client, token) == {
        **NONE,
        "maxAmountPerDay": {"SOL": "0"},
        "maxOpenOrders": 0,
    }


async def test_what_an_order_sells_must_be_known(start: Start, bots: Bots) -> None:
    token = await bots.key(sol_per_day(10))
    client = await start()
    await bots.place(client, token, **RESTING, amountIn="1.5")
    for results in (
        await bots.batch(client, token, [order_of(amountOut="1")]),
        [{"problem": (await bots.send(client, token, order_of(amountOut="1")))[1]}],
    ):
        assert told(results[0]["problem"]) == ("maxAmountPerDay", "10", "8.5")
        assert "send amountIn" in results[0]["problem"]["detail"]


async def test_a_limit_in_dollars_needs_a_price(start: Start, bots: Bots) -> None:
    admin = await bots.key(scope=Scope.ADMIN)
    per_order = await bots.key(KeyLimits(max_usd_per_order=100 * USD))
    per_day = await bots.key(KeyLimits(max_usd_per_day=100 * USD))
    client = await start()
    for token, rule in ((per_order, "maxUsdPerOrder"), (per_day, "maxUsdPerDay")):
        for body in (order_of(**BUYING, amountIn="100.000001"), order_of(**RESTING, amountIn="10")):
            status, problem = await bots.send(client, token, body)
            assert (status, problem["rule"], problem["limit"]) == (403, rule, "100")
            assert problem.get("left") == (None if rule == "maxUsdPerOrder" else "100")
            assert "worth" in problem["detail"]
        await bots.place(client, token, **BUYING, amountIn="100")
    # A token that only JUP is traded for has no price in USDC; then one is listed.
    pool: Json = {"program": "raydium_cpmm", "tokenA": "GEM", "amountA": "1000000", "amountB": "100000"}
    header = {"Authorization": f"Bearer {admin}"}
    for listed, statuses in (("JUP", (403, 403)), ("USDC", (201, 403))):
        body = {**pool, "tokenB": listed}
        async with client.post("/api/paper/pools", json=body, headers=header) as answer:
            assert answer.status == 201, await answer.text()
        for token, status in zip((per_order, per_day), statuses, strict=True):
            sold = order_of(**{**RESTING, "tokenIn": "GEM", "tokenOut": "JUP"}, amountIn="1")
            found, problem = await bots.send(client, token, sold)
            assert found == status, problem
            if listed == "JUP":
                assert "no price of GEM in USDC" in problem["detail"]


async def test_an_amended_order_keeps_the_limits_of_one_order(start: Start, bots: Bots) -> None:
    placing = await bots.key()
    small, large = [await bots.key(KeyLimits(max_usd_per_order=most * USD)) for most in (10, 10**9)]
    per_day = await bots.key(replace(sol_per_day(1), max_usd_per_day=USD, max_open_orders=0))
    client = await start()
    order = await bots.place(client, placing, **RESTING, amountIn="100")
    status, problem = await bots.amend(client, small, order, limitPrice="2000000")
    assert (status, problem["rule"], problem["limit"]) == (403, "maxUsdPerOrder", "10"), problem
    assert "this one is worth" in problem["detail"]
    # What changes nothing is no amendment.
    assert (await bots.amend(client, small, order, limitPrice="1000000.0"))[0] == 200
    assert (await bots.amend(client, large, order, limitPrice="2000000"))[0] == 200
    # An amendment uses no budget: the amount stays the same, and counts for the key that placed the order.
    assert (await bots.amend(client, per_day, order, limitPrice="3000000"))[0] == 200
    none = {"maxAmountPerDay": {"SOL": "0"}, "maxUsdPerDay": "0", "maxOpenOrders": 0}
    assert await bots.used(client, per_day) == none
    within = await bots.place(client, placing, **BUYING, amountIn="10")
    assert (await bots.amend(client, small, within, limitPrice="2000000"))[0] == 200
    # The largest amount for everyone may have been set since the order was placed.
    stricter = await start(MAX_ORDER_AMOUNTS="SOL=50")
    status, problem = await bots.amend(stricter, large, order, limitPrice="4000000")
    assert (status, problem["rule"], problem["limit"]) == (403, "maxOrderAmounts", "50")


async def test_a_repeated_request_uses_nothing(start: Start, bots: Bots, servers: TestServers) -> None:
    token = await bots.key(sol_per_day(4))
    clients = [await start(), await start()]
    body, key = order_of(**RESTING, amountIn="1"), {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        *(bots.send(clients[number % 2], token, body, **key) for number in range(100))
    )
    assert {(status, order["id"]) for status, order in answers} == {(201, answers[0][1]["id"])}
    named = order_of(**RESTING, amountIn="1", clientOrderId="mine")
    answers = await asyncio.gather(*(bots.send(clients[number % 2], token, named) for number in range(100)))
    assert Counter(status for status, _order in answers) == {201: 1, 200: 99}
    batch = [order_of(**RESTING, amountIn="2"), order_of(**RESTING, amountIn="2", label="no room")]
    [first, second] = await bots.batch(clients[0], token, batch, **{"Idempotency-Key": "batch"})
    assert (first["status"], second["status"]) == (201, 403)
    # Nothing is left, and what was placed is still answered.
    for client in clients:
        assert (await bots.send(client, token, body, **key))[0] == 201
        assert (await bots.send(client, token, named))[0] == 200
        assert (await bots.send(client, token, named, **{"Idempotency-Key": "new"}))[0] == 200
        assert (await bots.send(client, token, {**named, "label": "other"}))[0] == 409
        again = await bots.batch(client, token, batch, **{"Idempotency-Key": "batch"})
        assert [each["status"] for each in again] == [201, 403]
        assert again[0]["order"] == first["order"]
    assert await bots.used(clients[1], token) == {**NONE, "maxAmountPerDay": {"SOL": "4"}}
    assert rows(servers, "SELECT count(*) FROM orders") == [(3,)]
    # A refused order has taken no key: it is placed when there is room.
    await bots.cancel(clients[0], token, first["order"])
    again = await bots.batch(clients[1], token, batch, **{"Idempotency-Key": "batch"})
    assert [each["status"] for each in again] == [201, 201]


async def test_a_limit_counts_the_orders_that_were_placed_under_it(
    start: Start, bots: Bots, servers: TestServers
) -> None:
    token, other = await bots.key(), await bots.key(sol_per_day(1))
    client = await start()
    order = await bots.place(client, token, **RESTING, amountIn="5")
    assert await bots.used(client, token) == NONE
    await bots.limit(token, replace(sol_per_day(10), max_open_orders=2))
    in_force = {**NONE, "maxAmountPerDay": {"SOL": "0"}, "maxOpenOrders": 1}

    async def is_in_force() -> bool:
        return await bots.used(client, token) == in_force

    await poll(is_in_force)
    await bots.place(client, token, **RESTING, amountIn="10")
    status, problem = await bots.send(client, token, order_of(**RESTING, amountIn="10"))
    assert (status, told(problem)) == (403, ("maxOpenOrders", 2, 0))
    # It gives back what it uses: nothing of the amount.
    await bots.cancel(client, token, order)
    assert (await bots.used(client, token))["maxAmountPerDay"] == {"SOL": "10"}
    # Each key of an account has its own, whoever ends its orders.
    mine = await bots.place(client, other, **RESTING, amountIn="1")
    await bots.cancel(client, token, mine)
    assert (await bots.used(client, other))["maxAmountPerDay"] == {"SOL": "0"}


async def test_a_dry_run_is_refused_like_the_order_and_uses_nothing(start: Start, bots: Bots) -> None:
    token = await bots.key(replace(sol_per_day(10), max_usd_per_day=10**12, max_open_orders=2))
    client = await start()
    header = {"Authorization": f"Bearer {token}"}

    async def refusals(**changes: Any) -> list[Json]:
        path = "/api/orders/execute?dryRun=true"
        async with client.post(path, json=order_of(**changes), headers=header) as answer:
            assert answer.status == 200
            found: list[Json] = (await answer.json())["refusals"]
            return found

    assert await refusals(**RESTING, amountIn="10") == []
    await bots.place(client, token, **RESTING, amountIn="8")
    used = await bots.used(client, token)
    too_large: Json = {**RESTING, "amountIn": "2.5"}
    for _ in range(2):
        assert await refusals(**RESTING, amountIn="2") == []
        [refusal] = await refusals(**too_large)
        assert refusal == (await bots.send(client, token, order_of(**too_large)))[1]
        assert told(refusal) == ("maxAmountPerDay", "10", "2")
    assert [told(each) for each in await refusals(amountOut="1")] == [("maxAmountPerDay", "10", "2")]
    assert await bots.used(client, token) == used
    await bots.place(client, token, **BUYING, amountIn="1")
    assert [told(each) for each in await refusals(**BUYING, amountIn="1")] == [("maxOpenOrders", 2, 0)]


async def test_budgets_hold_without_redis(start: Start, bots: Bots) -> None:
    token = await bots.key(sol_per_day(2))
    client = await start(REDIS_URL=NO_REDIS)
    answers = await asyncio.gather(
        *(bots.send(client, token, order_of(**RESTING, amountIn="1")) for _ in range(10))
    )
    assert Counter(status for status, _order in answers) == {201: 2, 403: 8}
