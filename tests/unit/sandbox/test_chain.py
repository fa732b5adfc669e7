"""Blocks, the blockhash window, commitment and forks, on slots that only the test makes."""

import pytest
from solders.instruction import AccountMeta, Instruction

from service.chains.paper.pool_json import METEORA_DAMM_V2, METEORA_DLMM, RAYDIUM_CPMM
from service.chains.solana.addresses import TOKEN_PROGRAM, associated_token_account
from service.chains.solana.errors import read_error
from service.chains.solana.programs.pool import UserAccounts
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.receipt import read_receipt
from service.sandbox.chain import KEPT_BLOCKS
from service.sandbox.genesis import genesis_of
from service.sandbox.mempool import MAX_AGE
from service.sandbox.node import Commitment
from tests.support.clock import START_S, ManualClock
from tests.support.local_chain import PROGRAM_NAMES, SOL, LocalChain

PROCESSED, CONFIRMED, FINALIZED = Commitment


def test_a_transaction_lands_once_in_the_next_block() -> None:
    local = LocalChain()
    transaction = local.sell()
    signature = local.send(transaction)
    assert local.status(signature) is None
    local.send(transaction)
    local.chain.advance()
    status = local.status(signature)
    assert (status["slot"], status["err"], status["confirmationStatus"]) == (1_001, None, "processed")
    # The accounts are in their history only, or every transaction would hold copies of them.
    assert [landed.execution.changed for landed in local.chain.tip.landed] == [{}]
    local.send(transaction)
    local.chain.advance(3)
    assert sum(len(block.landed) for block in local.chain.blocks_after(0, 10_000)) == 1
    assert local.chain.waiting == 0


def test_commitment_rises_with_the_slots() -> None:
    local = LocalChain()
    signature = local.send(local.sell())
    local.chain.advance()
    seen = []
    for _ in range(40):
        status = local.status(signature)
        seen.append((status["confirmationStatus"], status["confirmations"]))
        local.chain.advance()
    assert seen[:3] == [("processed", 0), ("processed", 1), ("confirmed", 2)]
    assert seen[31:33] == [("confirmed", 31), ("finalized", None)]


def test_accounts_are_read_at_their_commitment() -> None:
    local = LocalChain()
    wallet = str(local.wallet.pubkey())
    before = local.account(local.wallet.pubkey()).lamports
    local.send(local.sell())
    local.chain.advance()
    now = local.account(local.wallet.pubkey()).lamports

    def read(commitment: str) -> int:
        balance: int = local.call("getBalance", wallet, {"commitment": commitment})["value"]
        return balance

    assert before != now
    assert [read(each) for each in Commitment] == [now, before, before]
    local.chain.advance(2)
    assert [read(each) for each in Commitment] == [now, now, before]
    local.chain.advance(30)
    assert [read(each) for each in Commitment] == [now, now, now]


def test_the_window_ends_150_blocks_after_the_blockhash() -> None:
    """The block after the last valid height may still take it, as Agave counts ages from the parent."""
    local = LocalChain()
    first = local.chain.tip
    last, too_late = local.sell(), local.sell()
    answer = local.call("getLatestBlockhash", {"commitment": "processed"})["value"]
    assert answer == {"blockhash": str(first.blockhash), "lastValidBlockHeight": first.height + MAX_AGE}
    local.chain.advance(MAX_AGE)
    assert local.chain.tip.height == answer["lastValidBlockHeight"]
    assert local.call("isBlockhashValid", str(first.blockhash), {"commitment": "processed"})["value"]
    landing = local.send(last)
    local.chain.advance()
    assert local.status(landing)["err"] is None
    assert not local.call("isBlockhashValid", str(first.blockhash), {"commitment": "processed"})["value"]
    never = local.send(too_late)
    local.chain.advance()
    assert local.status(never) is None
    assert local.chain.waiting == 0


def test_skipped_slots_are_not_blocks() -> None:
    local = LocalChain()
    first = local.chain.tip
    local.chain.skip(1_000)
    local.chain.advance()
    assert (local.chain.tip.slot, local.chain.tip.height) == (first.slot + 1_001, first.height + 1)
    assert local.chain.tip.parent_slot == first.slot
    assert local.chain.is_recent(first.blockhash, local.chain.tip)
    assert local.chain.tip.time_s == first.time_s + 200


