"""What became of a transaction, in the terms of every venue."""

from solders.pubkey import Pubkey

from service.chains.solana.errors import failure_of
from service.chains.solana.feed.pools import TokenOf
from service.chains.solana.programs.registry import ProgramIds
from service.chains.solana.receipt import Receipt
from service.chains.solana.sending.flight import TrackedStatus
from service.chains.solana.statuses import ConfirmationStatus, SignatureStatus
from service.domain.timestamps import format_epoch
from service.domain.transaction import (
    Fill,
    Landing,
    NetworkCost,
    Residue,
    Seen,
    SeenCommitment,
    TransactionState,
    TransactionStatus,
)


def status_of(
    tracked: TrackedStatus, token_of: TokenOf, ids: ProgramIds, *, sells_sol: bool = True
) -> TransactionStatus:
    """Return what is known of a transaction.

    Args:
        tracked: What the tracker knows.
        token_of: Returns the token of a mint.
        ids: The programs of the cluster.
        sells_sol: Whether it sells SOL; only a failed one's reason depends on it.
    """
    receipt = tracked.receipt
    if not tracked.final:
        seen = None if tracked.seen is None else _seen(tracked.seen, receipt)
        return TransactionStatus(tracked.state, seen=seen)
    if receipt is None:
        return TransactionStatus(tracked.state)
    cost = NetworkCost(receipt.network_fee, rent=receipt.rent)
    landing = None
    if receipt.block_time is not None:
        landing = Landing(receipt.slot, format_epoch(receipt.block_time))
    if receipt.error is not None:
        failure = failure_of(receipt.error, ids, sells_sol=sells_sol)
        return TransactionStatus(TransactionState.FAILED, failure=failure, landing=landing, cost=cost)
    residue = tuple(
        Residue(_name(mint, token_of), amount) for mint, amount in receipt.residue(*receipt.ends).items()
    )
    return TransactionStatus(
        TransactionState.LANDED, fill=_fill(receipt), landing=landing, cost=cost, residue=residue
    )


def _seen(status: SignatureStatus, receipt: Receipt | None) -> Seen:
    # What is finalized, and what it did is not known yet, is at least confirmed.
    processed = status.commitment is ConfirmationStatus.PROCESSED
    commitment = SeenCommitment.PROCESSED if processed else SeenCommitment.CONFIRMED
    fill = None if receipt is None or receipt.error is not None else _fill(receipt)
    return Seen(status.slot, commitment, fill)


def _fill(receipt: Receipt) -> Fill:
    return receipt.fill(*receipt.ends)


def _name(mint: Pubkey, token_of: TokenOf) -> str:
    token = token_of(str(mint))
    return str(mint) if token is None else token.symbol
