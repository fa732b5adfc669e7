"""Open WebSockets by a clock that the test moves: pings, silent clients, and what a client has read."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request

from service.api import sockets
from service.api.access import CALLER, Access
from service.api.client_socket import ClientSocket, SendAll
from service.api.close_codes import SILENT
from service.api.heartbeats import Heartbeats
from service.api.problems import TooManyRequestsError
from service.api.sockets import Sockets
from service.domain.api_key import Caller, Scope
from service.domain.key_limits import KeyLimits
from tests.support.clock import ManualClock
from tests.support.sockets import CLOSE, PING, PONG, TEXT, RawSocket, connect_to, frame

PING_EVERY_S, SILENT_AFTER_S = 20, 60


async def send_nothing(_client: ClientSocket) -> None:
    await asyncio.Event().wait()


class _AnyKey:
    """Access for whoever asks."""

    async def is_active(self, _caller: Caller) -> bool:
        return True


@asynccontextmanager
async def connected(clock: ManualClock, send_all: SendAll = send_nothing) -> AsyncIterator[RawSocket]:
    """Connect a raw client to a server of sockets."""
    served = Sockets(clock, cast("Access", _AnyKey()))

    async def handler(request: web.Request) -> web.StreamResponse:
        request[CALLER] = Caller("default", Scope.READ, None)
        with served.upgrade(request) as socket:
            return await served.serve(request, socket, send_all)

    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app, host="127.0.0.1") as server:
        served.start()
        async with connect_to(server.port, "/") as client:
            yield client
        await served.stop()


async def heard(client: RawSocket, *frames: bytes) -> list[int]:
    """Send frames, and return what the server sends until it has received them."""
    client.send(*frames, frame(PING, b"heard?"))
    received = []
    while (got := await client.receive()) != (PONG, b"heard?"):
        received.append(got[0])
    return received


async def test_a_client_that_answers_is_pinged_every_20_seconds_and_stays() -> None:
    clock = ManualClock()
    async with connected(clock) as client:
        for _ in range(5):
            await clock.advance(PING_EVERY_S)
            opcode, payload = await client.receive()
            assert opcode == PING
            assert await heard(client, frame(PONG, payload)) == []


async def test_a_silent_client_is_closed_after_60_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    async with connected(clock) as client:
        await heard(client)
        await clock.advance(SILENT_AFTER_S)
        assert [(await client.receive())[0] for _ in range(3)] == [PING] * 3
        await clock.advance(1)
        assert await client.close_code() == SILENT
        client.answer_close(SILENT)
        await client.end()
    told = [record.getMessage() for record in caplog.records if record.name == sockets.log.name]
    assert told == ["disconnecting 1 silent clients"]


@pytest.mark.parametrize("opcode", [TEXT, PONG, PING])
async def test_any_frame_is_a_sign_of_life(opcode: int) -> None:
    clock = ManualClock()
    async with connected(clock) as client:
        for _ in range(4):
            await clock.advance(SILENT_AFTER_S - 5)
            assert CLOSE not in await heard(client, frame(opcode, b"x"))


async def test_the_close_frame_is_the_last_frame() -> None:
    clock = ManualClock()

    async def send_all(client: ClientSocket) -> None:
        await client.send(b"all")

    async with connected(clock, send_all) as client:
        assert await client.close_code() == 1000
        await clock.advance(2 * PING_EVERY_S)
        client.answer_close(1000)
        await client.end()


async def test_a_silent_client_gets_two_seconds_for_its_close_frame() -> None:
    clock = ManualClock()
    async with connected(clock) as client:
        await heard(client)
        await clock.advance(SILENT_AFTER_S + 10)
        assert await client.close_code() == SILENT
        client.answer_close(SILENT)
        await client.end()


async def test_no_client_was_silent_while_the_process_was_stopped() -> None:
    clock = ManualClock()
    async with connected(clock) as client:
        await heard(client)
        await clock.advance(SILENT_AFTER_S - 10)
        await clock.jump(1_000)
        await clock.advance(5)
        assert CLOSE not in await heard(client)


async def test_a_client_has_caught_up_when_it_answers_the_ping_after_the_message() -> None:
    clock, caught_up = ManualClock(), asyncio.Event()

    async def send_all(client: ClientSocket) -> None:
        for number in range(3):
            await client.send(b"%d" % number)
            await client.catch_up()
        caught_up.set()
        await send_nothing(client)

    async with connected(clock, send_all) as client:
        for number in range(3):
            assert await client.receive() == (TEXT, b"%d" % number)
            opcode, payload = await client.receive()
            assert opcode == PING
            # Neither other frames nor other pongs count, nor the answer to an earlier ping.
            others = (frame(TEXT, payload), frame(PONG), frame(PONG, b"%d" % number))
            assert await heard(client, *others) == []
            if number == 1:
                # A client may answer only the latest ping.
                await clock.advance(PING_EVERY_S)
                assert await client.receive() == (PING, payload)
            client.send(frame(PONG, payload))
        await asyncio.wait_for(caught_up.wait(), 10)


class _Silent:
    """A client's socket that counts its pings."""

    def __init__(self) -> None:
        self.heard = True
        self.is_backed_up = False
        self.pings = 0

    async def ping(self) -> None:
        self.pings += 1