def test_a_late_transaction_lands_in_the_last_block_that_may_take_it() -> None:
    local = LocalChain()
    height = local.chain.tip.height
    local.node.faults.arm("late")
    signature = local.send(local.sell())
    local.chain.advance(MAX_AGE)
    assert local.status(signature) is None
    local.chain.advance()
    assert local.status(signature)["err"] is None
    assert local.chain.block_by(local.status(signature)["slot"]).height == height + MAX_AGE + 1


def test_a_fork_undoes_its_blocks_and_lands_again_what_is_kept() -> None:
    local = LocalChain()
    wallet, pool = local.wallet.pubkey(), local.pool(METEORA_DLMM)
    before = local.account(wallet), local.state(pool)
    local.chain.advance(3)
    signature = local.send(local.sell(METEORA_DLMM))
    local.chain.advance(4)
    landed_in, hash_ = local.status(signature)["slot"], local.chain.tip.blockhash
    assert local.status(signature)["confirmationStatus"] == "confirmed"
    local.chain.fork(4)
    assert local.status(signature) is None
    assert (local.account(wallet), local.state(pool)) == before
    assert not local.chain.is_recent(hash_, local.chain.tip)
    local.chain.advance()
    status = local.status(signature)
    assert status["err"] is None
    assert status["slot"] > landed_in
    assert local.account(wallet) != before[0]


def test_what_a_fork_does_not_keep_never_lands() -> None:
    local = LocalChain()
    signature = local.send(local.sell())
    local.chain.advance(2)
    local.chain.fork(2, keep=False)
    local.chain.advance(200)
    assert local.status(signature) is None


def test_no_fork_removes_what_is_finalized() -> None:
    local = LocalChain()
    signature = local.send(local.sell())
    local.chain.advance(33)
    final = local.chain.finalized
    local.chain.fork(1_000)
    assert local.chain.tip == local.chain.finalized == final
    assert local.status(signature)["confirmationStatus"] == "finalized"
    assert local.node.block(FINALIZED) == final


def test_a_transaction_with_a_blockhash_of_a_lost_fork_never_lands() -> None:
    local = LocalChain()
    local.chain.advance(3)
    transaction = local.sell()
    local.chain.fork(1)
    signature = local.send(transaction)
    local.chain.advance(301)
    assert local.status(signature) is None
    assert local.chain.waiting == 1
    local.chain.advance()
    assert local.chain.waiting == 0


@pytest.mark.parametrize("name", PROGRAM_NAMES)
@pytest.mark.parametrize("sells_sol", [True, False])
def test_a_pool_may_move_just_before_a_transaction_and_a_fork_may_move_it_back(
    name: str, *, sells_sol: bool
) -> None:
    local = LocalChain()
    local.mover.arm(share_bps=100)
    transaction = local.swap(local.leg(name, SOL if sells_sol else 150 * 10**6, sells_sol=sells_sol))
    signature = local.send(transaction)
    local.chain.advance()
    assert len(local.chain.tip.landed) == 2
    keys = transaction.message.account_keys
    programs = [keys[each.program_id_index] for each in transaction.message.instructions]
    error = read_error(local.status(signature)["err"], programs)
    assert error.code in (6005, 30, 6003, 6002)
    local.chain.fork(1)
    local.chain.advance()
    assert local.status(signature)["err"] is None


def test_a_lagging_node_sees_the_chain_as_it_was() -> None:
    local = LocalChain()
    other = local.another_node()
    other.faults.arm("behind", times=None, slots=10)
    signature = local.send(local.sell())
    local.chain.advance(5)
    assert local.status(signature) is not None
    assert local.status(signature, other) is None
    assert other.block(PROCESSED).slot == local.chain.first.slot
    local.chain.advance(6)
    assert local.status(signature, other)["confirmationStatus"] == "processed"
    assert local.call("getSlot", {"commitment": "processed"}, node=other) == local.chain.tip.slot - 10


def test_what_a_node_calls_finalized_never_goes_back() -> None:
    local = LocalChain()
    other = local.another_node()
    other.faults.arm("behind", times=None, slots=3)
    seen = []
    for _ in range(6):
        local.chain.advance(20)
        seen.append([node.block(FINALIZED).slot for node in (local.node, other)])
        local.chain.fork(15)
        seen.append([node.block(FINALIZED).slot for node in (local.node, other)])
    for column in zip(*seen, strict=True):
        assert list(column) == sorted(column)
    assert seen[-1][1] <= seen[-1][0] <= local.chain.tip.slot


