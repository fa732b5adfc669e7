"""The market's news, from instance to instance: what was submitted, and what was committed.

A message may be lost: the leader reads the ledger every second, and a follower sees by the number of the
next commit that it has missed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from service.domain.failures import FailureCode
from service.venues.paper.ledger import Arrival, Edition, Submission, from_full
from service.venues.paper.market import Execution, PaperPool
from service.venues.paper.transaction import read


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the leader's: what was executed, and the pools that changed, as they are now."""

    edition: Edition
    pools: list[PaperPool]
    executions: list[Execution]


@dataclass(frozen=True, slots=True)
class Submitted:
    """Transactions that a follower has taken in, for the leader to execute."""

    arrivals: list[Arrival]


def encode_commit(edition: Edition, pools: str, executions: Sequence[Execution]) -> bytes:
    """Write a commit; ``pools`` is JSON already."""
    return orjson.dumps(
        {
            "edition": list(edition),
            "pools": orjson.Fragment(pools),
            "executions": [[e.signature, e.amount_in, e.amount_out, e.failure] for e in executions],
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


def decode(message: bytes) -> Commit | Submitted:
    """Read a message.

    Raises:
        ValueError, TypeError, LookupError: it is not one of ours.
    """
    news = orjson.loads(message)
    if "submitted" in news:
        return Submitted(
            [Arrival(read(signature, text), slot) for signature, text, slot in news["submitted"]]
        )
    return Commit(
        Edition(*news["edition"]),
        [from_full(row) for row in news["pools"]],
        [
            Execution(signature, amount_in, amount_out, failure and FailureCode(failure))
            for signature, amount_in, amount_out, failure in news["executions"]
        ],
    )
