"""Compares an order, and what is recorded of its transactions, with what the chain has."""

from collections.abc import Mapping

from service.chains.solana.auditing.evidence import NOTHING, Evidence
from service.chains.solana.auditing.results import Results
from service.chains.solana.auditing.stored import StoredOrder, StoredTransaction
from service.chains.solana.receipt import Receipt

Names = Mapping[str, str]
"""The tokens by mint, as orders name them."""


def judge(order: StoredOrder, evidence: Mapping[str, Evidence], names: Names, results: Results) -> None:
    """Add what speaks against an order.

    Args:
        order: The order.
        evidence: What is known of its transactions that have ended, by their signatures.
        names: The tokens that are known.
        results: Where to add it.
    """
    traded = [each.id for each in order.settled if evidence.get(each.id, NOTHING).has_traded]
    results.landed += len(traded)
    if len(traded) > 1:
        results.find(order.id, f"landed {len(traded)} times: {', '.join(traded)}")
    if order.status == "confirmed" and order.tx_hash not in {each.id for each in order.settled}:
        results.find(order.id, f"confirmed by {order.tx_hash}, which is not stored")
    for transaction in order.settled:
        found = evidence.get(transaction.id, NOTHING)
        _judge_bytes(order, transaction, found, results)
        if order.status == "confirmed" and transaction.id == order.tx_hash:
            _judge_fill(order, transaction, found, names, results)
        else:
            _judge_unfilled(order, transaction, found, results)
        if found.receipt is not None:
            _judge_cost(order, transaction, found.receipt, results)
            for difference in found.receipt.differences:
                results.find(order.id, f"transaction {transaction.id}: {difference}")


def _judge_bytes(
    order: StoredOrder, transaction: StoredTransaction, found: Evidence, results: Results
) -> None:
    if found.other_bytes:
        results.find(order.id, f"transaction {transaction.id} has other bytes in the chain than are stored")
    elif found.receipt is not None and found.receipt.signature != transaction.id:
        results.find(order.id, f"the bytes of transaction {transaction.id} have another signature")


def _judge_fill(
    order: StoredOrder, transaction: StoredTransaction, found: Evidence, names: Names, results: Results
) -> None:
    receipt = found.receipt
    if receipt is None:
        if found.absent:
            results.find(order.id, f"confirmed, and transaction {transaction.id} is not in the chain")
        elif found.status is not None and found.status.failed:
            results.find(
                order.id, f"confirmed, and transaction {transaction.id} failed in slot {found.status.slot}"
            )
        elif not found.other_bytes:
            _warn(order, transaction, found, results)
        return
    if receipt.error is not None:
        results.find(
            order.id,
            f"confirmed, and transaction {transaction.id} failed in slot {receipt.slot} ({receipt.error})",
        )
        return
    _judge_amounts(order, receipt, names, results)
    if transaction.slot not in (None, receipt.slot):
        results.find(
            order.id, f"confirmed in slot {transaction.slot}, and the chain has it in slot {receipt.slot}"
        )
    if order.expires_at is not None and receipt.block_time is not None:
        late_s = receipt.block_time - order.expires_at
        if late_s > 0:
            results.note(order.id, f"landed {late_s} s after its time")


def _judge_amounts(order: StoredOrder, receipt: Receipt, names: Names, results: Results) -> None:
    fill = receipt.fill(*receipt.ends)
    recorded, landed = (order.amount_in, order.amount_out), (fill.amount_in, fill.amount_out)
    if recorded != landed:
        results.find(
            order.id,
            f"confirmed with {recorded[0]} for {recorded[1]} base units, and the chain has "
            f"{landed[0]} for {landed[1]}",
        )
    sold, bought = (names.get(str(mint)) for mint in receipt.ends)
    # A token that is in no list any more has no name here.
    if sold not in (None, order.token_in) or bought not in (None, order.token_out):
        results.find(
            order.id,
            f"an order of {order.token_in} for {order.token_out}, and the chain has {sold} for {bought}",
        )
    left = {
        names.get(str(mint), str(mint)): amount for mint, amount in receipt.residue(*receipt.ends).items()
    }
    if sorted(left.values()) != sorted(order.residue.values()) or (
        left.keys() <= set(names.values()) and left != dict(order.residue)
    ):
        results.find(
            order.id, f"confirmed with the residue {_listed(order.residue)}, the chain has {_listed(left)}"
        )


def _judge_unfilled(
    order: StoredOrder, transaction: StoredTransaction, found: Evidence, results: Results
) -> None:
    """Judge a transaction that is recorded as expired or failed, or of which nothing is recorded."""
    if found.has_traded:
        results.find(
            order.id, f"{order.status}, and transaction {transaction.id} landed in slot {found.slot}"
        )
    elif found.receipt is not None or found.other_bytes:
        # What a failed one cost is compared elsewhere.
        return
    elif found.absent:
        if transaction.was_executed:
            results.find(
                order.id,
                f"transaction {transaction.id} is recorded as failed in slot {transaction.slot}, "
                "and is not in the chain",
            )
    elif found.status is not None and not transaction.was_executed:
        results.find(
            order.id,
            f"transaction {transaction.id} failed in slot {found.status.slot}, which is not recorded",
        )
    else:
        _warn(order, transaction, found, results)


def _judge_cost(
    order: StoredOrder, transaction: StoredTransaction, receipt: Receipt, results: Results
) -> None:
    cost, charged = transaction.cost, f"a fee of {receipt.network_fee} and a rent of {receipt.rent} lamports"
    if cost is None:
        results.find(
            order.id, f"transaction {transaction.id} cost {charged} by the chain, and nothing is recorded"
        )
    elif (cost.fee, cost.rent) != (receipt.network_fee, receipt.rent):
        results.find(
            order.id,
            f"transaction {transaction.id} is recorded with a fee of {cost.fee} and a rent of {cost.rent} "
            f"lamports, and cost {charged} by the chain",
        )


def _warn(order: StoredOrder, transaction: StoredTransaction, found: Evidence, results: Results) -> None:
    if found.status is not None or found.problem:
        reason = "no endpoint tells what it did in a finalized block"
        if found.problem:
            reason += f" ({found.problem})"
    elif transaction.validity is None:
        reason = "the slot of its blockhash is not stored"
    else:
        reason = f"no endpoint has all blocks from slot {transaction.validity.blockhash_slot} on"
    results.warn(order.id, f"{order.status}, not verifiable: transaction {transaction.id}: {reason}")


def _listed(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{amount} of {token}" for token, amount in sorted(amounts.items())) or "nothing"
