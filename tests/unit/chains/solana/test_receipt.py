"""Answers that do not tell what a transaction did, and balances that do not add up."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from service.chains.solana.addresses import WRAPPED_SOL
from service.chains.solana.builder import ComputeBudget, compile_transaction
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.receipt import (
    NoReceiptError,
    Receipt,
    decoded_swaps,
    read_receipt,
    read_simulated,
)
from tests.support.executed import PROGRAMS, USDC, WALLET, executed

CASE = executed()["v1_one_leg_raydium_cpmm"]
FAILED = executed()["atomic_last_leg_slippage"]
KEYS = CASE.transaction.message.account_keys
Answer = dict[str, Any]


def read(answer: Answer | None) -> Receipt:
    return read_receipt(answer, CASE.raw, PROGRAMS)


def changed(path: str, value: object) -> Answer:
    """Return the answer with one value replaced; the path's parts are separated by dots."""
    answer = CASE.answer()
    *parents, last = path.split(".")
    at: Any = answer
    for parent in parents:
        at = at[int(parent) if parent.isdigit() else parent]
    at[int(last) if last.isdigit() else last] = value
    return answer


def without(path: str) -> Answer:
    answer = changed(path, None)
    *parents, last = path.split(".")
    at: Any = answer
    for parent in parents:
        at = at[parent]
    del at[last]
    return answer


def test_it_says_when_it_landed_if_the_node_knows() -> None:
    assert read(changed("blockTime", 1_800_000_000)).block_time == 1_800_000_000
    assert read(changed("blockTime", None)).block_time is None


def test_an_unknown_transaction_has_no_receipt() -> None:
    with pytest.raises(NoReceiptError, match="does not know"):
        read(None)


def test_an_answer_without_metadata_is_no_receipt() -> None:
    with pytest.raises(NoReceiptError, match="no metadata"):
        read(changed("meta", None))


def test_another_transaction_is_no_receipt() -> None:
    with pytest.raises(NoReceiptError, match="other bytes"):
        read(FAILED.answer())


@pytest.mark.parametrize(
    "answer",
    [
        without("slot"),
        without("meta"),
        without("meta.err"),
        without("meta.fee"),
        without("meta.preBalances"),
        without("meta.postTokenBalances"),
        changed("slot", "7"),
        changed("slot", None),
        changed("blockTime", "7"),
        changed("transaction", None),
        changed("transaction", []),
        changed("transaction", ["not base64", "base64"]),
        changed("meta", []),
        changed("meta.err", 7),
        changed("meta.err", {"InstructionError": [99, {"Custom": 1}]}),
        # What is final is stored, and kept for good.
        changed("slot", 2**63),
        changed("slot", -1),
        changed("blockTime", 10**15),
        changed("blockTime", -1),
        changed("meta.fee", 10**15),
        changed("meta.fee", -1),
        changed("meta.preBalances.0", 2**63),
        changed("meta.postTokenBalances.0.uiTokenAmount.amount", "-1"),
        changed("meta.postTokenBalances.0.uiTokenAmount.amount", str(2**64)),
        changed("meta.postTokenBalances.0.uiTokenAmount.amount", "9" * 5_000),
        changed("meta.fee", "5000"),
        changed("meta.fee", 5_000.5),
        changed("meta.fee", True),
        changed("meta.preBalances", [1]),
        changed("meta.preBalances", None),
        changed("meta.postBalances.0", "1"),
        changed("meta.preTokenBalances", None),
        changed("meta.postTokenBalances", []),
        changed("meta.postTokenBalances.0", "x"),
        changed("meta.postTokenBalances.0.accountIndex", "1"),
        changed("meta.postTokenBalances.0.accountIndex", 999),
        changed("meta.postTokenBalances.0.mint", "not a key"),
        changed("meta.postTokenBalances.0.owner", None),
        changed("meta.postTokenBalances.0.uiTokenAmount", {"uiAmount": 1.5}),
        changed("meta.postTokenBalances.0.uiTokenAmount.amount", 1),
        changed("meta.postTokenBalances.0.uiTokenAmount.amount", "1.5"),
    ],
)
def test_a_malformed_answer_is_no_receipt(answer: Answer) -> None:
    with pytest.raises(NoReceiptError):
        read(answer)


@pytest.mark.parametrize(
    "path",
    [
        "transaction.0",
        "meta.err",
        "meta.fee",
        "meta.postTokenBalances.0.mint",
        "meta.postTokenBalances.0.uiTokenAmount.amount",
    ],
)
def test_an_answer_is_not_repeated_in_the_log(path: str) -> None:
    words = "https://node.example/?key=topsecret"
    with pytest.raises(NoReceiptError) as refused:
        read(changed(path, words))
    assert "topsecret" not in f"{refused.value}"
    assert "topsecret" not in str(refused.getrepr(chain=True).reprcrash)


