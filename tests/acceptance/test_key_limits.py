"""The limits of a key over the wire, on two instances: orders alone and in batches, amendments, sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError

from service.api.access import STREAM_PROTOCOL
from service.api.admin_schemas import KeySchema
from service.api.problem_schemas import ProblemSchema
from service.api.responses import BatchResultSchema
from service.clock import Clock
from service.domain.api_key import Scope
from service.domain.key_limits import NO_LIMITS, KeyLimits, LargestAmount
from service.domain.order import OrderType
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.store.api_keys import ApiKeys, NewKey
from tests.support.gem_market import rows
from tests.support.orders import Client, Json, order_of
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]
Header = dict[str, str]

IN_FORCE_WITHIN_S = 2.0
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC", "slippageBps": 50}
SNIPER: Json = {"orderType": "sniper", "sniperConditions": {"poolCreated": {"venue": "any"}}}
SOL, USDC = 10**9, 10**6

# The limits; orders that keep them, and orders that do not; the rule and the limit in the problem.
RULES: list[Any] = [
    pytest.param(
        KeyLimits(tokens=frozenset({"SOL", "USDC"})),
        [RESTING, {**RESTING, "tokenIn": "USDC", "tokenOut": "SOL"}],
        [{**RESTING, "tokenOut": "USDT"}, {**RESTING, "tokenIn": "JUP"}, {**SNIPER, "tokenOut": "MOON"}],
        ("tokens", ["SOL", "USDC"]),
        id="tokens",
    ),
    pytest.param(
        KeyLimits(tokens=frozenset({"SOL", "MOON"})),
        [{**SNIPER, "tokenOut": "MOON"}],
        [{**SNIPER, "tokenOut": "Moon2"}, RESTING],
        ("tokens", ["MOON", "SOL"]),
        id="a token that is not listed",
    ),
    pytest.param(
        KeyLimits(order_types=frozenset({OrderType.LIMIT})),
        [RESTING],
        [{}, {**SNIPER, "tokenOut": "MOON"}],
        ("orderTypes", ["limit"]),
        id="orderTypes",
    ),
    pytest.param(
        KeyLimits(max_slippage_bps=50),
        [RESTING, {"slippageBps": 0}],
        [{**RESTING, "slippageBps": 51}, {}],
        ("maxSlippageBps", 50),
        id="maxSlippageBps",
    ),
    pytest.param(
        KeyLimits(max_amount={"SOL": LargestAmount(3 * SOL // 2, 9)}),
        [{**RESTING, "amountIn": "1.50"}, {"tokenIn": "USDC", "tokenOut": "SOL", "amountOut": "1.5"}],
        [
            {**RESTING, "amountIn": "1.500000001"},
            {"tokenIn": "USDC", "tokenOut": "SOL", "amountOut": "1.500000001"},
            # What an exact-out order may pay is not known.
            {"amountOut": "1"},
        ],
        ("maxAmount", "1.5"),
        id="maxAmount",
    ),
]


class Keys:
    """Creates keys with limits on a test's database."""

    def __init__(self, stored: ApiKeys) -> None:
        self.stored = stored
        self._ids: dict[str, str] = {}

    async def header(self, limits: KeyLimits = NO_LIMITS) -> Header:
        """Create a key, and return the header that sends it."""
        key_id, token = await self.stored.create(NewKey("desk", "bot", Scope.TRADE, limits=limits))
        self._ids[token] = key_id
        return {"Authorization": f"Bearer {token}"}

    async def limit(self, header: Header, limits: KeyLimits) -> None:
        """Replace the limits of a header's key."""
        assert await self.stored.set_limits(self.id_of(header), limits)

    def id_of(self, header: Header) -> str:
        """Return the id of a header's key."""
        return self._ids[header["Authorization"].removeprefix("Bearer ")]


@pytest.fixture
async def keys(servers: TestServers) -> AsyncIterator[Keys]:
    """Return the keys of the test's database, before any service starts on it."""
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    yield Keys(ApiKeys(database, Clock()))
    await database.close()


async def send(client: Client, header: Header, body: Json, **headers: str) -> tuple[int, Json]:
    """Place an order; return the status and the body."""
    async with client.post("/api/orders/execute", json=body, headers={**header, **headers}) as answer:
        return answer.status, await answer.json()


