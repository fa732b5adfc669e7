"""MAX_ORDER_AMOUNTS: the largest amounts of one order, whoever places it, alone or in a batch."""

from collections.abc import Awaitable, Callable

from service.api.problem_schemas import ProblemSchema
from tests.support.gem_market import rows
from tests.support.orders import Client, Json, order_of, place
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]

RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
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
