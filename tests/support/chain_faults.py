"""Steps of random lives on a served chain: time, forks, and faults of its nodes."""

from abc import ABC, abstractmethod
from typing import Any

from hypothesis import strategies as st

from service.sandbox.faults import GARBAGE
from tests.support.served_chain import ServedChain

ENDPOINTS = 3

Step = tuple[Any, ...]
Fault = tuple[str, dict[str, Any]]

_STANDING: st.SearchStrategy[Fault] = st.one_of(
    st.tuples(
        st.sampled_from(["behind", "unhealthy", "hole"]),
        st.fixed_dictionaries({"slots": st.integers(1, 300)}),
    ),
    st.tuples(st.just("no_history"), st.just({})),
)


def fault_steps(kinds: list[str], methods: list[str]) -> list[st.SearchStrategy[Step]]:
    """Return the steps, each with its name first; ``ChainFaults`` takes them.

    Args:
        kinds: Faults without arguments.
        methods: The calls that can have one alone.
    """
    faults: st.SearchStrategy[Fault] = st.one_of(
        st.tuples(st.sampled_from(kinds), st.just({})),
        st.tuples(st.just("garbage"), st.fixed_dictionaries({"form": st.sampled_from(GARBAGE)})),
    )
    places = st.integers(0, ENDPOINTS - 1)
    return [
        st.tuples(st.just("pass"), st.integers(1, 60), st.integers(1, 8)),
        st.tuples(st.just("pass"), st.integers(100, 200), st.integers(4, 16)),
        st.tuples(st.just("skip"), st.integers(1, 20)),
        st.tuples(st.just("fork"), st.integers(1, 31), st.booleans()),
        st.tuples(st.just("move"), st.integers(1, 500)),
        st.tuples(
            st.just("fault"),
            places,
            faults,
            st.sampled_from([None, *methods]),
            st.one_of(st.integers(1, 10), st.none()),
            st.sampled_from([100_000, 500_000, 1_000_000]),
        ),
        st.tuples(st.just("standing"), places, _STANDING),
        st.tuples(st.just("heal"), places),
        st.tuples(
            st.just("kill"),
            st.sampled_from([0, 3, 40, 160, 400]),
            st.integers(0, ENDPOINTS),
            st.sampled_from(["no_history", "hole"]),
        ),
        st.tuples(st.just("second")),
    ]


class ChainFaults(ABC):
    """Takes the steps that need nothing but the chain; what lives on it takes the others.

    Args:
        served: The chain, behind HTTP.
    """

    def __init__(self, served: ServedChain) -> None:
        self.served = served

    async def take(self, step: Step) -> None:
        """Take a step, by the method of its name, and check what is known then."""
        name, *arguments = step
        done = getattr(self, f"_{name}")(*arguments)
        if done is not None:
            await done
        await self.check()

    @abstractmethod
    async def check(self) -> None:
        """Do what follows each step, and check what must always be true."""

    @abstractmethod
    async def _pass(self, slots: int, every: int) -> None:
        """Let slots pass."""

    @abstractmethod
    async def _skip(self, slots: int) -> None:
        """Let slots pass without blocks."""

    def _fork(self, depth: int, keep: bool) -> None:
        self.served.chain.fork(depth, keep=keep)

    def _move(self, bps: int) -> None:
        self.served.sandbox.control.mover.arm(bps)

    def _fault(self, place: int, fault: Fault, method: str | None, times: int | None, rate: int) -> None:
        kind, arguments = fault
        self.served.nodes[place].faults.arm(kind, method=method, times=times, rate_ppm=rate, **arguments)

    def _standing(self, place: int, fault: Fault) -> None:
        kind, arguments = fault
        self.served.nodes[place].faults.arm(kind, times=None, **arguments)

    def _heal(self, place: int) -> None:
        self.served.nodes[place].faults.clear()

    def lose(self, slots_away: int, nodes: int, loss: str) -> None:
        """Let so many nodes have lost what happened in the slots away, or before as well."""
        arguments: dict[str, Any] = {"slots": slots_away} if loss == "hole" else {}
        for node in self.served.nodes[:nodes]:
            node.faults.arm(loss, times=None, **arguments)
            # It is lost from now on.
            node.has_kept(self.served.chain.tip.slot)

    def clear(self) -> None:
        """Let all nodes answer again."""
        for node in self.served.nodes:
            node.faults.clear()
