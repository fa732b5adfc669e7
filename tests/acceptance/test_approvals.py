"""Orders that an admin key must approve, on two instances: from their acceptance to every possible end."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.web import Application

from service.api.admin_schemas import KeySchema
from service.api.problem_schemas import ProblemSchema
from service.api.responses import OrderListSchema, OrderSchema
from service.domain.timestamps import format_timestamp
from tests.conftest import service_on
from tests.support.approvals import Key, Team, create_team
from tests.support.gem_market import open_state, rows
from tests.support.judge import audit_now
from tests.support.orders import Client, Json, order_of, statuses
from tests.support.paper import until
from tests.support.servers import TestServers

Start = Callable[..., Awaitable[Client]]

PAID: Json = {"orderType": "limit", "limitPrice": "1", "timeInForce": "GTC"}
RESTING: Json = {"orderType": "limit", "limitPrice": "1000000", "timeInForce": "GTC"}
ANY_POOL: Json = {"price": {"above": "1"}}
KINDS: dict[str, Json] = {
    "market": {},
    "exact-out market": {"amountOut": "1.5"},
    "limit": PAID,
    "IOC": {"orderType": "limit", "limitPrice": "1", "timeInForce": "IOC"},
    "sniper": {"orderType": "sniper", "sniperConditions": ANY_POOL},
}
APPROVED_LIFE = ["pending", "open", "open", "routing", "building", "submitted", "confirmed"]


@pytest.fixture
async def team(servers: TestServers) -> Team:
    return await create_team(servers)


async def ask(
    client: Client, method: str, path: str, key: Key, body: object = None, **headers: str
) -> tuple[int, Json]:
    """Send a request; return the status and the body."""
    sent = {**key.header, **headers}
    async with client.request(method, path, json=body, headers=sent) as answer:
        return answer.status, await answer.json()


async def place(client: Client, key: Key, **changes: Any) -> Json:
    """Place an order and return the response."""
    status, order = await ask(client, "POST", "/api/orders/execute", key, order_of(**changes))
    assert status == 201, order
    return order


async def get(client: Client, key: Key, order: Json) -> Json:
    """Read an order."""
    status, found = await ask(client, "GET", f"/api/orders/{order['id']}", key)
    assert status == 200, found
    return found


async def decide(client: Client, key: Key, order: Json, what: str, body: object = None) -> tuple[int, Json]:
    """Approve or refuse an order."""
    return await ask(client, "POST", f"/api/orders/{order['id']}/{what}", key, body)


async def approve(client: Client, key: Key, order: Json, body: object = None) -> Json:
    """Approve an order, which must succeed, and return it."""
    status, approved = await decide(client, key, order, "approve", body)
    assert status == 200, approved
    return approved


async def follow(client: Client, key: Key, order: Json) -> list[Json]:
    """Follow an order to its end, and return the messages."""
    path = f"/api/orders/{order['id']}/ws"
    async with client.ws_connect(path, headers=key.header) as socket:
        messages: list[Json] = [message.json() async for message in socket]
    assert socket.close_code == 1000
    return messages


def after(seconds: float) -> str:
    return format_timestamp(datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_order_is_open_until_it_is_approved_and_is_then_executed(
    start: Start, team: Team, servers: TestServers, kind: str
) -> None:
    here, there = await start(), await start()
    placed = await place(here, team.bot, **KINDS[kind])
    assert OrderSchema().validate(placed) == {}
    assert (placed["status"], placed["awaitingApproval"], placed["account"]) == ("open", True, "desk")
    assert statuses(placed) == ["pending", "open"]
    assert placed["statusHistory"][1]["awaitingApproval"] is True
    following = asyncio.create_task(follow(there, team.bot, placed))
    # An IOC order would long be too late, if its time counted from its acceptance.
    waited = "SELECT now() > created_at + interval '{} s' FROM orders"
    await until(lambda: rows(servers, waited.format(1.6 if kind == "IOC" else 0.2)) == [(True,)])
    assert await get(there, team.bot, placed) == placed
    status, page = await ask(there, "GET", "/api/orders?status=open", team.boss)
    assert OrderListSchema().validate(page) == {}
    assert (status, page["orders"]) == (200, [placed])
    approved = await approve(there, team.boss, placed)
    assert (approved["status"], approved["awaitingApproval"]) == ("open", False)
    assert approved["statusHistory"][2]["approvedBy"] == team.boss.id
    messages = await following
    assert [message["status"] for message in messages] == APPROVED_LIFE
    awaiting = [message["order"]["awaitingApproval"] for message in messages]
    assert awaiting == [False, True, *[False] * 5]
    assert messages[2]["order"] == approved
    # What made a resting order due is in its history; of the others, that is the approval.
    assert ("triggeredBy" in messages[3]["order"]["statusHistory"][3]) == (kind in {"limit", "sniper"})
    for what in ("approve", "refuse"):
        status, problem = await decide(here, team.boss, placed, what)
        assert (status, ProblemSchema().validate(problem)) == (409, {})
        assert problem["detail"] == (
            f"The order awaits no approval: it is confirmed. It was approved by {team.boss.id}."
        )
    assert await audit_now(servers) == []


async def test_an_approved_order_rests_and_other_orders_await_no_approval(start: Start, team: Team) -> None:
    client = await start()
    resting = await place(client, team.bot, **RESTING)
    other = await place(client, team.trader, **RESTING)
    status, body = await ask(
        client, "POST", "/api/orders/batch", team.bot, {"orders": [order_of(), order_of(**RESTING)]}
    )
    assert status == 200
    assert [each["status"] for each in body["results"]] == [201, 201]
    assert all(each["order"]["awaitingApproval"] for each in body["results"])
    assert (other["status"], other["awaitingApproval"]) == ("pending", False)
    assert (await get(client, team.bot, other))["awaitingApproval"] is False
    for what in ("approve", "refuse"):
        status, problem = await decide(client, team.boss, other, what)
        assert (status, problem["detail"]) == (409, "The order awaits no approval: it is open.")
    approved = await approve(client, team.boss, resting, {"reason": "as agreed", "sequence": 2})
    assert approved["statusHistory"][2]["detail"] == "as agreed"
    assert await get(client, team.bot, resting) == approved
    # It rests like any other.
    status, amended = await ask(
        client, "PATCH", f"/api/orders/{resting['id']}", team.trader, {"limitPrice": "1"}
    )
    assert (status, amended["awaitingApproval"]) == (200, False)
    assert (await follow(client, team.bot, resting))[-1]["status"] == "confirmed"


async def test_the_orders_that_await_approval_are_listed(start: Start, team: Team) -> None:
    client = await start()
    orders = [await place(client, team.bot, label=name, **RESTING) for name in "abcd"]
    await place(client, team.trader, **RESTING)
    await approve(client, team.boss, orders[0])
    assert (await decide(client, team.boss, orders[1], "refuse"))[0] == 200
    for key in (team.bot, team.boss):
        for query, expected in (
            ("", "dc"),
            ("&status=open,cancelled", "dc"),
            ("&status=cancelled", ""),
            ("&label=c", "c"),
            ("&orderType=market", ""),
        ):
            path = f"/api/orders?awaitingApproval=true{query}"
            _status, page = await ask(client, "GET", path, key)
            assert [order["label"] for order in page["orders"]] == list(expected), query
    _status, first = await ask(client, "GET", "/api/orders?awaitingApproval=true&limit=1", team.boss)
    cursor = f"cursor={first['nextCursor']}"
    _status, second = await ask(
        client, "GET", f"/api/orders?awaitingApproval=true&limit=1&{cursor}", team.boss
    )
    assert [order["label"] for order in (*first["orders"], *second["orders"])] == ["d", "c"]
    for query in (f"status=open&{cursor}", "awaitingApproval=false", "awaitingApproval=1"):
        assert (await ask(client, "GET", f"/api/orders?{query}", team.boss))[0] == 422


@pytest.mark.parametrize("kind", ["market", "limit"])
async def test_a_refused_order_is_cancelled_with_the_reason(start: Start, team: Team, kind: str) -> None:
    here, there = await start(), await start()
    order = await place(here, team.bot, **KINDS[kind])
    following = asyncio.create_task(follow(here, team.bot, order))
    status, refused = await decide(there, team.boss, order, "refuse", {"reason": "too large"})
    assert status == 200
    assert (refused["status"], refused["awaitingApproval"]) == ("cancelled", False)
    assert (refused["failureReason"], refused["failureDetail"]) == ("approval_refused", "too large")
    end = refused["statusHistory"][2]
    assert (end["refusedBy"], end["reason"], end["detail"]) == (team.boss.id, "approval_refused", "too large")
    assert (await following)[-1]["order"] == refused
    status, problem = await decide(here, team.boss, order, "approve")
    assert (status, problem["detail"]) == (409, "The order awaits no approval: it is cancelled.")
    _status, page = await ask(here, "GET", "/api/orders?status=cancelled", team.bot)
    assert page["orders"] == [refused]
    # Without a reason the text is the code's.
    other = await place(here, team.bot, **KINDS[kind])
    _status, refused = await decide(there, team.boss, other, "refuse")
    assert refused["failureDetail"] == "The order was not approved."


async def test_what_is_no_decision_is_refused(start: Start, team: Team) -> None:
    client = await start()
    order = await place(client, team.bot, **RESTING)
    path = f"/api/orders/{order['id']}"
    for what in ("approve", "refuse"):
        for key in (team.bot, team.trader):
            assert (await decide(client, key, order, what))[0] == 403
        for unknown in ("0190a8f5-0000-7000-8000-000000000000", "none"):
            assert (await decide(client, team.boss, {"id": unknown}, what))[0] == 404
        for body, pointer in (
            ({"reason": ""}, "#/reason"),
            ({"reason": "x" * 201}, "#/reason"),
            ({"reason": "a\nb"}, "#/reason"),
            ({"reason": 1}, "#/reason"),
            ({"sequence": 0}, "#/sequence"),
            ({"sequence": "2"}, "#/sequence"),
            ({"sequence": True}, "#/sequence"),
            ({"price": "1"}, "#/price"),
            ([], "#"),
        ):
            status, problem = await decide(client, team.boss, order, what, body)
            assert (status, problem["errors"][0]["pointer"]) == (422, pointer), body
        json_type = {"Content-Type": "application/json"}
        for content, headers, expected in (
            (b"{", json_type, 400),
            (b'{"reason":"a","reason":"b"}', json_type, 400),
            (b"reason=a", {"Content-Type": "text/plain"}, 415),
        ):
            sent = {**team.boss.header, **headers}
            async with client.post(f"{path}/{what}", data=content, headers=sent) as answer:
                assert answer.status == expected, content
        status, problem = await decide(client, team.boss, order, what, {"sequence": 1})
        assert status == 409
        assert problem["detail"] == "The order was changed after entry 1; read it again."
    # A key whose own orders must be approved approves none, and may refuse them.
    status, problem = await decide(client, team.bound_boss, order, "approve")
    assert (status, problem["rule"], problem["limit"]) == (403, "requiresApproval", True)
    assert await get(client, team.bot, order) == order
    assert (await decide(client, team.bound_boss, order, "refuse"))[0] == 200


async def test_an_order_that_nobody_approves_expires(start: Start, team: Team) -> None:
    client = await start(APPROVAL_TIMEOUT_S="1")
    patient = await start(APPROVAL_TIMEOUT_S="3600")
    soon = {**RESTING, "timeInForce": "GTD", "expiresAt": after(1)}
    unapproved = [await place(client, team.bot, **KINDS[kind]) for kind in ("market", "IOC", "sniper")]
    ends_first = await place(patient, team.bot, **soon)
    own = [ends_first, await place(patient, team.bot, expiresAt=after(1))]
    stays = await place(patient, team.bot)
    for order in unapproved:
        end = (await follow(patient, team.bot, order))[-1]
        assert end["status"] == "expired"
        assert end["order"]["failureReason"] == "not_approved_in_time"
        assert end["order"]["failureDetail"] == "The order was not approved within APPROVAL_TIMEOUT_S."
        assert (await decide(client, team.boss, order, "approve"))[0] == 409
    for order in own:
        end = (await follow(client, team.bot, order))[-1]
        assert (end["status"], end["order"]["failureReason"]) == ("expired", None)
    assert (await get(client, team.bot, stays))["awaitingApproval"] is True


async def test_an_amendment_by_such_a_key_must_be_approved(
    start: Start, team: Team, servers: TestServers
) -> None:
    here, there = await start(), await start()

    async def amend(client: Client, key: Key, order: Json, **changes: object) -> Json:
        status, amended = await ask(client, "PATCH", f"/api/orders/{order['id']}", key, changes)
        assert status == 200, amended
        return amended

    order = await place(here, team.bot, **RESTING)
    # Whoever amends it, it stays awaiting, and what was seen before is not approved.
    for number, key in enumerate((team.trader, team.bot), start=3):
        amended = await amend(there, key, order, limitPrice=f"100000{number}")
        assert (amended["awaitingApproval"], amended["statusHistory"][-1]["sequence"]) == (True, number)
        status, _problem = await decide(here, team.boss, order, "approve", {"sequence": number - 1})
        assert status == 409
    await approve(here, team.boss, order, {"sequence": 4})
    assert (await amend(there, team.trader, order, limitPrice="1000005"))["awaitingApproval"] is False
    # A request that changes nothing needs none.
    assert (await amend(there, team.bot, order, limitPrice="1000005.0"))["awaitingApproval"] is False
    # From here on the market pays it.
    amended = await amend(there, team.bot, order, limitPrice="1")
    assert amended["awaitingApproval"] is True
    assert amended["statusHistory"][-1]["awaitingApproval"] is True
    others = await place(here, team.trader, **RESTING)
    await amend(here, team.bot, others, limitPrice="1")
    paid = await place(here, team.trader, **PAID)
    assert (await follow(here, team.trader, paid))[-1]["status"] == "confirmed"
    for waiting in (order, others):
        assert (await get(there, team.bot, waiting))["awaitingApproval"] is True
        await approve(there, team.boss, waiting)
        assert (await follow(here, team.bot, waiting))[-1]["status"] == "confirmed"
    assert await audit_now(servers) == []


async def test_a_market_order_is_amended_only_before_its_approval(start: Start, team: Team) -> None:
    client = await start(QUEUE_RATE_LIMIT="1")
    first = await place(client, team.trader)
    assert (await follow(client, team.trader, first))[-1]["status"] == "confirmed"
    order = await place(client, team.bot)
    path = f"/api/orders/{order['id']}"
    expires_at = "2100-01-01T00:00:00.000000Z"
    for changes in ({"slippageBps": 7}, {"expiresAt": expires_at}):
        status, amended = await ask(client, "PATCH", path, team.bot, changes)
        assert (status, amended["awaitingApproval"]) == (200, True)
    assert (amended["slippageBps"], amended["expiresAt"]) == (7, expires_at)
    assert (await ask(client, "PATCH", path, team.bot, {"limitPrice": "1"}))[0] == 422
    await approve(client, team.boss, order)
    # It is due, and waits for the rate limit.
    status, problem = await ask(client, "PATCH", path, team.bot, {"slippageBps": 8})
    assert status == 409
    assert problem["detail"].startswith("The order is approved and about to be executed")
    status, cancelled = await ask(client, "DELETE", path, team.bot)
    assert (status, cancelled["status"]) == (200, "cancelled")


async def test_of_concurrent_decisions_one_is_made(start: Start, team: Team, servers: TestServers) -> None:
    clients = [await start(), await start()]
    for others, allowed in ((["approve"], {"confirmed"}), (["refuse", "cancel"], {"confirmed", "cancelled"})):
        order = await place(clients[0], team.bot)
        path = f"/api/orders/{order['id']}"
        deeds = [("POST", f"{path}/{what}") if what != "cancel" else ("DELETE", path) for what in others]
        deeds = [("POST", f"{path}/approve")] * 8 + deeds * 4
        answers = await asyncio.gather(
            *(ask(clients[n % 2], *deed, team.boss) for n, deed in enumerate(deeds))
        )
        decided = Counter(
            deed[1]
            for deed, (status, _body) in zip(deeds, answers, strict=True)
            if status == 200 and deed[1] != path
        )
        assert sum(decided.values()) <= 1
        end = (await follow(clients[1], team.bot, order))[-1]["order"]
        assert end["status"] in allowed
        made = [entry for entry in end["statusHistory"] if {"approvedBy", "refusedBy"} & entry.keys()]
        assert len(made) == sum(decided.values())
    assert await audit_now(servers) == []


async def test_a_repeated_approval_is_answered_as_before(
    start: Start, team: Team, servers: TestServers
) -> None:
    clients = [await start(), await start()]
    once = {"Idempotency-Key": "once"}
    orders = [await place(clients[0], team.bot), await place(clients[0], team.bot, **RESTING)]
    for order, what in zip(orders, ("approve", "refuse"), strict=True):
        path, key = f"/api/orders/{order['id']}/{what}", {**once, "Idempotency-Key": what}
        status, answer = await ask(clients[0], "POST", path, team.boss, None, **key)
        assert status == 200
        for client in clients:
            async with client.post(path, headers={**team.boss.header, **key}) as again:
                assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
                assert await again.json() == answer
        assert (await ask(clients[1], "POST", path, team.boss, {"reason": "x"}, **key))[0] == 422
        assert (await ask(clients[1], "POST", path, team.boss))[0] == 409
    assert (await follow(clients[1], team.bot, orders[0]))[-1]["status"] == "confirmed"
    # So is the request that placed an order, as it was then.
    status, first = await ask(clients[0], "POST", "/api/orders/execute", team.bot, order_of(), **once)
    assert (status, first["awaitingApproval"]) == (201, True)
    await approve(clients[1], team.boss, first)
    await follow(clients[1], team.bot, first)
    replay = await ask(clients[1], "POST", "/api/orders/execute", team.bot, order_of(), **once)
    assert replay == (201, first)


async def test_nothing_is_approved_while_trading_is_halted(start: Start, team: Team) -> None:
    here, there = await start(), await start()
    approved, refused, cancelled = [await place(here, team.bot) for _ in range(3)]
    assert (await ask(there, "POST", "/api/admin/halt", team.boss, {"reason": "a drill"}))[0] == 200
    for client in (here, there):
        status, problem = await decide(client, team.boss, approved, "approve")
        assert (status, problem["detail"]) == (503, "Trading is halted: a drill")
    assert (await decide(here, team.boss, refused, "refuse"))[0] == 200
    assert (await ask(here, "DELETE", f"/api/orders/{cancelled['id']}", team.bot))[0] == 200
    assert (await get(there, team.bot, approved))["awaitingApproval"] is True
    assert (await ask(there, "POST", "/api/admin/resume", team.boss))[0] == 200
    await approve(here, team.boss, approved)
    assert (await follow(there, team.bot, approved))[-1]["status"] == "confirmed"


async def test_an_order_that_awaits_approval_can_be_cancelled(
    start: Start, team: Team, servers: TestServers
) -> None:
    client = await start()
    orders = [await place(client, team.bot, **KINDS[kind]) for kind in KINDS]
    status, cancelled = await ask(client, "DELETE", f"/api/orders/{orders[0]['id']}", team.trader)
    assert (status, cancelled["status"], cancelled["awaitingApproval"]) == (200, "cancelled", False)
    answer = await ask(client, "POST", "/api/orders/cancel", team.bot, {"orderType": "limit"})
    assert answer == (200, {"cancelled": 2, "cancelRequested": 0})
    # The dead man's switch.
    rows(servers, "INSERT INTO cancel_timers SELECT 'desk', now()")
    for order in orders:
        end = (await follow(client, team.bot, order))[-1]
        assert (end["status"], statuses(end["order"])) == ("cancelled", ["pending", "open", "cancelled"])
        assert (await decide(client, team.boss, order, "approve"))[0] == 409


async def test_approvals_survive_a_restart_and_need_no_redis(
    servers: TestServers, team: Team, aiohttp_client: Callable[[Application], Awaitable[Client]]
) -> None:
    before = await aiohttp_client(service_on(servers).web)
    kinds = ("market", "limit", "IOC", "sniper")
    orders = [await place(before, team.bot, **KINDS[kind]) for kind in kinds]
    early = await place(before, team.bot, **RESTING)
    await approve(before, team.boss, early)
    await before.close()
    # No Redis is there.
    alone = replace(servers, redis_url="redis://127.0.0.1:1/0")
    client = await aiohttp_client(service_on(alone).web)
    for order in orders:
        assert (await open_state(servers, order))["resting"] is False
        assert (await get(client, team.bot, order))["awaitingApproval"] is True
        await approve(client, team.boss, order)
        assert [each["status"] for each in await follow(client, team.bot, order)] == APPROVED_LIFE
    assert (await get(client, team.bot, early))["awaitingApproval"] is False
    assert await audit_now(servers) == []


async def test_a_dry_run_shows_that_an_order_must_be_approved(start: Start, team: Team) -> None:
    client = await start()
    for body in (order_of(), order_of(**RESTING)):
        for key, expected in ((team.bot, True), (team.trader, False)):
            status, run = await ask(client, "POST", "/api/orders/execute?dryRun=true", key, body)
            assert status == 200
            assert run["order"]["awaitingApproval"] is expected
            assert run["order"]["status"] == ("open" if expected else "pending")


async def test_a_key_tells_whether_its_orders_must_be_approved(start: Start, team: Team) -> None:
    client = await start()
    for key, expected in ((team.bot, True), (team.trader, False), (team.bound_boss, True)):
        status, told = await ask(client, "GET", "/api/keys/me", key)
        assert (status, KeySchema().validate(told)) == (200, {})
        assert told["limits"]["requiresApproval"] is expected
