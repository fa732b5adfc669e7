"""What becomes of transactions under the faults of nodes and of the chain: each has the end that is true."""

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from solders.signature import Signature

from service.chains.solana.errors import failure_of
from service.chains.solana.programs.registry import MAINNET
from service.chains.solana.rpc.wire import Reply, WireError
from service.chains.solana.sending import looks
from service.chains.solana.sending.tracker import SEND_AGAIN_AFTER_S
from service.chains.solana.statuses import ConfirmationStatus
from service.chains.venue import VenueUnavailableError
from service.domain.failures import FailureCode
from service.domain.transaction import TransactionState
from service.sandbox.blocks import Landed
from service.sandbox.faults import GARBAGE
from service.sandbox.node import Node
from service.sandbox.rpc.encoding import meta_json
from service.sandbox.rpc.methods import METHODS
from service.sandbox.rpc.params import Params
from tests.support.local_chain import SOL
from tests.support.solana_tracking import SLOT_S, WHOLE_LIFE, TrackedChain, tracked_chain

UNKNOWN, PENDING = TransactionState.UNKNOWN, TransactionState.PENDING
LANDED, FAILED, EXPIRED = TransactionState.LANDED, TransactionState.FAILED, TransactionState.EXPIRED


def arm_all(tracked: TrackedChain, kind: str, **arguments: Any) -> None:
    for place in range(len(tracked.served.nodes)):
        tracked.served.arm(kind, place, **arguments)


def clear_all(tracked: TrackedChain) -> None:
    for node in tracked.served.nodes:
        node.faults.clear()


# --- Without faults


async def test_it_is_pending_while_a_fork_may_take_it_back_and_then_landed() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(1)
        first = tracked.status(sent)
        assert first.state is PENDING
        assert first.seen is not None
        assert first.seen.commitment is ConfirmationStatus.PROCESSED
        await tracked.pass_slots(4)
        later = tracked.status(sent)
        assert later.seen is not None
        assert later.seen.commitment is ConfirmationStatus.CONFIRMED
        # Provisional: what it did in that block.
        assert later.receipt is not None
        assert later.receipt.slot == later.seen.slot
        await tracked.pass_slots(26)
        assert tracked.state(sent) is PENDING
        await tracked.pass_slots(4)
        end = tracked.status(sent)
        assert end.state is LANDED
        assert end.receipt is not None
        assert end.receipt == later.receipt
        assert end.receipt.block_time == tracked.chain.time_of(end.receipt.slot)
        assert end.receipt.network_fee == 12_000
        assert end.receipt.legs[0].amount_in == SOL
        assert tracked.landings(sent) == 1
        assert tracked.tracker.in_flight == 0


async def test_a_failed_one_has_its_error_and_its_fee() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent(minimum_out=10**12)
        await tracked.pass_slots(4)
        status = tracked.status(sent)
        assert status.state is PENDING
        assert status.seen is not None
        assert status.seen.failed
        await tracked.pass_slots(34)
        end = tracked.status(sent)
        assert end.state is FAILED
        assert end.receipt is not None
        assert end.receipt.error is not None
        assert failure_of(end.receipt.error, MAINNET).code is FailureCode.SLIPPAGE_EXCEEDED
        assert (end.receipt.network_fee, end.receipt.legs) == (12_000, ())


async def test_one_that_is_only_followed_is_not_sent() -> None:
    async with tracked_chain() as tracked:
        signed = await tracked.signed()
        assert tracked.state(signed) is UNKNOWN
        await tracked.pass_slots(WHOLE_LIFE + 4, every=8)
        assert tracked.state(signed) is EXPIRED
        assert tracked.served.endpoints.calls()["sendTransaction"] == 0


async def test_waiting_returns_at_the_end() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        assert (await tracked.tracker.end(sent, 0.0)).state is UNKNOWN
        await tracked.pass_slots(40)
        assert (await tracked.tracker.end(sent, 60.0)).state is LANDED


async def test_the_chain_is_not_asked_for_heights_before_one_can_have_expired() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        await tracked.sent()
        await tracked.pass_slots(140, every=4)
        assert tracked.served.endpoints.calls()["getEpochInfo"] == 0
        # Then at every endpoint about when it may be over, not at every poll.
        await tracked.pass_slots(60, every=2)
        assert 0 < tracked.served.endpoints.calls()["getEpochInfo"] <= 3 * 4


