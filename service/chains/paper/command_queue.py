"""The commands in PostgreSQL: any instance adds them, the leader executes them; answers are kept for an hour.

Every method raises ``VenueUnavailableError`` while PostgreSQL is unavailable.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from service.chains.paper.commands import Command, CommandBody, Verdict, decode, encode
from service.chains.paper.ledger import json_of, run
from service.postgres.database import Database
from service.postgres.queries import query


class _CommandRow(NamedTuple):
    id: str
    body: CommandBody


class _AnswerRow(NamedTuple):
    id: str
    answer: str


_ADD = query("paper_add_commands")
_GET_WAITING = query("paper_get_waiting_commands", _CommandRow)
_GET_ANSWERS = query("paper_get_answers", _AnswerRow)
_FORGET = query("paper_forget_commands")

_KEPT_S = 3_600


class CommandQueue:
    """The waiting commands, and the verdicts on the executed ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, commands: Sequence[Command]) -> None:
        """Store commands; idempotent by their ids."""
        rows = [{"id": command.id, "body": encode(command)} for command in commands]
        await run(self._database, _ADD, {"rows": json_of(rows)})

    async def waiting(self, limit: int) -> list[Command]:
        """Return the oldest waiting commands."""
        return [decode(row.id, row.body) for row in await run(self._database, _GET_WAITING, {"limit": limit})]

    async def verdicts(self, command_ids: Collection[str]) -> dict[str, Verdict]:
        """Return the verdicts of those commands that were executed, by id."""
        rows = await run(self._database, _GET_ANSWERS, {"ids": list(command_ids)})
        return {row.id: Verdict(row.answer) for row in rows}

    async def forget(self) -> None:
        """Delete commands that were answered long ago."""
        await run(self._database, _FORGET, {"seconds": _KEPT_S})