async def amend(client: Client, header: Header, order: Json, **changes: object) -> tuple[int, Json]:
    """Amend an order; return the status and the body."""
    async with client.patch(f"/api/orders/{order['id']}", json=changes, headers=header) as answer:
        return answer.status, await answer.json()


def told(problem: Json) -> tuple[str, object]:
    """Return the rule and the limit of a problem, which has to be one."""
    assert ProblemSchema().validate(problem) == {}
    assert (problem["status"], problem["title"]) == (403, "Forbidden")
    assert "The API key" in problem["detail"]
    return problem["rule"], problem["limit"]


async def until_told(client: Client, header: Header, body: Json, status: int) -> Json:
    """Place orders until the answer has a status, and return it."""
    began = time.monotonic()
    while (answer := await send(client, header, body))[0] != status:
        assert time.monotonic() - began < IN_FORCE_WITHIN_S, answer
        await asyncio.sleep(0.05)
    return answer[1]


@pytest.mark.parametrize(("limits", "kept", "broken", "expected"), RULES)
async def test_an_order_that_does_not_keep_a_limit_is_refused(
    start: Start,
    keys: Keys,
    servers: TestServers,
    limits: KeyLimits,
    kept: list[Json],
    broken: list[Json],
    expected: tuple[str, object],
) -> None:
    limited, free = await keys.header(limits), await keys.header()
    stored = 0
    for client in (await start(), await start()):
        for changes in broken:
            status, problem = await send(client, limited, order_of(**changes))
            assert status == 403, (changes, problem)
            assert told(problem) == expected
        for changes in kept:
            status, answer = await send(client, limited, order_of(**changes))
            assert status == 201, (changes, answer)
        batch = [order_of(**changes) for changes in (*broken, *kept)]
        async with client.post("/api/orders/batch", json={"orders": batch}, headers=limited) as response:
            body = await response.json()
        assert BatchResultSchema().validate(body) == {}
        results = body["results"]
        assert [each["status"] for each in results] == [403] * len(broken) + [201] * len(kept)
        assert [told(each["problem"]) for each in results[: len(broken)]] == [expected] * len(broken)
        stored += 2 * len(kept)
        assert rows(servers, "SELECT count(*) FROM orders") == [(stored,)]
    # It is this key's limit.
    for changes in broken:
        assert (await send(client, free, order_of(**changes)))[0] == 201


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (KeyLimits(tokens=frozenset({"SOL", "USDT"})), ("tokens", ["SOL", "USDT"])),
        (KeyLimits(order_types=frozenset({OrderType.MARKET})), ("orderTypes", ["market"])),
        (KeyLimits(max_slippage_bps=40), ("maxSlippageBps", 40)),
        (KeyLimits(max_amount={"SOL": LargestAmount(SOL, 9)}), ("maxAmount", "1")),
    ],
)
async def test_only_an_order_that_keeps_the_limits_is_amended(
    start: Start, keys: Keys, limits: KeyLimits, expected: tuple[str, object]
) -> None:
    limited, free = await keys.header(limits), await keys.header()
    clients = [await start(), await start()]
    _status, order = await send(clients[0], free, order_of(**RESTING))
    for client in clients:
        status, problem = await amend(client, limited, order, limitPrice="2000000")
        assert (status, told(problem)) == (403, expected)
        # What changes nothing is no amendment.
        assert (await amend(client, limited, order, limitPrice="1000000.0"))[0] == 200
    async with clients[1].get(f"/api/orders/{order['id']}", headers=limited) as answer:
        assert (await answer.json())["limitPrice"] == "1000000"
    assert (await amend(clients[0], free, order, limitPrice="2000000"))[0] == 200
    async with clients[1].delete(f"/api/orders/{order['id']}", headers=limited) as answer:
        assert answer.status == 200


async def test_an_amended_slippage_keeps_the_limit(start: Start, keys: Keys) -> None:
    limited = await keys.header(KeyLimits(max_slippage_bps=100))
    clients = [await start(), await start()]
    _status, order = await send(clients[0], limited, order_of(**RESTING))
    for client, allowed in zip(clients, (100, 0), strict=True):
        for refused in (101, 10_000):
            status, problem = await amend(client, limited, order, slippageBps=refused)
            assert (status, told(problem)) == (403, ("maxSlippageBps", 100))
        status, amended = await amend(client, limited, order, slippageBps=allowed)
        assert (status, amended["slippageBps"]) == (200, allowed)


