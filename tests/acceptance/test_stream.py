"""A watcher receives every entry once, in order, from any instance at any time; then the socket closes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import WSMsgType

from service.api.responses import OrderSchema
from service.app import Service
from service.domain.transaction import Fill, Seen, SeenCommitment
from tests.support.orders import LIFE, Client, execute, get, place, watch

Start = Callable[..., Awaitable[Client]]


def check(messages: list[dict[str, Any]], order: dict[str, Any], after: int = 0) -> None:
    """Check that messages are an order's history after an entry, with the order as of each entry."""
    history = order["statusHistory"]
    assert [message["sequence"] for message in messages] == list(range(after + 1, len(history) + 1))
    for message, entry in zip(messages, history[after:], strict=True):
        assert message["type"] == "status_update"
        assert message["orderId"] == order["id"]
        assert (message["status"], message["timestamp"]) == (entry["status"], entry["timestamp"])
        assert OrderSchema().validate(message["order"]) == {}
        assert message["order"]["statusHistory"] == history[: message["sequence"]]
        assert message["order"]["status"] == entry["status"]


async def test_live_late_and_second_watchers_receive_the_same(start: Start) -> None:
    client = await start(QUOTE_DELAY_MS="30", EXECUTION_DELAY_MS="30")
    placed = await place(client)
    live = await asyncio.gather(*(watch(client, placed["id"]) for _ in range(3)))
    late = await watch(client, placed["id"])
    order = await get(client, placed["id"])
    for messages in (*live, late):
        check(messages, order)
        assert [message["status"] for message in messages] == LIFE
        assert messages[-1]["order"] == order


async def test_where_a_transaction_is_seen_is_shown_and_told_on_every_instance(
    make_service: Callable[..., Service], aiohttp_client: Any
) -> None:
    late = {"EXECUTION_DELAY_MS": "60000", "OUTCOME_TIMEOUT_MS": "0", "PAPER_TX_VALID_SLOTS": "100000"}
    services = [make_service(**late) for _ in range(2)]
    here, there = [await aiohttp_client(service.web) for service in services]
    for service in services:
        # Until messages of the other instance arrive.
        async with asyncio.timeout(20):
            await service.storage.link.wait_until_usable()
    placed = await place(here)
    async with there.ws_connect(f"/api/orders/{placed['id']}/ws") as socket:
        while (await socket.receive_json(timeout=20))["status"] != "submitted":
            pass
        seen = Seen(905, SeenCommitment.PROCESSED, Fill(10**9, 7_000_000, "sig"))
        shown = {"slot": 905, "commitment": "processed", "amountIn": "1", "amountOut": "7"}
        for where, execution in ((seen, shown), (None, None)):
            services[0].storage.bus.publish_seen(placed["id"], 4, where)
            message = await socket.receive_json(timeout=20)
            assert message == {"type": "execution_seen", "orderId": placed["id"], "execution": execution}
            for client in (here, there):
                assert (await get(client, placed["id"]))["execution"] == execution


async def test_a_message_shows_the_order_as_of_its_entry(start: Start) -> None:
    client = await start()
    order = await execute(client)
    for message in await watch(client, order["id"]):
        seen, status = message["order"], message["status"]
        known = status not in {"pending", "routing"}
        assert (seen["quotes"] is not None, seen["venue"] is not None) == (known, known)
        filled = status == "confirmed"
        assert (seen["amountOut"] is not None, seen["txHash"] is not None) == (filled, filled)
        assert seen["attempts"] == (0 if status == "pending" else 1)


async def test_a_retry_repeats_statuses_under_new_sequences(start: Start) -> None:
    client = await start(PAPER_FAILURE_RATE="transient=1", RETRY_BASE_DELAY_MS="20", MAX_RETRIES="1")
    placed = await place(client)
    messages = await watch(client, placed["id"])
    check(messages, await get(client, placed["id"]))
    one_try = ["routing", "building", "submitted"]
    assert [message["status"] for message in messages] == ["pending", *one_try, "pending", *one_try, "failed"]
    assert all(message["order"]["failureReason"] is None for message in messages[:-1])


@pytest.mark.parametrize("after", [0, 3, 5, 9])
async def test_a_watcher_resumes_after_a_sequence(start: Start, after: int) -> None:
    client = await start()
    order = await execute(client)
    messages = await watch(client, order["id"], f"?from={after}")
    check(messages, order, min(after, 5))


@pytest.mark.parametrize("query", ["?from=-1", "?from=x", "?from=", "?from=1.5", "?form=1"])
async def test_an_invalid_resume_is_rejected_at_the_handshake(start: Start, query: str) -> None:
    client = await start()
    order = await place(client)
    async with client.get(
        f"/api/orders/{order['id']}/ws{query}",
        headers={
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    ) as answer:
        assert answer.status == 422


async def test_a_watcher_on_another_instance_receives_every_entry_once(start: Start) -> None:
    here = await start(QUOTE_DELAY_MS="30", EXECUTION_DELAY_MS="30")
    there = await start(QUOTE_DELAY_MS="30", EXECUTION_DELAY_MS="30")
    placed = await asyncio.gather(*(place(here) for _ in range(10)))
    watched = await asyncio.gather(*(watch(there, order["id"]) for order in placed))
    for order, messages in zip(placed, watched, strict=True):
        check(messages, await get(there, order["id"]))


async def test_a_lost_message_is_made_up_for_within_a_second(
    make_service: Callable[..., Service], aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service(QUOTE_DELAY_MS="200")
    client = await aiohttp_client(service.web)
    # Nothing that is committed from here on is published.
    monkeypatch.setattr(service.storage.feeds, "deliver", lambda _steps: None)
    placed = await place(client)
    messages = await asyncio.wait_for(watch(client, placed["id"]), timeout=10)
    check(messages, await get(client, placed["id"]))


async def test_client_messages_are_ignored_and_a_disconnection_affects_no_other(start: Start) -> None:
    client = await start(QUOTE_DELAY_MS="100")
    placed = await place(client)
    async with client.ws_connect(f"/api/orders/{placed['id']}/ws") as rude:
        await rude.send_str("x" * 100)
        await rude.send_bytes(b"\x00")
        await rude.receive()
    check(await watch(client, placed["id"]), await get(client, placed["id"]))


async def test_sockets_are_closed_with_1012_when_the_service_stops(
    make_service: Callable[..., Service], aiohttp_client: Any
) -> None:
    service = make_service(QUOTE_DELAY_MS="60000", QUOTE_TIMEOUT_MS="60000", SHUTDOWN_GRACE_S="0")
    client = await aiohttp_client(service.web)
    placed = await place(client)
    async with client.ws_connect(f"/api/orders/{placed['id']}/ws") as socket:
        assert (await socket.receive_json())["status"] == "pending"
        stopping = asyncio.create_task(client.server.close())
        while (message := await socket.receive()).type is WSMsgType.TEXT:
            pass
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
        await stopping
