"""No client of a WebSocket harms the service, whatever it sends: frames, parts of frames, or other bytes.

Afterwards the service is healthy, its log has no error, no task and no place of a WebSocket is left behind,
and an order is executed and watched as ever. A new WebSocket is a row of ``SOCKETS``.
"""

import asyncio
import functools
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession, WSCloseCode, web
from hypothesis import HealthCheck, Phase, given, settings

from service.api.application import LARGEST_BODY
from service.api.close_codes import CLOSE_CODES
from service.api.connection import ConnectionLimits
from service.api.routes import ROUTES
from service.api.server import Runner
from service.app import Service
from service.clock import Clock
from service.domain.api_key import Scope
from service.domain.key_limits import KeyLimits
from service.store.api_keys import NewKey
from tests.conftest import service_on
from tests.support.keys import create_keys
from tests.support.orders import LIFE, MARKET_ORDER, Json
from tests.support.servers import TestCluster
from tests.support.socket_fuzz import Attack, attacks, carry_out, judge

LIMITS = ConnectionLimits(head_s=2, body_s=2, idle_s=5, answer_s=5, connections=100)
MOST_SOCKETS = 3
"""A socket that stays counted after its end soon leaves no room for another."""

CODES = frozenset(CLOSE_CODES) - {WSCloseCode.INTERNAL_ERROR}

RESTING: Json = {**MARKET_ORDER, "orderType": "limit", "limitPrice": "1000000"}


@dataclass
class FuzzRig:
    """A service in a thread of its own, with an order that rests and one that has ended."""

    service: Service
    loop: asyncio.AbstractEventLoop
    port: int
    token: str
    resting: str = ""
    ended: str = ""

    def run(self, work: Callable[[ClientSession], Any]) -> Any:
        """Run a client's work, outside of the service's event loop."""

        async def with_client() -> Any:
            header = {"Authorization": f"Bearer {self.token}"}
            async with ClientSession(f"http://127.0.0.1:{self.port}", headers=header) as client:
                return await work(client)

        return asyncio.run(with_client())

    def tasks(self) -> Counter[str]:
        """Count the service's tasks by their names without numbers."""

        async def names() -> Counter[str]:
            return Counter(re.sub(r"\d+", "", task.get_name()) for task in asyncio.all_tasks())

        return asyncio.run_coroutine_threadsafe(names(), self.loop).result(10)


def _order(rig: FuzzRig, messages: list[Json]) -> None:
    assert [message["sequence"] for message in messages] == list(range(1, len(messages) + 1))
    assert {message["orderId"] for message in messages} <= {rig.resting, rig.ended}


def _events(_rig: FuzzRig, messages: list[Json]) -> None:
    assert {message["type"] for message in messages} <= {"order_events"}
    # Nothing happens meanwhile.
    assert [message["events"] for message in messages] == [[]] * len(messages)


def _market(_rig: FuzzRig, messages: list[Json]) -> None:
    kinds = ["market_state", *["market_update"] * (len(messages) - 1)]
    assert [message["type"] for message in messages] == kinds[: len(messages)]


SOCKETS: dict[str, tuple[Callable[[FuzzRig], list[str]], Callable[[FuzzRig, list[Json]], None]]] = {
    "streamOrder": (
        lambda rig: [f"/api/orders/{order_id}/ws" for order_id in (rig.resting, rig.ended)],
        _order,
    ),
    "streamOrders": (lambda _rig: ["/api/orders/ws"], _events),
    "streamMarket": (lambda _rig: ["/api/market/ws?pairs=SOL-USDC"], _market),
}
"""Of each WebSocket: its paths, and what its messages must be."""


@pytest.fixture(scope="module")
def rig(cluster: TestCluster) -> Iterator[FuzzRig]:
    servers = cluster.new()
    key = NewKey("default", "fuzzer", Scope.TRADE, None, KeyLimits(max_sockets=MOST_SOCKETS))
    [token] = create_keys(servers, key)
    ready, stop = threading.Event(), asyncio.Event()
    found: list[FuzzRig] = []

    async def serve() -> None:
        service, clock = service_on(servers), Clock()
        runner = Runner(service.web, LIMITS, clock, largest_body=LARGEST_BODY, stop_s=1)
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            found.append(FuzzRig(service, asyncio.get_running_loop(), port, token))
            ready.set()
            await stop.wait()
        finally:
            await service.drain()
            await runner.cleanup()
            ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="fuzzed service")
    thread.start()
    try:
        assert ready.wait(60)
        [rig] = found
        rig.resting, rig.ended = rig.run(_place)
        yield rig
    finally:
        if found:
            found[0].loop.call_soon_threadsafe(stop.set)
        thread.join(30)


async def _place(client: ClientSession) -> tuple[str, str]:
    placed = []
    for body in (RESTING, MARKET_ORDER):
        async with client.post("/api/orders/execute", json=body) as answer:
            assert answer.status == 201
            placed.append((await answer.json())["id"])
    assert await _watch(client, placed[1]) == LIFE
    return placed[0], placed[1]


async def _watch(client: ClientSession, order_id: str) -> list[str]:
    async with client.ws_connect(f"/api/orders/{order_id}/ws") as socket:
        statuses = [message.json()["status"] async for message in socket]
    assert socket.close_code == 1000
    return statuses


def test_every_websocket_is_attacked() -> None:
    assert set(SOCKETS) == {route.operation_id for route in ROUTES if route.websocket}


def _attack(rig: FuzzRig, name: str, examples: int) -> None:
    paths, check = SOCKETS[name]

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(attacks)
    def carry_out_and_judge(attack: Attack) -> None:
        for path in paths(rig):
            received = carry_out(attack, rig.port, path, rig.token)
            if received is not None:
                check(rig, judge(received, CODES))

    carry_out_and_judge()


async def _is_well(client: ClientSession) -> None:
    async with client.get("/health") as answer:
        assert (await answer.json())["status"] == "ok"
    async with client.post("/api/orders/execute", json=MARKET_ORDER) as answer:
        assert answer.status == 201
        placed = await answer.json()
    assert await _watch(client, placed["id"]) == LIFE


async def _has_room(order_id: str, client: ClientSession) -> None:
    """Open as many WebSockets as the key may have: none that has ended is still counted."""
    async with AsyncExitStack() as stack:
        for _ in range(MOST_SOCKETS):
            await stack.enter_async_context(client.ws_connect(f"/api/orders/{order_id}/ws"))


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = threading.Event()
    for _ in range(500):
        if condition():
            return
        deadline.wait(0.02)
    raise AssertionError("the condition did not hold in time")


def _check(rig: FuzzRig, caplog: pytest.LogCaptureFixture, name: str, examples: int) -> None:
    before = rig.tasks()
    with caplog.at_level(logging.WARNING):
        _attack(rig, name, examples)
        # A WebSocket counts for its key until its close handshake has ended.
        _wait_until(lambda: not rig.tasks() - before)
        rig.run(_is_well)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    _wait_until(lambda: not rig.tasks() - before)
    rig.run(functools.partial(_has_room, rig.resting))


@pytest.mark.parametrize("name", SOCKETS)
def test_no_client_of_a_websocket_harms_the_service(
    rig: FuzzRig, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    _check(rig, caplog, name, 50)


@pytest.mark.long
@pytest.mark.parametrize("name", SOCKETS)
def test_no_client_of_a_websocket_harms_the_service_for_long(
    rig: FuzzRig, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    _check(rig, caplog, name, 3_000)
