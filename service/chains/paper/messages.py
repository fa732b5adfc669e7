"""The market's messages between instances: submitted transactions, new commands, and commits.

A message may be lost: the leader reads the ledger every second, and a follower detects a missed commit by the
number of the next one.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import orjson

from service.chains.paper.commands import Verdict
from service.chains.paper.market import Execution
from service.chains.paper.pool import PaperPool
from service.chains.paper.pool_json import pool_from_row
from service.chains.paper.records import Arrival, CommitId, Group, Submission
from service.chains.paper.transaction import decode_message
from service.chains.venue import Traded
from service.domain.failures import FailureCode
from service.domain.tokens import Token
from service.domain.transaction import Landing


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the leader: its executions, their landing, and the changed pools.

    ``removed`` are ids of removed pools; ``tokens`` are new; ``answers`` are the verdicts on commands, by id.
    """

    commit_id: CommitId
    landing: Landing
    pools: list[PaperPool]
    executions: list[Execution]
    traded: list[Traded]
    removed: list[str]
    tokens: list[Token]
    answers: dict[str, Verdict]


@dataclass(frozen=True, slots=True)
class Submitted:
    """Transactions that another instance has stored, for the leader to execute."""

    arrivals: list[Arrival]


@dataclass(frozen=True, slots=True)
class CommandsWaiting:
    """Commands wait for the leader."""


def encode_commit(commit_id: CommitId, landing: Landing, group: Group) -> bytes:
    """Encode a commit."""
    return orjson.dumps(
        {
            "commit_id": list(commit_id),
            "landing": [landing.slot, landing.at],
            "pools": orjson.Fragment(group.pools),
            "opened": orjson.Fragment(group.opened),
            "gone": [pool.id for pool in group.closed],
            "tokens": [astuple(token) for token in group.tokens],
            "answers": group.answers,
            "executions": [[e.signature, e.amount_in, e.amount_out, e.failure] for e in group.executions],
            # Apart, since an earlier version takes four members of an execution.
            "residues": {e.signature: e.residue for e in group.executions if e.residue},
            "traded": [[t.pool_id, t.second, t.volume_a, t.volume_b] for t in group.traded],
        }
    )


def encode_submitted(submissions: Sequence[Submission], arrivals: Sequence[Arrival]) -> bytes:
    """Encode submitted transactions."""
    messages = {submission.transaction.signature: submission.message for submission in submissions}
    return orjson.dumps(
        {
            "submitted": [
                [arrival.transaction.signature, messages[arrival.transaction.signature], arrival.lands_slot]
                for arrival in arrivals
            ]
        }
    )


def encode_commands_waiting() -> bytes:
    """Encode that commands wait."""
    return orjson.dumps({"asked": True})


def decode(message: bytes) -> Commit | Submitted | CommandsWaiting:
    """Decode a message.

    Raises:
        ValueError, TypeError, LookupError: It is malformed.
    """
    fields = orjson.loads(message)
    if "submitted" in fields:
        return Submitted(
            [Arrival(decode_message(signature, text), slot) for signature, text, slot in fields["submitted"]]
        )
    if "asked" in fields:
        return CommandsWaiting()
    residues = fields.get("residues", {})
    return Commit(
        CommitId(*fields["commit_id"]),
        Landing(*fields["landing"]),
        [pool_from_row(row) for row in (*fields["pools"], *fields["opened"])],
        [
            Execution(
                signature,
                amount_in,
                amount_out,
                failure and FailureCode(failure),
                tuple((token, amount) for token, amount in residues.get(signature, ())),
            )
            for signature, amount_in, amount_out, failure in fields["executions"]
        ],
        [Traded(*each) for each in fields["traded"]],
        fields["gone"],
        [Token(*each) for each in fields["tokens"]],
        {command_id: Verdict(answer) for command_id, answer in fields["answers"].items()},
    )
