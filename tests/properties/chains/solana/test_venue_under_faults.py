"""Random orders, faults of three nodes, forks, kills and a second instance: no order is executed twice.

Each order's end is the chain's truth, everything ends once the nodes answer again, and then the wallet holds
what it had at first and what the ends say.
"""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.quote import SwapMode
from tests.support.chain_faults import ENDPOINTS, ChainFaults, Step, fault_steps
from tests.support.local_chain import SOL
from tests.support.served_chain import served_chain
from tests.support.solana_orders import LoopClock, OrderTerms, OrderWorld, WantedSwap

EXACT_IN, EXACT_OUT = SwapMode
METHODS = [
    "getBlock",
    "getBlocks",
    "getEpochInfo",
    "getGenesisHash",
    "getLatestBlockhash",
    "getMinimumBalanceForRentExemption",
    "getMultipleAccounts",
    "getRecentPrioritizationFees",
    "getSignatureStatuses",
    "getSlot",
    "getTransaction",
    "sendTransaction",
    "simulateTransaction",
]
FAULTS = ["drop", "late", "lose_answer", "down", "rate_limit", "unavailable", "error", "torn"]
SWAP_OF_ONE_SOL = WantedSwap("SOL", "USDC", SOL, EXACT_IN)
# One leg, a split over several pools, two hops with a residue, an exact output, and both directions.
SWAPS = st.sampled_from(
    [
        SWAP_OF_ONE_SOL,
        WantedSwap("SOL", "USDC", 9_000 * SOL, EXACT_IN),
        WantedSwap("SOL", "USDC", 10**8, EXACT_OUT),
        WantedSwap("USDC", "SOL", 10**8, EXACT_IN),
        WantedSwap("JUP", "BONK", 10**9, EXACT_IN),
    ]
)
SLIPPAGES = st.sampled_from([0, 50, 9_000])
EXPIRIES = st.sampled_from([None, None, None, 40.0])
TERMS = st.builds(OrderTerms, SWAPS, SLIPPAGES, EXPIRIES)
ORDER = st.tuples(st.just("order"), TERMS, st.sampled_from(["", "", "", "signed", "stored", "sending"]))
STEPS = st.one_of(
    ORDER,
    ORDER,
    st.tuples(st.just("burst"), st.lists(TERMS, min_size=2, max_size=5)),
    st.tuples(st.just("again"), st.integers(0, 7)),
    st.tuples(st.just("again"), st.integers(0, 7)),
    *fault_steps(FAULTS, METHODS),
)


class FaultyOrders(ChainFaults):
    """Takes the steps of a life."""

    def __init__(self, world: OrderWorld) -> None:
        super().__init__(world.served)
        self.world = world

    async def check(self) -> None:
        self.world.keep_step()
        await self.world.follow()
        self.world.check()

    async def _order(self, terms: OrderTerms, ends: str) -> None:
        await self.world.place(terms, ends)

    async def _burst(self, orders: Sequence[OrderTerms]) -> None:
        await asyncio.gather(*map(self.world.place, orders))

    async def _again(self, place: int) -> None:
        await self.world.attempt_again(place)

    async def _pass(self, slots: int, every: int) -> None:
        await self.world.pass_slots(slots, every)

    async def _skip(self, slots: int) -> None:
        await self.world.pass_slots(slots, 4, blocks=False)

    async def _kill(self, slots_away: int, nodes: int, loss: str) -> None:
        self.world.clock.move(slots_away * 0.2)
        self.world.keep_step()
        self.lose(slots_away, nodes, loss)
        await self.world.restart()

    async def _second(self) -> None:
        await self.world.add_or_exchange()

    async def heal(self) -> None:
        """Let the nodes answer again until everything has ended, and compare wallet and books."""
        shown = None
        self.clear()
        for _ in range(120):
            await self.take(("pass", 16, 16))
            if self.world.has_ended() and (shown := await self.world.shown()) is not None:
                break
        assert self.world.has_ended()
        books = self.world.by_the_books()
        assert self.world.held() == books
        assert shown == [books] * len(self.world.instances)


async def live(steps: Sequence[Step]) -> None:
    clock = LoopClock()
    async with served_chain(*[""] * ENDPOINTS, clock=clock, started=False) as served:
        world = OrderWorld(served, clock)
        orders = FaultyOrders(world)
        try:
            await world.start()
            for step in steps:
                await orders.take(step)
            await orders.heal()
        finally:
            await world.stop()


FIRST = ("order", OrderTerms(SWAP_OF_ONE_SOL, 50, None), "")


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=4, max_size=16))
def test_every_order_is_executed_at_most_once_and_the_books_are_right(steps: list[Step]) -> None:
    asyncio.run(live([FIRST, *steps]))


@pytest.mark.long
@settings(deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=8, max_size=30))
def test_every_order_is_executed_at_most_once_in_two_thousand_runs(steps: list[Step]) -> None:
    asyncio.run(live([FIRST, *steps]))