# --- Sending


async def test_every_endpoint_is_sent_the_same_bytes_without_preflight_or_retries_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.signed()
        wire, posted = tracked.served.endpoints.wire, []

        async def post(url: str, body: bytes, timeout_s: float) -> Reply:
            posted.append((url, json.loads(body)))
            return await unchanged(url, body, timeout_s)

        unchanged = wire.post
        monkeypatch.setattr(wire, "post", post)
        await tracked.tracker.send(sent)
        assert {url for url, _ in posted} == {each.url for each in tracked.served.urls}
        for _, call in posted:
            raw, config = call["params"]
            assert call["method"] == "sendTransaction"
            assert base64.b64decode(raw) == sent.raw
            assert config == {
                "encoding": "base64",
                "skipPreflight": True,
                "maxRetries": 0,
                "preflightCommitment": "processed",
            }


async def test_dropped_by_all_it_is_sent_again_and_lands_once() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop")
        sent = await tracked.sent()
        await tracked.pass_slots(6)
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(4)
        assert tracked.state(sent) is PENDING
        await tracked.pass_slots(34)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_dropped_by_all_for_ever_it_expires_with_proof() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        await tracked.pass_slots(151, every=10)
        # The last block that could have taken it is not final yet.
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(WHOLE_LIFE - 151 + 4)
        assert (tracked.state(sent), tracked.landings(sent)) == (EXPIRED, 0)


async def test_dropped_by_all_but_one_it_lands() -> None:
    async with tracked_chain() as tracked:
        for place in (0, 1):
            tracked.served.arm("drop", place, times=None)
        sent = await tracked.sent()
        await tracked.pass_slots(38)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


@pytest.mark.parametrize("kind", ["lose_answer", "down", "unavailable", "rate_limit"])
async def test_without_an_answer_to_the_send_the_status_decides(kind: str) -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, kind, method="sendTransaction")
        sent = await tracked.sent()
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(60)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_a_refusal_of_the_send_is_no_end() -> None:
    async with tracked_chain() as tracked:
        arm_all(
            tracked, "error", method="sendTransaction", code=-32003, message="signature verification failure"
        )
        sent = await tracked.sent()
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(60)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_two_instances_that_both_send_it_make_one_landing() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        other = tracked.another_tracker()
        await other.send(sent)
        await tracked.pass_slots(38)
        await other.send(sent)
        await other.poll()
        assert other.status(sent) == tracked.status(sent)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_while_it_is_being_sent_a_further_send_sends_nothing() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        calls = tracked.served.endpoints.calls
        before = calls()["sendTransaction"]
        await asyncio.gather(*(tracked.tracker.send(sent) for _ in range(5)))
        assert calls()["sendTransaction"] == before == 3
        tracked.clock.now_s += SEND_AGAIN_AFTER_S
        await asyncio.gather(*(tracked.tracker.send(sent) for _ in range(5)))
        assert calls()["sendTransaction"] == 2 * before


async def test_many_that_are_new_here_are_asked_for_by_one_call_also_in_vain() -> None:
    async with tracked_chain() as tracked:
        sent = [await tracked.signed(minimum_out=each) for each in range(1, 31)]
        calls = tracked.served.endpoints.calls
        arm_all(tracked, "error", method="getSignatureStatuses", code=-32602, message="no", times=None)
        answers = await asyncio.gather(*map(tracked.tracker.ask, sent), return_exceptions=True)
        assert {type(answer) for answer in answers} == {VenueUnavailableError}
        assert calls()["getSignatureStatuses"] == 1
        clear_all(tracked)
        statuses = await asyncio.gather(*map(tracked.tracker.ask, sent))
        assert {status.state for status in statuses} == {UNKNOWN}
        assert calls()["getSignatureStatuses"] == 2


async def test_repeated_sends_end_before_the_next_and_an_outage_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with tracked_chain() as tracked:
        wire, waited_s = tracked.served.endpoints.wire, []

        async def post(url: str, body: bytes, timeout_s: float) -> Reply:
            if json.loads(body)["method"] == "sendTransaction":
                waited_s.append(timeout_s)
                raise WireError("it did not answer")
            return await unchanged(url, body, timeout_s)

        unchanged = wire.post
        monkeypatch.setattr(wire, "post", post)
        await tracked.sent()
        assert waited_s == [3.0] * 3
        await tracked.pass_slots(30)
        assert len(waited_s) > 6
        assert all(each <= 1.0 < SEND_AGAIN_AFTER_S for each in waited_s[3:])
        assert caplog.text.count("no node said that it took it") == 1


