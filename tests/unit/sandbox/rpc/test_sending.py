"""Sending and simulating transactions, and what a node refuses."""

import base64
from typing import Any

import pytest
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, MessageV1
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from service.chains.paper.pool_json import METEORA_DLMM, RAYDIUM_CPMM
from service.chains.solana.addresses import MEMO_PROGRAM
from service.sandbox.rpc import base58
from tests.support.local_chain import BUDGET, SKIP, SOL, CallFailedError, LocalChain, wire
from tests.support.solana_pools import made_up

BASE64 = {"encoding": "base64", "preflightCommitment": "processed"}
SIMULATE = {"encoding": "base64", "commitment": "processed"}
MEMO = Instruction(MEMO_PROGRAM, b"hello", [])


def failure(local: LocalChain, method: str, *params: Any) -> CallFailedError:
    with pytest.raises(CallFailedError) as failed:
        local.call(method, *params)
    return failed.value


def test_a_preflight_passes_what_will_land() -> None:
    local = LocalChain()
    transaction = local.sell()
    assert local.call("sendTransaction", wire(transaction), BASE64) == str(transaction.signatures[0])
    again = LocalChain()
    text = base58.encode(bytes(again.sell()))
    assert again.call("sendTransaction", text, {"preflightCommitment": "processed"})


def test_a_preflight_refuses_what_would_fail_with_the_simulation() -> None:
    local = LocalChain()
    failed = failure(local, "sendTransaction", wire(local.sell(minimum_out=10**12)), BASE64)
    assert failed.code == -32002
    assert failed.message == (
        "Transaction simulation failed: Error processing Instruction 3: custom program error: 0x1775"
    )
    assert failed.data["err"] == {"InstructionError": [3, {"Custom": 6005}]}
    assert failed.data["unitsConsumed"] > 0
    assert failed.data["logs"]
    assert local.chain.waiting == 0


def test_a_preflight_refuses_an_unknown_blockhash_and_what_has_landed() -> None:
    local = LocalChain()
    transaction = local.sell()
    local.chain.advance(40)
    # Without a commitment the preflight reads the finalized block, which does not know the newest hash.
    newest = failure(local, "sendTransaction", wire(local.sell()), {"encoding": "base64"})
    assert newest.message == "Transaction simulation failed: Blockhash not found"
    local.send(transaction)
    local.chain.advance()
    landed = failure(local, "sendTransaction", wire(transaction), BASE64)
    assert landed.data["err"] == "AlreadyProcessed"
    poor = local.signed([MEMO], payer=Keypair())
    assert failure(local, "sendTransaction", wire(poor), BASE64).data["err"] == "AccountNotFound"


def test_a_wrong_signature_is_refused_by_the_preflight_and_dropped_without_one() -> None:
    local = LocalChain()
    signed = local.sell()
    forged = VersionedTransaction.populate(signed.message, [Signature.new_unique()])
    assert failure(local, "sendTransaction", wire(forged), BASE64).code == -32003
    assert local.call("sendTransaction", wire(forged), SKIP) == str(forged.signatures[0])
    assert local.chain.waiting == 0


def test_a_node_that_knows_that_it_is_behind_refuses_the_preflight_only() -> None:
    local = LocalChain()
    local.node.faults.arm("unhealthy", times=None, slots=42)
    for method, params in (("getHealth", ()), ("sendTransaction", (wire(local.sell()), BASE64))):
        failed = failure(local, method, *params)
        assert (failed.code, failed.data) == (-32005, {"numSlotsBehind": 42})
        assert failed.message == "Node is behind by 42 slots"
    local.send(local.sell())
    assert local.chain.waiting == 1


def test_a_dropped_transaction_never_lands() -> None:
    local = LocalChain()
    local.node.faults.arm("drop")
    transaction = local.sell()
    signature = local.send(transaction)
    local.chain.advance(2)
    assert local.status(signature) is None
    local.send(transaction)
    local.chain.advance()
    assert local.status(signature)["err"] is None


def padded(local: LocalChain, size: int) -> VersionedTransaction:
    return local.signed([Instruction(MEMO_PROGRAM, b"x" * size, [])])


def test_a_transaction_may_have_4096_bytes_and_an_older_one_1232() -> None:
    local = LocalChain()
    over = 4_096 - len(bytes(padded(local, 0)))
    whole = padded(local, over)
    assert len(bytes(whole)) == 4_096
    assert local.send(whole)
    failed = failure(local, "sendTransaction", wire(padded(local, over + 1)), SKIP)
    assert failed.code == -32602
    assert "too large: 4097 bytes (max: 4096 bytes)" in failed.message
    message = MessageV0.try_compile(
        local.wallet.pubkey(), [Instruction(MEMO_PROGRAM, b"x" * 1_200, [])], [], local.chain.tip.blockhash
    )
    older = VersionedTransaction(message, [local.wallet])
    assert "(max: 1232 bytes)" in failure(local, "sendTransaction", wire(older), SKIP).message


def test_more_than_64_accounts_or_instructions_are_refused() -> None:
    local = LocalChain()
    many = [AccountMeta(made_up(f"{number}"), False, False) for number in range(63)]
    wide = local.signed([Instruction(MEMO_PROGRAM, b"", many)])
    assert len(wide.message.account_keys) == 65
    assert "sanitize" in failure(local, "sendTransaction", wire(wide), SKIP).message
    assert local.send(local.signed([Instruction(MEMO_PROGRAM, b"", many[:62])]))
    assert local.send(local.signed([MEMO] * 64))
    assert "sanitize" in failure(local, "sendTransaction", wire(local.signed([MEMO] * 65)), SKIP).message


