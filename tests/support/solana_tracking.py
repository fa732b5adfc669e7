"""A served local chain with a tracker, whose time and slots only the test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.chains.paper.pool_json import RAYDIUM_CPMM
from service.chains.solana.programs.registry import MAINNET, AmmPrograms
from service.chains.solana.proof import Validity
from service.chains.solana.sending.flight import SentTransaction, TrackedStatus
from service.chains.solana.sending.preparation import latest_blockhash
from service.chains.solana.sending.tracker import Tracker
from service.clock import Clock
from service.domain.transaction import TransactionState
from tests.support.local_chain import SOL, LocalChain, passing
from tests.support.served_chain import ServedChain, served_chain

SLOT_S = 0.2
CHECK_SLOTS = 25
WHOLE_LIFE = 151 + 32 + 2
"""Slots after which no transaction of now can land, and every block of its life is finalized."""


class JumpingClock(Clock):
    """A clock that only the test and the sleeps move: a sleep ends at once, and its time has passed.

    ``sleeps_s`` holds the length of every sleep.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.now_s = 0.0
        self.sleeps_s: list[float] = []

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        if seconds > 0:
            self.now_s += seconds
            self.sleeps_s.append(seconds)
            await asyncio.sleep(0)


class TrackedChain:
    """A served chain, and a tracker that polls when slots pass.

    Args:
        served: The chain, its endpoints and their client.
        clock: The client's.
    """

    def __init__(self, served: ServedChain, clock: JumpingClock) -> None:
        self.served = served
        self.local: LocalChain = served.local
        self.chain = served.chain
        self.nodes = served.nodes
        self.clock = clock
        self.tracker = self.another_tracker()
        self._checked_at = 0

    def another_tracker(self) -> Tracker:
        """Return the tracker of another instance, or of one after a restart."""
        return Tracker(self.served.endpoints, AmmPrograms(MAINNET), self.clock, lambda: SLOT_S)

    async def signed(self, minimum_out: int | None = None) -> SentTransaction:
        """Return a transaction that sells one SOL, by the newest confirmed blockhash, as it is stored.

        Args:
            minimum_out: What it must pay at least; None: what is quoted now.
        """
        recent = await latest_blockhash(self.served.endpoints)
        leg = self.local.leg(RAYDIUM_CPMM, SOL, minimum_out)
        transaction = self.local.swap(leg, blockhash=recent.blockhash)
        validity = Validity(recent.last_valid_height, recent.slot)
        return SentTransaction(str(transaction.signatures[0]), bytes(transaction), validity)

    async def sent(self, minimum_out: int | None = None) -> SentTransaction:
        """Return a transaction that has been sent."""
        sent = await self.signed(minimum_out)
        await self.tracker.send(sent)
        return sent

    async def pass_slots(self, slots: int, every: int = 2, *, blocks: bool = True) -> None:
        """Let slots pass, with a poll after each few of them."""
        for step in passing(self.chain, slots, every, blocks=blocks):
            self.clock.now_s += step * SLOT_S
            if self.chain.highest_slot - self._checked_at >= CHECK_SLOTS:
                self._checked_at = self.chain.highest_slot
                await self.served.endpoints.check()
            await self.tracker.poll()
            await self.tracker.send_again()

    def status(self, sent: SentTransaction) -> TrackedStatus:
        """Return what the tracker knows."""
        return self.tracker.status(sent)

    def state(self, sent: SentTransaction) -> TransactionState:
        """Return the state that the tracker knows."""
        return self.tracker.status(sent).state

    def landings(self, sent: SentTransaction) -> int:
        """Return how often a transaction is in the chain's blocks."""
        blocks = self.chain.blocks_after(0, self.chain.tip.slot)
        return sum(each.signature == sent.signature for block in blocks for each in block.landed)


@asynccontextmanager
async def tracked_chain(endpoints: int = 3) -> AsyncIterator[TrackedChain]:
    """Serve a chain with so many endpoints, and track transactions on it."""
    clock = JumpingClock()
    async with served_chain(*[""] * endpoints, clock=clock, started=False) as served:
        served.endpoints.wire.start()
        # The first confirmed block that knows a blockhash.
        served.chain.advance(40)
        await served.endpoints.check()
        yield TrackedChain(served, clock)