async def test_a_changed_limit_is_soon_in_force_on_every_instance(
    start: Start, keys: Keys, servers: TestServers
) -> None:
    header = await keys.header()
    # An instance reads again only what has changed since its last read.
    rows(servers, "UPDATE api_keys SET changed_at = now() - interval '1 hour'")
    clients = [await start(), await start()]
    for client in clients:
        assert (await send(client, header, order_of(**RESTING)))[0] == 201
    await keys.limit(header, KeyLimits(max_slippage_bps=49))
    for client in clients:
        assert told(await until_told(client, header, order_of(**RESTING), 403)) == ("maxSlippageBps", 49)
    # All of them are replaced.
    await keys.limit(header, KeyLimits(max_amount={"USDC": LargestAmount(5 * USDC, 6)}))
    for client in clients:
        await until_told(client, header, order_of(**RESTING), 201)
        status, problem = await send(client, header, order_of(amountOut="5.1"))
        assert (status, told(problem)) == (403, ("maxAmount", "5"))
    assert not await keys.stored.set_limits("0" * 16, NO_LIMITS)


async def test_a_repeated_order_is_answered_as_before_a_limit_was_set(
    start: Start, keys: Keys, servers: TestServers
) -> None:
    header = await keys.header()
    clients = [await start(), await start()]
    named, batch = order_of(**RESTING, clientOrderId="mine"), {"orders": [order_of(**RESTING)]}
    _status, by_name = await send(clients[0], header, named)
    _status, by_key = await send(clients[0], header, order_of(**RESTING), **{"Idempotency-Key": "one"})
    path, keyed = "/api/orders/batch", {**header, "Idempotency-Key": "two"}
    async with clients[0].post(path, json=batch, headers=keyed) as answer:
        [in_batch] = (await answer.json())["results"]
    await keys.limit(header, KeyLimits(tokens=frozenset({"JUP"}), max_slippage_bps=0))
    for client in clients:
        await until_told(client, header, order_of(**RESTING), 403)
        status, replayed = await send(client, header, named)
        assert (status, replayed["id"]) == (200, by_name["id"])
        assert await send(client, header, order_of(**RESTING), **{"Idempotency-Key": "one"}) == (201, by_key)
        async with client.post(path, json=batch, headers=keyed) as answer:
            assert answer.headers["Idempotent-Replayed"] == "true"
            assert (await answer.json())["results"] == [in_batch]
        # Another order under the same id is none.
        assert (await send(client, header, {**named, "label": "other"}))[0] == 409
        other = order_of(**RESTING, label="other")
        assert (await send(client, header, other, **{"Idempotency-Key": "one"}))[0] == 422
        # A refused order takes no key.
        assert (await send(client, header, other, **{"Idempotency-Key": "three"}))[0] == 403
    before = rows(servers, "SELECT count(*) FROM orders")
    await keys.limit(header, NO_LIMITS)
    await until_told(clients[0], header, order_of(**RESTING, clientOrderId="probe"), 201)
    assert (await send(clients[0], header, other, **{"Idempotency-Key": "three"}))[0] == 201
    assert rows(servers, "SELECT count(*) FROM orders") == [(before[0][0] + 2,)]


async def test_a_key_has_its_own_number_of_requests(start: Start, keys: Keys) -> None:
    slow, fast, other = (
        await keys.header(KeyLimits(requests_per_second=5)),
        await keys.header(KeyLimits(requests_per_second=1_000)),
        await keys.header(),
    )
    clients = [await start(), await start()]

    async def ask(client: Client, header: Header) -> tuple[int, str | None]:
        async with client.get("/api/tokens", headers=header) as answer:
            return answer.status, answer.headers.get("RateLimit-Policy")

    answers = await asyncio.gather(*(ask(clients[number % 2], slow) for number in range(20)))
    assert {policy for _status, policy in answers} == {'"default";q=5;w=1'}
    # More than two windows allow, however the second is cut.
    assert 5 <= [status for status, _policy in answers].count(200) <= 10
    assert await ask(clients[0], other) == (200, None)
    limited = await start(REQUESTS_PER_SECOND="1")
    answers = await asyncio.gather(*(ask(limited, fast) for _ in range(20)))
    assert set(answers) == {(200, '"default";q=1000;w=1')}
    assert await ask(limited, other) == (200, '"default";q=1;w=1')


