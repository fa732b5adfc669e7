"""Methods about the cluster and its blocks."""

from typing import Any

from solders.pubkey import Pubkey

from service.sandbox.accounts import rent_exempt
from service.sandbox.blocks import Block, Landed
from service.sandbox.errors import CallRefusedError, invalid_params
from service.sandbox.mempool import MAX_AGE
from service.sandbox.messages import metas_of
from service.sandbox.node import SLOTS_PER_EPOCH, Commitment, Node
from service.sandbox.rpc.params import Params, blockhash, pubkey

VERSION = "4.2.0"
"""The release of Agave whose answers these are."""

_FEE_BLOCKS = 150
_MOST_FEE_ACCOUNTS = 128
_MOST_SLOTS = 500_000


def context(block: Block, value: Any) -> dict[str, Any]:
    """Return an answer with the slot that it was read from."""
    return {"context": {"apiVersion": VERSION, "slot": block.slot}, "value": value}


def check_health(node: Node) -> None:
    """Check that a node is not behind; one that is silently behind does not know it.

    Raises:
        CallRefusedError: It says that it is behind.
    """
    fault = node.faults.standing("unhealthy")
    if fault is not None:
        slots = fault.number("slots")
        raise CallRefusedError(-32005, f"Node is behind by {slots} slots", {"numSlotsBehind": slots})


def get_health(node: Node, _params: Params) -> str:
    """Say that the node is healthy."""
    check_health(node)
    return "ok"


def get_version(_node: Node, _params: Params) -> dict[str, Any]:
    """Return the version of the node's software."""
    return {"solana-core": VERSION, "feature-set": 0}


def get_genesis_hash(node: Node, _params: Params) -> str:
    """Return the chain's identity."""
    return str(node.chain.genesis.genesis_hash)


def get_slot(node: Node, params: Params) -> int:
    """Return the slot of a commitment."""
    return params.config(0).block(node).slot


def get_block_height(node: Node, params: Params) -> int:
    """Return the block height of a commitment."""
    return params.config(0).block(node).height


def get_epoch_info(node: Node, params: Params) -> dict[str, Any]:
    """Return where the chain is in its epoch."""
    block = params.config(0).block(node)
    return {
        "absoluteSlot": block.slot,
        "blockHeight": block.height,
        "epoch": block.slot // SLOTS_PER_EPOCH,
        "slotIndex": block.slot % SLOTS_PER_EPOCH,
        "slotsInEpoch": SLOTS_PER_EPOCH,
        "transactionCount": None,
    }


def get_block_time(node: Node, params: Params) -> int:
    """Return the Unix time of a block."""
    slot = params.number(0, "slot")
    block = node.chain.block_by(slot)
    if block.slot != slot or not node.has_kept(slot) or slot > node.block(Commitment.CONFIRMED).slot:
        raise CallRefusedError(-32004, f"Block not available for slot {slot}")
    return block.time_s


def get_blocks(node: Node, params: Params) -> list[int]:
    """Return the slots of the blocks between two slots that the node has kept."""
    first, config = params.number(0, "the first slot"), params.config(2)
    last = config.block(node).slot
    if config.commitment() is Commitment.PROCESSED:
        raise invalid_params("Method does not support commitment below `confirmed`")
    if params.optional(1):
        last = min(last, params.number(1, "the last slot"))
    if last - first > _MOST_SLOTS:
        raise invalid_params(f"Slot range too large; max {_MOST_SLOTS}")
    return [each.slot for each in node.chain.blocks_after(first - 1, last) if node.has_kept(each.slot)]


def get_block(node: Node, params: Params) -> dict[str, Any]:
    """Return a block without its transactions."""
    slot, config = params.number(0, "slot"), params.config(1)
    if config.text("transactionDetails") != "none" or config.flag("rewards"):
        raise invalid_params("The sandbox returns blocks without transactions and rewards only")
    if slot > config.block(node).slot:
        raise CallRefusedError(-32004, f"Block not available for slot {slot}")
    if slot < node.first_slot:
        raise CallRefusedError(
            -32001,
            f"Block {slot} cleaned up, does not exist on node. First available block: {node.first_slot}",
        )
    block, parent = node.chain.block_by(slot), node.chain.block_by(slot - 1)
    if block.slot != slot or not node.has_kept(slot):
        raise CallRefusedError(
            -32007, f"Slot {slot} was skipped, or missing due to ledger jump to recent snapshot"
        )
    return {
        "blockhash": str(block.blockhash),
        "previousBlockhash": str(parent.blockhash),
        "parentSlot": block.parent_slot,
        "blockHeight": block.height,
        "blockTime": block.time_s,
    }


def get_first_available_block(node: Node, _params: Params) -> int:
    """Return the oldest slot of which the node knows the block."""
    return node.first_slot


def get_latest_blockhash(node: Node, params: Params) -> dict[str, Any]:
    """Return a blockhash, and the last height at which a transaction with it is valid."""
    block = params.config(0).block(node)
    value = {"blockhash": str(block.blockhash), "lastValidBlockHeight": block.height + MAX_AGE}
    return context(block, value)


def is_blockhash_valid(node: Node, params: Params) -> dict[str, Any]:
    """Say whether a transaction with a blockhash may still land."""
    wanted = blockhash(params.text(0, "blockhash"))
    block = params.config(1).block(node)
    return context(block, node.chain.is_recent(wanted, block))


def get_rent(_node: Node, params: Params) -> int:
    """Return the lamports that make an account exempt from rent."""
    return rent_exempt(params.number(0, "the length"))


def get_recent_prioritization_fees(node: Node, params: Params) -> list[dict[str, int]]:
    """Return the least fee, in each recent block, of transactions that locked all given accounts.

    It is in micro-lamports for each compute unit, and 0 for a block without such a transaction.
    """
    texts = params.texts(0, "addresses", _MOST_FEE_ACCOUNTS) if params.optional(0) else []
    wanted = {pubkey(text) for text in texts}
    tip = node.block(Commitment.PROCESSED)
    start = node.chain.block_by(tip.slot - _FEE_BLOCKS)
    fees = []
    for block in node.chain.blocks_after(start.slot, tip.slot):
        paid = [
            landed.execution.budget.micro_lamports_per_unit
            for landed in block.landed
            if wanted <= _locked(landed)
        ]
        fees.append({"slot": block.slot, "prioritizationFee": min(paid, default=0)})
    return fees


def _locked(landed: Landed) -> set[Pubkey]:
    return {meta.pubkey for meta in metas_of(landed.transaction) if meta.is_writable}
