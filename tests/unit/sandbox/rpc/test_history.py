"""What became of transactions, and what a node does not know."""

import base64
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.message import Message
from solders.transaction import VersionedTransaction

from service.chains.solana.addresses import MEMO_PROGRAM
from tests.support.local_chain import CallFailedError, LocalChain, wire

VERSION_1 = {"encoding": "base64", "maxSupportedTransactionVersion": 1}
HEADER = {"transactionDetails": "none", "rewards": False, "maxSupportedTransactionVersion": 1}


def failure(local: LocalChain, method: str, *params: Any) -> CallFailedError:
    with pytest.raises(CallFailedError) as failed:
        local.call(method, *params)
    return failed.value


def test_a_transaction_is_told_with_its_metadata_once_it_is_confirmed() -> None:
    local = LocalChain()
    transaction = local.sell()
    signature = local.send(transaction)
    local.chain.advance(2)
    config = {**VERSION_1, "commitment": "confirmed"}
    assert local.call("getTransaction", signature, config) is None
    local.chain.advance()
    answer = local.call("getTransaction", signature, config)
    assert local.call("getTransaction", signature, VERSION_1) is None
    assert (answer["slot"], answer["blockTime"], answer["version"]) == (1_001, 1_800_000_000, 1)
    assert answer["transaction"] == [wire(transaction), "base64"]
    meta = answer["meta"]
    assert (meta["err"], meta["status"], meta["fee"]) == (None, {"Ok": None}, 12_000)
    assert len(meta["preBalances"]) == len(meta["postBalances"]) == len(transaction.message.account_keys)
    assert {each["programId"] for each in meta["preTokenBalances"]} == {
        "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
    }
    assert meta["computeUnitsConsumed"] > 30_000
    assert failure(local, "getTransaction", signature, {"commitment": "processed"}).code == -32602


def test_a_client_must_say_that_it_reads_version_1() -> None:
    local = LocalChain()
    signature = local.send(local.sell())
    local.chain.advance(40)
    for config in ({"encoding": "base64"}, {"encoding": "base64", "maxSupportedTransactionVersion": 0}):
        failed = failure(local, "getTransaction", signature, config)
        assert failed.code == -32015
        assert "Transaction version (1) is not supported" in failed.message


def test_a_transaction_in_json_and_of_the_oldest_version() -> None:
    local = LocalChain()
    instruction = Instruction(MEMO_PROGRAM, b"hello", [])
    message = Message.new_with_blockhash([instruction], local.wallet.pubkey(), local.chain.tip.blockhash)
    signature = local.send(VersionedTransaction(message, [local.wallet]))
    local.chain.advance(40)
    answer = local.call("getTransaction", signature)
    assert "version" not in answer
    told = answer["transaction"]["message"]
    assert told["accountKeys"] == [str(key) for key in message.account_keys]
    assert told["header"]["numRequiredSignatures"] == 1
    assert answer["meta"]["fee"] == 5_000
    assert local.call("getTransaction", signature, VERSION_1)["version"] == "legacy"


def test_a_failed_transaction_has_a_status_and_no_effect() -> None:
    local = LocalChain()
    signature = local.send(local.sell(minimum_out=10**12))
    local.chain.advance(40)
    error = {"InstructionError": [3, {"Custom": 6005}]}
    status = local.status(signature)
    assert (status["err"], status["status"]) == (error, {"Err": error})
    meta = local.call("getTransaction", signature, VERSION_1)["meta"]
    assert (meta["err"], meta["fee"]) == (error, 12_000)
    assert meta["preTokenBalances"] == meta["postTokenBalances"]
    assert sum(meta["preBalances"]) - sum(meta["postBalances"]) == 12_000


def test_old_statuses_are_found_in_the_history_only() -> None:
    local = LocalChain()
    signature = local.send(local.sell())
    local.chain.advance(301)
    plain = local.call("getSignatureStatuses", [signature])
    assert plain["value"][0] is not None
    local.chain.advance()
    assert local.call("getSignatureStatuses", [signature])["value"] == [None]
    assert local.status(signature)["confirmationStatus"] == "finalized"


def test_a_node_without_history_knows_nothing_before_its_start() -> None:
    local = LocalChain()
    before = local.send(local.sell())
    local.chain.advance(5)
    local.node.faults.arm("no_history", times=None)
    assert local.call("getFirstAvailableBlock") == 1_005
    after = local.send(local.sell())
    local.chain.advance(40)
    assert local.status(before) is None
    assert local.call("getTransaction", before, VERSION_1) is None
    assert local.status(after) is not None
    local.node.faults.clear("no_history")
    assert local.status(before) is not None


