"""Answers about the cluster and its accounts, in the shapes that nodes have."""

import base64
import struct
from typing import Any

import pytest
from solders.message import TransactionConfig
from solders.pubkey import Pubkey

from service.chains.paper.pool_json import (
    METEORA_DAMM_V2,
    METEORA_DLMM,
    RAYDIUM_AMM_V4,
    RAYDIUM_CPMM,
    pool_id,
)
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.domain.tokens import TOKENS
from service.sandbox.rpc import base58
from tests.support.local_chain import PROGRAM_NAMES, CallFailedError, LocalChain
from tests.support.local_chain import SOL as SOL_UNITS

CLOCK = "SysvarC1ock11111111111111111111111111111111"
PROCESSED = {"commitment": "processed"}
BASE64 = {"encoding": "base64", "commitment": "processed"}
USDC, SOL = TOKENS["USDC"].mint, TOKENS["SOL"].mint

# Where the two mints stand in a pool's account.
MINTS_AT = {
    RAYDIUM_CPMM: (168, 200),
    RAYDIUM_AMM_V4: (400, 432),
    METEORA_DLMM: (88, 120),
    METEORA_DAMM_V2: (168, 200),
}

LOCAL = LocalChain()
WALLET = str(LOCAL.wallet.pubkey())


def failure(method: str, *params: Any) -> CallFailedError:
    with pytest.raises(CallFailedError) as failed:
        LOCAL.call(method, *params)
    return failed.value


def test_the_cluster_describes_itself() -> None:
    assert LOCAL.call("getHealth") == "ok"
    assert set(LOCAL.call("getVersion")) == {"solana-core", "feature-set"}
    assert LOCAL.call("getGenesisHash") == str(LOCAL.chain.genesis.genesis_hash)
    assert LOCAL.call("getMinimumBalanceForRentExemption", 165) == 2_039_280
    assert LOCAL.call("getFirstAvailableBlock") == 1_000
    assert LOCAL.call("getBlockTime", 1_000) == 1_800_000_000
    assert failure("getBlockTime", 1_234).code == -32004


def test_slots_and_heights_are_those_of_the_commitment() -> None:
    local = LocalChain()
    local.chain.skip(7)
    local.chain.advance(40)
    slots = [local.call("getSlot", {"commitment": each}) for each in ("processed", "confirmed", "finalized")]
    assert slots == [1_047, 1_045, 1_015]
    heights = [
        local.call("getBlockHeight", {"commitment": each}) for each in ("processed", "confirmed", "finalized")
    ]
    assert heights == [940, 938, 908]
    assert local.call("getSlot") == 1_015
    epoch = local.call("getEpochInfo", PROCESSED)
    assert (epoch["absoluteSlot"], epoch["blockHeight"], epoch["epoch"]) == (1_047, 940, 0)


def test_an_account_has_all_its_members() -> None:
    answer = LOCAL.call("getAccountInfo", WALLET, BASE64)
    assert answer == {
        "context": {"apiVersion": "4.2.0", "slot": 1_000},
        "value": {
            "lamports": 10_000 * 10**9,
            "owner": "1" * 32,
            "data": ["", "base64"],
            "executable": False,
            "rentEpoch": 2**64 - 1,
            "space": 0,
        },
    }
    assert LOCAL.call("getAccountInfo", USDC[:-1] + "w", BASE64)["value"] is None


def test_the_encodings_of_an_account_agree() -> None:
    usdc = str(associated_token_account(LOCAL.wallet.pubkey(), Pubkey.from_string(USDC), TOKEN_PROGRAM))
    whole = base64.b64decode(LOCAL.call("getAccountInfo", usdc, BASE64)["value"]["data"][0])
    part = {"encoding": "base58", "dataSlice": {"offset": 64, "length": 8}}
    text, name = LOCAL.call("getAccountInfo", usdc, part)["value"]["data"]
    assert (base58.decode(text), name) == (whole[64:72], "base58")
    assert LOCAL.call("getAccountInfo", WALLET)["value"]["data"] == ""
    assert failure("getAccountInfo", usdc).code == -32600
    parsed = LOCAL.call("getAccountInfo", usdc, {"encoding": "jsonParsed"})["value"]["data"]
    assert (parsed["program"], parsed["parsed"]["type"]) == ("spl-token", "account")
    info = parsed["parsed"]["info"]
    assert (info["mint"], info["owner"]) == (USDC, WALLET)
    assert info["tokenAmount"] == {
        "amount": str(10**12),
        "decimals": 6,
        "uiAmount": 1e6,
        "uiAmountString": "1000000",
    }
    assert LOCAL.call("getTokenAccountBalance", usdc)["value"] == info["tokenAmount"]
    assert failure("getAccountInfo", usdc, {"encoding": "base64+zstd"}).code == -32602