async def test_what_is_seen_is_not_sent_again() -> None:
    async with tracked_chain() as tracked:
        await tracked.sent()
        calls = tracked.served.endpoints.calls()["sendTransaction"]
        await tracked.pass_slots(30)
        assert tracked.served.endpoints.calls()["sendTransaction"] == calls


async def test_what_is_not_seen_is_sent_again_in_time_until_it_can_no_longer_land() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        await tracked.sent()
        await tracked.pass_slots(100)
        calls = tracked.served.endpoints.calls()["sendTransaction"] / 3
        assert calls == pytest.approx(100 * SLOT_S / SEND_AGAIN_AFTER_S, abs=2)
        await tracked.pass_slots(100)
        calls = tracked.served.endpoints.calls()["sendTransaction"]
        await tracked.pass_slots(100)
        assert tracked.served.endpoints.calls()["sendTransaction"] == calls


async def test_what_can_land_no_more_is_not_sent_also_if_it_is_submitted_again() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        tracked.chain.advance(10)
        # Without the proof that it has expired.
        arm_all(tracked, "no_history", times=None)
        await tracked.pass_slots(WHOLE_LIFE + 2)
        calls = tracked.served.endpoints.calls()["sendTransaction"]
        tracked.clock.now_s += SEND_AGAIN_AFTER_S
        assert (await tracked.tracker.send(sent)).state is UNKNOWN
        assert tracked.served.endpoints.calls()["sendTransaction"] == calls


async def test_what_is_submitted_while_it_is_in_a_block_is_sent_when_a_fork_takes_it_back() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        await tracked.pass_slots(6)
        tracked.tracker = tracked.another_tracker()
        await tracked.tracker.ask(sent)
        calls = tracked.served.endpoints.calls()["sendTransaction"]
        assert (await tracked.tracker.send(sent)).state is PENDING
        assert tracked.served.endpoints.calls()["sendTransaction"] == calls
        tracked.chain.fork(8, keep=False)
        await tracked.pass_slots(60)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


# --- Late landings and forks


async def test_it_lands_in_the_last_block_that_may_take_it_after_the_first_look() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "late")
        sent = await tracked.sent()
        last = tracked.chain.tip.height - 2 + 151
        while tracked.chain.tip.height < last - 1:
            await tracked.pass_slots(1)
        assert tracked.served.endpoints.calls()["getEpochInfo"] > 0
        assert (tracked.state(sent), tracked.landings(sent)) == (UNKNOWN, 0)
        await tracked.pass_slots(1)
        assert (tracked.state(sent), tracked.landings(sent)) == (PENDING, 1)
        await tracked.pass_slots(34, every=1)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


@pytest.mark.parametrize("keep", [True, False])
async def test_a_fork_takes_it_back_and_it_lands_again(keep: bool) -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        await tracked.pass_slots(6)
        confirmed = tracked.status(sent)
        seen = confirmed.seen
        assert seen is not None
        assert seen.commitment is ConfirmationStatus.CONFIRMED
        assert confirmed.receipt is not None
        tracked.chain.fork(8, keep=keep)
        tracked.chain.advance(8)
        await tracked.tracker.poll()
        again = tracked.status(sent)
        assert again.state is (PENDING if keep else UNKNOWN)
        assert again.receipt != confirmed.receipt
        await tracked.pass_slots(50)
        end = tracked.status(sent)
        assert (end.state, tracked.landings(sent)) == (LANDED, 1)
        assert end.receipt is not None
        assert end.receipt.slot > seen.slot


async def test_a_fork_takes_it_back_for_good_and_it_expires() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        await tracked.pass_slots(6)
        assert tracked.state(sent) is PENDING
        arm_all(tracked, "drop", times=None)
        tracked.chain.fork(8, keep=False)
        await tracked.pass_slots(12)
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(WHOLE_LIFE, every=8)
        assert (tracked.state(sent), tracked.landings(sent)) == (EXPIRED, 0)


