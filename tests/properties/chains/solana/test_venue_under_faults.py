"""Random orders, faults of three nodes, forks, kills and a second instance: no order is executed twice.

Each order's end is the chain's truth, everything ends once the nodes answer again, and then the wallet holds
what it had at first and what the ends say.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.quote import SwapMode
from service.sandbox.faults import GARBAGE
from tests.support.local_chain import SOL
from tests.support.served_chain import served_chain
from tests.support.solana_orders import LoopClock, OrderTerms, OrderWorld, WantedSwap

ENDPOINTS = 3
EXACT_IN, EXACT_OUT = SwapMode
METHODS = (
    None,
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
)
Step = tuple[Any, ...]
Fault = tuple[str, dict[str, Any]]

FAULTS: st.SearchStrategy[Fault] = st.one_of(
    st.tuples(
        st.sampled_from(
            ["drop", "late", "lose_answer", "down", "rate_limit", "unavailable", "error", "torn"]
        ),
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


class FaultyOrders:
    """Takes the steps of a life."""

    def __init__(self, world: OrderWorld) -> None:
        self.world = world

    async def take(self, step: Step) -> None:
        """Take a step, by the method of its name, and check what is known then."""
        name, *arguments = step
        done = getattr(self, f"_{name}")(*arguments)
        if done is not None:
            await done
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

    def _fork(self, depth: int, keep: bool) -> None:
        self.world.chain.fork(depth, keep=keep)

    def _move(self, bps: int) -> None:
        self.world.served.sandbox.control.mover.arm(bps)

    def _fault(self, place: int, fault: Fault, method: str | None, times: int | None, rate: int) -> None:
        kind, arguments = fault
        self.world.nodes[place].faults.arm(kind, method=method, times=times, rate_ppm=rate, **arguments)

    def _standing(self, place: int, fault: Fault) -> None:
        kind, arguments = fault
        self.world.nodes[place].faults.arm(kind, times=None, **arguments)

    def _heal(self, place: int) -> None:
        self.world.nodes[place].faults.clear()

    async def _kill(self, slots_away: int, nodes: int, loss: str) -> None:
        """Start again later, when so many nodes have lost what happened in between, or before as well."""
        self.world.clock.move(slots_away * 0.2)
        self.world.keep_step()
        arguments: dict[str, Any] = {"slots": slots_away} if loss == "hole" else {}
        for node in self.world.nodes[:nodes]:
            node.faults.arm(loss, times=None, **arguments)
            # It is lost from now on.
            node.has_kept(self.world.chain.tip.slot)
        await self.world.restart()

    async def _second(self) -> None:
        await self.world.add_or_exchange()

    async def heal(self) -> None:
        """Let the nodes answer again until everything has ended, and compare wallet and books."""
        shown = None
        for node in self.world.nodes:
            node.faults.clear()
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
