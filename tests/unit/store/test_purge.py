"""Old rows are deleted in steps, and the deletion ends although more become old meanwhile."""

from typing import cast

from service.postgres.database import Database
from service.postgres.queries import Query, Row
from service.store.purge import delete_in_steps
from tests.support.clock import ManualClock


class AgingRows:
    """A table of old rows, to which each statement adds some."""

    def __init__(self, old: int) -> None:
        self.old = old
        self.statements = 0

    async def run(self, _statement: object, parameters: dict[str, int]) -> list[tuple[bool]]:
        deleted = min(self.old, parameters["most"])
        self.old += 10 - deleted
        self.statements += 1
        assert self.statements < 10
        return [(True,)] * deleted


async def test_a_deletion_ends_although_rows_become_old_meanwhile() -> None:
    clock, rows = ManualClock(), AgingRows(0)
    statement: Query[Row] = Query("delete", "")
    assert await delete_in_steps(cast("Database", rows), clock, statement) == 0
    assert await delete_in_steps(cast("Database", rows), clock, statement) == 10
    assert rows.statements == 2
    assert clock.sleeps_s == []