async def test_what_fails_on_one_fork_may_succeed_on_another() -> None:
    async with tracked_chain() as tracked:
        tracked.served.sandbox.control.mover.arm(500)
        sent = await tracked.sent()
        await tracked.pass_slots(6)
        failed = tracked.status(sent)
        assert failed.state is PENDING
        assert failed.seen is not None
        assert failed.seen.failed
        tracked.chain.fork(8)
        await tracked.pass_slots(6)
        seen = tracked.status(sent).seen
        assert seen is not None
        assert not seen.failed
        await tracked.pass_slots(40)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_the_blockhash_of_a_fork_that_does_not_stay_expires_with_proof() -> None:
    async with tracked_chain() as tracked:
        await tracked.pass_slots(4)
        sent = await tracked.sent()
        tracked.chain.fork(8, keep=False)
        await tracked.pass_slots(WHOLE_LIFE + 20, every=6)
        assert (tracked.state(sent), tracked.landings(sent)) == (EXPIRED, 0)


# --- Nodes that do not know it, or do not say


async def test_a_node_that_lags_in_silence_does_not_count() -> None:
    async with tracked_chain() as tracked:
        for place in (0, 1):
            tracked.served.arm("behind", place, times=None, slots=100)
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        await tracked.pass_slots(WHOLE_LIFE + 60, every=8)
        # One endpoint alone proves nothing, though it would be right.
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(64, every=8)
        assert tracked.state(sent) is EXPIRED


async def test_a_node_that_lags_by_far_proves_nothing() -> None:
    async with tracked_chain() as tracked:
        for place in (0, 1):
            tracked.served.arm("behind", place, times=None, slots=200)
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        await tracked.pass_slots(WHOLE_LIFE + 300, every=8)
        assert tracked.state(sent) is UNKNOWN
        tracked.served.nodes[0].faults.clear()
        await tracked.pass_slots(100, every=8)
        assert tracked.state(sent) is EXPIRED


async def test_a_node_that_lags_and_does_not_know_it_yet_does_not_hide_the_landing() -> None:
    async with tracked_chain() as tracked:
        for place in (0, 1):
            tracked.served.arm("behind", place, times=None, slots=100)
        sent = await tracked.sent()
        await tracked.pass_slots(WHOLE_LIFE, every=8)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_a_node_that_says_it_is_behind_is_not_read_from() -> None:
    async with tracked_chain() as tracked:
        tracked.served.arm("unhealthy", 0, times=None, slots=50)
        tracked.served.arm("behind", 0, times=None, slots=50)
        await tracked.served.endpoints.check()
        sent = await tracked.sent()
        await tracked.pass_slots(40)
        assert tracked.state(sent) is LANDED


async def test_a_node_without_history_does_not_count() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        tracked.chain.advance(400)
        # Of three endpoints one was there when it landed.
        for place in (0, 1):
            tracked.served.arm("no_history", place, times=None)
        tracked.tracker = tracked.another_tracker()
        await tracked.tracker.send(sent)
        await tracked.pass_slots(10)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_a_node_that_denies_all_transactions_hides_none_from_those_who_know_it() -> None:
    async with tracked_chain() as tracked:
        tracked.served.arm("no_transactions", 0, times=None)
        sent = await tracked.sent()
        seen = []
        for _ in range(30):
            await tracked.pass_slots(2)
            seen.append(tracked.state(sent))
        # It was the best endpoint, and asked first at every poll.
        assert tracked.served.endpoints.all[0].calls["getSignatureStatuses"] == 1 + seen.index(LANDED)
        assert list(dict.fromkeys(seen)) == [UNKNOWN, PENDING, LANDED]
        assert seen == sorted(seen, key=[UNKNOWN, PENDING, LANDED].index)
        # In the block after the sending, it was looked for elsewhere when most have landed.
        assert seen.index(PENDING) <= 12


