"""sql/ and the code agree: every statement has a name, a purpose and exactly one user."""

import ast
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

import service.cli.main
from service.postgres import queries
from service.postgres.queries import Query, QueryError, Row, load, parse, query, verify

GOOD = "-- name: get_order\n-- One order, whole.\nSELECT 1;\n"


def test_a_statement_has_its_name_and_its_body_without_its_purpose() -> None:
    head = "-- A file may begin with a comment.\n\n"
    first = "-- name: a\n-- What it\n-- is for.\nSELECT 1\n-- yes\nFROM b;\n\n"
    assert parse(head + first + GOOD, "x.sql") == [
        Query("a", "SELECT 1\n-- yes\nFROM b"),
        Query("get_order", "SELECT 1"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1;\n" + GOOD,
        "-- name: a\n-- Purpose only.\n",
        "-- name: a\n-- Purpose only.\n;\n",
        "-- name: \n-- No name.\nSELECT 1;\n",
        "-- name: not-a-name\n-- Purpose.\nSELECT 1;\n",
        "-- name: two names\n-- Purpose.\nSELECT 1;\n",
    ],
    ids=["text before", "no body", "empty body", "no name", "bad name", "two words"],
)
def test_a_statement_that_lacks_something_names_its_file(text: str) -> None:
    with pytest.raises(QueryError, match=r"x\.sql"):
        parse(text, "x.sql")


def test_a_folder_is_loaded_without_its_migrations(tmp_path: Path) -> None:
    (tmp_path / "orders.sql").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("not SQL")
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_schema.sql").write_text("CREATE TABLE orders ();")
    assert list(load(tmp_path)) == ["get_order"]


def test_a_duplicate_name_is_rejected_even_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text(GOOD)
    (tmp_path / "b.sql").write_text(GOOD)
    with pytest.raises(QueryError, match=r"b\.sql: statement 'get_order' exists already"):
        load(tmp_path)


FRAGMENT = "-- fragment: mine\n-- Whether it is its reader's.\naccount = %(account)s\n\n"


def test_a_fragment_is_included_from_any_file(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text(
        "-- name: one\n-- One.\nSELECT 1 WHERE /* include: mine */ AND true;\n\n"
        "-- name: two\n-- Two.\nSELECT 2 WHERE (/* include: mine */) OR /* include: mine */;\n"
    )
    (tmp_path / "b.sql").write_text(FRAGMENT + GOOD)
    loaded = load(tmp_path)
    assert list(loaded) == ["one", "two", "get_order"]
    assert loaded["one"].sql == "SELECT 1 WHERE account = %(account)s AND true"
    assert loaded["two"].sql == "SELECT 2 WHERE (account = %(account)s) OR account = %(account)s"


@pytest.mark.parametrize(
    "text",
    [GOOD + FRAGMENT, "-- name: one\n-- One.\nSELECT /* include: mine */;\n"],
    ids=["unused", "missing"],
)
def test_a_missing_or_unused_fragment_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text(text)
    with pytest.raises(QueryError, match="missing or unused: mine"):
        load(tmp_path)


def test_a_fragment_that_includes_another_is_rejected(tmp_path: Path) -> None:
    statement = "-- name: one\n-- One.\nSELECT /* include: outer */ AND /* include: mine */;\n\n"
    outer = "-- fragment: outer\n-- Both.\n/* include: mine */ AND true\n\n"
    (tmp_path / "a.sql").write_text(statement + outer + FRAGMENT)
    with pytest.raises(QueryError, match="cannot include another: outer"):
        load(tmp_path)


def test_a_folder_without_statements_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "empty.sql").write_text("-- Nothing yet.\n")
    with pytest.raises(QueryError, match="no statements"):
        load(tmp_path)


@pytest.fixture
def two_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Query[Row]] = {name: Query(name, "SELECT 1") for name in ("first", "second")}
    monkeypatch.setattr(queries, "_queries", found)
    monkeypatch.setattr(queries, "_taken", set())


@pytest.mark.usefixtures("two_statements")
def test_a_statement_is_taken_once() -> None:
    assert query("first").name == "first"
    with pytest.raises(QueryError, match="'first' has a user already"):
        query("first")


class FirstRow(NamedTuple):
    first: int
    second: str


@pytest.mark.usefixtures("two_statements")
def test_rows_are_read_by_name_if_the_columns_match() -> None:
    taken = query("first", FirstRow)
    assert taken.make is not None
    assert taken.make((1, "a")).second == "a"
    taken.check(["first", "second"])
    for columns in (["second", "first"], ["first"], ["first", "second", "third"]):
        with pytest.raises(QueryError, match=r"'first' returns .*; it should: first, second"):
            taken.check(columns)
    query("second").check(["anything"])


@pytest.mark.usefixtures("two_statements")
def test_an_unknown_name_is_rejected() -> None:
    with pytest.raises(QueryError, match="no statement named 'third'"):
        query("third")


@pytest.mark.usefixtures("two_statements")
def test_an_unused_statement_is_found() -> None:
    query("second")
    with pytest.raises(QueryError, match="unused statements: first"):
        verify()
    query("first")
    verify()


def taken_in(path: Path) -> list[str]:
    """Return the names in a module's calls of ``query("...")``."""
    return [
        str(call.args[0].value)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "query"
        and isinstance(call.args[0], ast.Constant)
    ]


def test_every_statement_and_every_fragment_states_its_purpose() -> None:
    for path in queries.SQL_FOLDER.glob("*.sql"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for line, following in pairwise(lines):
            if line.startswith(("-- name: ", "-- fragment: ")):
                assert re.match(r"-- \w", following), f"{path.name}: {line}"


def test_every_statement_in_sql_is_used_by_exactly_one_line_of_code() -> None:
    package = Path(str(service.__file__)).parent
    taken = Counter(name for path in package.rglob("*.py") for name in taken_in(path))
    assert taken == Counter(dict.fromkeys(load(queries.SQL_FOLDER), 1))


def test_the_program_leaves_no_statement_unused() -> None:
    verify()
