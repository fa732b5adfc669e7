"""From building to the outcome: what a worker waits for, what goes on without it, and what is recorded."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from service.amm import ChainTime, CpmmPool
from service.chains.venue import PoolRef, Snapshot, Swap, VenueRefusedError, VenueUnavailableError
from service.domain.failures import Failure, FailureCode
from service.domain.history import Committed
from service.domain.lifecycle import Status
from service.domain.order import OrderType
from service.domain.quote import Dex, SwapMode
from service.domain.transaction import (
    Fill,
    Landing,
    NetworkCost,
    Residue,
    Seen,
    SeenCommitment,
    SignedTransaction,
    TransactionState,
    TransactionStatus,
)
from service.execution.engine import Engine, ExecutionSettings
from service.execution.retry import RetryPolicy
from service.routing import RouteLimits
from service.routing.quoting import Quoter
from service.store.claims import Claimed
from service.store.transitions import Transition
from tests.support.clock import ManualClock, settle

TIMEOUT_S = 45.0
POOL = Snapshot(
    PoolRef("pool", Dex.RAYDIUM, "SOL", "USDC"),
    CpmmPool(10**13, 10**12, trade_fee_rate=2_500),
    ChainTime(1_800_000_000, 1),
)
SIGNED = SignedTransaction("5sig", "raydium", b"signed", 10**9, 1, 1_000, blockhash_slot=900)

UNKNOWN = TransactionStatus(TransactionState.UNKNOWN)
PENDING = TransactionStatus(TransactionState.PENDING)
SEEN = TransactionStatus(TransactionState.PENDING, seen=Seen(905, SeenCommitment.PROCESSED))
CONFIRMED = TransactionStatus(TransactionState.PENDING, seen=Seen(905, SeenCommitment.CONFIRMED))
LANDED = TransactionStatus(
    TransactionState.LANDED,
    fill=Fill(10**9, 99_000_000, "5sig"),
    landing=Landing(905, "2027-01-15T08:00:02.000000Z"),
    cost=NetworkCost(6_000, 1_000, 2_039_280),
    residue=(Residue("USDC", 7),),
)
SLIPPED = Failure.of(FailureCode.SLIPPAGE_EXCEEDED)
FAILED = TransactionStatus(TransactionState.FAILED, failure=SLIPPED, cost=NetworkCost(5_000))
EXPIRED = TransactionStatus(TransactionState.EXPIRED)
AWAY = VenueUnavailableError("away")

Answer = TransactionStatus | VenueUnavailableError


class ToldVenue:
    """A venue with one pool. The test sets its answer, and may let it change while somebody waits."""

    def __init__(self, clock: ManualClock, *, takes_long: bool) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self.outcomes_take_long = takes_long
        self.answer: Answer = PENDING
        self.accepts_all = False
        self.refusal: Failure | None = None
        self.calls: list[str] = []

    def pools(self, token_in: str, token_out: str) -> Sequence[PoolRef]:
        return [POOL.pool] if {token_in, token_out} == {"SOL", "USDC"} else []

    def snapshot(self, pools: Sequence[PoolRef]) -> Sequence[Snapshot]:
        return [POOL for _pool in pools]

    async def refresh(self) -> bool:
        return False

    async def prepare(self, swap: Swap) -> SignedTransaction:
        assert swap.expired_attempts == 2
        self.calls.append(f"prepare {swap.attempt}")
        if self.refusal is not None:
            raise VenueRefusedError(self.refusal)
        return SIGNED

    async def submit(self, transaction: SignedTransaction) -> TransactionStatus:
        if self.accepts_all:
            self.calls.append("submit")
            return PENDING
        return self._answer("submit", transaction)

    async def status(self, transaction: SignedTransaction) -> TransactionStatus:
        return self._answer("status", transaction)

    async def outcome(self, transaction: SignedTransaction, timeout_s: float) -> TransactionStatus:
        """Wait until the test has set another answer or the time-out is over, unless the venue is away."""
        if self.answer is AWAY:
            return self._answer("outcome", transaction)
        waits = [asyncio.ensure_future(each) for each in (self._changed.wait(), self._clock.sleep(timeout_s))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return self._answer("outcome", transaction)

    def _answer(self, call: str, transaction: SignedTransaction) -> TransactionStatus:
        assert transaction == SIGNED
        self.calls.append(call)
        if isinstance(self.answer, VenueUnavailableError):
            raise self.answer
        return self.answer

    async def change(self, answer: Answer) -> None:
        """Let the venue learn another state, and wake those who wait for one."""
        self.answer = answer
        self._changed.set()
        await settle()
        self._changed.clear()


class OneOrderStore:
    """The store of one order: claims it, and keeps the steps that are appended."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self.steps: list[Transition] = []

    async def claim(self, order_id: str) -> Claimed:
        return Claimed(
            order_id=order_id,
            owner="worker",
            order_type=OrderType.MARKET,
            token_in="SOL",
            token_out="USDC",
            swap_mode=SwapMode.EXACT_IN,
            amount=10**9,
            slippage_bps=100,
            time_in_force=None,
            limit_out=None,
            max_price_impact_bps=None,
            expires_at=None,
            submit_by=None,
            status=self.status,
            version=3,
            attempts=1,
            attempts_since_rest=1,
            expired_attempts=2,
        )

    async def append(self, step: Transition) -> Committed:
        self.steps.append(step)
        entry = {"sequence": step.version + 1, "status": step.status, "timestamp": "", **step.detail}
        return Committed(step.order_id, cast("Any", entry))

    async def latest_transaction(self, _order_id: str) -> SignedTransaction:
        return SIGNED

    def check_after(self, _delay_ms: int) -> None:
        """Ignore: no sweep runs here."""

    def requeue(self, _order_id: str) -> None:
        """Ignore: no sweep runs here."""