async def test_a_key_has_so_many_sockets_open_on_one_instance(start: Start, keys: Keys) -> None:
    limited, other = await keys.header(KeyLimits(max_sockets=2)), await keys.header()
    clients = [await start(), await start()]
    _status, order = await send(clients[0], limited, order_of(**RESTING))
    path = f"/api/orders/{order['id']}/ws"
    upgrade = {
        **limited,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "A" * 22 + "==",
    }

    async def ticket() -> tuple[str, str]:
        async with clients[0].post("/api/stream-tickets", headers=limited) as answer:
            return STREAM_PROTOCOL, f"ticket.{(await answer.json())['ticket']}"

    for client in clients:
        sockets = [
            await client.ws_connect(path, headers=limited),
            # Sockets of all kinds count together.
            await client.ws_connect("/api/market/ws?pairs=SOL-USDC", protocols=await ticket()),
        ]
        async with client.get(path, headers=upgrade) as answer:
            problem = await answer.json()
            assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert (problem["rule"], problem["limit"]) == ("maxSockets", 2)
        with pytest.raises(WSServerHandshakeError, match="429"):
            await client.ws_connect(path, protocols=await ticket())
        # Another key of the account is not affected, and an order that is not there is no socket.
        await (await client.ws_connect(path, headers=other)).close()
        async with client.get(path.replace(order["id"], "0" * 32), headers=upgrade) as answer:
            assert answer.status == 404
        # One that has ended makes room for another.
        await sockets.pop().close()
        began = time.monotonic()
        while len(sockets) < 2:
            try:
                sockets.append(await client.ws_connect(path, headers=limited))
            except WSServerHandshakeError:
                assert time.monotonic() - began < IN_FORCE_WITHIN_S
                await asyncio.sleep(0.05)
        for socket in sockets:
            assert (await socket.receive_json())["sequence"] == 1


async def test_a_key_tells_its_limits(start: Start, keys: Keys) -> None:
    limits = KeyLimits(
        tokens=frozenset({"USDC", "SOL"}),
        order_types=frozenset({OrderType.LIMIT, OrderType.MARKET}),
        max_slippage_bps=100,
        max_price_impact_bps=300,
        max_amount={"SOL": LargestAmount(21 * SOL // 2, 9)},
        requests_per_second=50,
        max_sockets=20,
        requires_approval=True,
        max_amount_per_day={"SOL": LargestAmount(100 * SOL, 9)},
        max_usd_per_order=1_500 * USDC,
        max_usd_per_day=10_000 * USDC,
        max_open_orders=50,
    )
    headers = [await keys.header(limits), await keys.header()]
    client = await start()
    shown = []
    for header in headers:
        async with client.get("/api/keys/me", headers=header) as answer:
            body = await answer.json()
        assert KeySchema().validate(body) == {}
        shown.append(body["limits"])
    assert shown[0] == {
        "tokens": ["SOL", "USDC"],
        "orderTypes": ["market", "limit"],
        "maxSlippageBps": 100,
        "maxPriceImpactBps": 300,
        "maxAmount": {"SOL": "10.5"},
        "requestsPerSecond": 50,
        "maxSockets": 20,
        "requiresApproval": True,
        "maxAmountPerDay": {"SOL": "100"},
        "maxUsdPerOrder": "1500",
        "maxUsdPerDay": "10000",
        "maxOpenOrders": 50,
    }
    assert set(shown[1].values()) == {None, False}


async def test_limits_that_cannot_be_read_allow_no_order(
    start: Start, keys: Keys, servers: TestServers
) -> None:
    header, other = await keys.header(), await keys.header()
    rows(
        servers,
        "UPDATE api_keys SET limits = '{\"maxPerDay\": 1}', changed_at = now() WHERE id = %s",
        keys.id_of(header),
    )
    client = await start()
    status, problem = await send(client, header, order_of(**RESTING))
    assert (status, told(problem)) == (403, ("tokens", []))
    assert (await client.get("/api/orders", headers=header)).status == 200
    assert (await send(client, other, order_of(**RESTING)))[0] == 201