def fake() -> Any:
    return _Silent()


async def beat(heartbeats: Heartbeats, clock: ManualClock) -> list[Any]:
    await clock.jump(1)
    return list(await heartbeats.beat())


async def test_sockets_that_open_together_are_not_pinged_together() -> None:
    clock = ManualClock()
    heartbeats = Heartbeats(clock)
    together = [fake() for _ in range(5_000)]
    for socket in together:
        heartbeats.add(socket)
    at_once = []
    for _ in range(PING_EVERY_S):
        before = sum(socket.pings for socket in together)
        assert await beat(heartbeats, clock) == []
        at_once.append(sum(socket.pings for socket in together) - before)
    assert at_once == [5_000 // PING_EVERY_S] * PING_EVERY_S
    assert {socket.pings for socket in together} == {1}


async def test_a_closed_socket_is_not_pinged_and_its_place_is_free() -> None:
    clock = ManualClock()
    heartbeats = Heartbeats(clock)
    closed, others = fake(), [fake() for _ in range(PING_EVERY_S)]
    heartbeats.add(closed)
    heartbeats.remove(closed)
    for socket in others:
        heartbeats.add(socket)
    for _ in range(PING_EVERY_S):
        await beat(heartbeats, clock)
    assert closed.pings == 0
    assert [socket.pings for socket in others] == [1] * PING_EVERY_S


async def test_a_client_that_does_not_accept_a_ping_is_not_silent() -> None:
    # The limits for slow clients apply to it instead.
    clock = ManualClock()
    heartbeats = Heartbeats(clock)
    socket = fake()
    socket.is_backed_up = True
    heartbeats.add(socket)
    for _ in range(3 * SILENT_AFTER_S):
        assert await beat(heartbeats, clock) == []
    assert socket.pings == 0
    socket.is_backed_up = False
    found = [await beat(heartbeats, clock) for _ in range(SILENT_AFTER_S + PING_EVERY_S)]
    assert [socket] in found


async def test_a_silent_socket_is_found_once_while_it_is_being_closed() -> None:
    clock = ManualClock()
    heartbeats = Heartbeats(clock)
    socket = fake()
    heartbeats.add(socket)
    found = [silent for _ in range(SILENT_AFTER_S + 10) for silent in await beat(heartbeats, clock)]
    assert found == [socket]


async def test_a_socket_is_counted_before_its_stream_does_any_work() -> None:
    served = Sockets(ManualClock(), cast("Access", _AnyKey()))
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    request = make_mocked_request("GET", "/", headers=headers)
    request[CALLER] = Caller("default", Scope.READ, "key", KeyLimits(max_sockets=1))
    for _ in range(2):
        with served.upgrade(request), pytest.raises(TooManyRequestsError), served.upgrade(request):
            pytest.fail("two sockets")
