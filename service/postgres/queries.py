"""Loads ``sql/``: every statement has a name, a comment that states its purpose, and one user.

.. code-block:: sql

    -- name: get_order
    -- One order, whole.
    SELECT ... WHERE /* include: may_be_seen */;

    -- fragment: may_be_seen
    -- Whether an order is its reader's.
    o.account = %(account)s

SQL that several statements share is a fragment: it replaces ``/* include: its_name */`` when the files are
loaded.

A module takes the statements it runs at import, by ``query("get_order", OrderRow)``. A name that is not in
``sql/`` fails at once; a statement that no module uses fails the start (``verify``). ``OrderRow`` is a
NamedTuple with a field for each column: rows are read by name, and a type checker sees them. Rows of one
column need none.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, overload

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel sql/ lies inside the package; in a checkout it stands beside it.
SQL_FOLDER = _PACKAGE / "sql" if (_PACKAGE / "sql").is_dir() else _PACKAGE.parent / "sql"

_NAME = "-- name: "
_FRAGMENT = "-- fragment: "
_PART = re.compile(r"^(?=-- (?:name|fragment): )", re.MULTILINE)
_INCLUDE = re.compile(r"/\* include: (\w+) \*/")

Row = tuple[Any, ...]
"""A row as the driver returns it."""

R = TypeVar("R", bound=Row)
Named = TypeVar("Named", bound=NamedTuple)


class QueryError(Exception):
    """``sql/`` and the code do not match; the message names the statement."""


@dataclass(frozen=True, slots=True)
class Query(Generic[R]):
    """A named statement with ``%(name)s`` parameters; a literal percent sign is written ``%%``.

    Attributes:
        columns: The names of its columns; None: rows are returned as the driver's tuples.
        make: Builds a row from the driver's tuple.
    """

    name: str
    sql: str
    columns: tuple[str, ...] | None = None
    make: Callable[[Row], R] | None = None

    def check(self, columns: Sequence[str]) -> None:
        """Check the columns of a result.

        Raises:
            QueryError: They are not the columns that the code reads; the message names both.
        """
        if self.columns is not None and self.columns != tuple(columns):
            wanted = ", ".join(self.columns)
            raise QueryError(f"statement {self.name!r} returns {', '.join(columns)}; it should: {wanted}")


def parse(text: str, source: str, mark: str = _NAME) -> list[Query[Row]]:
    """Read one file's statements, or its fragments.

    Args:
        text: The file's content.
        source: The file's name, for errors.
        mark: The text before each name.

    Raises:
        QueryError: Text before the first name, or a statement without a name or a body.
    """
    head, *parts = _PART.split(f"\n{text}")
    if any(line and not line.startswith("--") for line in head.splitlines()):
        raise QueryError(f"{source}: there is a statement before the first '{_NAME.strip()}'")
    return [_parse_statement(part.removeprefix(mark), source) for part in parts if part.startswith(mark)]


def _parse_statement(part: str, source: str) -> Query[Row]:
    name, _, rest = part.partition("\n")
    name = name.strip()
    lines = rest.strip().splitlines()
    comments = 0
    while comments < len(lines) and lines[comments].startswith("--"):
        comments += 1
    sql = "\n".join(lines[comments:]).strip().rstrip(";")
    if not (name.isidentifier() and sql):
        raise QueryError(f"{source}: statement {name!r} needs a name and a body")
    return Query(name, sql)


def load(folder: Path) -> dict[str, Query[Row]]:
    """Load every statement of a folder's ``*.sql`` files, without its subfolder of migrations.

    Raises:
        QueryError: No statement there, one name twice, or a fragment that is missing or that none includes.
    """
    fragments = _load(folder, _FRAGMENT)
    queries = _load(folder, _NAME)
    if not queries:
        raise QueryError(f"no statements in {folder}")
    included = {name for statement in queries.values() for name in _INCLUDE.findall(statement.sql)}
    if included ^ fragments.keys():
        raise QueryError(f"fragments are missing or unused: {', '.join(sorted(included ^ fragments.keys()))}")
    if nested := [name for name, fragment in fragments.items() if _INCLUDE.search(fragment.sql)]:
        raise QueryError(f"a fragment cannot include another: {', '.join(nested)}")
    return {name: _with_fragments(statement, fragments) for name, statement in queries.items()}


def _load(folder: Path, mark: str) -> dict[str, Query[Row]]:
    found: dict[str, Query[Row]] = {}
    for path in sorted(folder.glob("*.sql")):
        for statement in parse(path.read_text(encoding="utf-8"), path.name, mark):
            if statement.name in found:
                raise QueryError(f"{path.name}: statement {statement.name!r} exists already")
            found[statement.name] = statement
    return found


def _with_fragments(statement: Query[Row], fragments: Mapping[str, Query[Row]]) -> Query[Row]:
    return replace(statement, sql=_INCLUDE.sub(lambda found: fragments[found[1]].sql, statement.sql))


_queries = load(SQL_FOLDER)
_taken: set[str] = set()


@overload
def query(name: str) -> Query[Row]: ...
@overload
def query(name: str, row: type[Named]) -> Query[Named]: ...
def query(name: str, row: type[NamedTuple] | None = None) -> Query[Any]:
    """Return a statement by name, for its only user.

    Args:
        name: Its name in ``sql/``.
        row: The type of its rows, with a field for each column, of the same name and in the same order.

    Raises:
        QueryError: There is no such statement, or it already has a user.
    """
    if name not in _queries:
        raise QueryError(f"sql/ has no statement named {name!r}")
    if name in _taken:
        raise QueryError(f"statement {name!r} has a user already: share the function that runs it")
    _taken.add(name)
    statement = _queries[name]
    return statement if row is None else replace(statement, columns=row._fields, make=row._make)


def verify() -> None:
    """Check that every statement has a user.

    Raises:
        QueryError: Some have no user; the message names them.
    """
    unused = sorted(set(_queries) - _taken)
    if unused:
        raise QueryError(f"sql/ has unused statements: {', '.join(unused)}")