def test_more_than_12_signatures_are_refused() -> None:
    local = LocalChain()
    for others in (11, 12):
        metas = [AccountMeta(made_up(f"signer {number}"), True, False) for number in range(others)]
        message = MessageV1.try_compile(
            local.wallet.pubkey(),
            [Instruction(MEMO_PROGRAM, b"", metas)],
            local.chain.tip.blockhash,
            BUDGET.config,
        )
        unsigned = wire(VersionedTransaction.populate(message, [Signature.default()] * (others + 1)))
        if others == 11:
            assert local.call("simulateTransaction", unsigned, SIMULATE)["value"]["err"] is None
        else:
            assert "sanitize" in failure(local, "simulateTransaction", unsigned, SIMULATE).message


@pytest.mark.parametrize("text", ["!", "AAAA", "", base64.b64encode(b"\x81" * 300).decode()])
def test_what_is_not_a_transaction_is_refused(text: str) -> None:
    assert failure(LocalChain(), "sendTransaction", text, SKIP).code == -32602


def test_bytes_after_a_transaction_are_refused() -> None:
    local = LocalChain()
    text = base64.b64encode(bytes(local.sell()) + b"\0").decode()
    assert "deserialize" in failure(local, "sendTransaction", text, SKIP).message
    assert failure(local, "sendTransaction", "x", {"encoding": "hex"}).code == -32602


def test_a_simulation_tells_what_would_happen() -> None:
    local = LocalChain()
    leg = local.leg(METEORA_DLMM, SOL)
    wallet = str(local.wallet.pubkey())
    config = {
        **SIMULATE,
        "innerInstructions": True,
        "accounts": {"encoding": "base64", "addresses": [wallet]},
    }
    transaction = local.swap(leg)
    value = local.call("simulateTransaction", wire(transaction), config)["value"]
    assert value["err"] is None
    assert value["fee"] == 12_000
    assert value["loadedAccountsDataSize"] > 1 << 20
    assert value["accounts"][0]["lamports"] == 10_000 * 10**9 - SOL - 12_000
    assert value["postBalances"][0] == value["accounts"][0]["lamports"]
    keys = transaction.message.account_keys
    place = keys.index(leg.sold.vault)
    [before] = [each for each in value["preTokenBalances"] if each["accountIndex"] == place]
    [after] = [each for each in value["postTokenBalances"] if each["accountIndex"] == place]
    paid = int(after["uiTokenAmount"]["amount"]) - int(before["uiTokenAmount"]["amount"])
    assert paid == SOL
    programs = [keys[each.program_id_index] for each in transaction.message.instructions]
    program = leg.pool.addresses.program
    swaps = [each for each in value["innerInstructions"] if programs[each["index"]] == program]
    assert [len(each["instructions"]) for each in swaps] == [2]
    assert local.chain.waiting == 0


def test_a_simulation_may_replace_the_blockhash_and_need_not_be_signed() -> None:
    local = LocalChain()
    message = local.sell().message
    unsigned = wire(VersionedTransaction.populate(message, [Signature.default()]))
    local.chain.advance(200)
    stale = local.call("simulateTransaction", unsigned, SIMULATE)["value"]
    assert (stale["err"], stale["logs"], stale["unitsConsumed"]) == ("BlockhashNotFound", [], 0)
    replaced = local.call("simulateTransaction", unsigned, {**SIMULATE, "replaceRecentBlockhash": True})
    assert replaced["value"]["err"] is None
    assert replaced["value"]["replacementBlockhash"] == {
        "blockhash": str(local.chain.tip.blockhash),
        "lastValidBlockHeight": local.chain.tip.height + 150,
    }
    assert failure(local, "simulateTransaction", unsigned, {**SIMULATE, "sigVerify": True}).code == -32003
    both = {**SIMULATE, "sigVerify": True, "replaceRecentBlockhash": True}
    assert failure(local, "simulateTransaction", unsigned, both).code == -32602


def test_a_simulation_reads_the_block_of_its_commitment() -> None:
    local = LocalChain()
    first = local.swap(local.leg(RAYDIUM_CPMM, 1_000 * SOL))
    second = local.sell()
    local.send(first)
    local.chain.advance()
    for commitment, error in (
        ("processed", {"InstructionError": [3, {"Custom": 6005}]}),
        ("finalized", None),
    ):
        config = {"encoding": "base64", "commitment": commitment}
        assert local.call("simulateTransaction", wire(second), config)["value"]["err"] == error


def test_a_transaction_with_lookup_tables_finds_none() -> None:
    local = LocalChain()
    pool = local.pool(RAYDIUM_CPMM).addresses.pool
    table = AddressLookupTableAccount(made_up("table"), [pool])
    memo = Instruction(MEMO_PROGRAM, b"", [AccountMeta(pool, False, False)])
    message = MessageV0.try_compile(local.wallet.pubkey(), [memo], [table], local.chain.tip.blockhash)
    transaction = VersionedTransaction(message, [local.wallet])
    answer = local.call("simulateTransaction", wire(transaction), SIMULATE)
    assert answer["value"]["err"] == "AddressLookupTableNotFound"
