"""Loads ``sql/``: every statement has a name, a line that says what it is for, and one user.

.. code-block:: sql

    -- name: get_order
    -- One order, whole.
    SELECT ...

A module takes the statements it runs at import, by ``query("get_order")``. A name that is not in
``sql/`` fails right there; a statement that nobody took fails the start (``verify``).
"""

from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel sql/ lies inside the package; in a checkout it stands beside it.
SQL_FOLDER = _PACKAGE / "sql" if (_PACKAGE / "sql").is_dir() else _PACKAGE.parent / "sql"

_NAME = "-- name: "


class QueryError(Exception):
    """``sql/`` and the code do not agree; the message names the statement."""


@dataclass(frozen=True, slots=True)
class Query:
    """A named statement with ``%(name)s`` parameters; a literal percent sign is written ``%%``."""

    name: str
    purpose: str
    sql: str


def parse(text: str, source: str) -> list[Query]:
    """Read one file's statements.

    Args:
        text: The file's content.
        source: The file's name, for errors.

    Raises:
        QueryError: Text before the first name, or a statement without a name, purpose or body.
    """
    head, *parts = text.split(_NAME)
    if any(line and not line.startswith("--") for line in head.splitlines()):
        raise QueryError(f"{source}: a statement stands before the first '{_NAME.strip()}'")
    return [_parse_statement(part, source) for part in parts]


def _parse_statement(part: str, source: str) -> Query:
    name, _, rest = part.partition("\n")
    name = name.strip()
    lines = rest.strip().splitlines()
    comments = 0
    while comments < len(lines) and lines[comments].startswith("--"):
        comments += 1
    purpose = " ".join(line.removeprefix("--").strip() for line in lines[:comments])
    sql = "\n".join(lines[comments:]).strip().rstrip(";")
    if not (name.isidentifier() and purpose and sql):
        raise QueryError(f"{source}: statement {name!r} needs a name, a purpose and a body")
    return Query(name, purpose, sql)


def load(folder: Path) -> dict[str, Query]:
    """Read every statement of a folder's ``*.sql`` files (its migrations are not statements).

    Raises:
        QueryError: No statement there, or one name twice.
    """
    queries: dict[str, Query] = {}
    for path in sorted(folder.glob("*.sql")):
        for statement in parse(path.read_text(encoding="utf-8"), path.name):
            if statement.name in queries:
                raise QueryError(f"{path.name}: statement {statement.name!r} exists already")
            queries[statement.name] = statement
    if not queries:
        raise QueryError(f"no statements in {folder}")
    return queries


_queries = load(SQL_FOLDER)
_taken: set[str] = set()


def query(name: str) -> Query:
    """Take a statement by name, as its one user.

    Raises:
        QueryError: There is none of that name, or another module has taken it.
    """
    if name not in _queries:
        raise QueryError(f"sql/ has no statement named {name!r}")
    if name in _taken:
        raise QueryError(f"statement {name!r} has a user already: share the function that runs it")
    _taken.add(name)
    return _queries[name]


def verify() -> None:
    """Check that every statement has a user.

    Raises:
        QueryError: Some have none; the message names them.
    """
    unused = sorted(set(_queries) - _taken)
    if unused:
        raise QueryError(f"sql/ has statements that nobody runs: {', '.join(unused)}")
