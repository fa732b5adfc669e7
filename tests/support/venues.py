"""The venues that the fault suites run on, each with its judge."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from tests.support.judge import Verdict, judge
from tests.support.servers import TestServers
from tests.support.solana_judge import judge_on_chain
from tests.support.solana_sandbox import SandboxProcess, sandbox_process


class JudgedVenue(Protocol):
    """A venue, and what decides whether orders on it ended rightly."""

    @property
    def name(self) -> str:
        """Its name in a report."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of a service on it."""
        ...

    @property
    def clients(self) -> int:
        """How many clients of a ``Load`` it is to be used by."""
        ...

    @property
    def pause_s(self) -> float:
        """How long each of them waits between two orders, in seconds."""
        ...

    @property
    def order_s(self) -> float:
        """How much longer an order takes than in the paper market, on a busy machine, in seconds."""
        ...

    def judge(self, servers: TestServers, promised: Iterable[str] = ()) -> Verdict:
        """Compare every order with what the venue executed; ``promised`` orders must exist."""
        ...


class PaperMarket:
    """The paper market, whose ledger is in the orders' database."""

    name = "paper"
    settings: Mapping[str, str] = {}
    clients = 4
    pause_s = 0.03
    order_s = 0.0

    def judge(self, servers: TestServers, promised: Iterable[str] = ()) -> Verdict:
        """Compare every order with the ledger."""
        return judge(servers, promised)


PAPER = PaperMarket()


class SolanaChain:
    """A sandbox chain in a process of its own, used by the services of one database.

    Args:
        process: The chain, on which nothing was traded yet.
    """

    name = "solana"
    # An order costs twenty times as much, and the chain's part of that as much again.
    clients, pause_s = 1, 0.1
    order_s = 5.0

    def __init__(self, process: SandboxProcess) -> None:
        self.process = process
        self._before = process.balances()

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of a service on it."""
        return self.process.settings

    def judge(self, servers: TestServers, promised: Iterable[str] = ()) -> Verdict:
        """Compare every order with the chain; nothing that was sent can land afterwards."""
        return judge_on_chain(servers, self.process, self._before, promised)


@contextmanager
def solana_chain(endpoints: int = 2) -> Iterator[SolanaChain]:
    """Run a chain with so many endpoints."""
    with sandbox_process(endpoints) as process:
        yield SolanaChain(process)


@contextmanager
def judged_venue(name: str) -> Iterator[JudgedVenue]:
    """Return the venue with the name that the setting ``VENUE`` has."""
    if name == "paper":
        yield PAPER
    else:
        with solana_chain() as chain:
            yield chain
