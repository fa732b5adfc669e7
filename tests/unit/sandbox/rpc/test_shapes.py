"""Answers as solders reads them, which has the types of Agave's own JSON-RPC client."""

import json
from typing import Any

import pytest
from solders.rpc import responses
from solders.rpc.errors import NodeUnhealthyMessage
from solders.rpc.responses import (
    AccountNotification,
    ProgramNotification,
    RootNotification,
    SignatureNotification,
    SlotNotification,
    parse_websocket_message,
)

from service.chains.paper.pool_json import RAYDIUM_CPMM
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.sandbox.rpc.methods import METHODS, answer
from service.sandbox.rpc.subscriptions import Subscriptions
from tests.support.local_chain import PROGRAM_NAMES, SKIP, SOL, LocalChain, wire

LOCAL = LocalChain()
LANDED = LOCAL.swap(*(LOCAL.leg(name, SOL) for name in PROGRAM_NAMES))
SIGNATURE, FAILED = LOCAL.send(LANDED), LOCAL.send(LOCAL.sell(minimum_out=10**12))
UNKNOWN = str(LOCAL.sell().signatures[0])
LOCAL.chain.advance(40)

WALLET = str(LOCAL.wallet.pubkey())
POOL = LOCAL.pool(RAYDIUM_CPMM).addresses
USDC = str(associated_token_account(LOCAL.wallet.pubkey(), POOL.token_b.mint, TOKEN_PROGRAM))
HASH = str(LOCAL.chain.tip.blockhash)
BASE64 = {"encoding": "base64"}
FILTERED = {**BASE64, "filters": [{"dataSize": 637}]}
VERSION_1 = {"encoding": "base64", "maxSupportedTransactionVersion": 1}
SIMULATE = {
    **BASE64,
    "commitment": "processed",
    "innerInstructions": True,
    "accounts": {"encoding": "base64", "addresses": [WALLET]},
}
BY_OWNER = {"programId": str(TOKEN_PROGRAM)}

CALLS: list[tuple[str, list[Any], str]] = [
    ("getAccountInfo", [WALLET, BASE64], "GetAccountInfoResp"),
    ("getAccountInfo", [USDC, {"encoding": "jsonParsed"}], "GetAccountInfoJsonParsedResp"),
    ("getBalance", [WALLET], "GetBalanceResp"),
    ("getBlock", [LOCAL.chain.first.slot, {"transactionDetails": "none", "rewards": False}], "GetBlockResp"),
    ("getBlockHeight", [], "GetBlockHeightResp"),
    ("getBlockTime", [LOCAL.chain.first.slot], "GetBlockTimeResp"),
    ("getBlocks", [LOCAL.chain.first.slot], "GetBlocksResp"),
    ("getEpochInfo", [], "GetEpochInfoResp"),
    ("getFirstAvailableBlock", [], "GetFirstAvailableBlockResp"),
    ("getGenesisHash", [], "GetGenesisHashResp"),
    ("getHealth", [], "GetHealthResp"),
    ("getLatestBlockhash", [], "GetLatestBlockhashResp"),
    ("getMinimumBalanceForRentExemption", [165], "GetMinimumBalanceForRentExemptionResp"),
    ("getMultipleAccounts", [[WALLET, USDC, HASH], BASE64], "GetMultipleAccountsResp"),
    ("getProgramAccounts", [str(POOL.program), FILTERED], "GetProgramAccountsResp"),
    (
        "getProgramAccounts",
        [str(POOL.program), {**FILTERED, "withContext": True}],
        "GetProgramAccountsWithContextResp",
    ),
    ("getRecentPrioritizationFees", [[str(POOL.pool)]], "GetRecentPrioritizationFeesResp"),
    (
        "getSignatureStatuses",
        [[SIGNATURE, FAILED, UNKNOWN]],
        "GetSignatureStatusesResp",
    ),
    ("getSignaturesForAddress", [WALLET], "GetSignaturesForAddressResp"),
    ("getSlot", [], "GetSlotResp"),
    ("getTokenAccountBalance", [USDC], "GetTokenAccountBalanceResp"),
    ("getTokenAccountsByOwner", [WALLET, BY_OWNER, BASE64], "GetTokenAccountsByOwnerResp"),
    (
        "getTokenAccountsByOwner",
        [WALLET, BY_OWNER, {"encoding": "jsonParsed"}],
        "GetTokenAccountsByOwnerJsonParsedResp",
    ),
    ("getTransaction", [SIGNATURE, VERSION_1], "GetTransactionResp"),
    ("getTransaction", [FAILED, VERSION_1], "GetTransactionResp"),
    ("getTransaction", [SIGNATURE, {**VERSION_1, "encoding": "json"}], "GetTransactionResp"),
    ("getTransaction", [UNKNOWN, VERSION_1], "GetTransactionResp"),
    ("getVersion", [], "GetVersionResp"),
    ("isBlockhashValid", [HASH], "IsBlockhashValidResp"),
    ("sendTransaction", [wire(LOCAL.sell()), SKIP], "SendTransactionResp"),
    ("simulateTransaction", [wire(LOCAL.sell()), SIMULATE], "SimulateTransactionResp"),
    ("simulateTransaction", [wire(LOCAL.sell(minimum_out=10**12)), SIMULATE], "SimulateTransactionResp"),
]

