"""Every statement whose rows are read by name returns the columns that are read."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import service
from service.clock import Clock
from service.postgres.database import Database
from service.postgres.migrations import migrate
from service.postgres.queries import SQL_FOLDER, Query, load
from tests.support.servers import TestServers


def taken() -> Iterator[Query[tuple[object, ...]]]:
    """Return the statements whose rows the code reads by name."""
    package = Path(str(service.__file__)).parent
    for path in sorted(package.rglob("*.py")):
        if "= query(" in path.read_text(encoding="utf-8"):
            module = import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))
            for value in vars(module).values():
                if isinstance(value, Query) and value.columns is not None:
                    yield value


STATEMENTS = {query.name: query for query in taken()}


GIVEN = {
    "seed": 1,
    "slot_ms": 400,
    "name": "x",
    "reason": "x",
    "leader": "01900000-0000-7000-8000-000000000000",
    "alone": True,
    "instance": "01900000-0000-7000-8000-000000000000",
    "kind": "paper",
    "market": "1",
    "wallet": "user",
}


def test_all_modules_are_searched() -> None:
    assert {"get_orders", "claim_orders", "append_transitions", "paper_get_pools", "audit"} <= set(STATEMENTS)
    assert set(STATEMENTS) <= set(load(SQL_FOLDER))


@pytest.fixture
async def empty(servers: TestServers) -> Database:
    database = Database(servers.database_url, size=1, clock=Clock())
    await migrate(database)
    await database.close()
    return database


@pytest.mark.usefixtures("empty")
def test_the_returned_columns_are_those_that_are_read(servers: TestServers) -> None:
    with servers.connect() as link:
        for query in STATEMENTS.values():
            with link.cursor() as cursor:
                # Most statements need no parameters: they then do nothing, and return the same columns.
                given = dict.fromkeys(re.findall(r"%\((\w+)\)s", query.sql)) | GIVEN
                cursor.execute(query.sql, given)
                assert cursor.description is not None, query.name
                query.check([column.name for column in cursor.description])
            link.rollback()
