"""What one transaction's answers add up to, and when it is asked for again."""

from dataclasses import replace

import pytest

from service.chains.solana.proof import NOTHING_FINALIZED, FinalizedBlock, KeptBlocks, Look, Validity
from service.chains.solana.receipt import Receipt
from service.chains.solana.sending.flight import Flight, SentTransaction, SlotPause
from service.chains.solana.statuses import ConfirmationStatus, SignatureStatus
from service.domain.transaction import TransactionState

SENT = SentTransaction("tx", b"raw", Validity(last_valid_height=1_150, blockhash_slot=2_000))
PROCESSED = SignatureStatus(2_050, ConfirmationStatus.PROCESSED, failed=False)
CONFIRMED = replace(PROCESSED, commitment=ConfirmationStatus.CONFIRMED)
FINALIZED = replace(PROCESSED, commitment=ConfirmationStatus.FINALIZED)
RECEIPT = Receipt("tx", 2_050, None, None, 5_000, 0, (), ())


def flight(*statuses: SignatureStatus) -> Flight:
    new = Flight(SENT, readers=3)
    for status in statuses:
        new.note(status, status.slot)
    return new


def looks(height: int, status: SignatureStatus | None = None) -> list[Look]:
    """Return the looks of three endpoints; a slot has been without a block since the blockhash."""
    finalized = FinalizedBlock(height + 1_001, height)
    kept = KeptBlocks(
        1_999, FinalizedBlock(2_000, 1_000), finalized, (*range(2_000, height + 1_000), height + 1_001)
    )
    return [Look(name, finalized, height + 1_033, {"tx": status}, {SENT.validity: kept}) for name in "abc"]


def state(found: Flight) -> TransactionState:
    return found.status.state


def receipt(found: Flight) -> Receipt | None:
    return found.status.receipt


def test_a_node_that_has_not_reached_the_block_takes_nothing_back() -> None:
    found = flight(CONFIRMED)
    found.note(None, 2_049)
    assert state(found) is TransactionState.PENDING
    found.note(None, 2_050)
    assert state(found) is TransactionState.UNKNOWN


def test_a_block_in_an_absurd_slot_is_taken_back() -> None:
    """Otherwise it would be pending, and not be sent again, until the chain gets there."""
    found = flight()
    found.note(replace(PROCESSED, slot=10**15), 2_050)
    found.note(None, 2_052)
    assert state(found) is TransactionState.UNKNOWN
    assert found.may_be_sent


def test_what_is_finalized_stays_so() -> None:
    found = flight(FINALIZED)
    found.note(None, 9_999)
    found.note(CONFIRMED, 9_999)
    assert found.status.seen == FINALIZED


def test_a_free_failure_may_be_followed_by_a_success() -> None:
    found = flight(replace(FINALIZED, failed=True))
    found.note(FINALIZED, 2_100)
    assert found.status.seen == FINALIZED


def test_what_it_did_in_a_block_goes_with_the_block() -> None:
    found = flight(CONFIRMED)
    found.note_confirmed(replace(RECEIPT, slot=2_049))
    assert receipt(found) is None
    found.note_confirmed(RECEIPT)
    assert receipt(found) == RECEIPT
    found.note(FINALIZED, 2_100)
    assert receipt(found) == RECEIPT
    forked = flight(CONFIRMED)
    forked.note_confirmed(RECEIPT)
    forked.note(replace(CONFIRMED, slot=2_060), 2_062)
    assert receipt(forked) is None


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (PROCESSED, None),
        (CONFIRMED, ConfirmationStatus.CONFIRMED),
        (FINALIZED, ConfirmationStatus.FINALIZED),
    ],
)
def test_a_receipt_is_asked_for_once_it_is_confirmed_and_once_it_is_final(
    status: SignatureStatus, wanted: ConfirmationStatus | None
) -> None:
    assert flight(status).wants_receipt(2_050) is wanted