class EngineDesk:
    """An engine with its venue and its store."""

    def __init__(
        self, *, takes_long: bool, status: Status = Status.BUILDING, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.clock = ManualClock()
        self.chain = ToldVenue(self.clock, takes_long=takes_long)
        self.seen: list[tuple[str, int, Seen | None]] = []
        self.book = OneOrderStore(status)
        store, venue = cast("Any", self.book), cast("Any", self.chain)
        self.engine = Engine(
            journal=store,
            claims=store,
            orders=store,
            venue=venue,
            quoter=Quoter(venue, timeout_ms=1_000, limits=RouteLimits(), clock=self.clock),
            clock=self.clock,
            settings=ExecutionSettings(RetryPolicy(3, 2_000, 200), int(timeout_s * 1000)),
            queue=store,
        )
        self.engine.on_seen(lambda *sighting: self.seen.append(sighting))

    async def execute(self) -> asyncio.Task[None]:
        """Execute the order, and return the worker's task when it waits or has ended."""
        worker = asyncio.create_task(self.engine.execute("order"))
        await settle()
        return worker

    @property
    def statuses(self) -> list[Status]:
        return [step.status for step in self.book.steps]


async def test_a_swap_that_the_venue_does_not_sign_is_retried_or_not_as_the_reason_says() -> None:
    for code, status in (
        (FailureCode.SIGNER_UNAVAILABLE, Status.PENDING),
        (FailureCode.INSUFFICIENT_SOL, Status.FAILED),
    ):
        desk = EngineDesk(takes_long=False)
        desk.chain.refusal = Failure(code, "Because.")
        await desk.execute()
        [step] = desk.book.steps
        assert (step.status, step.outcome) == (status, None)
        assert step.detail == {"attempt": 1, "reason": code, "detail": "Because."}
        assert desk.chain.calls == ["prepare 1"]
        assert desk.engine.running == []


async def test_a_worker_waits_for_an_outcome_that_does_not_take_long() -> None:
    desk = EngineDesk(takes_long=False)
    worker = await desk.execute()
    await desk.clock.advance(2)
    assert not worker.done()
    await desk.chain.change(LANDED)
    assert worker.done()
    assert desk.chain.calls == ["prepare 1", "submit", "outcome"]
    assert desk.statuses == [Status.SUBMITTED, Status.CONFIRMED]


async def test_a_worker_is_free_after_sending_if_outcomes_take_long() -> None:
    desk = EngineDesk(takes_long=True)
    worker = await desk.execute()
    assert worker.done()
    assert (desk.statuses, desk.engine.running) == ([Status.SUBMITTED], ["order"])
    await desk.clock.advance(6)
    await desk.chain.change(LANDED)
    # It was waited for: no pause lies between the landing and the order's end.
    assert desk.statuses == [Status.SUBMITTED, Status.CONFIRMED]
    assert desk.engine.running == []
    assert "status" not in desk.chain.calls


async def test_an_outcome_that_is_known_at_once_is_recorded_by_the_worker() -> None:
    desk = EngineDesk(takes_long=True)
    desk.chain.answer = LANDED
    worker = await desk.execute()
    assert worker.done()
    assert desk.chain.calls == ["prepare 1", "submit"]
    assert desk.statuses == [Status.SUBMITTED, Status.CONFIRMED]


async def test_a_landing_is_recorded_with_all_that_is_known_of_it() -> None:
    desk = EngineDesk(takes_long=True)
    desk.chain.answer = LANDED
    await desk.execute()
    step = desk.book.steps[-1]
    assert step.outcome == LANDED
    assert step.detail == {
        "txHash": "5sig",
        "landedSlot": 905,
        "landedAt": "2027-01-15T08:00:02.000000Z",
        "residue": [{"token": "USDC", "amount": "0.000007"}],
        "networkCost": "0.00204628",
    }


@pytest.mark.parametrize("takes_long", [False, True])
@pytest.mark.parametrize(
    ("end", "code", "cost"),
    [
        (FAILED, FailureCode.SLIPPAGE_EXCEEDED, "0.000005"),
        (EXPIRED, FailureCode.ATTEMPT_EXPIRED, None),
        (TransactionStatus(TransactionState.FAILED), FailureCode.TRANSACTION_FAILED, None),
    ],
)
async def test_a_failure_is_recorded_with_its_cost(
    takes_long: bool, end: TransactionStatus, code: FailureCode, cost: str | None
) -> None:
    desk = EngineDesk(takes_long=takes_long)
    await desk.execute()
    await desk.clock.advance(1)
    await desk.chain.change(end)
    step = desk.book.steps[-1]
    assert step.outcome is not None
    assert step.outcome.failure == Failure.of(code)
    assert step.outcome.cost == end.cost
    assert (step.status, step.detail.get("reason"), step.detail.get("networkCost")) == (
        Status.PENDING,
        code,
        cost,
    )
    assert desk.engine.running == []


async def test_a_seen_transaction_is_not_unknown_however_long_it_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    desk = EngineDesk(takes_long=True)
    await desk.execute()
    for answer in (PENDING, SEEN, CONFIRMED):
        await desk.chain.change(answer)
        await desk.clock.advance(3 * TIMEOUT_S)
        assert desk.engine.unknown_outcomes == 0
    assert [message for message in caplog.messages if "seen in" in message] == [
        "order order: seen in slot 905, processed",
        "order order: seen in slot 905, confirmed",
    ]
    assert "outcome unknown" not in caplog.text


async def test_where_a_transaction_is_seen_is_told_whenever_it_changes() -> None:
    desk = EngineDesk(takes_long=True)
    await desk.execute()
    # Neither silence nor the end is a sighting.
    for answer in (PENDING, SEEN, SEEN, AWAY, SEEN, CONFIRMED, UNKNOWN, UNKNOWN, CONFIRMED, LANDED):
        await desk.chain.change(answer)
        await desk.clock.advance(4)
    assert desk.seen == [("order", 4, status.seen) for status in (SEEN, CONFIRMED, UNKNOWN, CONFIRMED)]
    assert desk.statuses == [Status.SUBMITTED, Status.CONFIRMED]


@pytest.mark.parametrize("silence", [UNKNOWN, AWAY], ids=["unseen", "away"])
async def test_an_unseen_transaction_is_unknown_after_the_time_out(
    silence: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    desk = EngineDesk(takes_long=True)
    desk.chain.answer = silence
    worker = await desk.execute()
    assert worker.done()
    await desk.clock.advance(TIMEOUT_S - 5)
    assert desk.engine.unknown_outcomes == 0
    await desk.clock.advance(10)
    assert desk.engine.unknown_outcomes == 1
    await desk.clock.advance(TIMEOUT_S)
    assert caplog.text.count("outcome unknown") == 1
    await desk.chain.change(SEEN)
    await desk.clock.advance(4)
    assert desk.engine.unknown_outcomes == 0
    # From then on the time-out begins anew.
    await desk.chain.change(silence)
    await desk.clock.advance(TIMEOUT_S - 5)
    assert desk.engine.unknown_outcomes == 0
    await desk.clock.advance(10)
    assert desk.engine.unknown_outcomes == 1
    await desk.chain.change(LANDED)
    await desk.clock.advance(4)
    assert (desk.engine.unknown_outcomes, desk.engine.running) == (0, [])
    assert desk.statuses == [Status.SUBMITTED, Status.CONFIRMED]


async def test_a_venue_that_does_not_answer_is_asked_ever_less_often() -> None:
    desk = EngineDesk(takes_long=True)
    await desk.execute()
    await desk.chain.change(SEEN)
    await desk.clock.advance(4)
    await desk.chain.change(AWAY)
    before = len(desk.chain.calls)
    await desk.clock.advance(30)
    # After pauses of up to three seconds.
    assert len(desk.chain.calls) - before < 15
    await desk.engine.cancel_running()


async def test_that_a_node_accepts_it_makes_no_outcome_known() -> None:
    desk = EngineDesk(takes_long=True)
    desk.chain.answer, desk.chain.accepts_all = UNKNOWN, True
    await desk.execute()
    await desk.clock.advance(TIMEOUT_S - 5)
    assert desk.engine.unknown_outcomes == 0
    await desk.clock.advance(10)
    assert desk.engine.unknown_outcomes == 1
    assert desk.chain.calls.count("submit") > 10
    await desk.chain.change(SEEN)
    await desk.clock.advance(4)
    assert desk.engine.unknown_outcomes == 0
    await desk.engine.cancel_running()


async def test_a_transaction_that_is_not_seen_is_sent_again() -> None:
    desk = EngineDesk(takes_long=True)
    await desk.execute()
    await desk.chain.change(UNKNOWN)
    await desk.clock.advance(10)
    after = desk.chain.calls[desk.chain.calls.index("outcome") :]
    assert after[:5] == ["outcome", "submit", "status", "submit", "status"]
    assert "prepare 2" not in desk.chain.calls


async def test_of_a_worker_that_waited_an_unseen_outcome_is_unknown_at_once() -> None:
    desk = EngineDesk(takes_long=False)
    desk.chain.answer = UNKNOWN
    worker = await desk.execute()
    await desk.clock.advance(TIMEOUT_S)
    assert worker.done()
    assert desk.engine.unknown_outcomes == 1
    pending = EngineDesk(takes_long=False)
    worker = await pending.execute()
    await pending.clock.advance(TIMEOUT_S)
    assert worker.done()
    assert (pending.engine.running, pending.engine.unknown_outcomes) == (["order"], 0)
    await desk.engine.cancel_running()
    await pending.engine.cancel_running()


@pytest.mark.parametrize(("answer", "unknown"), [(UNKNOWN, 1), (PENDING, 0)])
async def test_without_a_time_out_only_an_unseen_outcome_is_unknown_at_once(
    answer: TransactionStatus, unknown: int
) -> None:
    desk = EngineDesk(takes_long=False, timeout_s=0)
    desk.chain.answer = answer
    worker = await desk.execute()
    assert worker.done()
    assert (desk.engine.running, desk.engine.unknown_outcomes) == (["order"], unknown)
    await desk.engine.cancel_running()


@pytest.mark.parametrize("answer", [UNKNOWN, PENDING, SEEN])
async def test_of_a_recovered_transaction_it_is_told_anew_where_it_is_seen(answer: TransactionStatus) -> None:
    """The process that died may have told another slot, in a block that is gone."""
    desk = EngineDesk(takes_long=True, status=Status.SUBMITTED)
    desk.chain.answer = answer
    await desk.execute()
    await desk.clock.advance(TIMEOUT_S)
    assert [seen for *_, seen in desk.seen] == [answer.seen]


async def test_a_submission_does_not_say_that_a_recovered_transaction_has_vanished() -> None:
    desk = EngineDesk(takes_long=True, status=Status.SUBMITTED)
    desk.chain.accepts_all, desk.chain.answer = True, SEEN
    await desk.execute()
    await desk.clock.advance(TIMEOUT_S)
    assert [seen for *_, seen in desk.seen] == [SEEN.seen]


async def test_a_recovered_transaction_is_sent_as_it_was_stored() -> None:
    desk = EngineDesk(takes_long=True, status=Status.SUBMITTED)
    worker = await desk.execute()
    assert worker.done()
    assert desk.chain.calls == ["submit"]
    await desk.clock.advance(1)
    await desk.chain.change(LANDED)
    assert desk.statuses == [Status.CONFIRMED]
