"""Expensive requests have limited concurrency; slow and disconnected clients occupy no slot."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import TestClient

from service.api.problems import ServiceUnavailableError
from service.api.queues import LONGEST_QUEUE, at_most

Start = Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]]


class Handler:
    """Responds when the test releases it, and counts the requests that it started."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.begun += 1
        await self.go_on.wait()
        return web.Response(body=await request.read())

    async def wait_until_begun(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.begun < count:  # noqa: ASYNC110 - a count, not an event
                await asyncio.sleep(0.001)


async def answer_at_once(_request: web.Request) -> web.Response:
    return web.Response()


async def started(
    aiohttp_client: Start, handler: Handler, count: int
) -> TestClient[web.Request, web.Application]:
    app = web.Application()
    app.router.add_post("/", at_most(count, handler.answer))
    app.router.add_get("/other", answer_at_once)
    return await aiohttp_client(app)


async def test_concurrency_is_limited_and_the_rest_run_in_order(aiohttp_client: Start) -> None:
    handler = Handler()
    client = await started(aiohttp_client, handler, 2)
    asked = [asyncio.create_task(client.post("/", data=str(number))) for number in range(6)]
    await handler.wait_until_begun(2)
    # One iteration of the server's loop, in which others might have started.
    async with client.get("/other") as answer:
        assert answer.status == 200
    assert handler.begun == 2
    handler.go_on.set()
    assert [await (await each).text() for each in asked] == ["0", "1", "2", "3", "4", "5"]


async def test_a_slow_body_occupies_no_slot(aiohttp_client: Start) -> None:
    handler = Handler()
    handler.go_on.set()
    client = await started(aiohttp_client, handler, 1)
    rest = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await rest.wait()
        yield b"b"

    slow = asyncio.create_task(client.post("/", data=body()))
    async with client.post("/", data=b"c") as answer:
        assert await answer.text() == "c"
    rest.set()
    assert await (await slow).text() == "ab"


async def test_a_request_of_a_disconnected_client_is_dropped(aiohttp_client: Start) -> None:
    handler = Handler()
    client = await started(aiohttp_client, handler, 1)
    first = asyncio.create_task(client.post("/", data=b"a"))
    await handler.wait_until_begun(1)
    gone = asyncio.create_task(client.post("/", data=b"b"))
    async with client.get("/other"):
        pass
    gone.cancel()
    with pytest.raises((asyncio.CancelledError, ClientError)):
        await gone
    async with client.get("/other"):
        pass
    handler.go_on.set()
    await first
    async with client.post("/", data=b"c") as answer:
        assert await answer.text() == "c"
    assert handler.begun == 2


class Asked:
    """The part of a request that a queue uses."""

    transport = object()

    async def read(self) -> bytes:
        return b""


async def test_requests_beyond_the_queue_limit_are_rejected() -> None:
    handler = Handler()

    async def answer(_request: web.Request) -> web.Response:
        handler.begun += 1
        await handler.go_on.wait()
        return web.Response()

    limited = at_most(1, answer)
    asked = cast("web.Request", Asked())
    waiting = [asyncio.ensure_future(limited(asked)) for _ in range(LONGEST_QUEUE + 1)]
    await handler.wait_until_begun(1)
    with pytest.raises(ServiceUnavailableError):
        await limited(asked)
    handler.go_on.set()
    await asyncio.gather(*waiting)
    assert handler.begun == LONGEST_QUEUE + 1