def test_the_clock_is_that_of_the_block_that_is_read() -> None:
    local = LocalChain()
    local.chain.advance(50)
    for commitment, slot in (("processed", 1_050), ("finalized", 1_018)):
        config = {"encoding": "base64", "commitment": commitment}
        answer = local.call("getAccountInfo", CLOCK, config)
        data = base64.b64decode(answer["value"]["data"][0])
        read_slot, _, _, _, time_s = struct.unpack("<QqQQq", data)
        assert read_slot == answer["context"]["slot"] == slot
        assert time_s == 1_800_000_000 + (slot - 1_000) // 5


@pytest.mark.parametrize("name", PROGRAM_NAMES)
def test_a_pair_of_tokens_finds_its_pool(name: str) -> None:
    """Discovery as a venue does it: by the mints, at the places where the program's pools have them."""
    pool = LOCAL.pool(name)
    first, second = MINTS_AT[name]
    filters = [
        {"memcmp": {"offset": first, "bytes": str(pool.addresses.token_a.mint)}},
        {"memcmp": {"offset": second, "bytes": str(pool.addresses.token_b.mint)}},
    ]
    config = {**BASE64, "filters": filters, "dataSlice": {"offset": 0, "length": 0}}
    found = LOCAL.call("getProgramAccounts", str(pool.addresses.program), config)
    key = LOCAL.chain.genesis.pools[pool_id(name, "SOL", "USDC")]
    assert [each["pubkey"] for each in found] == [str(key)]
    assert found[0]["account"]["data"] == ["", "base64"]
    swapped = [{"memcmp": {"offset": first, "bytes": USDC}}, {"memcmp": {"offset": second, "bytes": SOL}}]
    assert LOCAL.call("getProgramAccounts", str(pool.addresses.program), {**BASE64, "filters": swapped}) == []


def test_filters_by_size_and_the_context_of_programs_accounts() -> None:
    program = str(LOCAL.pool(METEORA_DLMM).addresses.program)
    pairs = LOCAL.call(
        "getProgramAccounts", program, {**BASE64, "filters": [{"dataSize": 904}], "withContext": True}
    )
    assert pairs["context"]["slot"] == 1_000
    assert len(pairs["value"]) == 9
    assert failure("getProgramAccounts", program, {"filters": [{"nonsense": 1}]}).code == -32602
    assert failure("getProgramAccounts", program, {"filters": [{"dataSize": 1}] * 5}).code == -32602
    assert failure("getProgramAccounts", str(TOKEN_PROGRAM)).code == -32010


def test_an_owners_token_accounts() -> None:
    config = {"encoding": "jsonParsed"}
    found = LOCAL.call("getTokenAccountsByOwner", WALLET, {"programId": str(TOKEN_PROGRAM)}, config)["value"]
    mints = {each["account"]["data"]["parsed"]["info"]["mint"] for each in found}
    assert mints == {token.mint for token in TOKENS.values()} - {SOL}
    [only] = LOCAL.call("getTokenAccountsByOwner", WALLET, {"mint": USDC}, config)["value"]
    assert only["pubkey"] == str(
        associated_token_account(LOCAL.wallet.pubkey(), Pubkey.from_string(USDC), TOKEN_PROGRAM)
    )
    assert failure("getTokenAccountsByOwner", WALLET, {}).code == -32602


def test_many_accounts_are_read_in_one_block() -> None:
    answer = LOCAL.call("getMultipleAccounts", [WALLET, CLOCK, USDC[:-1] + "w"], BASE64)
    assert [each is not None for each in answer["value"]] == [True, True, False]
    assert failure("getMultipleAccounts", [WALLET] * 101).message == "Too many inputs provided; max 100"


