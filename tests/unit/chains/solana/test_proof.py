"""What proves that a transaction can never land any more, and what does not."""

from dataclasses import replace

import pytest

from service.chains.solana.proof import SLOTS_APART, EndProof, FinalizedBlock, KeptBlocks, Look, Validity
from service.chains.solana.statuses import ConfirmationStatus, SignatureStatus

VALIDITY = Validity(last_valid_height=1_150, blockhash_slot=2_000)
FINAL_FAILURE = SignatureStatus(2_050, ConfirmationStatus.FINALIZED, failed=True)
FINAL_SUCCESS = replace(FINAL_FAILURE, failed=False)
PROCESSED = SignatureStatus(2_050, ConfirmationStatus.PROCESSED, failed=False)

# All blocks of its validity, and the blockhash's before them.
SLOTS = (*range(2_000, 2_151), 2_200)
KEPT = KeptBlocks(1_999, FinalizedBlock(2_000, 1_000), FinalizedBlock(2_200, 1_151), SLOTS)


def look(endpoint: str = "a", status: SignatureStatus | None = None, later: int = 0) -> Look:
    """Return a look that proves, in the first slot in which it can."""
    finalized = FinalizedBlock(slot=2_200 + later, height=1_151 + later)
    return Look(endpoint, finalized, 2_200 + later, {"tx": status}, {VALIDITY: KEPT})


def proof(endpoints: int = 3) -> EndProof:
    return EndProof("tx", VALIDITY, endpoints)


def has_expired(found: EndProof) -> bool:
    return found.has_expired


def has_failed(found: EndProof) -> bool:
    return found.has_failed_for_good


def test_two_endpoints_that_do_not_know_it_prove_that_it_expired() -> None:
    found = proof()
    found.add([look("a")])
    assert not has_expired(found)
    found.add([look("b", later=5)])
    assert has_expired(found)
    assert not has_failed(found)


def test_one_endpoint_of_several_proves_nothing_however_often_it_says_so() -> None:
    found = proof()
    for later in range(0, 10 * SLOTS_APART, SLOTS_APART):
        found.add([look("a", later=later)])
    assert not has_expired(found)


def test_a_single_endpoint_must_say_so_twice_with_slots_between() -> None:
    found = proof(endpoints=1)
    found.add([look()])
    found.add([look(later=SLOTS_APART - 1)])
    assert not has_expired(found)
    found.add([look(later=SLOTS_APART)])
    assert has_expired(found)


@pytest.mark.parametrize(
    "weak",
    [
        # It can still land in the next block.
        replace(look("b"), finalized=FinalizedBlock(2_200, 1_150)),
        # Of another fork than the blockhash, or of a node that answers nonsense.
        replace(look("b"), finalized=FinalizedBlock(1_999, 1_151)),
        # Answered by a node behind the one that answered the height.
        replace(look("b"), status_slot=2_199),
        # It does not say which blocks it has.
        replace(look("b"), kept={}),
        # One that could hold it is missing: between the others, before them, after them.
        replace(look("b"), kept={VALIDITY: replace(KEPT, slots=(*SLOTS[:70], *SLOTS[71:]))}),
        replace(
            look("b"), kept={VALIDITY: KeptBlocks(2_000, FinalizedBlock(2_001, 1_001), KEPT.last, SLOTS[1:])}
        ),
        replace(
            look("b"), kept={VALIDITY: replace(KEPT, last=FinalizedBlock(2_150, 1_150), slots=SLOTS[:-1])}
        ),
        # More than there can be: it is another chain, or nonsense.
        replace(look("b"), kept={VALIDITY: replace(KEPT, slots=(*SLOTS[:-1], 2_199, 2_200))}),
        # It was not asked.
        replace(look("b"), statuses={}),
    ],
)
def test_an_endpoint_that_could_not_know_it_does_not_count(weak: Look) -> None:
    found = proof()
    found.add([look("a"), weak, replace(weak, endpoint="c")])
    assert not has_expired(found)


def test_the_blocks_after_a_blockhash_that_has_no_block_any_more_are_enough() -> None:
    """Its block was of a fork: the first one after it has a parent before it."""
    kept = KeptBlocks(1_998, FinalizedBlock(2_002, 999), KEPT.last, (*range(2_002, 2_154), 2_200))
    found = proof()
    found.add([replace(look(name), kept={VALIDITY: kept}) for name in "ab"])
    assert has_expired(found)


@pytest.mark.parametrize(("first_slot", "needed"), [(2_000, 152), (1_990, 162), (2_001, 151)])
def test_with_a_last_valid_height_that_is_too_low_it_takes_151_blocks_after_the_blockhash(
    first_slot: int, needed: int
) -> None:
    """The node that gave the blockhash was wrong: the block of slot 2,151 may still take it.

    The list may begin earlier, for other transactions; or the blockhash's own block is of a fork.
    """
    wrong = Validity(last_valid_height=1_020, blockhash_slot=2_000)
    found = EndProof("tx", wrong, 2)

    def add(count: int) -> None:
        first, last = (FinalizedBlock(slot, slot - 1_000) for slot in (first_slot, first_slot + count - 1))
        kept = KeptBlocks(
            first_slot - 1 - (first_slot > 2_000), first, last, range(first_slot, last.slot + 1)
        )
        found.add([Look(name, last, last.slot, {"tx": None}, {wrong: kept}) for name in "ab"])

    add(needed - 1)
    assert not has_expired(found)
    add(needed)
    assert has_expired(found)


@pytest.mark.parametrize("status", [PROCESSED, FINAL_SUCCESS, FINAL_FAILURE])
def test_an_endpoint_that_knows_it_outweighs_all_others(status: SignatureStatus) -> None:
    found = proof()
    found.add([look("a"), look("b"), replace(look("c", status), finalized=FinalizedBlock(0, 0))])
    assert not has_expired(found)


def test_what_was_collected_before_it_was_seen_is_dropped() -> None:
    found = proof()
    found.add([look("a")])
    found.see(PROCESSED)
    found.add([look("b")])
    assert not has_expired(found)
    # The block was of a fork: all agree again.
    found.add([look("a")])
    assert has_expired(found)


def test_what_was_once_in_a_final_block_never_expires() -> None:
    found = proof()
    found.see(FINAL_SUCCESS)
    found.add([look("a"), look("b"), look("c")])
    assert not has_expired(found)


def test_two_endpoints_that_know_only_a_failure_prove_that_it_stays_one() -> None:
    found = proof()
    found.add([look("a", FINAL_FAILURE), look("b")])
    assert not has_failed(found)
    found.add([look("b", FINAL_FAILURE), look("c")])
    assert has_failed(found)
    assert not has_expired(found)


def test_a_failure_may_not_be_the_end_while_the_bytes_can_still_land() -> None:
    early = FinalizedBlock(2_100, 1_100)
    found = proof()
    found.add([replace(look(name, FINAL_FAILURE), finalized=early) for name in "abc"])
    assert not has_failed(found)


def test_failures_before_a_success_do_not_count() -> None:
    found = proof()
    found.add([look("a", FINAL_FAILURE)])
    found.see(FINAL_SUCCESS)
    found.add([look("b", FINAL_FAILURE)])
    assert not has_failed(found)


def test_a_success_outweighs_failures() -> None:
    found = proof()
    found.add([look("a", FINAL_FAILURE)])
    found.add([look("b", FINAL_FAILURE), look("c", FINAL_SUCCESS)])
    assert not has_failed(found)