PREFLIGHT = {**BASE64, "preflightCommitment": "processed"}
ERRORS: list[tuple[str, list[Any], str]] = [
    (
        "sendTransaction",
        [wire(LOCAL.sell(minimum_out=10**12)), PREFLIGHT],
        "SendTransactionPreflightFailureMessage",
    ),
    ("getBalance", [WALLET, {"minContextSlot": 10**6}], "MinContextSlotNotReachedMessage"),
    ("getTransaction", [SIGNATURE, BASE64], "UnsupportedTransactionVersionMessage"),
    ("getBlockTime", [999], "BlockNotAvailableMessage"),
    ("getBalance", [], "InvalidParamsMessage"),
    ("nope", [], "MethodNotFoundMessage"),
]


def parsed(method: str, params: list[Any], kind: str) -> Any:
    text = json.dumps(answer(LOCAL.node, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    reader = getattr(responses, kind)
    return reader.from_json(text), reader


@pytest.mark.parametrize(("method", "params", "kind"), CALLS)
def test_an_answer_has_the_shape_of_its_method(method: str, params: list[Any], kind: str) -> None:
    found, reader = parsed(method, params, kind)
    assert isinstance(found, reader)


def test_every_method_is_among_them() -> None:
    assert {method for method, _params, _kind in CALLS} == set(METHODS)


@pytest.mark.parametrize(("method", "params", "kind"), ERRORS)
def test_an_error_has_the_shape_of_its_kind(method: str, params: list[Any], kind: str) -> None:
    text = json.dumps(answer(LOCAL.node, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    found = responses.GetBalanceResp.from_json(text)
    assert isinstance(found, getattr(responses, kind)), found


def test_a_node_that_is_behind_says_so_in_its_shape() -> None:
    LOCAL.node.faults.arm("unhealthy", slots=42)
    text = json.dumps(answer(LOCAL.node, {"jsonrpc": "2.0", "id": 1, "method": "getHealth"}))
    LOCAL.node.faults.clear()
    found = responses.GetHealthResp.from_json(text)
    assert isinstance(found, NodeUnhealthyMessage)
    assert found.data.num_slots_behind == 42


def test_a_transaction_is_the_one_that_was_sent() -> None:
    found, _ = parsed("getTransaction", [SIGNATURE, VERSION_1], "GetTransactionResp")
    assert found.value.transaction.transaction == LANDED
    meta = found.value.transaction.meta
    assert (meta.err, meta.fee) == (None, 12_000)
    failed, _ = parsed("getTransaction", [FAILED, VERSION_1], "GetTransactionResp")
    assert failed.value.transaction.meta.err is not None


def test_notifications_have_their_shapes() -> None:
    local = LocalChain()
    told: list[dict[str, Any]] = []
    subscriptions = Subscriptions(local.node, told.append)
    local.chain.on_change.append(subscriptions.notify)
    transaction = local.sell(RAYDIUM_CPMM)
    config = {"encoding": "base64", "commitment": "processed"}
    for method, params in (
        ("slotSubscribe", []),
        ("accountSubscribe", [str(POOL.pool), config]),
        ("programSubscribe", [str(POOL.program), config]),
        ("signatureSubscribe", [str(transaction.signatures[0]), config]),
        ("rootSubscribe", []),
    ):
        subscriptions.call({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    local.send(transaction)
    local.chain.advance(40)
    kinds = {type(each) for message in told for each in parse_websocket_message(json.dumps(message))}
    assert {
        AccountNotification,
        ProgramNotification,
        RootNotification,
        SignatureNotification,
        SlotNotification,
    } < kinds