async def test_nodes_with_a_hole_in_their_history_prove_nothing() -> None:
    """They were restarted from a later snapshot: they have older blocks, and the last ones."""
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        tracked.chain.advance(10)
        assert tracked.landings(sent) == 1
        arm_all(tracked, "hole", slots=10, times=None)
        # The hole ends where a node is first asked for what it has.
        assert not any(node.has_kept(tracked.chain.tip.slot) for node in tracked.nodes)
        tracked.tracker = tracked.another_tracker()
        await tracked.pass_slots(10)
        await tracked.tracker.send(sent)
        await tracked.pass_slots(2 * WHOLE_LIFE, every=8)
        # What is taken for expired is swapped once more, in another transaction.
        assert tracked.state(sent) is UNKNOWN
        tracked.served.nodes[2].faults.clear()
        await tracked.pass_slots(64)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_one_whose_blocks_are_lost_does_not_keep_a_later_one_from_its_proof() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        lost = await tracked.sent()
        tracked.chain.advance(10)
        arm_all(tracked, "hole", slots=5, times=None)
        assert not any(node.has_kept(tracked.chain.tip.slot) for node in tracked.nodes)
        tracked.chain.advance(20)
        later = await tracked.sent()
        tracked.chain.advance(WHOLE_LIFE)
        # Both are looked at together.
        await tracked.pass_slots(2)
        assert (tracked.state(lost), tracked.state(later)) == (UNKNOWN, EXPIRED)


async def test_a_node_without_history_is_asked_once_for_the_blocks_of_all() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        for _ in range(5):
            await tracked.sent()
            tracked.chain.advance(4)
        tracked.chain.advance(10)
        arm_all(tracked, "no_history", times=None)
        assert not any(node.has_kept(tracked.chain.tip.slot - 5) for node in tracked.nodes)
        tracked.chain.advance(WHOLE_LIFE)
        await tracked.tracker.poll()
        calls = tracked.served.endpoints.calls()
        assert calls["getBlocks"] == calls["getEpochInfo"] == 3


async def test_one_of_long_ago_is_proved_beside_one_of_now() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        old = await tracked.sent()
        # While this service is away.
        tracked.chain.advance(160)
        tracked.chain.skip(600_000)
        tracked.chain.advance(5)
        new = await tracked.sent()
        await tracked.pass_slots(WHOLE_LIFE + 64, every=8)
        assert tracked.state(old) is tracked.state(new) is EXPIRED


async def test_without_any_history_it_stays_unknown_and_is_asked_for_without_end() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        tracked.chain.advance(10)
        arm_all(tracked, "no_history", times=None)
        await tracked.pass_slots(WHOLE_LIFE, every=8)
        assert tracked.state(sent) is UNKNOWN
        calls = tracked.served.endpoints.calls()["getEpochInfo"]
        await tracked.pass_slots(1_000, every=50)
        assert tracked.state(sent) is UNKNOWN
        assert tracked.served.endpoints.calls()["getEpochInfo"] > calls
        for node in tracked.served.nodes[:2]:
            node.faults.clear("no_history")
        await tracked.pass_slots(100, every=50)
        assert tracked.state(sent) is EXPIRED


async def test_a_single_endpoint_proves_it_twice_with_slots_between() -> None:
    async with tracked_chain(endpoints=1) as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        await tracked.pass_slots(WHOLE_LIFE + 50, every=8)
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(80, every=8)
        assert tracked.state(sent) is EXPIRED


@pytest.mark.parametrize("kind", ["down", "unavailable", "rate_limit", "error"])
async def test_two_nodes_that_fail_leave_the_third_to_say_what_happened(kind: str) -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        for place in (0, 1):
            tracked.served.arm(kind, place, times=None)
        await tracked.pass_slots(80, every=8)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


async def test_a_node_that_answers_too_late_does_not_hold_the_proof_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "LOOK_TIMEOUT_S", 0.05)
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        tracked.served.arm("slow", 0, times=None, method="getEpochInfo", delay_ms=10_000)
        await tracked.pass_slots(WHOLE_LIFE + 20, every=8)
        assert tracked.state(sent) is EXPIRED


@pytest.mark.parametrize("form", GARBAGE)
async def test_garbage_is_no_answer(form: str) -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        tracked.chain.advance(1)
        arm_all(tracked, "garbage", times=4, form=form)
        await tracked.pass_slots(4)
        assert not tracked.status(sent).final
        await tracked.pass_slots(240, every=10)
        assert (tracked.state(sent), tracked.landings(sent)) == (LANDED, 1)


