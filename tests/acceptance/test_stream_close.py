"""The closing handshake of a stream: the service waits for the client's close frame, for a limited time."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import WSMsgType

from service.api import client_socket
from service.api.client_socket import ClientSocket
from service.api.timeline import Timeline
from service.app import Service
from tests.support.load import place_many
from tests.support.orders import Client, execute
from tests.support.process import ServiceProcess
from tests.support.sockets import connect

Start = Callable[..., Awaitable[Client]]

PATIENCE_S = 2.0
ENDLESS = {"QUOTE_DELAY_MS": "60000", "QUOTE_TIMEOUT_MS": "60000", "SHUTDOWN_GRACE_S": "0"}


async def test_the_service_waits_two_seconds_for_the_clients_close_frame(start: Start) -> None:
    client = await start()
    order = await execute(client)
    async with connect(client, order["id"]) as silent, connect(client, order["id"]) as polite:
        assert await silent.close_code() == await polite.close_code() == 1000
        await asyncio.sleep(0.5)  # it waits for this client
        polite.answer_close(1000)
        assert await polite.end() < 1
        assert PATIENCE_S - 1.5 < await silent.end() < PATIENCE_S + 3


async def test_a_client_that_receives_late_gets_the_close_code(start: Start) -> None:
    client = await start()
    order = await execute(client)
    for _ in range(5):
        async with client.ws_connect(f"/api/orders/{order['id']}/ws?from=4") as socket:
            assert (await socket.receive()).type is WSMsgType.TEXT
            await asyncio.sleep(0.02)  # busy with the message, while the rest arrives
            assert (await socket.receive()).type is WSMsgType.CLOSE
        assert socket.close_code == 1000


async def test_a_stop_closes_with_1012_and_waits_two_seconds_in_total(
    spawn: Callable[..., ServiceProcess],
) -> None:
    service = await asyncio.to_thread(spawn, **ENDLESS)
    [order_id] = await asyncio.to_thread(place_many, service, 1)
    async with (
        connect(service, order_id) as silent,
        connect(service, order_id) as mute,
        connect(service, order_id) as polite,
    ):
        for socket in (silent, mute, polite):
            await socket.receive()
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert await polite.close_code() == 1012
        polite.answer_close(1012)
        assert await polite.end() < PATIENCE_S - 0.5
        for socket in (silent, mute):
            assert await socket.close_code() == 1012
            # Both at once: two seconds in total.
            await socket.end()
            assert PATIENCE_S - 0.2 < time.monotonic() - began < PATIENCE_S + 3
        assert await asyncio.to_thread(service.process.wait, 20) == 0
    assert "Traceback" not in service.output, service.output


async def test_a_client_that_does_not_read_gets_4008_when_it_reads_again(
    make_service: Callable[..., Service], aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service()
    client = await aiohttp_client(service.web)
    order = await execute(client)
    monkeypatch.setattr(client_socket, "_SEND_TIMEOUT_S", 0.1)
    # More than the buffers between the two hold.
    monkeypatch.setattr(Timeline, "message", lambda *_step: b"x" * 30_000_000)
    async with connect(client, order["id"]) as late, connect(client, order["id"]):
        streams = await cut_off(service, 2)
        assert await late.close_code() == 4008
        late.answer_close(4008)
        assert await late.end() < PATIENCE_S - 0.5
        # The other one has never read a byte.
        for each in streams:
            await asyncio.wait_for(each.ended.wait(), PATIENCE_S + 3)
    assert service.api.sockets._open == set()


async def cut_off(service: Service, clients: int) -> list[ClientSocket]:
    """Wait until so many streams are being closed."""
    streams = service.api.sockets._open
    async with asyncio.timeout(10):
        while len(streams) < clients or not all(each._close_request.done() for each in streams):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return list(streams)


async def test_an_internal_error_closes_with_1011_and_logs_one_line(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start()
    order = await execute(client)

    caplog.set_level(logging.INFO)

    def broken(*_step: object) -> bytes:
        raise KeyError("GEM")

    monkeypatch.setattr(Timeline, "message", broken)
    async with connect(client, order["id"]) as socket:
        assert await socket.close_code() == 1011
        assert PATIENCE_S - 0.2 < await socket.end() < PATIENCE_S + 3
    [record] = [
        each
        for each in caplog.records
        if each.name == client_socket.log.name and each.levelno > logging.DEBUG
    ]
    assert record.exc_info is None
    assert "KeyError('GEM')" in record.getMessage()
