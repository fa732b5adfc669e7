"""The market's news, from instance to instance: what was submitted, and what was committed.

A message may be lost: the leader reads the ledger every second, and a follower sees by the number of the
next commit that it has missed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from service.domain.attempt import Landing
from service.domain.failures import FailureCode
from service.venues.paper.ledger import Arrival, Edition, Submission, from_full
from service.venues.paper.market import Execution, PaperPool
from service.venues.paper.transaction import read
from service.venues.venue import Traded


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the leader's: what was executed and when it landed, and the pools that changed."""

    edition: Edition
    landing: Landing
    pools: list[PaperPool]
    executions: list[Execution]
    traded: list[Traded]


@dataclass(frozen=True, slots=True)
class Submitted:
    """Transactions that a follower has taken in, for the leader to execute."""

    arrivals: list[Arrival]


@dataclass(frozen=True, slots=True)
class Listed:
    """There is a new pool."""


def encode_commit(
    edition: Edition,
    landing: Landing,
    pools: str,
    executions: Sequence[Execution],
    traded: Sequence[Traded],
) -> bytes:
    """Write a commit; ``pools`` is JSON already."""
    return orjson.dumps(
        {
            "edition": list(edition),
            "landing": [landing.slot, landing.at],
            "pools": orjson.Fragment(pools),
            "executions": [[e.signature, e.amount_in, e.amount_out, e.failure] for e in executions],
            "traded": [[t.pool_id, t.second, t.volume_a, t.volume_b] for t in traded],
        }
    )


def encode_submitted(submissions: Sequence[Submission], arrivals: Sequence[Arrival]) -> bytes:
    """Write transactions that have arrived."""
    messages = {submission.transaction.signature: submission.message for submission in submissions}
    return orjson.dumps(
        {
            "submitted": [
                [arrival.transaction.signature, messages[arrival.transaction.signature], arrival.lands_slot]
                for arrival in arrivals
            ]
        }
    )


def encode_listed() -> bytes:
    """Write that there is a new pool."""
    return orjson.dumps({"listed": True})


def decode(message: bytes) -> Commit | Submitted | Listed:
    """Read a message.

    Raises:
        ValueError, TypeError, LookupError: it is not one of ours.
    """
    news = orjson.loads(message)
    if "submitted" in news:
        return Submitted(
            [Arrival(read(signature, text), slot) for signature, text, slot in news["submitted"]]
        )
    if "listed" in news:
        return Listed()
    return Commit(
        Edition(*news["edition"]),
        Landing(*news["landing"]),
        [from_full(row) for row in news["pools"]],
        [
            Execution(signature, amount_in, amount_out, failure and FailureCode(failure))
            for signature, amount_in, amount_out, failure in news["executions"]
        ],
        [Traded(*each) for each in news["traded"]],
    )
