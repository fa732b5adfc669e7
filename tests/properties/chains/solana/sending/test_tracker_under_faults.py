"""Random faults of three nodes, forks, restarts and a second instance: every transaction has its true end.

Nothing is ever said to have ended that has not, or otherwise than it has; nothing lands twice; and once the
nodes answer again, everything ends.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.flight import SentTransaction
from service.chains.solana.sending.tracker import Tracker
from service.chains.venue import VenueUnavailableError
from service.domain.transaction import TransactionState
from service.sandbox.faults import GARBAGE
from tests.support.solana_tracking import SLOT_S, TrackedChain, tracked_chain

ENDPOINTS = 3
METHODS = (
    None,
    "getSignatureStatuses",
    "getEpochInfo",
    "getBlocks",
    "getBlock",
    "getTransaction",
    "sendTransaction",
)
Step = tuple[Any, ...]
Fault = tuple[str, dict[str, Any]]

FAULTS: st.SearchStrategy[Fault] = st.one_of(
    st.tuples(
        st.sampled_from(["drop", "late", "lose_answer", "down", "rate_limit", "unavailable", "error"]),
        st.just({}),
    ),
    st.tuples(st.just("garbage"), st.fixed_dictionaries({"form": st.sampled_from(GARBAGE)})),
)
STANDING: st.SearchStrategy[Fault] = st.one_of(
    st.tuples(
        st.sampled_from(["behind", "unhealthy", "hole"]),
        st.fixed_dictionaries({"slots": st.integers(1, 300)}),
    ),
    st.tuples(st.just("no_history"), st.just({})),
)
STEPS = st.one_of(
    # At any price, at what is quoted now, at none.
    st.tuples(st.just("send"), st.sampled_from([1, None, 10**12])),
    st.tuples(st.just("send"), st.sampled_from([1, None, 10**12])),
    st.tuples(st.just("pass"), st.integers(1, 60), st.integers(1, 8)),
    st.tuples(st.just("pass"), st.integers(100, 200), st.integers(4, 16)),
    st.tuples(st.just("skip"), st.integers(1, 20)),
    st.tuples(st.just("fork"), st.integers(1, 31), st.booleans()),
    st.tuples(st.just("move"), st.integers(1, 500)),
    st.tuples(
        st.just("fault"),
        st.integers(0, ENDPOINTS - 1),
        FAULTS,
        st.sampled_from(METHODS),
        st.one_of(st.integers(1, 10), st.none()),
        st.sampled_from([100_000, 500_000, 1_000_000]),
    ),
    st.tuples(st.just("standing"), st.integers(0, ENDPOINTS - 1), STANDING),
    st.tuples(st.just("heal"), st.integers(0, ENDPOINTS - 1)),
    st.tuples(
        st.just("kill"),
        st.sampled_from([0, 3, 40, 160, 400]),
        st.integers(0, ENDPOINTS),
        st.sampled_from(["no_history", "hole"]),
    ),
    st.tuples(st.just("second")),
)


@dataclass
class FaultyWorld:
    """A chain, the instances that track transactions on it, and what was stored."""

    tracked: TrackedChain
    stored: list[SentTransaction] = field(default_factory=list)
    second: Tracker | None = None
    ends: dict[str, TransactionState] = field(default_factory=dict)

    async def take(self, step: Step) -> None:
        """Take a step, by the method of its name, and check what is known then."""
        name, *arguments = step
        done = getattr(self, f"_{name}")(*arguments)
        if done is not None:
            await done
        if self.second is not None:
            await self.second.poll()
        self.check()

    async def _send(self, minimum_out: int | None) -> None:
        # Without a node there is nothing to build it from.
        with suppress(VenueUnavailableError, RpcError):
            sent = await self.tracked.signed(minimum_out)
            self.stored.append(sent)
            await self.tracked.tracker.send(sent)

    async def _pass(self, slots: int, every: int) -> None:
        await self.tracked.pass_slots(slots, every)

    async def _skip(self, slots: int) -> None:
        await self.tracked.pass_slots(slots, 4, blocks=False)

    def _fork(self, depth: int, keep: bool) -> None:
        self.tracked.chain.fork(depth, keep=keep)

    def _move(self, bps: int) -> None:
        self.tracked.served.sandbox.control.mover.arm(bps)

    def _fault(self, place: int, fault: Fault, method: str | None, times: int | None, rate: int) -> None:
        kind, arguments = fault
        self.tracked.nodes[place].faults.arm(kind, method=method, times=times, rate_ppm=rate, **arguments)

    def _standing(self, place: int, fault: Fault) -> None:
        kind, arguments = fault
        self.tracked.nodes[place].faults.arm(kind, times=None, **arguments)

    def _heal(self, place: int) -> None:
        self.tracked.nodes[place].faults.clear()

    async def _kill(self, slots_away: int, nodes: int, loss: str) -> None:
        """Start again later, when so many nodes have lost what happened in between, or before as well."""
        self.tracked.chain.advance(slots_away)
        self.tracked.clock.now_s += slots_away * SLOT_S
        arguments: dict[str, Any] = {"slots": slots_away} if loss == "hole" else {}
        for node in self.tracked.nodes[:nodes]:
            node.faults.arm(loss, times=None, **arguments)
            # It is lost from now on.
            node.has_kept(self.tracked.chain.tip.slot)
        self.tracked.tracker = self.tracked.another_tracker()
        for sent in self.stored:
            await self.tracked.tracker.send(sent)

    async def _second(self) -> None:
        self.second = self.tracked.another_tracker()
        for sent in self.stored:
            await self.second.send(sent)

    def trackers(self) -> list[Tracker]:
        return [self.tracked.tracker, *([self.second] if self.second is not None else [])]

    def check(self) -> None:
        """Check that nothing lands twice, and that each end is the chain's truth and stays it."""
        for sent in self.stored:
            assert self.tracked.landings(sent) <= 1
            for tracker in self.trackers():
                status = tracker.status(sent)
                if status.final:
                    truth = self.truth(sent)
                    assert status.state is truth, (status, truth)
                    assert self.ends.setdefault(sent.signature, truth) is truth

    def truth(self, sent: SentTransaction) -> TransactionState:
        """Return what has become of a transaction, for ever."""
        chain = self.tracked.chain
        landed = chain.landed(sent.signature)
        if landed is None:
            over = chain.finalized.height > sent.validity.last_valid_height
            return TransactionState.EXPIRED if over else TransactionState.UNKNOWN
        if landed.slot > chain.finalized.slot:
            return TransactionState.PENDING
        return TransactionState.LANDED if landed.execution.error is None else TransactionState.FAILED

    async def heal(self) -> None:
        """Let the nodes answer again until everything has ended."""
        for node in self.tracked.nodes:
            node.faults.clear()
        for _ in range(120):
            if all(tracker.status(sent).final for tracker in self.trackers() for sent in self.stored):
                break
            await self.take(("pass", 16, 16))
        assert [sent for sent in self.stored for each in self.trackers() if not each.status(sent).final] == []


async def live(steps: Sequence[Step]) -> None:
    async with tracked_chain(ENDPOINTS) as tracked:
        world = FaultyWorld(tracked)
        for step in steps:
            await world.take(step)
        await world.heal()


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=4, max_size=16))
def test_every_transaction_has_its_true_end(steps: list[Step]) -> None:
    asyncio.run(live([("send", 1), *steps]))


@pytest.mark.long
@settings(deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=8, max_size=30))
def test_every_transaction_has_its_true_end_in_two_thousand_runs(steps: list[Step]) -> None:
    asyncio.run(live([("send", 1), *steps]))