def test_a_node_with_a_hole_knows_what_was_before_and_after_it() -> None:
    local = LocalChain()
    signatures = []
    for _ in range(3):
        signatures.append(local.send(local.sell()))
        local.chain.advance(5)
        if len(signatures) == 2:
            local.node.faults.arm("hole", times=None, slots=5)
            assert local.status(signatures[1]) is None
    local.chain.skip(3)
    local.chain.advance(40)
    assert [local.status(each) is not None for each in signatures] == [True, False, True]
    assert local.call("getFirstAvailableBlock") == 1_000
    assert local.call("getBlocks", 1_004, 1_012) == [1_004, 1_005, 1_011, 1_012]
    assert failure(local, "getBlock", 1_008, HEADER).code == -32007
    local.node.faults.clear()
    assert local.call("getBlocks", 1_004, 1_006) == [1_004, 1_005, 1_006]
    assert local.status(signatures[1]) is not None


def test_a_node_that_denies_all_transactions_lists_their_blocks() -> None:
    local = LocalChain()
    signature = local.send(local.sell())
    local.chain.advance(40)
    local.node.faults.arm("no_transactions", times=None)
    assert local.status(signature) is None
    assert local.call("getTransaction", signature, VERSION_1) is None
    assert local.call("getBlocks", 1_001)[0] == 1_001
    assert local.call("getFirstAvailableBlock") == 1_000
    local.node.faults.clear("no_transactions")
    assert local.status(signature) is not None


def test_blocks_without_their_transactions() -> None:
    local = LocalChain()
    local.chain.advance(2)
    local.chain.skip(3)
    local.chain.advance(40)
    block = local.call("getBlock", 1_006, HEADER)
    assert (block["blockHeight"], block["parentSlot"]) == (903, 1_002)
    # The last valid height that a node answers is 150 above that of the blockhash's block.
    latest = local.call("getLatestBlockhash", {"commitment": "finalized"})
    of_latest = local.call("getBlock", latest["context"]["slot"], HEADER)
    assert of_latest["blockhash"] == latest["value"]["blockhash"]
    assert of_latest["blockHeight"] + 150 == latest["value"]["lastValidBlockHeight"]
    assert failure(local, "getBlock", 1_004, HEADER).code == -32007
    assert failure(local, "getBlock", 1_045, HEADER).code == -32004
    assert local.call("getBlocks", 1_001, 1_007) == [1_001, 1_002, 1_006, 1_007]
    assert local.call("getBlocks", 1_001)[-1] == local.call("getSlot")
    assert local.call("getBlocks", 1_007, 1_001) == []
    assert failure(local, "getBlocks", 0, 5, {"commitment": "processed"}).code == -32602
    local.chain.skip(600_000)
    local.chain.advance(40)
    assert failure(local, "getBlocks", 1_001).message == "Slot range too large; max 500000"
    local.node.faults.arm("no_history", times=None)
    assert failure(local, "getBlock", 1_006, HEADER).code == -32001


def test_the_transactions_of_an_address_newest_first() -> None:
    local = LocalChain()
    sent = []
    for _ in range(5):
        sent.append(local.send(local.sell()))
        local.chain.advance()
    local.chain.advance(40)
    wallet = str(local.wallet.pubkey())

    def listed(**config: Any) -> list[str]:
        return [each["signature"] for each in local.call("getSignaturesForAddress", wallet, config)]

    assert listed() == sent[::-1]
    assert listed(limit=2) == sent[:2:-1]
    assert listed(before=sent[3], limit=2) == [sent[2], sent[1]]
    assert listed(until=sent[1]) == [sent[4], sent[3], sent[2]]
    first = local.call("getSignaturesForAddress", wallet)[-1]
    assert (first["slot"], first["err"], first["confirmationStatus"]) == (1_001, None, "finalized")
    assert first["memo"].startswith("[16] ")
    unknown = base64.b64decode(wire(local.sell()))
    stranger = str(VersionedTransaction.from_bytes(unknown).signatures[0])
    assert failure(local, "getSignaturesForAddress", wallet, {"before": stranger}).code == -32020
    assert local.call("getSignaturesForAddress", wallet, {"minContextSlot": 1}) != []


def test_only_settled_transactions_are_listed() -> None:
    local = LocalChain()
    wallet = str(local.wallet.pubkey())
    local.send(local.sell())
    local.chain.advance(3)
    assert local.call("getSignaturesForAddress", wallet) == []
    assert len(local.call("getSignaturesForAddress", wallet, {"commitment": "confirmed"})) == 1


def test_at_most_256_statuses_in_one_call() -> None:
    local = LocalChain()
    signature = str(local.sell().signatures[0])
    assert local.call("getSignatureStatuses", [signature] * 256)["value"] == [None] * 256
    failed = failure(local, "getSignatureStatuses", [signature] * 257)
    assert failed.message == "Too many inputs provided; max 256"
