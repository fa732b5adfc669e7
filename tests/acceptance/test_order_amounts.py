"""What orders may sell, whoever places them: one alone or in a batch, and all together in a day."""

import asyncio
from collections.abc import Awaitable, Callable

from service.api.problem_schemas import ProblemSchema
from tests.support.gem_market import rows
from tests.support.orders import Client, Json, get, order_of, place, watch
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]

RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
REACHED: Json = {**RESTING, "limitPrice": "0.000001"}
SNIPER: Json = {
    "orderType": "sniper",
    "tokenOut": "MOON",
    "sniperConditions": {"poolCreated": {"venue": "any"}},
}
KEPT: list[Json] = [
    {"amountIn": "1.500", **RESTING},
    {"amountIn": "1", **SNIPER},
    # There is no limit of JUP, of which any amount may be bought or sold.
    {"tokenIn": "JUP", "amountIn": "100000", "orderType": "market"},
    {"tokenIn": "JUP", "tokenOut": "USDC", "amountOut": "100"},
]
BROKEN: list[tuple[Json, str]] = [
    ({"amountIn": "1.500000001"}, "1.5"),
    ({"amountIn": "2", **RESTING}, "1.5"),
    ({"amountIn": "2", **SNIPER}, "1.5"),
    ({"tokenIn": "JUP", "tokenOut": "USDC", "amountOut": "100.000001"}, "100"),
    # What an exact-out order may pay is not known.
    ({"amountOut": "1"}, "1.5"),
]


def check(problem: Json, limit: str) -> None:
    assert ProblemSchema().validate(problem) == {}
    assert (problem["status"], problem["rule"], problem["limit"]) == (403, "maxOrderAmounts", limit)
    assert problem["detail"].startswith("This service allows")


async def test_an_order_over_the_largest_amount_is_refused(start: Start, servers: TestServers) -> None:
    client = await start(MAX_ORDER_AMOUNTS="SOL=1.5,USDC=100")
    for changes, limit in BROKEN:
        async with client.post("/api/orders/execute", json=order_of(**changes)) as answer:
            assert answer.status == 403, changes
            check(await answer.json(), limit)
    batch = [order_of(**changes) for changes in [*KEPT, *(changes for changes, _limit in BROKEN)]]
    async with client.post("/api/orders/batch", json={"orders": batch}) as answer:
        results = (await answer.json())["results"]
    assert [result["status"] for result in results] == [201] * len(KEPT) + [403] * len(BROKEN)
    for result, (_changes, limit) in zip(results[len(KEPT) :], BROKEN, strict=True):
        check(result["problem"], limit)
    assert rows(servers, "SELECT count(*) FROM orders") == [(len(KEPT),)]


async def test_what_was_placed_before_is_answered_again(start: Start) -> None:
    free, limited = await start(), await start(MAX_ORDER_AMOUNTS="SOL=1")
    order = await place(free, clientOrderId="mine", **RESTING)
    async with limited.post("/api/orders/execute", json=order_of(clientOrderId="mine", **RESTING)) as answer:
        assert (answer.status, (await answer.json())["id"]) == (200, order["id"])


async def _ended(client: Client, order: Json) -> Json:
    await watch(client, order["id"])
    return await get(client, order["id"])


async def test_two_instances_never_sell_more_in_a_day(start: Start, servers: TestServers) -> None:
    clients = [await start(MAX_DAY_AMOUNTS="SOL=7") for _ in range(2)]
    bodies = [order_of(amountIn="1", **(REACHED if number % 3 else {})) for number in range(30)]

    async def send(number: int, body: Json) -> str:
        async with clients[number % 2].post("/api/orders/execute", json=body) as answer:
            placed = await answer.json()
        if answer.status == 403:
            assert placed["rule"] == "maxDayAmounts"
            return "refused"
        end = await _ended(clients[0], placed)
        return str(end["failureReason"] or end["status"])

    ends = await asyncio.gather(*(send(number, body) for number, body in enumerate(bodies)))
    assert ends.count("confirmed") == 7
    assert set(ends) <= {"confirmed", "over_limit", "refused"}
    assert ends.count("over_limit") >= 13
    assert rows(servers, "SELECT count(*) FROM transactions") == [(7,)]


async def test_a_lower_limit_holds_for_what_rests_already(start: Start, servers: TestServers) -> None:
    before = await start()
    order = await place(before, amountIn="2", **RESTING)
    await before.close()
    client = await start(MAX_ORDER_AMOUNTS="SOL=1")
    rows(servers, "UPDATE orders SET limit_out = 1, limit_price = '0.000001' WHERE id = %s", order["id"])
    rows(servers, "UPDATE open_orders SET rested_at = now(), fired = '{}', due_at = now(), wake_at = now()")
    over = await _ended(client, order)
    assert (over["status"], over["failureReason"]) == ("failed", "over_limit")
    assert over["failureDetail"] == "This service allows at most 1 SOL per order."
