"""No order is submitted on a route whose price impact is above the limit, the service's or its key's.

In the pool of these tests x USDC buy GEM with an impact of n / (100,000 + n), where n is x after the fee of a
quarter of a per cent: 100 USDC have one of 0.0997 %, 101 USDC one of 0.1007 %.
"""

from collections.abc import Awaitable, Callable

from service.domain.key_limits import KeyLimits
from tests.acceptance.test_key_limits import Header, Keys, amend, keys, send
from tests.support.gem_market import (
    LIMIT_ORDER,
    SNIPER_ORDER,
    following,
    forget_listed_tokens,
    limit,
    list_pool,
    rows,
    transactions,
)
from tests.support.orders import LIFE, Client, Json, execute, order_of, statuses
from tests.support.servers import TestServers

__all__ = ["forget_listed_tokens", "keys"]  # fixtures: pytest finds them here

Start = Callable[..., Awaitable[Client]]

BUY: Json = {"tokenIn": "USDC", "tokenOut": "GEM"}
ONE_RETRY = {"MAX_RETRIES": "1", "RETRY_BASE_DELAY_MS": "50"}
FIRES_ANYWAY = {"timeWindow": {"notBefore": "2020-01-01T00:00:00Z"}}
NOT_SUBMITTED = ["pending", "routing", "pending", "routing", "failed"]


def why(order: Json) -> tuple[str, str]:
    """Return the reason why an order has failed, and the text."""
    assert order["status"] == "failed"
    return order["failureReason"], order["failureDetail"]


async def ended(client: Client, header: Header, **changes: object) -> Json:
    """Place an order with a key, and return it as it has ended."""
    status, placed = await send(client, header, order_of(**changes))
    assert status == 201, placed
    async with client.ws_connect(f"/api/orders/{placed['id']}/ws", headers=header) as socket:
        async for message in socket:
            placed = message.json()["order"]
    return placed


async def test_an_order_above_the_limit_of_the_service_fails(start: Start, servers: TestServers) -> None:
    client = await start(MAX_PRICE_IMPACT_BPS="10", **ONE_RETRY)
    await list_pool(client)
    sniper = {**SNIPER_ORDER, "sniperConditions": FIRES_ANYWAY}
    for body, impact in (
        ({**BUY, "amountIn": "101"}, "0.1007"),
        # Of the pool's 1,000,000; rounded up.
        ({**BUY, "amountOut": "1006.5"}, "0.1007"),
        ({**sniper, "amountIn": "102"}, "0.1017"),
    ):
        order = await execute(client, **body)
        expected = (
            NOT_SUBMITTED if order["orderType"] == "market" else ["pending", "open", *NOT_SUBMITTED[1:]]
        )
        assert statuses(order) == expected
        code, detail = why(order)
        assert code == "price_impact_too_high"
        assert f" {impact} %, is above the limit, 0.1 %." in detail
        [offer] = order["quotes"]
        assert (offer["priceImpact"], order["route"]) == (f"0.00{impact[2:]}", None)
        assert transactions(servers, order) == []
    order = await execute(client, **BUY, amountIn="100")
    assert statuses(order) == LIFE
    assert order["route"]["priceImpact"] == "0.000997"


async def test_the_lower_one_of_the_key_s_and_the_service_s_limit_applies(
    start: Start, keys: Keys, servers: TestServers
) -> None:
    clients = [await start(MAX_PRICE_IMPACT_BPS="10", **ONE_RETRY) for _ in range(2)]
    await list_pool(clients[0])
    low, high, none = [await keys.header(KeyLimits(max_price_impact_bps=bps)) for bps in (5, 20, None)]
    for client in clients:
        code, detail = why(await ended(client, low, **BUY, amountIn="60"))
        assert (code, "above the limit, 0.05 %." in detail) == ("price_impact_too_high", True)
        code, detail = why(await ended(client, high, **BUY, amountIn="110"))
        assert (code, "above the limit, 0.1 %." in detail) == ("price_impact_too_high", True)
        assert statuses(await ended(client, none, **BUY, amountIn="60")) == LIFE
        assert statuses(await ended(client, low, **BUY, amountIn="40")) == LIFE
    stored = rows(servers, "SELECT amount_text, max_price_impact_bps FROM orders ORDER BY created_at")
    assert stored == [("60", 5), ("110", 20), ("60", None), ("40", 5)] * 2


async def test_a_key_s_limit_applies_without_one_of_the_service(start: Start, keys: Keys) -> None:
    client = await start(**ONE_RETRY)
    await list_pool(client)
    none, low = await keys.header(), await keys.header(KeyLimits(max_price_impact_bps=0))
    assert why(await ended(client, low, **BUY, amountIn="1"))[0] == "price_impact_too_high"
    assert statuses(await ended(client, none, **BUY, amountIn="10000")) == LIFE


async def test_a_limit_order_rests_until_its_impact_is_low_enough(start: Start) -> None:
    client = await start(MAX_PRICE_IMPACT_BPS="10")
    await list_pool(client)
    order = await limit(client, "9", amountIn="101")
    async with following(client, order, after=2) as follower:
        returned = await follower.until("open")
        assert returned["statusHistory"][-1]["reason"] == "price_impact_too_high"
        # A second pool takes half of it.
        await list_pool(client, program="raydium_amm_v4")
        filled = await follower.end()
    assert filled["status"] == "confirmed"
    assert filled["route"]["priceImpact"] == "0.000504"
    assert "submitted" not in statuses(returned)


async def test_an_immediate_order_expires(start: Start) -> None:
    client = await start(MAX_PRICE_IMPACT_BPS="10")
    await list_pool(client)
    order = await execute(
        client, **{**LIMIT_ORDER, "amountIn": "101", "limitPrice": "9", "timeInForce": "IOC"}
    )
    assert (order["status"], order["failureReason"]) == ("expired", "not_filled_immediately")
    assert "price impact, 0.1007 %, is above the limit" in order["failureDetail"]


async def test_an_amended_order_keeps_the_lower_limit_of_its_keys(
    start: Start, keys: Keys, servers: TestServers
) -> None:
    client = await start()
    headers = {bps: await keys.header(KeyLimits(max_price_impact_bps=bps)) for bps in (None, 5, 20, 3)}
    resting = order_of(orderType="limit", limitPrice="1000000", timeInForce="GTC")
    _status, order = await send(client, headers[None], resting)
    stored = []
    for number, bps in enumerate((None, 20, 5, 20, None, 3)):
        assert (await amend(client, headers[bps], order, limitPrice=str(2_000_000 + number)))[0] == 200
        stored += rows(servers, "SELECT max_price_impact_bps FROM orders")
    assert stored == [(None,), (20,), (5,), (5,), (5,), (3,)]