def test_accounts_of_a_node_behind_are_kept_although_slots_are_skipped() -> None:
    local = LocalChain()
    other = local.another_node()
    other.faults.arm("behind", times=None, slots=500)
    wallet = str(local.wallet.pubkey())
    local.chain.advance(600)
    before = local.account(local.wallet.pubkey()).lamports
    local.chain.skip(300)
    for _ in range(3):
        local.send(local.sell())
        local.chain.advance(50)
    balance = local.call("getBalance", wallet, {"commitment": "processed"}, node=other)
    assert balance["value"] == before


def test_the_oldest_blocks_are_forgotten() -> None:
    local = LocalChain()
    first = local.send(local.sell())
    local.chain.advance(KEPT_BLOCKS)
    assert local.status(first) is not None
    local.chain.advance(1_000)
    assert local.chain.tip.height - local.chain.first.height < KEPT_BLOCKS + 1_000
    assert local.status(first) is None
    assert local.call("getFirstAvailableBlock") == local.chain.first.slot > 1_001
    assert local.call("getSignaturesForAddress", str(local.wallet.pubkey())) == []
    second = local.send(local.sell())
    local.chain.advance()
    assert local.status(second)["err"] is None


def test_a_transaction_sent_to_any_node_lands() -> None:
    local = LocalChain()
    signature = local.send(local.sell(), local.another_node())
    local.chain.advance()
    assert local.status(signature)["err"] is None


def test_the_receipt_of_a_nodes_answer_is_what_was_quoted() -> None:
    local = LocalChain()
    legs = [local.leg(name, SOL) for name in PROGRAM_NAMES]
    transaction = local.swap(*legs)
    signature = local.send(transaction)
    local.chain.advance(40)
    config = {"encoding": "base64", "maxSupportedTransactionVersion": 1}
    receipt = read_receipt(
        local.call("getTransaction", signature, config), bytes(transaction), local.chain.programs
    )
    assert [(leg.amount_in, leg.amount_out) for leg in receipt.legs] == [
        (SOL, leg.swap.amount_out) for leg in legs
    ]
    assert (receipt.network_fee, receipt.rent, receipt.differences, receipt.error) == (12_000, 0, (), None)


def test_the_same_seed_and_time_make_the_same_chain() -> None:
    again = genesis_of(1, int(START_S), MAINNET, ManualClock())
    one, same, other = LocalChain(), LocalChain(), LocalChain(seed=2)
    assert one.chain.genesis.accounts == again.accounts
    assert one.chain.genesis.genesis_hash == again.genesis_hash
    assert genesis_of(1, int(START_S) + 1, MAINNET, ManualClock()).genesis_hash != again.genesis_hash
    for local in (one, same, other):
        for name in (METEORA_DAMM_V2, RAYDIUM_CPMM):
            local.send(local.sell(name))
            local.chain.advance(2)
    assert one.chain.tip == same.chain.tip
    assert one.account(one.wallet.pubkey()) == same.account(same.wallet.pubkey())
    assert one.chain.genesis.genesis_hash != other.chain.genesis.genesis_hash
    assert one.wallet.pubkey() != other.wallet.pubkey()


@pytest.mark.parametrize("wrong", ["pool", "source"])
def test_a_wrong_swap_does_not_stop_the_chain_while_pools_are_moved(wrong: str) -> None:
    local = LocalChain()
    local.mover.arm(share_bps=100)
    leg = local.leg(RAYDIUM_CPMM, SOL)
    owner = local.wallet.pubkey()
    # The wallet itself is an account without a mint.
    source = owner if wrong == "source" else associated_token_account(owner, leg.sold.mint, TOKEN_PROGRAM)
    user = UserAccounts(owner, source, owner)
    swap = leg.pool.instruction(leg.swap, user)
    if wrong == "pool":
        pool = leg.pool.addresses.pool
        accounts = [
            AccountMeta(owner, is_signer=False, is_writable=True) if meta.pubkey == pool else meta
            for meta in swap.accounts
        ]
        swap = Instruction(swap.program_id, swap.data, accounts)
    signature = local.send(local.signed([swap]))
    local.chain.advance(2)
    assert local.status(signature)["err"] is not None