@pytest.mark.parametrize(
    "malformed", [[], ["processed"], {"context": {"slot": 10**6}, "value": [{"slot": 1_040}]}], ids=str
)
async def test_malformed_statuses_are_asked_for_at_the_next_endpoint(
    monkeypatch: pytest.MonkeyPatch, malformed: Any
) -> None:
    unchanged = METHODS["getSignatureStatuses"]

    def answer(node: Node, params: Params) -> Any:
        return malformed if node is tracked.nodes[0] else unchanged(node, params)

    monkeypatch.setitem(METHODS, "getSignatureStatuses", answer)
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        await tracked.pass_slots(1)
        assert tracked.state(sent) is PENDING


@pytest.mark.parametrize("absurd", [10**15, 0])
async def test_an_absurd_slot_does_not_count_for_ever(monkeypatch: pytest.MonkeyPatch, absurd: int) -> None:
    unchanged = METHODS["getSignatureStatuses"]

    def answer(node: Node, params: Params) -> Any:
        return {**unchanged(node, params), "context": {"slot": absurd}}

    async def poll() -> None:
        with monkeypatch.context() as patched:
            patched.setitem(METHODS, "getSignatureStatuses", answer)
            await tracked.tracker.poll()

    async with tracked_chain() as tracked:
        landed = await tracked.sent()
        arm_all(tracked, "drop", times=None)
        dropped = await tracked.sent()
        arm_all(tracked, "error", times=None, method="getTransaction", code=-32603)
        await tracked.pass_slots(40)
        # One waits for its receipt, the other one for its first look.
        await poll()
        clear_all(tracked)
        arm_all(tracked, "drop", times=None)
        # The endpoints are left alone for a while after their failures.
        await tracked.pass_slots(64)
        assert tracked.state(landed) is LANDED
        await tracked.pass_slots(WHOLE_LIFE - 100)
        assert tracked.state(dropped) is EXPIRED


async def test_an_absurd_slot_of_a_block_does_not_count_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged = METHODS["getSignatureStatuses"]
    seen: dict[str, Any] = {"slot": 10**15, "confirmations": 0, "err": None}

    def answer(node: Node, params: Params) -> Any:
        given = unchanged(node, params)
        return {**given, "value": [seen] * len(given["value"])}

    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        for commitment in ("processed", "finalized"):
            seen["confirmationStatus"] = commitment
            with monkeypatch.context() as patched:
                patched.setitem(METHODS, "getSignatureStatuses", answer)
                await tracked.tracker.poll()
            await tracked.pass_slots(4)
            assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(WHOLE_LIFE + 20)
        assert tracked.state(sent) is EXPIRED


@pytest.mark.parametrize("blocks", [0, 2])
async def test_it_expires_also_where_hardly_any_leader_makes_a_block(
    monkeypatch: pytest.MonkeyPatch, blocks: int
) -> None:
    """Its last valid block is further away than one list of blocks goes."""
    monkeypatch.setattr(looks, "WINDOW_SLOTS", 400)
    monkeypatch.setattr(looks, "MOST_LISTED_SLOTS", 700)
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        lone, beside = await tracked.sent(), await tracked.sent()
        for _ in range(3):
            tracked.chain.skip(200)
            tracked.chain.advance(blocks)
        await tracked.pass_slots(WHOLE_LIFE + 8)
        assert {tracked.state(lone), tracked.state(beside)} == {EXPIRED}


async def test_statuses_that_do_not_say_their_slot_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "getSignatureStatuses", lambda *_: [None])
    async with tracked_chain() as tracked:
        sent = await tracked.signed()
        with pytest.raises(VenueUnavailableError):
            await tracked.tracker.ask(sent)


async def test_a_jump_of_the_clock_here_ends_nothing() -> None:
    async with tracked_chain() as tracked:
        arm_all(tracked, "drop", times=None)
        sent = await tracked.sent()
        tracked.clock.now_s += 1_000_000.0
        await tracked.pass_slots(150, every=10)
        assert tracked.state(sent) is UNKNOWN
        await tracked.pass_slots(WHOLE_LIFE - 150 + 4)
        assert tracked.state(sent) is EXPIRED


async def test_while_all_endpoints_are_away_nothing_is_concluded() -> None:
    async with tracked_chain() as tracked:
        before, after = await tracked.signed(), await tracked.signed()
        await tracked.tracker.send(before)
        arm_all(tracked, "down", times=None)
        await tracked.tracker.send(after)
        await tracked.pass_slots(2 * WHOLE_LIFE, every=20)
        assert tracked.state(before) is tracked.state(after) is UNKNOWN
        clear_all(tracked)
        await tracked.pass_slots(800, every=40)
        assert (tracked.state(before), tracked.landings(before)) == (LANDED, 1)
        assert (tracked.state(after), tracked.landings(after)) == (EXPIRED, 0)


