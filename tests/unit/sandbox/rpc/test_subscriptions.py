"""What a WebSocket connection is told."""

from typing import Any

import pytest

from service.chains.paper.pool_json import METEORA_DAMM_V2, RAYDIUM_CPMM
from service.sandbox.rpc.subscriptions import Subscriptions
from tests.support.local_chain import LocalChain

PROCESSED = {"commitment": "processed"}


class Listener:
    """A connection, and what it has received since it was last asked."""

    def __init__(self, local: LocalChain) -> None:
        self._messages: list[dict[str, Any]] = []
        self._subscriptions = Subscriptions(local.node, self._messages.append)
        local.chain.on_change.append(self._subscriptions.notify)

    def call(self, method: str, *params: Any) -> Any:
        """Call a method, and return its answer's result or its error's code."""
        self._subscriptions.call({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        [answer] = [each for each in self._messages if "method" not in each]
        self._messages.remove(answer)
        assert answer["id"] == 7
        return answer["result"] if "result" in answer else answer["error"]["code"]

    def heard(self) -> list[Any]:
        """Return the results that it was told, with the topics."""
        found = [(each["method"], each["params"]["result"]) for each in self._messages]
        self._messages.clear()
        return found


def test_every_slot_is_told() -> None:
    local = LocalChain()
    listener = Listener(local)
    assert listener.call("slotSubscribe") == 1
    local.chain.advance(2)
    assert listener.heard() == [
        ("slotNotification", {"parent": 1_000, "slot": 1_001, "root": 1_000}),
        ("slotNotification", {"parent": 1_001, "slot": 1_002, "root": 1_000}),
    ]
    assert listener.call("rootSubscribe") == 2
    assert listener.call("slotUnsubscribe", 1) is True
    local.chain.advance(31)
    assert listener.heard() == [("rootNotification", 1_001)]


def test_an_account_is_told_when_it_changes_at_its_commitment() -> None:
    local = LocalChain()
    listener, pool = Listener(local), local.pool(RAYDIUM_CPMM).addresses.pool
    config = {"encoding": "base64"}
    assert listener.call("accountSubscribe", str(pool), {**config, **PROCESSED}) == 1
    assert listener.call("accountSubscribe", str(pool), {**config, "commitment": "confirmed"}) == 2
    local.send(local.sell(METEORA_DAMM_V2))
    local.chain.advance()
    assert listener.heard() == []
    local.send(local.sell(RAYDIUM_CPMM))
    local.chain.advance()
    [(method, first)] = listener.heard()
    expected = local.call("getAccountInfo", str(pool), {**config, **PROCESSED})["value"]
    assert (method, first) == ("accountNotification", {"context": {"slot": 1_002}, "value": expected})
    local.chain.advance()
    assert listener.heard() == []
    local.chain.advance()
    assert listener.heard() == [(method, first)]


def test_a_programs_accounts_are_told() -> None:
    local = LocalChain()
    listener, pool = Listener(local), local.pool(RAYDIUM_CPMM).addresses
    config = {"encoding": "base64", **PROCESSED, "filters": [{"dataSize": 637}]}
    listener.call("programSubscribe", str(pool.program), config)
    local.send(local.sell(RAYDIUM_CPMM))
    local.chain.advance()
    [(method, result)] = listener.heard()
    assert method == "programNotification"
    assert result["value"]["pubkey"] == str(pool.pool)
    assert result["value"]["account"]["space"] == 637


def test_a_signature_is_told_once() -> None:
    local = LocalChain()
    listener = Listener(local)
    signature = local.send(local.sell())
    config = {"commitment": "confirmed", "enableReceivedNotification": True}
    listener.call("signatureSubscribe", signature, config)
    heard = []
    for _ in range(5):
        local.chain.advance()
        heard.append(listener.heard())
    received = {"context": {"slot": 1_001}, "value": "receivedSignature"}
    done = {"context": {"slot": 1_001}, "value": {"err": None}}
    assert heard == [
        [("signatureNotification", received)],
        [],
        [("signatureNotification", done)],
        [],
        [],
    ]
    # One that has landed already is told at once.
    assert listener.call("signatureSubscribe", signature, PROCESSED) == 2
    assert [result["value"] for _, result in listener.heard()] == [{"err": None}]


def test_a_fork_is_told_by_the_slots_after_it() -> None:
    local = LocalChain()
    listener = Listener(local)
    listener.call("slotSubscribe")
    local.chain.advance(3)
    local.chain.fork(2)
    local.chain.advance()
    slots = [(result["parent"], result["slot"]) for _, result in listener.heard()]
    assert slots == [(1_000, 1_001), (1_001, 1_002), (1_002, 1_003), (1_001, 1_004)]


def test_a_connection_may_be_told_nothing_twice_or_in_reverse() -> None:
    local = LocalChain()
    listener = Listener(local)
    listener.call("slotSubscribe")
    local.node.faults.arm("ws_silent", times=None)
    local.chain.advance(2)
    local.node.faults.clear()
    assert listener.heard() == []
    local.node.faults.arm("ws_repeat")
    local.chain.advance()
    assert [result["slot"] for _, result in listener.heard()] == [1_003] * 2
    local.node.faults.arm("behind", times=None, slots=5)
    local.chain.advance(4)
    local.node.faults.clear()
    local.node.faults.arm("ws_reverse")
    local.chain.advance()
    slots = [result["slot"] for _, result in listener.heard()]
    assert slots == [1_008, 1_007, 1_006, 1_005, 1_004]


def test_wrong_calls_are_refused() -> None:
    local = LocalChain()
    listener = Listener(local)
    assert listener.call("getSlot") == -32601
    assert listener.call("blockSubscribe") == -32601
    assert listener.call("blockUnsubscribe", 1) == -32601
    assert listener.call("accountSubscribe", "x") == -32602
    assert listener.call("slotUnsubscribe", 5) == -32602
    assert listener.call("slotSubscribe") == 1
    assert listener.call("accountUnsubscribe", 1) == -32602


def test_an_account_too_large_for_its_encoding_does_not_stop_the_chain() -> None:
    local = LocalChain()
    listener, pool = Listener(local), local.pool(RAYDIUM_CPMM).addresses.pool
    assert listener.call("accountSubscribe", str(pool), PROCESSED) == 1
    assert listener.call("slotSubscribe") == 2
    local.send(local.sell(RAYDIUM_CPMM))
    local.chain.advance(2)
    (_topic, told), *slots = listener.heard()
    assert told["value"]["data"] == "error: data too large for bs58 encoding"
    assert told["value"]["space"] == len(local.account(pool).data)
    assert [topic for topic, _slot in slots] == ["slotNotification"] * 2


@pytest.mark.parametrize(
    "config", [{"encoding": "base64+zstd"}, {"encoding": "base64", "dataSlice": {"offset": 1}}]
)
@pytest.mark.parametrize("method", ["accountSubscribe", "programSubscribe"])
def test_an_encoding_that_cannot_be_is_refused_at_once(method: str, config: dict[str, Any]) -> None:
    local = LocalChain()
    assert Listener(local).call(method, str(local.pool(RAYDIUM_CPMM).addresses.pool), config) < 0
    local.chain.advance()
