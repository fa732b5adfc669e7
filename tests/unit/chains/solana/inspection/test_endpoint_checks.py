"""What the doctor finds at endpoints: each fault of the sandbox's endpoints, one by one."""

from typing import Any

import pytest

from service.chains.inspection import CheckResult
from service.chains.solana.inspection.cluster import check_enough
from service.chains.solana.inspection.endpoints import check_calls
from service.chains.solana.rpc.urls import parse_rpc_urls
from tests.support.inspected_chain import inspected_chain
from tests.support.served_chain import KEY

OF_AN_ENDPOINT = ("endpoint", "lag", "version 1", "history", "sends", "calls")


async def test_nothing_is_wrong_with_a_chain_that_works() -> None:
    async with inspected_chain("", "#read;rps=9", "#send") as inspected:
        checks = await inspected.checks()
    assert [str(each) for each in checks if each.result is not CheckResult.OK] == []
    by_name = {name: [each for each in checks if each.name == name] for name in OF_AN_ENDPOINT}
    assert {name: len(found) for name, found in by_name.items()} == {
        "endpoint": 3,
        "lag": 2,
        "version 1": 2,
        "history": 2,
        "sends": 2,
        "calls": 2,
    }
    assert all("runs version 4.2.0" in each.found for each in by_name["endpoint"])
    assert by_name["calls"][1].found == "answered 9 calls at once (with ;rps=9)"
    assert KEY not in "".join(map(str, checks))


async def test_it_reads_a_transaction_of_version_1_if_there_is_one() -> None:
    async with inspected_chain() as inspected:
        inspected.local.send(inspected.local.sell())
        inspected.served.chain.advance(40)
        found = await inspected.check("version 1")
    assert found.found == "simulates it, and allows to read it (read one of version 1)"


@pytest.mark.parametrize(
    ("kind", "arguments", "found"),
    [
        ("down", {}, "no answer: the connection was lost"),
        ("unavailable", {"status": 401}, "no answer: HTTP 401"),
        ("rate_limit", {}, "no answer: too many calls (HTTP 429)"),
        ("garbage", {"form": "html"}, "no answer: it did not answer in JSON"),
        ("garbage", {"form": "null_result"}, "no answer: it answered without a result"),
        ("error", {"message": "No."}, "it does not say which cluster it belongs to: No. (-32603)"),
    ],
)
async def test_an_endpoint_that_does_not_answer_is_named_with_the_reason(
    kind: str, arguments: dict[str, Any], found: str
) -> None:
    async with inspected_chain("", "") as inspected:
        inspected.served.arm(kind, 1, times=None, **arguments)
        checks = await inspected.checks()
    name = inspected.subject.urls[1].name
    [only] = [each for each in checks if each.subject == name]
    assert (only.name, only.result, only.found) == ("endpoint", CheckResult.FAILED, found)
    assert only.remedy
    # The other one is looked at, but alone it cannot prove what two are to prove.
    assert {each.name for each in checks} >= {"pool", "token", "sol", "calls"}
    [enough] = [each for each in checks if each.name == "endpoints"]
    assert (enough.result, enough.found[:6]) == (CheckResult.FAILED, "1 of 2")
    assert KEY not in "".join(map(str, checks))


async def test_an_endpoint_of_another_cluster_is_not_asked_further() -> None:
    async with inspected_chain() as inspected:
        checks = await inspected.checks(genesis_hash="EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG")
        genesis = str(inspected.served.chain.genesis.genesis_hash)
    assert [each.name for each in checks] == ["endpoint", "endpoints", "signer"]
    assert checks[0].found == f"another cluster: its genesis hash is {genesis}"
    assert checks[1].found == "none can be read from"
    assert {each.result for each in checks[:2]} == {CheckResult.FAILED}


@pytest.mark.parametrize(
    ("kind", "slots", "verdict"),
    [
        ("behind", 20, CheckResult.OK),
        ("behind", 21, CheckResult.WARNING),
        ("behind", 151, CheckResult.FAILED),
        ("unhealthy", 500, CheckResult.FAILED),
    ],
)
async def test_an_endpoint_that_lags(kind: str, slots: int, verdict: CheckResult) -> None:
    async with inspected_chain("", "") as inspected:
        inspected.served.arm(kind, 1, times=None, slots=slots)
        first, second = await inspected.checks("lag")
    assert (first.result, second.result) == (CheckResult.OK, verdict)
    assert second.found.startswith(f"{slots} slots behind")


async def test_an_endpoint_that_does_not_say_its_slot() -> None:
    async with inspected_chain("", "") as inspected:
        inspected.served.arm("garbage", 1, times=None, method="getSlot")
        _, second = await inspected.checks("lag")
    assert (second.result, second.found) == (CheckResult.FAILED, "it does not say its slot")


@pytest.mark.parametrize(
    ("method", "code", "found"),
    [
        ("simulateTransaction", -32602, "it does not simulate it: "),
        ("getTransaction", -32015, "it does not read transactions: "),
        ("getTransaction", -32602, "it does not read transactions: "),
    ],
)
async def test_an_endpoint_without_version_1(method: str, code: int, found: str) -> None:
    async with inspected_chain() as inspected:
        inspected.served.arm("error", times=None, method=method, code=code)
        check = await inspected.check("version 1")
    assert check.result is CheckResult.FAILED
    assert check.found.startswith(found)
    assert str(code) in check.found


