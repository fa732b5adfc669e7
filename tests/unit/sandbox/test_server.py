"""The sandbox over HTTP and WebSocket: answers, faults, and who may ask."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientConnectionError, WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from service.background import Background
from service.chains.paper.pool_json import RAYDIUM_CPMM
from service.sandbox.faults import Faults
from service.sandbox.node import Node
from service.sandbox.server import Sandbox
from tests.support.clock import ManualClock, settle
from tests.support.local_chain import SKIP, LocalChain, wire

SLOT_S = 0.2


class AskedClock(ManualClock):
    """A manual clock that says when something sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has moved the clock this far."""
        self.asked.set()
        await super().sleep(seconds)


class Served:
    """A local chain behind a server with two endpoints, and a client of it."""

    def __init__(self) -> None:
        self.local = LocalChain()
        self.clock = AskedClock()
        other = Node(self.local.chain, Faults(self.clock.seeded("other")))
        self.sandbox = Sandbox(self.local.chain, [self.local.node, other], self.clock)
        self.client = TestClient(TestServer(self.sandbox.application()))

    async def post(self, body: Any, path: str = "/") -> aiohttp.ClientResponse:
        return await self.client.post(path, json=body)

    async def call(self, method: str, *params: Any, path: str = "/") -> Any:
        answer = await self.post(call(method, *params), path)
        return await answer.json()

    async def arm(self, kind: str, **arguments: Any) -> None:
        answer = await self.post({"kind": kind, **arguments}, "/sandbox/faults")
        assert answer.status == 200, await answer.text()


def call(method: str, *params: Any, number: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    async with served.client:
        yield served


async def test_calls_are_answered_one_by_one_and_in_lists(served: Served) -> None:
    assert await served.call("getHealth") == {"jsonrpc": "2.0", "result": "ok", "id": 1}
    answers = await (await served.post([call("getSlot"), call("nope", number="x"), 7])).json()
    assert [each.get("result", each.get("error", {}).get("code")) for each in answers] == [
        1_000,
        -32601,
        -32600,
    ]
    assert [each["id"] for each in answers] == [1, "x", None]


@pytest.mark.parametrize(
    ("body", "code"),
    [("{", -32700), ("[" * 100_000, -32700), ("[]", -32600), ("7", -32600), ('{"id":1}', -32600)],
)
async def test_what_is_no_call_is_refused(served: Served, body: str, code: int) -> None:
    answer = await served.client.post("/", data=body, headers={"Content-Type": "application/json"})
    assert (await answer.json())["error"]["code"] == code


async def test_only_json_from_this_machine_is_answered(served: Served) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"getHealth"}'
    json_type = {"Content-Type": "application/json"}
    assert (await served.client.post("/", data=body, headers={"Content-Type": "text/plain"})).status == 415
    rebound = await served.client.post("/", data=body, headers={**json_type, "Host": "evil.example"})
    assert rebound.status == 403
    for host in ("[", "a b", "a:b:c"):
        odd = await served.client.post("/", data=body, headers={**json_type, "Host": host})
        assert odd.status in (400, 403), host
    for host in ("localhost", "LOCALHOST:8899", "[::1]:8899", "127.0.0.1"):
        near = await served.client.post("/", data=body, headers={**json_type, "Host": host})
        assert near.status == 200, host
    page = await served.client.post("/", data=body, headers={**json_type, "Origin": "https://evil.example"})
    assert page.status == 403
    faults = await served.client.post(
        "/sandbox/faults", data=b'{"kind":"down"}', headers={"Content-Type": "text/plain"}
    )
    assert faults.status == 415
    assert (await served.client.get("/")).status == 405
    assert await (await served.client.get("/health")).text() == "ok"


async def test_an_answer_may_be_lost_after_the_transaction_was_taken(served: Served) -> None:
    await served.arm("lose_answer", method="sendTransaction")
    transaction = served.local.sell()
    with pytest.raises(ClientConnectionError):
        await served.call("sendTransaction", wire(transaction), SKIP)
    served.local.chain.advance()
    assert served.local.status(str(transaction.signatures[0]))["err"] is None


async def test_a_connection_may_be_closed_before_the_call_is_read(served: Served) -> None:
    await served.arm("down")
    with pytest.raises(ClientConnectionError):
        await served.call("sendTransaction", wire(served.local.sell()), SKIP)
    assert served.local.chain.waiting == 0
    assert (await served.call("getHealth"))["result"] == "ok"


async def test_an_endpoint_may_limit_fail_or_answer_nonsense(served: Served) -> None:
    await served.arm("rate_limit", retry_after_s=3)
    limited = await served.post(call("getSlot"))
    assert (limited.status, limited.headers["Retry-After"]) == (429, "3")
    assert (await limited.json())["error"]["code"] == 429
    await served.arm("unavailable", status=502)
    away = await served.post(call("getSlot"))
    assert (away.status, away.content_type) == (502, "text/html")
    await served.arm("error", code=-32005, message="Node is unhealthy", method="getSlot")
    assert (await served.call("getHealth"))["result"] == "ok"
    assert (await served.call("getSlot"))["error"] == {"code": -32005, "message": "Node is unhealthy"}
    assert (await served.call("getSlot"))["result"] == 1_000


async def test_an_answer_may_be_garbled(served: Served) -> None:
    whole = await (await served.post(call("getSlot"))).text()
    texts = {}
    for form in ("html", "empty", "truncated", "wrong_id", "null_result"):
        await served.arm("garbage", form=form)
        texts[form] = await (await served.post(call("getSlot"))).text()
    assert texts["html"].startswith("<html>")
    assert texts["empty"] == ""
    assert texts["truncated"] == whole[: len(whole) // 2]
    assert '"id": -1' in texts["wrong_id"]
    assert '"result": null' in texts["null_result"]


async def test_an_answer_may_be_slow(served: Served) -> None:
    await served.arm("slow", delay_ms=4_000)
    answer = asyncio.create_task(served.call("getSlot"))
    await served.clock.asked.wait()
    assert served.clock.sleeps_s == [4.0]
    assert not answer.done()
    await served.clock.advance(4)
    assert (await answer)["result"] == 1_000


async def test_endpoints_have_faults_of_their_own(served: Served) -> None:
    await served.arm("behind", endpoint="/2", times=None, slots=4)
    served.local.chain.advance(10)
    processed = {"commitment": "processed"}
    slots = [
        (await served.call("getSlot", {"commitment": "processed"}, path=path))["result"]
        for path in ("/", "/2")
    ]
    assert slots == [1_010, 1_006]
    assert (await served.client.delete("/sandbox/faults")).status == 200
    assert (await served.call("getSlot", processed, path="/2"))["result"] == 1_010
    await served.arm("unhealthy", times=None)
    assert await (await served.client.get("/health")).text() == "behind"


async def test_the_chain_is_moved_and_forked_by_request(served: Served) -> None:
    answer = await served.post({"slots": 5}, "/sandbox/advance")
    assert await answer.json() == {"slot": 1_005, "blockHeight": 905}
    await served.arm("skip", slots=10)
    await served.post({}, "/sandbox/advance")
    assert (served.local.chain.tip.slot, served.local.chain.tip.height) == (1_016, 906)
    await served.arm("move_pool", bps=200)
    signature = served.local.send(served.local.sell(RAYDIUM_CPMM))
    served.local.chain.advance()
    assert served.local.status(signature)["err"] == {"InstructionError": [3, {"Custom": 6005}]}
    await served.arm("fork", depth=1)
    served.local.chain.advance()
    assert served.local.status(signature)["err"] is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sandbox/faults", {"kind": "nonsense"}),
        ("/sandbox/faults", {}),
        ("/sandbox/faults", {"kind": "drop", "endpoint": "/9"}),
        ("/sandbox/faults", {"kind": "drop", "endpoint": []}),
        ("/sandbox/faults", {"kind": "fork", "depth": 0}),
        ("/sandbox/faults", {"kind": ["fork"]}),
        ("/sandbox/faults", []),
        ("/sandbox/advance", {"slots": "1"}),
        ("/sandbox/advance", {"slots": 10_001}),
    ],
)
async def test_wrong_requests_to_move_the_chain_are_refused(served: Served, path: str, body: Any) -> None:
    assert (await served.post(body, path)).status == 400
    assert served.local.chain.tip.slot == 1_000


async def test_a_socket_is_told_and_may_be_dropped(served: Served) -> None:
    async with served.client.ws_connect("/") as socket:
        await socket.send_json(call("slotSubscribe"))
        assert await socket.receive_json() == {"jsonrpc": "2.0", "result": 1, "id": 1}
        await socket.send_str("{")
        assert (await socket.receive_json())["error"]["code"] == -32700
        served.local.chain.advance()
        assert (await socket.receive_json())["params"]["result"]["slot"] == 1_001
        await served.arm("ws_drop")
        served.local.chain.advance()
        while (message := await socket.receive()).type is WSMsgType.TEXT:
            pass
        assert message.type in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR)


async def test_the_chains_time_does_not_lag_because_it_was_built_before_its_slots_pass() -> None:
    """A block's time would be before that of the order whose transaction is in it."""
    local, clock = LocalChain(), ManualClock()
    chain = local.chain
    await clock.jump(2.7)
    slots = Background("slots", Sandbox(chain, [local.node], clock).make_slots, clock)
    slots.start()
    try:
        await settle()
        for passed in range(1, 11):
            await clock.advance(SLOT_S)
            assert chain.tip.slot == 1_000 + passed
            assert chain.tip.time_s == clock.time_ms() // 1000
    finally:
        await slots.stop()


async def test_slots_are_made_by_the_clock_and_missed_ones_skipped() -> None:
    local, clock = LocalChain(), ManualClock()
    chain = local.chain
    slots = Background("slots", Sandbox(chain, [local.node], clock).make_slots, clock)
    slots.start()
    try:
        await settle()
        for _ in range(5):
            await clock.advance(SLOT_S)
        assert (chain.tip.slot, chain.tip.height) == (1_005, 905)
        # The process stood still for three seconds.
        await clock.jump(3)
        await settle()
        assert (chain.tip.slot, chain.tip.height) == (1_020, 906)
        assert chain.tip.time_s == chain.genesis.time_s + 4
    finally:
        await slots.stop()
