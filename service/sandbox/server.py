"""The sandbox as a server: HTTP and WebSocket on loopback, and the loop that makes slots."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import WSMsgType, web

from service.clock import Clock
from service.hosts import is_loopback
from service.sandbox.chain import SandboxChain
from service.sandbox.control import Control
from service.sandbox.errors import CallRefusedError
from service.sandbox.faults import EndpointFault
from service.sandbox.keeping import ChainFolder
from service.sandbox.node import Node
from service.sandbox.rpc.cluster import check_health
from service.sandbox.rpc.methods import answer, error_answer
from service.sandbox.rpc.subscriptions import Subscriptions

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::[0-9]{1,5})?")
_LARGEST_BODY = 256 * 1024
_MOST_CALLS = 100
_MOST_UNSENT = 10_000
_HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class Sandbox:
    """The chain behind its endpoints.

    The first endpoint's path is ``/``; the others' are ``/2``, ``/3`` and so on.

    Args:
        chain: The chain.
        nodes: Its endpoints.
        clock: The chain's pace.
        folder: Where it is kept; None: it is not.
    """

    def __init__(
        self, chain: SandboxChain, nodes: Sequence[Node], clock: Clock, folder: ChainFolder | None = None
    ) -> None:
        self.chain = chain
        self.nodes = {"/" if place == 1 else f"/{place}": node for place, node in enumerate(nodes, 1)}
        self.control = Control(chain, self.nodes, folder)
        self._clock = clock
        self._folder = folder

    def application(self) -> web.Application:
        """Return the application; it answers only requests for a loopback host."""
        app = web.Application(middlewares=[_only_loopback], client_max_size=_LARGEST_BODY)
        for path, node in self.nodes.items():
            endpoint = EndpointHandler(node, self._clock)
            app.router.add_post(path, endpoint.post)
            app.router.add_get(path, endpoint.socket)
        app.router.add_get("/health", self._health)
        app.router.add_post("/sandbox/faults", self.control.arm)
        app.router.add_delete("/sandbox/faults", self.control.clear)
        app.router.add_post("/sandbox/advance", self.control.advance)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        try:
            check_health(self.nodes["/"])
        except CallRefusedError:
            return web.Response(text="behind")
        return web.Response(text="ok")

    async def make_slots(self) -> None:
        """Make a block in each slot, by the clock; slots that were missed are skipped."""
        slot_ms = self.chain.timing.slot_ms
        self.chain.begin(self._clock.time_ms())
        began, made = self._clock.monotonic(), 0
        while True:
            made += 1
            await self._clock.sleep(began + made * slot_ms / 1000 - self._clock.monotonic())
            passed = round((self._clock.monotonic() - began) * 1000) // slot_ms
            if passed > made:
                self.chain.skip(passed - made)
                made = passed
            self.chain.advance()
            # A block is confirmed two slots later: what is confirmed outlives the machine.
            if self._folder is not None:
                await self._folder.settle()
            await asyncio.sleep(0)


@web.middleware
async def _only_loopback(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refuse other hosts, which a web page may have made to point here, and pages of other sites."""
    host = _HOST.fullmatch(request.host)
    origin = request.headers.get("Origin")
    if (
        host is None
        or not is_loopback(host[1].lower())
        or (origin is not None and origin != f"{request.scheme}://{request.host}")
    ):
        raise web.HTTPForbidden(text="The sandbox answers this machine only.")
    response: web.StreamResponse = await handler(request)
    return response


