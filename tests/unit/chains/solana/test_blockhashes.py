"""Which blockhash a transaction names, so that it cannot land after its time."""

from dataclasses import replace
from typing import Any

import pytest
from solders.hash import Hash

from service.chains.solana.blockhashes import (
    MAX_AGE,
    MIN_BLOCKS_LEFT,
    BlockhashRing,
    MalformedBlockhashError,
    RecentBlockhash,
    must_sign_again,
    read_blockhash,
)
from service.chains.venue import SwapTooLateError

BLOCK_S = 0.2


def seen_at(height: int) -> RecentBlockhash:
    return RecentBlockhash(Hash(height.to_bytes(32, "little")), height + MAX_AGE, 2 * height)


def ring_of(*heights: int) -> BlockhashRing:
    ring = BlockhashRing()
    for height in heights:
        ring.add(seen_at(height))
    return ring


def test_the_answer_of_a_node_is_read() -> None:
    value = {"blockhash": str(seen_at(7).blockhash), "lastValidBlockHeight": 157}
    assert read_blockhash(value, 14) == seen_at(7)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"blockhash": "x", "lastValidBlockHeight": 1},
        {"blockhash": str(Hash.default())},
        {"blockhash": str(Hash.default()), "lastValidBlockHeight": "1"},
        {"blockhash": str(Hash.default()), "lastValidBlockHeight": -1},
        {"blockhash": str(Hash.default()), "lastValidBlockHeight": 14 + MAX_AGE + 1},
    ],
)
def test_another_answer_is_refused(value: Any) -> None:
    with pytest.raises(MalformedBlockhashError):
        read_blockhash(value, 14)


def test_without_a_time_the_newest_is_chosen() -> None:
    assert ring_of(100, 120, 110).choose(None, BLOCK_S) == seen_at(120)


def test_with_enough_time_the_newest_is_chosen() -> None:
    # 151 blocks at 0.3 s.
    assert ring_of(100, 120).choose(45.3 + 1e-9, BLOCK_S) == seen_at(120)


def test_with_less_time_it_is_the_youngest_that_ends_before() -> None:
    ring = ring_of(*range(201))
    for seconds in (45.2, 30.0, 15.0, 6.5):
        chosen = ring.choose(seconds, BLOCK_S)
        blocks = chosen.last_valid_height + 1 - 200
        assert blocks * BLOCK_S * 1.5 <= seconds < (blocks + 1) * BLOCK_S * 1.5


def test_slower_blocks_need_an_older_blockhash() -> None:
    ring = ring_of(*range(201))
    fast, slow = ring.choose(20.0, 0.2), ring.choose(20.0, 0.4)
    assert slow.last_valid_height < fast.last_valid_height


def test_with_too_few_blocks_left_it_is_too_late() -> None:
    ring = ring_of(*range(201))
    least_s = MIN_BLOCKS_LEFT * BLOCK_S * 1.5
    assert ring.choose(least_s + 1e-9, BLOCK_S).last_valid_height + 1 - 200 == MIN_BLOCKS_LEFT
    for seconds in (least_s - 0.01, 0.0, -1.0):
        with pytest.raises(SwapTooLateError):
            ring.choose(seconds, BLOCK_S)


def test_an_absurd_height_does_not_replace_the_others() -> None:
    ring = ring_of(100, 110, 120)
    ring.add(replace(seen_at(121), last_valid_height=10**9))
    assert ring.choose(None, BLOCK_S) == seen_at(120)
    ring.add(replace(seen_at(122), last_valid_height=1))
    assert ring.choose(None, BLOCK_S) == seen_at(120)
    ring.add(seen_at(123))
    assert ring.choose(None, BLOCK_S) == seen_at(123)


@pytest.mark.parametrize("wrong", range(1, 14))
def test_absurd_heights_leave_when_true_ones_come(wrong: int) -> None:
    ring = BlockhashRing()
    for each in range(wrong):
        ring.add(replace(seen_at(each), last_valid_height=10**9 + each))
    for height in range(100, 113):
        ring.add(seen_at(height))
    assert ring.choose(None, BLOCK_S) == seen_at(112)


@pytest.mark.parametrize("slot", [0, 242 + 500, 2**63])
@pytest.mark.parametrize("others", [0, 1, 3])
def test_an_absurd_slot_is_not_kept_by_a_transaction(slot: int, others: int) -> None:
    """Its end could not be proved before the chain gets to that slot, or from the chain's first one on."""
    ring = ring_of(*range(120 - others, 120))
    ring.add(replace(seen_at(121), slot=slot))
    for height in (122, 123):
        ring.add(seen_at(height))
    assert ring.choose(None, BLOCK_S) == seen_at(123)
    ring.add(replace(seen_at(124), slot=slot))
    assert ring.choose(None, BLOCK_S) == seen_at(123)
    # Also if it must end early.
    assert {each.slot for each in ring._seen} <= {2 * height for height in range(130)}


def test_the_first_one_alone_is_not_believed() -> None:
    ring = ring_of(100)
    assert ring.is_empty
    ring.add(replace(seen_at(110), last_valid_height=1))
    assert ring.is_empty
    ring.add(seen_at(120))
    ring.add(seen_at(120))
    assert ring.choose(None, BLOCK_S) == seen_at(120)


def test_after_many_slots_without_a_block_the_newest_is_chosen_soon() -> None:
    ring = ring_of(100, 110, 120)
    for height in (121, 122):
        ring.add(replace(seen_at(height), slot=2 * height + 5_000))
    assert ring.choose(None, BLOCK_S).last_valid_height == 122 + MAX_AGE


def test_a_ring_of_young_blockhashes_cannot_end_early() -> None:
    with pytest.raises(SwapTooLateError):
        ring_of(198, 200).choose(10.0, BLOCK_S)


def test_a_lagging_node_does_not_move_the_present_back() -> None:
    ring = ring_of(200, 100)
    assert ring.choose(None, BLOCK_S) == seen_at(200)
    # 51 blocks are left of the older one, not 151.
    assert ring.choose(15.3 + 1e-9, BLOCK_S) == seen_at(100)


def test_what_is_too_old_to_be_used_is_forgotten() -> None:
    ring = BlockhashRing()
    for height in range(10_000):
        ring.add(seen_at(height))
        ring.add(seen_at(height))
    assert len(ring._seen) <= MAX_AGE
    ring.add(seen_at(5_000))
    assert len(ring._seen) <= MAX_AGE


def test_slow_signing_is_done_again() -> None:
    assert not must_sign_again(6.0, BLOCK_S)
    assert must_sign_again(6.1, BLOCK_S)


def test_an_empty_ring_has_none() -> None:
    with pytest.raises(LookupError):
        BlockhashRing().choose(None, BLOCK_S)
