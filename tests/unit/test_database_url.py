"""A database URL is split into what libpq takes and the schema; judged by libpq's own parser."""

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn
from service.store.database import dsn_from_url

MODEST = settings(max_examples=40, deadline=None)

ADDRESS = "postgresql://user:secret@db.example:5433/engine"
PARTS = {"user": "user", "password": "secret", "host": "db.example", "port": "5433", "dbname": "engine"}


@pytest.mark.parametrize(
    ("url", "parts", "schema"),
    [
        (ADDRESS, PARTS, "public"),
        (f"{ADDRESS}?", PARTS, "public"),
        (f"{ADDRESS}?schema=trading", PARTS, "trading"),
        (f"{ADDRESS}?schema=", PARTS, "public"),
        (f"{ADDRESS}?schema=My%20Trades", PARTS, "My Trades"),
        (f"{ADDRESS}?sslmode=require&schema=a", {**PARTS, "sslmode": "require"}, "a"),
        (f"{ADDRESS}?connect_timeout=3", {**PARTS, "connect_timeout": "3"}, "public"),
        (f"{ADDRESS}?options=-c%20geqo%3Doff", {**PARTS, "options": "-c geqo=off"}, "public"),
        ("postgres://localhost/engine", {"host": "localhost", "dbname": "engine"}, "public"),
        ("postgresql://[::1]:5432/engine", {"host": "::1", "port": "5432", "dbname": "engine"}, "public"),
        (
            "postgresql://a,b:5433/engine?target_session_attrs=read-write",
            {"host": "a,b", "port": ",5433", "dbname": "engine", "target_session_attrs": "read-write"},
            "public",
        ),
        (
            "postgresql:///engine?host=%2Ftmp%2Fx&user=postgres",
            {"host": "/tmp/x", "user": "postgres", "dbname": "engine"},  # noqa: S108 - only a name
            "public",
        ),
        (
            "postgresql://%2Ftmp%2Fx/engine?schema=a",
            {"host": "/tmp/x", "dbname": "engine"},  # noqa: S108 - only a name
            "a",
        ),
    ],
)
def test_libpq_understands_what_is_left_of_a_url(url: str, parts: dict[str, str], schema: str) -> None:
    dsn, found = dsn_from_url(url)
    assert parse_dsn(dsn) == parts
    assert found == schema


@pytest.mark.parametrize(
    "parameter",
    ["schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout", "sslaccept"],
)
def test_a_parameter_of_prismas_is_left_out(parameter: str) -> None:
    dsn, _ = dsn_from_url(f"{ADDRESS}?connect_timeout=3&{parameter}=1&sslmode=prefer")
    assert parse_dsn(dsn) == {**PARTS, "connect_timeout": "3", "sslmode": "prefer"}


visible = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@MODEST
@given(user=visible, password=visible)
def test_any_password_arrives_as_it_is(user: str, password: str) -> None:
    encoded = f"{quote(user, safe='')}:{quote(password, safe='')}"
    dsn, schema = dsn_from_url(f"postgresql://{encoded}@db.example/engine?schema=trading")
    assert parse_dsn(dsn) == {"user": user, "password": password, "host": "db.example", "dbname": "engine"}
    assert schema == "trading"


@MODEST
@given(password=visible, schema=visible)
def test_any_value_of_a_parameter_arrives_as_it_is(password: str, schema: str) -> None:
    url = f"postgresql:///engine?password={quote(password, safe='')}&schema={quote(schema, safe='')}"
    dsn, found = dsn_from_url(url)
    assert parse_dsn(dsn) == {"password": password, "dbname": "engine"}
    assert found == schema