def test_a_receipt_that_no_node_gives_is_asked_for_less_often_until_it_is_final() -> None:
    found = flight(CONFIRMED)
    for _ in range(3):
        found.receipts.wait(2_050)
    assert found.wants_receipt(2_057) is None
    assert found.wants_receipt(2_058) is ConfirmationStatus.CONFIRMED
    found.receipts.wait(2_058)
    found.note(FINALIZED, 2_059)
    assert found.wants_receipt(2_059) is ConfirmationStatus.FINALIZED


def test_it_is_sent_while_no_node_knows_it_and_a_block_may_take_it() -> None:
    assert flight().may_be_sent
    assert not flight(PROCESSED).may_be_sent
    over = flight()
    over.add(looks(1_150), 2_183)
    assert over.may_be_sent
    over.add(looks(1_151), 2_184)
    assert not over.may_be_sent


def test_one_absurd_height_does_not_end_its_sending_for_good() -> None:
    found = flight()
    absurd = FinalizedBlock(2_184, 10**15)
    found.add([replace(looks(1_150)[0], finalized=absurd), *looks(1_150)[1:]], 2_183)
    assert found.may_be_sent
    # Of a single endpoint it counts until that says something else.
    alone = flight()
    alone.add([replace(looks(1_150)[0], finalized=absurd)], 2_183)
    assert not alone.may_be_sent
    alone.add(looks(1_150)[:1], 2_185)
    assert alone.may_be_sent


def test_the_proof_waits_until_the_last_answer_agrees() -> None:
    """A node that still shows it may be on a fork of its own, or the only one that is right."""
    found = flight(PROCESSED)
    found.add(looks(1_151), 2_184)
    assert found.proof.has_expired
    assert not found.has_expired
    found.note(None, 2_185)
    assert found.has_expired


def test_a_look_that_finds_it_counts_as_an_answer() -> None:
    found = flight()
    found.add([*looks(1_151)[:2], looks(1_151, FINALIZED)[2]], 2_184)
    assert not found.has_expired
    assert found.status.seen == FINALIZED


def test_the_first_look_is_when_it_may_have_expired() -> None:
    found = flight()
    assert not found.looks.is_over(2_149)
    assert found.looks.is_over(2_150)


def test_the_next_look_is_when_its_blocks_may_be_over() -> None:
    found = flight()
    found.add(looks(1_118), 2_150)
    assert not found.looks.is_over(2_182)
    assert found.looks.is_over(2_183)


def test_short_of_proof_it_is_looked_for_without_end_and_less_often() -> None:
    found = flight()
    slot, pauses = 2_200, []
    for _ in range(8):
        found.add([replace(look, kept={}) for look in looks(1_160)], slot)
        start = slot
        while not found.looks.is_over(slot):
            slot += 1
        pauses.append(slot - start)
    assert pauses == [2, 4, 8, 16, 32, 64, 64, 64]
    assert not found.has_expired


def test_the_pauses_begin_anew_after_an_absurd_height() -> None:
    found = flight()
    for _ in range(8):
        found.add([replace(looks(1_118)[0], finalized=FinalizedBlock(2_184, 10**15))], 2_150)
    found.add(looks(1_150), 2_184)
    found.add([replace(look, kept={}) for look in looks(1_160)], 2_190)
    assert found.looks.is_over(2_192)


def test_endpoints_that_are_away_are_asked_again_soon() -> None:
    found = flight()
    found.add([replace(look, finalized=NOTHING_FINALIZED, statuses={}) for look in looks(0)], 2_150)
    assert found.looks.is_over(2_152)


def test_a_pause_begins_where_it_is_told() -> None:
    assert SlotPause().is_over(0)
    assert not SlotPause(5).is_over(4)
    assert SlotPause(5).is_over(5)


def test_a_pause_from_an_absurd_slot_is_over() -> None:
    pause = SlotPause()
    pause.wait(10**15)
    assert not pause.is_over(10**15)
    assert pause.is_over(2_000)
    pause.wait_until(2_150)
    assert not pause.is_over(1_850)
    assert pause.is_over(1_849)
