"""What became of a transaction, in the terms of every venue."""

from solders.pubkey import Pubkey

from service.chains.solana.errors import TransactionError
from service.chains.solana.outcomes import status_of
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.receipt import LegFill, Receipt
from service.chains.solana.sending.flight import TrackedStatus
from service.chains.solana.statuses import ConfirmationStatus, SignatureStatus
from service.domain.failures import FailureCode
from service.domain.tokens import TOKENS, find_token
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

SOL, USDC, BONK = (Pubkey.from_string(TOKENS[name].mint) for name in ("SOL", "USDC", "BONK"))
UNNAMED = Pubkey(bytes([7] * 32))


def leg(sold: Pubkey, bought: Pubkey, amount_in: int, amount_out: int) -> LegFill:
    return LegFill(Pubkey.new_unique(), sold, bought, amount_in, amount_out)


def receipt(
    *legs: LegFill, error: TransactionError | None = None, block_time: int | None = 1_800_000_000
) -> Receipt:
    return Receipt("signature", 77, block_time, error, 5_000, 2_039_280, legs, ())


def status(tracked: TrackedStatus) -> TransactionStatus:
    return status_of(tracked, find_token, MAINNET)


def test_a_fill_is_the_sum_of_its_paths_and_what_stays_between_the_hops_is_residue() -> None:
    legs = (
        leg(SOL, USDC, 100, 1_000),
        leg(USDC, BONK, 990, 50_000),
        leg(SOL, UNNAMED, 10, 20),
        leg(UNNAMED, BONK, 19, 5_000),
        leg(SOL, BONK, 1, 500),
    )
    assert status(TrackedStatus(TransactionState.LANDED, receipt=receipt(*legs))) == TransactionStatus(
        TransactionState.LANDED,
        fill=Fill(111, 55_500, "signature"),
        landing=Landing(77, "2027-01-15T08:00:00.000000Z"),
        cost=NetworkCost(5_000, rent=2_039_280),
        residue=(Residue("USDC", 10), Residue(str(UNNAMED), 1)),
    )


def test_without_the_time_of_its_block_there_is_no_landing() -> None:
    landed = receipt(leg(SOL, USDC, 1, 2), block_time=None)
    assert status(TrackedStatus(TransactionState.LANDED, receipt=landed)).landing is None


def test_a_failed_one_has_its_reason_and_its_cost() -> None:
    error = TransactionError("Custom", 2, MAINNET.raydium_cpmm, 6005)
    failed = status(TrackedStatus(TransactionState.FAILED, receipt=receipt(error=error)))
    assert failed.failure is not None
    assert failed.failure.code is FailureCode.SLIPPAGE_EXCEEDED
    assert (failed.fill, failed.cost) == (None, NetworkCost(5_000, rent=2_039_280))


def test_what_is_not_final_is_where_it_was_seen() -> None:
    for commitment, shown in (
        (ConfirmationStatus.PROCESSED, SeenCommitment.PROCESSED),
        (ConfirmationStatus.CONFIRMED, SeenCommitment.CONFIRMED),
        # Finalized, and no node has told what it did.
        (ConfirmationStatus.FINALIZED, SeenCommitment.CONFIRMED),
    ):
        seen = SignatureStatus(77, commitment, failed=False)
        pending = TrackedStatus(TransactionState.PENDING, seen)
        assert status(pending) == TransactionStatus(TransactionState.PENDING, seen=Seen(77, shown))
    filled = receipt(leg(SOL, USDC, 1, 2))
    known = status(TrackedStatus(TransactionState.PENDING, seen, filled))
    assert known.seen == Seen(77, SeenCommitment.CONFIRMED, Fill(1, 2, "signature"))
    failed = receipt(error=TransactionError("Custom", 2, MAINNET.raydium_cpmm, 6005))
    assert status(TrackedStatus(TransactionState.PENDING, seen, failed)).seen == Seen(
        77, SeenCommitment.CONFIRMED
    )


def test_unknown_and_expired_are_no_more_than_that() -> None:
    for state in (TransactionState.UNKNOWN, TransactionState.EXPIRED):
        assert status(TrackedStatus(state)) == TransactionStatus(state)