def test_a_simulation_that_tells_of_an_account_that_is_not_there_tells_nothing() -> None:
    answer = CASE.answer()["meta"]
    new = {**answer["postTokenBalances"][0], "accountIndex": len(KEYS), "owner": str(KEYS[0])}
    answer["postTokenBalances"].append(new)
    with pytest.raises(NoReceiptError, match=r"malformed: IndexError$"):
        read_simulated(answer, CASE.raw[: -Signature.LENGTH], PROGRAMS)


@pytest.mark.parametrize("change", [1, -1])
def test_amounts_beyond_the_signed_limits_are_no_receipt(change: int) -> None:
    """No program makes such a swap. Its order would not end: PostgreSQL refuses a fill beyond a limit."""
    swap = decoded_swaps(CASE.transaction, PROGRAMS)[0]
    answer = CASE.answer()
    before = {each["accountIndex"]: each for each in answer["meta"]["preTokenBalances"]}
    vaults = {KEYS.index(vault) for vault in swap.vaults}
    for each in answer["meta"]["postTokenBalances"]:
        if each["accountIndex"] in vaults:
            held = int(before[each["accountIndex"]]["uiTokenAmount"]["amount"])
            sold = int(each["uiTokenAmount"]["amount"]) > held
            if sold and change == 1:
                each["uiTokenAmount"]["amount"] = str(held + swap.amount_in + 1)
            if not sold and change == -1:
                each["uiTokenAmount"]["amount"] = str(held - swap.amount_out + 1)
    with pytest.raises(NoReceiptError, match="beyond the limits"):
        read(answer)


def _lamports(answer: Answer) -> None:
    answer["meta"]["postBalances"][0] += 1


def _usdc(answer: Answer) -> None:
    for each in answer["meta"]["postTokenBalances"]:
        if each["owner"] == str(WALLET.pubkey()):
            each["uiTokenAmount"]["amount"] = str(int(each["uiTokenAmount"]["amount"]) - 1)


@pytest.mark.parametrize(("change", "mint"), [(_lamports, WRAPPED_SOL), (_usdc, USDC)])
def test_a_balance_that_the_legs_do_not_explain_is_reported(
    change: Callable[[Answer], None], mint: object
) -> None:
    answer = CASE.answer()
    change(answer)
    receipt = read(answer)
    [difference] = receipt.differences
    assert difference.startswith(f"{mint}: ")
    # The order still has its result: the vaults say what it is.
    assert receipt.fill(WRAPPED_SOL, USDC).amount_out == 149_610_076


def test_a_failed_transaction_that_moved_something_is_reported() -> None:
    answer = FAILED.answer()
    answer["meta"]["postBalances"][0] -= 1
    [difference] = read_receipt(answer, FAILED.raw, PROGRAMS).differences
    assert difference == f"{WRAPPED_SOL}: the wallet's balance changed by -1, the legs explain 0"


def test_lamports_that_an_old_account_receives_are_no_rent() -> None:
    case = executed()["dlmm_two_arrays_buy"]
    answer = case.answer()
    [index] = [
        each["accountIndex"]
        for each in answer["meta"]["preTokenBalances"]
        if each["owner"] == str(WALLET.pubkey())
    ]
    answer["meta"]["postBalances"][index] += 1
    receipt = read_receipt(answer, case.raw, PROGRAMS)
    assert (receipt.rent, receipt.differences) == (0, ())


def transaction(instruction: Instruction) -> VersionedTransaction:
    budget = ComputeBudget(1, 1, 0)
    compiled = compile_transaction([instruction], WALLET.pubkey(), budget, Hash.default())
    return VersionedTransaction(compiled.message, [WALLET])


def test_other_programs_are_passed_over_and_other_instructions_refused() -> None:
    other = Instruction(USDC, b"anything", [])
    assert decoded_swaps(transaction(other), PROGRAMS) == ()
    deposit = Instruction(MAINNET.raydium_cpmm, b"deposits", [])
    with pytest.raises(NoReceiptError, match="not a swap of CPMM"):
        decoded_swaps(transaction(deposit), PROGRAMS)


def test_a_transaction_without_a_swap_has_no_receipt() -> None:
    """It would be an order that paid and received nothing."""
    raw = bytes(transaction(Instruction(USDC, b"anything", [])))
    nothing: Answer = {"preTokenBalances": [], "postTokenBalances": [], "err": None, "fee": 5_000}
    answer = {
        "slot": 7,
        "transaction": [base64.b64encode(raw).decode(), "base64"],
        "meta": {**nothing, "preBalances": [9_000, 1], "postBalances": [4_000, 1]},
    }
    with pytest.raises(NoReceiptError, match="without a swap"):
        read_receipt(answer, raw, PROGRAMS)