async def test_without_a_receipt_it_stays_pending() -> None:
    async with tracked_chain() as tracked:
        sent = await tracked.sent()
        arm_all(tracked, "error", times=None, method="getTransaction", code=-32603)
        await tracked.pass_slots(60)
        status = tracked.status(sent)
        assert status.state is PENDING
        assert status.seen is not None
        assert status.seen.finalized
        tracked.served.nodes[2].faults.clear()
        await tracked.pass_slots(64)
        assert tracked.state(sent) is LANDED


async def test_a_transaction_that_could_not_pay_its_fee_is_final_only_when_it_cannot_be_executed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network may include it without executing it. The sandbox does not: the nodes' answer is changed."""

    def not_executed(landed: Landed) -> dict[str, Any]:
        return {**meta_json(landed), "fee": 0, "err": "AccountNotFound"}

    monkeypatch.setattr("service.sandbox.rpc.history.meta_json", not_executed)
    async with tracked_chain() as tracked:
        sent = await tracked.sent(minimum_out=10**12)
        await tracked.pass_slots(140, every=8)
        status = tracked.status(sent)
        assert status.state is PENDING
        assert status.seen is not None
        assert status.seen.finalized
        await tracked.pass_slots(200, every=8)
        end = tracked.status(sent)
        assert end.state is FAILED
        assert end.receipt is not None
        assert end.receipt.network_fee == 0


# --- After a restart


@pytest.mark.parametrize("slots", [10, 100, 1_000])
async def test_after_a_restart_the_stored_transaction_is_enough(slots: int) -> None:
    async with tracked_chain() as tracked:
        landed = await tracked.sent()
        arm_all(tracked, "drop", times=None)
        dropped = await tracked.sent()
        tracked.chain.advance(slots)
        tracked.tracker = tracked.another_tracker()
        assert tracked.state(landed) is tracked.state(dropped) is UNKNOWN
        await tracked.pass_slots(8)
        await tracked.pass_slots(max(0, WHOLE_LIFE - slots), every=8)
        assert (tracked.state(landed), tracked.landings(landed)) == (LANDED, 1)
        assert (tracked.state(dropped), tracked.landings(dropped)) == (EXPIRED, 0)


# --- Many, and by itself


async def test_more_than_a_node_answers_at_once_are_asked_in_parts() -> None:
    async with tracked_chain() as tracked:
        sent = [await tracked.sent(1) for _ in range(2)]
        first = sent[0]
        others = [replace(first, signature=str(Signature.new_unique())) for _ in range(300)]
        for each in others:
            assert tracked.state(each) is UNKNOWN
        calls = tracked.served.endpoints.calls()["getSignatureStatuses"]
        await tracked.pass_slots(2)
        assert tracked.served.endpoints.calls()["getSignatureStatuses"] == calls + 2
        assert tracked.state(sent[0]) is tracked.state(sent[1]) is PENDING
        await tracked.pass_slots(WHOLE_LIFE + 2, every=12)
        assert tracked.state(sent[0]) is tracked.state(sent[1]) is LANDED
        assert {tracked.state(each) for each in others} == {EXPIRED}
        assert tracked.tracker.in_flight == 0


async def test_it_asks_every_two_slots_by_itself_and_stops() -> None:
    async with tracked_chain() as tracked:
        tracker = tracked.tracker
        await tracker.start()
        await asyncio.sleep(0)
        assert tracked.clock.sleeps_s == []
        sent = await tracked.sent()
        tracked.chain.advance(40)
        assert (await tracker.end(sent, 20)).state is LANDED
        assert {2 * SLOT_S, SEND_AGAIN_AFTER_S / 3} <= set(tracked.clock.sleeps_s)
        await tracker.stop()
        calls = tracked.served.endpoints.calls()
        tracked.state(await tracked.signed())
        await asyncio.sleep(0.01)
        after = tracked.served.endpoints.calls()
        assert after["getSignatureStatuses"] == calls["getSignatureStatuses"]
