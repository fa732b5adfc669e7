"""Calls to several endpoints of the sandbox, each with its faults."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from solders.hash import Hash

from service.chains.solana.rpc.answers import Answer, NotAnAnswerError
from service.chains.solana.rpc.endpoints import _HEDGE_AFTER_S, Endpoints
from service.chains.solana.rpc.errors import NoAnswerError, RpcError
from service.chains.solana.rpc.urls import Role
from service.chains.solana.rpc.wire import Reply, Wire, WireError
from service.chains.venue import VenueUnavailableError
from service.clock import Clock
from service.sandbox.faults import GARBAGE
from tests.support.clock import ManualClock
from tests.support.local_chain import SKIP, wire
from tests.support.paper import until
from tests.support.served_chain import KEY, ServedChain, served_chain

PROCESSED = {"commitment": "processed"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def three(clock: ManualClock) -> AsyncIterator[ServedChain]:
    """One endpoint for everything, one to read from, and one to send to."""
    async with served_chain("", "#read", "#send", clock=clock) as served:
        yield served


async def blockhash(served: ServedChain, min_slot: int | None = None) -> Answer:
    return await served.endpoints.read("getLatestBlockhash", [PROCESSED], min_slot=min_slot)


async def test_a_read_says_from_which_slot_and_endpoint(three: ServedChain) -> None:
    three.chain.advance(3)
    answer = await blockhash(three)
    assert (answer.slot, answer.endpoint) == (1_003, "127.0.0.1 (1)")
    assert three.endpoints.newest_slot == 1_003
    assert [each.name for each in three.endpoints.readers] == ["127.0.0.1 (1)", "127.0.0.1 (2)"]
    assert [each.name for each in three.endpoints.senders] == ["127.0.0.1 (1)", "127.0.0.1 (3)"]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("down", {}),
        ("lose_answer", {}),
        ("rate_limit", {}),
        ("unavailable", {"status": 500}),
        ("unavailable", {"status": 403}),
        ("error", {"code": -32603}),
        ("error", {"code": -32005}),
        ("error", {"code": -32601}),
        ("error", {"code": -32011}),
        ("error", {"code": -32605}),
        *(("garbage", {"form": form}) for form in GARBAGE),
    ],
    ids=str,
)
async def test_a_read_fails_over_at_once(
    three: ServedChain, clock: ManualClock, kind: str, arguments: dict[str, Any]
) -> None:
    three.arm(kind, method="getLatestBlockhash", **arguments)
    asked = len(clock.sleeps_s)
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    # No time has passed, and each was asked once.
    assert len(clock.sleeps_s) == asked
    assert three.endpoints.calls()["getLatestBlockhash"] == 2


async def test_a_read_fails_over_within_two_slots_if_an_endpoint_hangs(three: ServedChain) -> None:
    three.arm("slow", delay_ms=60_000, method="getLatestBlockhash")
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    assert 2 * three.chain.timing.slot_ms > _HEDGE_AFTER_S * 1_000


@pytest.mark.parametrize("form", GARBAGE)
async def test_garbage_is_no_answer(three: ServedChain, form: str) -> None:
    three.arm("garbage", form=form)
    with pytest.raises(NoAnswerError):
        await three.endpoints.all[0].call("getBlockHeight", [])


async def test_an_error_of_the_call_is_raised_and_asked_of_no_other(three: ServedChain) -> None:
    with pytest.raises(RpcError) as end:
        await three.endpoints.read("getBalance", ["nobody"])
    assert end.value.code == -32602
    assert three.endpoints.calls()["getBalance"] == 1


@pytest.mark.parametrize("status", [401, 403, 503])
async def test_an_error_of_http_is_no_answer_whatever_its_body_says(
    three: ServedChain, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    async def post(url: str, body: bytes, timeout_s: float) -> Reply:
        if url == three.urls[0].url:
            error = {"code": -32600, "message": "Must be authenticated"}
            number = orjson.loads(body)["id"]
            return Reply(status, orjson.dumps({"jsonrpc": "2.0", "id": number, "error": error}), None)
        return await unchanged(url, body, timeout_s)

    unchanged = three.endpoints.wire.post
    monkeypatch.setattr(three.endpoints.wire, "post", post)
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    assert three.endpoints.all[0].failures == 1
    await blockhash(three)
    assert three.endpoints.all[0].calls["getLatestBlockhash"] == 1


async def test_an_endpoint_with_errors_of_its_provider_is_asked_last(three: ServedChain) -> None:
    three.arm("error", code=-32605, message="over capacity", times=None)
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    await blockhash(three)
    assert three.endpoints.all[0].calls["getLatestBlockhash"] == 1
    assert three.endpoints.all[0].failures == 1


async def test_an_unknown_method_is_asked_of_all_and_raised(three: ServedChain) -> None:
    with pytest.raises(RpcError) as end:
        await three.endpoints.read("getAgGenesisCert", [])
    assert end.value.code == -32601
    assert three.endpoints.calls()["getAgGenesisCert"] == 2


async def test_a_method_that_one_lacks_may_exist_where_nothing_was_answered(three: ServedChain) -> None:
    three.arm("down", 1)
    with pytest.raises(VenueUnavailableError):
        await three.endpoints.read("getAgGenesisCert", [])


async def test_without_any_answer_the_venue_is_unavailable_and_each_reason_is_named(
    three: ServedChain,
) -> None:
    three.arm("down")
    three.arm("unavailable", 1, status=502)
    with pytest.raises(VenueUnavailableError) as end:
        await blockhash(three)
    assert str(end.value) == (
        "getLatestBlockhash: 127.0.0.1 (1): the connection was lost; 127.0.0.1 (2): HTTP 502"
    )


async def test_a_429_is_obeyed_for_as_long_as_the_endpoint_asks(
    three: ServedChain, clock: ManualClock
) -> None:
    first = three.endpoints.all[0]
    three.arm("rate_limit", retry_after_s=7)
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    calls = first.calls.copy()
    for _ in range(3):
        assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    with pytest.raises(NoAnswerError, match="calls per second are used up"):
        await first.call("getSlot", [], timeout_s=6)
    assert first.calls == calls
    # Sends have a budget of their own.
    with pytest.raises(RpcError):
        await first.call("sendTransaction", ["x"])
    await clock.jump(7)
    assert (await blockhash(three)).endpoint == "127.0.0.1 (1)"


async def test_an_endpoint_that_says_that_it_is_behind_is_not_read(three: ServedChain) -> None:
    three.arm("unhealthy", slots=30, times=None)
    await three.endpoints.check()
    assert three.endpoints.all[0].lag == 30
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    three.nodes[0].faults.clear()
    await three.endpoints.check()
    assert (await blockhash(three)).endpoint == "127.0.0.1 (1)"


async def test_an_endpoint_that_does_not_know_its_health_is_not_behind_for_ever(three: ServedChain) -> None:
    three.arm("error", method="getHealth", code=-32601, times=None)
    three.arm("error", method="getLatestBlockhash", code=-32005)
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    assert three.endpoints.all[0].lag == 1_000
    await three.endpoints.check()
    assert (await blockhash(three)).endpoint == "127.0.0.1 (1)"


async def test_an_endpoint_that_is_behind_without_knowing_it_is_not_read(three: ServedChain) -> None:
    three.chain.advance(40)
    await three.endpoints.check()
    three.arm("behind", slots=21, times=None)
    # Its answer gives it away, even before the next look at all endpoints.
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"
    assert three.endpoints.all[0].lag == 21
    three.chain.advance(200)
    three.nodes[0].faults.clear()
    three.arm("behind", slots=151, times=None)
    await three.endpoints.check()
    assert [each.lag for each in three.endpoints.readers] == [151, 0]


async def test_one_absurd_slot_does_not_stop_the_reads(
    three: ServedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(three.nodes[0], "block", lambda _: replace(three.chain.tip, slot=10**9))
        assert (await blockhash(three)).slot == 10**9
    await three.endpoints.check()
    assert [each.lag for each in three.endpoints.readers] == [0, 0]
    three.arm("down")
    assert (await blockhash(three)).endpoint == "127.0.0.1 (2)"


async def test_an_endpoint_of_another_cluster_is_not_read(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with served_chain(clock=clock) as served, served_chain() as other:
        urls = served.urls[0], other.urls[0]
        endpoints = Endpoints(urls, clock)
        other.chain.genesis = replace(other.chain.genesis, genesis_hash=Hash.new_unique())
        other.chain.advance(1_000)
        await endpoints.start()
        try:
            assert [each.foreign for each in endpoints.all] == [False, True]
            assert f"{endpoints.all[1].name} belongs to another cluster" in caplog.text
            assert endpoints.newest_slot == 1_000
            served.arm("down", times=None)
            with pytest.raises(VenueUnavailableError):
                await endpoints.read("getLatestBlockhash", [PROCESSED])
        finally:
            await endpoints.stop()


async def test_an_endpoint_that_does_not_say_its_cluster_is_not_read(clock: ManualClock) -> None:
    async with served_chain("", "", clock=clock) as served:
        endpoints = Endpoints(served.urls, clock)
        served.arm("error", method="getGenesisHash", code=-32601, message="Not here.", times=None)
        await endpoints.start()
        try:
            assert [each.foreign for each in endpoints.all] == [True, False]
            for _ in range(3):
                answer = await endpoints.read("getLatestBlockhash", [PROCESSED])
                assert answer.endpoint == endpoints.all[1].name
        finally:
            await endpoints.stop()


async def test_the_cluster_that_is_expected_decides_also_against_the_first_endpoint(
    clock: ManualClock,
) -> None:
    async with served_chain() as other, served_chain(clock=clock) as served:
        other.chain.genesis = replace(other.chain.genesis, genesis_hash=Hash.new_unique())
        urls = other.urls[0], served.urls[0]
        endpoints = Endpoints(urls, clock, str(served.chain.genesis.genesis_hash))
        await endpoints.start()
        try:
            assert [each.foreign for each in endpoints.all] == [True, False]
            await endpoints.read("getLatestBlockhash", [PROCESSED])
            assert endpoints.all[0].calls["getLatestBlockhash"] == 0
        finally:
            await endpoints.stop()


async def test_nothing_is_sent_to_another_cluster(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with served_chain("", "#send", clock=clock) as served, served_chain() as other:
        other.chain.genesis = replace(other.chain.genesis, genesis_hash=Hash.new_unique())
        endpoints = Endpoints([*served.urls, replace(other.urls[0], name="other", role=Role.SEND)], clock)
        await endpoints.start()
        try:
            assert "other belongs to another cluster" in caplog.text
            outcomes = await endpoints.send("sendTransaction", [wire(served.local.sell()), SKIP])
            assert [isinstance(outcome, Answer) for outcome in outcomes] == [True, True, False]
            assert str(outcomes[2]) == "other: it belongs to another cluster"
            assert endpoints.all[2].calls.keys() == {"getGenesisHash"}
        finally:
            await endpoints.stop()


@pytest.mark.parametrize("role", [Role.BOTH, Role.SEND])
@pytest.mark.parametrize("foreign", [True, False])
async def test_an_endpoint_that_comes_up_late_is_compared_before_something_is_sent_to_it(
    clock: ManualClock, role: Role, foreign: bool
) -> None:
    async with served_chain("", clock=clock) as served, served_chain() as late:
        if foreign:
            late.chain.genesis = replace(late.chain.genesis, genesis_hash=Hash.new_unique())
        endpoints = Endpoints([served.urls[0], replace(late.urls[0], name="late", role=role)], clock)
        late.arm("down", times=None)
        await endpoints.start()
        try:
            transaction = wire(served.local.sell())
            outcomes = await endpoints.send("sendTransaction", [transaction, SKIP])
            assert str(outcomes[1]) == "late: it has not said its cluster"
            late.nodes[0].faults.clear()
            await clock.jump(2)
            sends = [endpoints.send("sendTransaction", [transaction, SKIP]) for _ in range(5)]
            before = endpoints.all[1].calls["getGenesisHash"]
            for first, second in await asyncio.gather(*sends):
                assert isinstance(first, Answer)
                assert isinstance(second, Answer) is not foreign
            # They share a call.
            assert endpoints.all[1].calls["getGenesisHash"] == before + 1
            assert late.chain.waiting == (0 if foreign else 1)
        finally:
            await endpoints.stop()


@pytest.mark.parametrize("foreign", [True, False])
async def test_an_endpoint_that_was_away_is_compared_again(clock: ManualClock, foreign: bool) -> None:
    """A local chain that is started again has the address of the one before, and is another one."""
    async with served_chain(clock=clock) as served, served_chain() as again:
        endpoints = Endpoints([served.urls[0], replace(again.urls[0], name="again")], clock)
        for each in (served, again):
            each.chain.genesis = replace(each.chain.genesis, genesis_hash=Hash.default())
        await endpoints.start()
        try:
            if foreign:
                again.chain.genesis = replace(again.chain.genesis, genesis_hash=Hash.new_unique())
            transaction = wire(served.local.sell())
            again.arm("down")
            with pytest.raises(NoAnswerError):
                await endpoints.all[1].call("getSlot", [])
            first, second = await endpoints.send("sendTransaction", [transaction, SKIP])
            assert isinstance(first, Answer)
            assert isinstance(second, Answer) is not foreign
            assert again.chain.waiting == (0 if foreign else 1)
            # One that only lost an answer is not left alone for that.
            assert [each.foreign for each in endpoints.all] == [False, foreign]
        finally:
            await endpoints.stop()


async def test_a_genesis_hash_that_is_none_is_not_repeated(clock: ManualClock) -> None:
    async with served_chain("", "", clock=clock) as served:
        named = SimpleNamespace(genesis=SimpleNamespace(genesis_hash=f"{KEY} " * 1_000))
        served.nodes[0].chain = cast("Any", named)
        assert await served.endpoints.all[0].genesis_hash() is None
        assert await served.endpoints.all[1].genesis_hash() == str(served.chain.genesis.genesis_hash)


async def test_a_little_behind_is_read_but_not_below_the_slot_asked_for(three: ServedChain) -> None:
    three.chain.advance(40)
    await three.endpoints.check()
    three.arm("behind", slots=5, times=None)
    answer = await blockhash(three)
    assert (answer.endpoint, answer.slot) == ("127.0.0.1 (1)", 1_035)
    answer = await blockhash(three, min_slot=1_036)
    assert (answer.endpoint, answer.slot) == ("127.0.0.1 (2)", 1_040)
    refusing = {**PROCESSED, "minContextSlot": 1_036}
    answer = await three.endpoints.read("getLatestBlockhash", [refusing])
    assert answer.endpoint == "127.0.0.1 (2)"


async def test_an_endpoint_that_is_not_up_to_date_is_read_only_if_no_other_answers(
    three: ServedChain,
) -> None:
    three.chain.advance(40)
    three.arm("behind", slots=6, times=None)
    await three.endpoints.check()
    first, second = three.endpoints.readers
    first.latency_s, second.latency_s = 0.001, 0.2
    assert (await blockhash(three)).endpoint == second.name
    three.arm("down", 1)
    assert (await blockhash(three)).endpoint == first.name


async def test_a_slot_that_no_endpoint_has_reached_is_asked_for_again_two_slots_later(
    three: ServedChain, clock: ManualClock
) -> None:
    asked = len(clock.sleeps_s)
    reading = asyncio.create_task(blockhash(three, min_slot=1_002))
    await until(lambda: len(clock.sleeps_s) > asked)
    assert clock.sleeps_s[asked:] == [0.4]
    three.chain.advance(2)
    await clock.advance(0.4)
    assert (await reading).slot == 1_002
    reading = asyncio.create_task(blockhash(three, min_slot=1_003))
    await until(lambda: len(clock.sleeps_s) > asked + 1)
    await clock.advance(0.4)
    with pytest.raises(VenueUnavailableError, match=r"127.0.0.1 \(1\): answered from slot 1002"):
        await reading


async def test_an_answer_that_cannot_be_used_counts_as_none(three: ServedChain) -> None:
    def parse(answer: Answer) -> str:
        if answer.endpoint == "127.0.0.1 (1)":
            raise NotAnAnswerError("nonsense")
        return "sense"

    answer = await three.endpoints.read("getLatestBlockhash", [PROCESSED], parse=parse)
    assert (answer.result, answer.endpoint) == ("sense", "127.0.0.1 (2)")
    assert [each.failures for each in three.endpoints.readers] == [1, 0]
    # The next read goes where the last one was answered.
    await blockhash(three)
    assert three.endpoints.all[0].calls["getLatestBlockhash"] == 1


async def test_an_endpoint_that_keeps_failing_is_left_alone_for_a_while(
    three: ServedChain, clock: ManualClock
) -> None:
    first = three.endpoints.all[0]
    three.arm("down", times=None)
    for _ in range(5):
        with pytest.raises(NoAnswerError):
            await first.call("getBlockHeight", [])
    assert first.calls["getBlockHeight"] == 3
    # What is sent is not held up by what was read.
    with pytest.raises(NoAnswerError, match="the connection was lost"):
        await first.call("sendTransaction", ["x"])
    three.nodes[0].faults.clear()
    await clock.jump(1)
    assert (await first.call("getBlockHeight", [])).result == 900
    assert first.failures == 0


async def test_a_node_without_history_says_since_when_it_knows(three: ServedChain) -> None:
    signature = three.local.send(three.local.sell())
    three.chain.advance(40)
    three.arm("no_history", times=None)
    proved = [
        (
            (await each.call("getFirstAvailableBlock", [])).result,
            (await each.call("getSignatureStatuses", [[signature], {"searchTransactionHistory": True}])),
        )
        for each in three.endpoints.readers
    ]
    # Its null has a slot like any other: only the first available block says that it means nothing.
    assert [first for first, _ in proved] == [1_040, 1_000]
    assert [answer.slot for _, answer in proved] == [1_040, 1_040]
    assert [bool(answer.result[0]) for _, answer in proved] == [False, True]


async def test_a_transaction_is_sent_to_all_that_take_one_and_each_outcome_is_returned(
    three: ServedChain,
) -> None:
    three.arm("lose_answer", method="sendTransaction")
    transaction = three.local.sell()
    lost, answered = await three.endpoints.send("sendTransaction", [wire(transaction), SKIP])
    assert isinstance(lost, NoAnswerError)
    assert isinstance(answered, Answer)
    assert answered.result == str(transaction.signatures[0])
    assert [each.calls["sendTransaction"] for each in three.endpoints.all] == [1, 0, 1]
    refused = await three.endpoints.send("sendTransaction", ["AAAA", SKIP])
    assert [isinstance(each, RpcError) for each in refused] == [True, True]


async def test_no_redirect_is_followed() -> None:
    asked: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    application = web.Application()
    application.router.add_route("*", "/{name}", redirect)
    client = Wire(Clock(0))
    client.start()
    try:
        async with TestServer(application) as server:
            assert (await client.post(str(server.make_url("/post")), b"{}", 5)).status == 307
            with pytest.raises(WireError):
                await client.open_socket(str(server.make_url("/socket")))
    finally:
        await client.stop()
    assert asked == ["/post", "/socket"]


async def test_the_data_of_an_error_does_not_show_the_url(
    three: ServedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def post(url: str, body: bytes, timeout_s: float) -> Reply:
        error = {"code": -32602, "message": "no", "data": {"url": [url]}}
        return Reply(200, orjson.dumps({"id": orjson.loads(body)["id"], "error": error}), None)

    monkeypatch.setattr(three.endpoints.wire, "post", post)
    with pytest.raises(RpcError) as end:
        await three.endpoints.read("getSlot", [])
    assert end.value.data == {"url": ["(a URL)"]}


async def test_a_node_that_writes_a_novel_is_not_quoted(
    three: ServedChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    novel = f"the key {KEY} of wss://elsewhere.example/?key=x\n" + "is not valid " * 100_000

    async def post(_url: str, body: bytes, _timeout_s: float) -> Reply:
        error = {"code": -32000, "message": novel}
        return Reply(200, orjson.dumps({"id": orjson.loads(body)["id"], "error": error}), None)

    monkeypatch.setattr(three.endpoints.wire, "post", post)
    with pytest.raises(VenueUnavailableError) as end:
        await three.endpoints.read("getSlot", [])
    assert "the key *** of (a URL) is not valid is not" in str(end.value)
    assert len(str(end.value)) < 600


async def test_no_error_and_no_log_shows_the_url(
    three: ServedChain, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = [repr(three.endpoints.all), repr(three.urls)]
    for kind in "down", "rate_limit", "unavailable", "garbage":
        three.arm(kind)
        with pytest.raises(NoAnswerError) as end:
            await three.endpoints.all[0].call("getSlot", [], timeout_s=0.5)
        shown += [str(end.value), repr(end.value), repr(end.value.__cause__), str(end.getrepr())]
    three.arm("error", 1, code=-32000, message=f"bad key {KEY}")
    with pytest.raises(RpcError, match=r"bad key \*\*\*") as refused:
        await three.endpoints.all[1].call("getSlot", [])
    shown += [str(refused.value), repr(refused.value)]
    assert KEY not in "".join(shown) + caplog.text