def test_a_torn_read_is_of_two_blocks() -> None:
    local = LocalChain()
    local.chain.advance(3)
    local.node.faults.arm("torn")
    keys = [CLOCK, CLOCK]
    torn = local.call("getMultipleAccounts", keys, BASE64)["value"]
    assert torn[0] != torn[1]
    whole = local.call("getMultipleAccounts", keys, BASE64)["value"]
    assert whole[0] == whole[1] == torn[0]


def test_the_least_fee_of_transactions_that_locked_all_accounts() -> None:
    local = LocalChain()
    cpmm, damm = local.pool(RAYDIUM_CPMM).addresses, local.pool(METEORA_DAMM_V2).addresses
    local.send(local.sell(RAYDIUM_CPMM))
    local.chain.advance()

    def fees(*keys: Pubkey) -> list[int]:
        answer = local.call("getRecentPrioritizationFees", [str(key) for key in keys])
        return [each["prioritizationFee"] for each in answer]

    local.send(local.sell(METEORA_DAMM_V2))
    local.chain.advance()
    # 7,000 lamports for 400,000 units.
    assert fees(cpmm.pool) == [17_500, 0]
    assert fees(damm.pool) == [0, 17_500]
    assert fees(cpmm.pool, damm.pool) == [0, 0]
    assert fees() == [17_500, 17_500]
    for priority in (9_000, 3_000, 6_000):
        limits = TransactionConfig(
            priority_fee=priority, compute_unit_limit=400_000, loaded_accounts_data_size_limit=1 << 24
        )
        local.send(local.signed(local.instructions([local.leg(RAYDIUM_CPMM, SOL_UNITS, 1)]), limits))
    local.chain.advance()
    assert fees(cpmm.pool)[-1] == 7_500
    local.chain.fork(1, keep=False)
    # The token program is only read.
    assert fees(TOKEN_PROGRAM) == [0, 0]
    assert failure("getRecentPrioritizationFees", [WALLET] * 129).code == -32602


def test_a_context_slot_that_is_not_reached_is_an_error() -> None:
    failed = failure("getBalance", WALLET, {"minContextSlot": 1_001})
    assert (failed.code, failed.data) == (-32016, {"contextSlot": 1_000})
    assert LOCAL.call("getBalance", WALLET, {"minContextSlot": 1_000})["value"] == 10_000 * 10**9


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("getBalance", []),
        ("getBalance", [7]),
        ("getBalance", ["0OIl"]),
        ("getBalance", [WALLET, {"commitment": "sure"}]),
        ("getBalance", [WALLET, {"commitment": 1}]),
        ("getBalance", [WALLET, {"minContextSlot": -1}]),
        ("getBalance", [WALLET, {"minContextSlot": True}]),
        ("getBalance", [WALLET, []]),
        ("getMultipleAccounts", [WALLET]),
        ("getMultipleAccounts", [[WALLET, 1]]),
        ("getMinimumBalanceForRentExemption", [-1]),
        ("getMinimumBalanceForRentExemption", [2**64]),
        ("getProgramAccounts", [WALLET, {"filters": [{"memcmp": {"offset": 0, "bytes": "1" * 176}}]}]),
        ("getProgramAccounts", [WALLET, {"filters": [{"memcmp": {"offset": 0, "bytes": "0"}}]}]),
        ("getAccountInfo", [WALLET, {"dataSlice": {"offset": 1}}]),
        ("isBlockhashValid", ["x"]),
        ("getTokenAccountBalance", [WALLET]),
        ("getTokenAccountBalance", [USDC[:-1] + "w"]),
        ("getSignatureStatuses", [["x"]]),
        ("getSignaturesForAddress", [WALLET, {"limit": 0}]),
        ("getSignaturesForAddress", [WALLET, {"limit": 1_001}]),
        ("getTransaction", ["x"]),
    ],
)
def test_bad_parameters_are_refused(method: str, params: list[Any]) -> None:
    assert failure(method, *params).code == -32602


def test_base58_is_that_of_addresses() -> None:
    for key in (LOCAL.wallet.pubkey(), Pubkey.default(), TOKEN_PROGRAM):
        assert base58.encode(bytes(key)) == str(key)
        assert base58.decode(str(key)) == bytes(key)