class EndpointHandler:
    """One endpoint: HTTP and WebSocket on the same path."""

    def __init__(self, node: Node, clock: Clock) -> None:
        self._node = node
        self._clock = clock

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Answer one call, or a list of them."""
        if request.content_type != "application/json":
            text = "Supplied content type is not allowed. Content-Type: application/json is required"
            return web.Response(status=415, text=text)
        try:
            calls = json.loads(await request.read())
        except (ValueError, RecursionError):
            return web.json_response(error_answer(CallRefusedError(-32700, "Parse error")))
        if isinstance(calls, list) and not 0 < len(calls) <= _MOST_CALLS:
            return web.json_response(error_answer(CallRefusedError(-32600, "Invalid request")))
        method = _method(calls[0] if isinstance(calls, list) else calls)
        early = await self._early_fault(request, method)
        return self._answered(request, calls, method) if early is None else early

    def _answered(self, request: web.Request, calls: Any, method: str) -> web.StreamResponse:
        if isinstance(calls, list):
            answers: Any = [answer(self._node, call) for call in calls]
        else:
            answers = answer(self._node, calls)
        if self._node.faults.take("lose_answer", method) is not None:
            return _closed(request)
        garbage = self._node.faults.take("garbage", method)
        return web.json_response(answers) if garbage is None else _garbled(answers, garbage)

    async def _early_fault(self, request: web.Request, method: str) -> web.StreamResponse | None:
        """Return the answer of a fault that keeps the call from being executed; None if there is none."""
        faults = self._node.faults
        slow = faults.take("slow", method)
        if slow is not None:
            await self._clock.sleep(slow.number("delay_ms") / 1000)
        if faults.take("down", method) is not None:
            return _closed(request)
        limited = faults.take("rate_limit", method)
        if limited is not None:
            error = CallRefusedError(429, "Too many requests for a specific RPC call")
            headers = {"Retry-After": str(limited.number("retry_after_s"))}
            return web.json_response(error_answer(error), status=429, headers=headers)
        unavailable = faults.take("unavailable", method)
        if unavailable is not None:
            return web.Response(status=unavailable.number("status"), text=_HTML, content_type="text/html")
        return None

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """Serve a WebSocket connection."""
        socket = web.WebSocketResponse(max_msg_size=_LARGEST_BODY)
        if not socket.can_prepare(request).ok:
            return web.Response(status=405, text="Used HTTP Method is not allowed. POST is required")
        await socket.prepare(request)
        unsent: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST_UNSENT)

        def send(message: dict[str, Any]) -> None:
            if unsent.full():
                _close(request)
            else:
                unsent.put_nowait(message)

        subscriptions = Subscriptions(self._node, send)

        def changed() -> None:
            if self._node.faults.take("ws_drop") is not None:
                _close(request)
            subscriptions.notify()

        sender = asyncio.create_task(_send(socket, unsent), name="sandbox socket")
        self._node.chain.on_change.append(changed)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    _answer_socket(subscriptions, message.data, send)
        finally:
            self._node.chain.on_change.remove(changed)
            sender.cancel()
        return socket


async def _send(socket: web.WebSocketResponse, unsent: asyncio.Queue[dict[str, Any]]) -> None:
    while True:
        message = await unsent.get()
        try:
            await socket.send_json(message)
        except ConnectionError:
            return


def _answer_socket(subscriptions: Subscriptions, text: str, send: Callable[[dict[str, Any]], None]) -> None:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        send(error_answer(CallRefusedError(-32700, "Parse error")))
        return
    subscriptions.call(call)


def _method(call: Any) -> str:
    return str(call.get("method", "")) if isinstance(call, dict) else ""


def _close(request: web.Request) -> None:
    """Close the connection as if the network had."""
    if request.transport is not None:
        request.transport.close()


def _closed(request: web.Request) -> web.StreamResponse:
    """Close the connection; the answer goes nowhere."""
    _close(request)
    return web.Response()


def _garbled(answers: Any, fault: EndpointFault) -> web.StreamResponse:
    form = fault.arguments["form"]
    if form == "html":
        return web.Response(text=_HTML, content_type="text/html")
    if form == "empty":
        return web.Response(text="", content_type="application/json")
    if form == "truncated":
        text = json.dumps(answers)
        return web.Response(text=text[: len(text) // 2], content_type="application/json")
    changes: Mapping[str, Any] = {"id": -1} if form == "wrong_id" else {"result": None}
    listed = answers if isinstance(answers, list) else [answers]
    changed = [{**each, **changes} for each in listed]
    return web.json_response(changed if isinstance(answers, list) else changed[0])
