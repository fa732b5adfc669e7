"""What goes into the paper market's ledger and comes out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.chains.paper.market import Execution
from service.chains.paper.pool import PaperPool
from service.chains.paper.transaction import PaperTransaction
from service.chains.venue import Traded
from service.domain.tokens import Token
from service.domain.transaction import Landing

Wallets = Mapping[tuple[str, str], int]
"""Base units by owner and token."""


class CommitId(NamedTuple):
    """A commit of the market: its leader's epoch, and its number. Later ones are greater."""

    epoch: int
    sequence: int


class Arrival(NamedTuple):
    """A transaction that waits, and the first slot in which it may execute."""

    transaction: PaperTransaction
    lands_slot: int


class Settlement(NamedTuple):
    """A commit of executions: its number, and when what it landed has landed."""

    sequence: int
    landing: Landing


@dataclass(frozen=True, slots=True)
class Group:
    """What is committed together.

    Attributes:
        executions: What became of transactions.
        answers: What came of commands, by id.
        pools: The pools that changed, as a JSON array of ``pool_json.pool_row``.
        opened: Those that were listed, in the same way.
        closed: Those that were delisted.
        tokens: Those that were listed.
        wallets: The balances that changed.
        traded: What was traded, by anyone.
    """

    executions: Sequence[Execution]
    answers: Mapping[str, str]
    pools: str
    opened: str
    closed: Sequence[PaperPool]
    tokens: Sequence[Token]
    wallets: Wallets
    traded: Sequence[Traded]


@dataclass(frozen=True, slots=True)
class Submission:
    """A transaction as it arrives: what was signed, and how long it takes to land."""

    transaction: PaperTransaction
    message: str
    delay_ms: int
