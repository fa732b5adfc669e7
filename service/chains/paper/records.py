"""Parameters and results of the paper market's ledger."""

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
    """A commit of the market: its leader's epoch, and its number. A later commit compares greater."""

    epoch: int
    sequence: int


class Arrival(NamedTuple):
    """A waiting transaction, and the first slot in which it may execute."""

    transaction: PaperTransaction
    lands_slot: int


class Settlement(NamedTuple):
    """A commit of executions: its number, and when its transactions landed."""

    sequence: int
    landing: Landing


@dataclass(frozen=True, slots=True)
class Group:
    """The content of one commit.

    Attributes:
        executions: The outcomes of transactions.
        answers: The verdicts on commands, by id.
        pools: The changed pools, as a JSON array of ``pool_json.pool_row``.
        opened: The listed pools, in the same form.
        closed: The delisted pools.
        tokens: The listed tokens.
        wallets: The changed balances.
        traded: The volume, by any trader.
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
    """A submitted transaction, with its signed message and the time that it takes to land."""

    transaction: PaperTransaction
    message: str
    delay_ms: int