async def test_an_endpoint_without_history_proves_nothing() -> None:
    async with inspected_chain("", "", "") as inspected:
        inspected.served.arm("no_history", 1, times=None)
        inspected.served.arm("hole", 2, times=None, slots=100)
        for node in inspected.served.nodes:
            node.has_kept(0)
        inspected.served.chain.advance(60)
        checks = await inspected.checks()
    first, second, third = (each for each in checks if each.name == "history")
    assert first.result is CheckResult.OK
    assert first.found == "every block of the last 200 slots; it begins 328 ago"
    assert (second.result, third.result) == (CheckResult.WARNING, CheckResult.WARNING)
    assert second.found == "it has the blocks of the last 28 slots only, and needs those of 200"
    assert third.found == "100 blocks of the last 200 slots are missing"
    [enough] = [each for each in checks if each.name == "endpoints"]
    assert enough.found == "1 of 3 could prove that a transaction has expired, and 2 must"


@pytest.mark.parametrize(
    ("method", "found"),
    [
        ("getEpochInfo", "it does not say its last finalized block, or its first one"),
        ("getFirstAvailableBlock", "it does not say its last finalized block, or its first one"),
        ("getSignatureStatuses", "it does not search its history for signatures"),
        ("getBlocks", "it does not list its blocks"),
    ],
)
async def test_an_endpoint_that_refuses_what_a_proof_needs(method: str, found: str) -> None:
    async with inspected_chain() as inspected:
        inspected.served.arm("error", times=None, method=method)
        checks = await inspected.checks()
    [history] = [each for each in checks if each.name == "history"]
    [enough] = [each for each in checks if each.name == "endpoints"]
    assert (history.found, enough.result) == (found, CheckResult.FAILED)
    assert history.result is not CheckResult.OK


async def test_a_sandbox_is_as_young_as_it_is() -> None:
    async with inspected_chain(slots=3) as inspected:
        young = await inspected.check("history", is_local=True)
        elsewhere = await inspected.check("history")
    assert (young.result, young.found) == (
        CheckResult.OK,
        "every block of the last 0 slots; it begins 0 ago",
    )
    assert elsewhere.result is CheckResult.WARNING


@pytest.mark.parametrize(
    ("kind", "arguments", "verdict"),
    [
        ("error", {"code": -32601}, CheckResult.FAILED),
        ("unavailable", {"status": 400}, CheckResult.WARNING),
        ("down", {}, CheckResult.WARNING),
    ],
)
async def test_an_endpoint_that_may_take_no_transactions(
    kind: str, arguments: dict[str, Any], verdict: CheckResult
) -> None:
    async with inspected_chain() as inspected:
        inspected.served.arm(kind, times=None, method="sendTransaction", **arguments)
        assert (await inspected.check("sends")).result is verdict


async def test_a_node_s_words_cannot_control_a_terminal() -> None:
    async with inspected_chain() as inspected:
        inspected.served.arm(
            "error", times=None, method="getGenesisHash", message="No.\x1b[2J\r\n" + "x" * 999
        )
        check = await inspected.check("endpoint")
    assert str(check).isprintable()
    assert len(str(check)) < 600


async def test_an_endpoint_for_sending_need_not_say_its_cluster() -> None:
    async with inspected_chain("#read", "#send") as inspected:
        inspected.served.arm("error", 1, times=None, method="getGenesisHash", code=-32601)
        _, second = await inspected.checks("endpoint")
    assert second.result is CheckResult.WARNING


@pytest.mark.parametrize(("rps", "remedy"), [(None, "write ;rps="), (5, "lower its ;rps=")])
async def test_calls_that_are_too_many(rps: int | None, remedy: str) -> None:
    role = "" if rps is None else f";rps={rps}"
    async with inspected_chain(role) as inspected, inspected.inspector() as inspector:
        inspected.served.arm("rate_limit", times=2)
        check = await check_calls(inspector._endpoints.all[0], rps)
    assert check.result is CheckResult.WARNING
    assert check.found.startswith(f"2 of {rps or 10} calls were too many")
    assert check.remedy.startswith(remedy)


async def test_calls_that_are_not_answered() -> None:
    async with inspected_chain() as inspected, inspected.inspector() as inspector:
        inspected.served.arm("down", times=3)
        check = await check_calls(inspector._endpoints.all[0], None)
    assert (check.result, check.found[:16]) == (CheckResult.WARNING, "answered 7 of 10")


@pytest.mark.parametrize(
    ("urls", "real_money", "verdict"),
    [
        ("https://one.example", True, CheckResult.WARNING),
        ("https://one.example", False, CheckResult.OK),
        ("https://one.example/1,https://one.example/2", True, CheckResult.WARNING),
        ("https://one.example,https://two.example", True, CheckResult.OK),
        ("https://one.example,https://two.example#send", True, CheckResult.WARNING),
    ],
)
def test_real_money_should_have_two_independent_endpoints(
    urls: str, real_money: bool, verdict: CheckResult
) -> None:
    parsed = parse_rpc_urls(urls)
    readers = sum(each.reads for each in parsed)
    assert check_enough(parsed, readers, readers, real_money=real_money).result is verdict
