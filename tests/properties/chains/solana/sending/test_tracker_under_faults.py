"""Random faults of three nodes, forks, restarts and a second instance: every transaction has its true end.

Nothing is ever said to have ended that has not, or otherwise than it has; nothing lands twice; and once the
nodes answer again, everything ends.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.chains.solana.rpc.errors import RpcError
from service.chains.solana.sending.flight import SentTransaction
from service.chains.solana.sending.tracker import Tracker
from service.chains.venue import VenueUnavailableError
from service.domain.transaction import TransactionState
from tests.support.chain_faults import ENDPOINTS, ChainFaults, Step, fault_steps
from tests.support.solana_tracking import SLOT_S, TrackedChain, tracked_chain

METHODS = [
    "getSignatureStatuses",
    "getEpochInfo",
    "getBlocks",
    "getBlock",
    "getTransaction",
    "sendTransaction",
]
FAULTS = ["drop", "late", "lose_answer", "down", "rate_limit", "unavailable", "error"]
STEPS = st.one_of(
    # At any price, at what is quoted now, at none.
    st.tuples(st.just("send"), st.sampled_from([1, None, 10**12])),
    st.tuples(st.just("send"), st.sampled_from([1, None, 10**12])),
    *fault_steps(FAULTS, METHODS),
)


class FaultyWorld(ChainFaults):
    """A chain, the instances that track transactions on it, and what was stored."""

    def __init__(self, tracked: TrackedChain) -> None:
        super().__init__(tracked.served)
        self.tracked = tracked
        self.stored: list[SentTransaction] = []
        self.second: Tracker | None = None
        self.ends: dict[str, TransactionState] = {}

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

    async def _kill(self, slots_away: int, nodes: int, loss: str) -> None:
        self.tracked.chain.advance(slots_away)
        self.tracked.clock.now_s += slots_away * SLOT_S
        self.lose(slots_away, nodes, loss)
        self.tracked.tracker = self.tracked.another_tracker()
        for sent in self.stored:
            await self.tracked.tracker.send(sent)

    async def _second(self) -> None:
        self.second = self.tracked.another_tracker()
        for sent in self.stored:
            await self.second.send(sent)

    def trackers(self) -> list[Tracker]:
        return [self.tracked.tracker, *([self.second] if self.second is not None else [])]

    async def check(self) -> None:
        """Check that nothing lands twice, and that each end is the chain's truth and stays it."""
        if self.second is not None:
            await self.second.poll()
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
        self.clear()
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
