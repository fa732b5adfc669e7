"""DATABASE_URL and REDIS_URL: known options are applied, others rejected by name; errors have no secrets."""

import re
import socket
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn
from redis.asyncio.connection import SSLConnection

from service.urls import InvalidUrlError, parse_postgres_url, parse_redis_url

MODEST = settings(max_examples=60, deadline=None)
ADDRESS = "postgresql://user:secret@db.example:5433/engine"
PARTS = {"user": "user", "password": "secret", "host": "db.example", "port": "5433", "dbname": "engine"}
READERS = {
    "postgresql": parse_postgres_url,
    "redis": parse_redis_url,
    "rediss": parse_redis_url,
}


@pytest.mark.parametrize(
    ("url", "schema"),
    [
        (ADDRESS, "public"),
        (f"{ADDRESS}?", "public"),
        (f"{ADDRESS}?schema=trading", "trading"),
        (f"{ADDRESS}?schema=", "public"),
        (f"{ADDRESS}?schema=My%20Trades", "My Trades"),
        (f"{ADDRESS}?sslmode=require&schema=a", "a"),
        (f"{ADDRESS}?options=-c%20geqo%3Doff", "public"),
        (f"{ADDRESS}?ssl=true", "public"),
        ("postgres://localhost/engine", "public"),
        ("postgresql://", "public"),
        ("postgresql://[::1]:5432/engine", "public"),
        ("postgresql://a,b:5433/engine?target_session_attrs=read-write", "public"),
        ("postgresql:///engine?host=%2Ftmp%2Fx&user=postgres", "public"),
        ("postgresql:///engine?password=a+b", "public"),
        ("postgresql://%2Ftmp%2Fx/engine?schema=a", "a"),
    ],
)
def test_a_url_is_parsed_as_libpq_parses_it(url: str, schema: str) -> None:
    found = parse_postgres_url(url)
    assert found.parameters == parse_dsn(re.sub(r"schema=[^&]*&?", "", url))
    assert found.schema == schema
    assert found.ignored == ()


@pytest.mark.parametrize(
    "text", ["supa=base-pooler.x", "pgbouncer=true", "connection_limit=1", "sslaccept=strict"]
)
def test_an_option_for_other_clients_is_ignored_and_named(text: str) -> None:
    found = parse_postgres_url(f"{ADDRESS}?sslmode=prefer&{text}")
    assert found.parameters == {**PARTS, "sslmode": "prefer"}
    assert found.ignored == (text.partition("=")[0],)


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 3), ("?connect_timeout=7", 7), ("?connect_timeout=0", 60)]
)
def test_the_connect_timeout_is_applied(text: str, seconds: int) -> None:
    assert parse_postgres_url(ADDRESS + text).connect_timeout_s == seconds


@pytest.mark.parametrize(
    "option",
    [
        *("sslmod=require", "ssl=false", "async=1", "replication=database", "client_encoding=latin1"),
        *("connect_timeout=soon", "port=x", f"schema={'x' * 64}", "search_path=eng"),
    ],
)
def test_an_unusable_option_is_rejected_by_name(option: str) -> None:
    with pytest.raises(InvalidUrlError, match=f'"{option.partition("=")[0]}"'):
        parse_postgres_url(f"{ADDRESS}?{option}")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://cache:7000/3", {"host": "cache", "port": 7000, "db": 3}),
        ("redis://cache?db=4", {"host": "cache", "db": 4}),
        ("redis://[::1]:7/0?family=6", {"host": "::1", "port": 7, "family": socket.AF_INET6}),
        ("redis://cache?family=0", {"family": socket.AF_UNSPEC}),
        ("redis://cache?family=4", {"family": socket.AF_INET}),
        ("redis://:p%2F%23@cache", {"password": "p/#"}),
        ("redis://me:p%40@cache", {"username": "me", "password": "p@"}),
        ("redis://cache?socket_timeout=2.5&socket_connect_timeout=1", {"socket_timeout": 2.5}),
        ("redis://cache?client_name=engine&health_check_interval=5", {"client_name": "engine"}),
        ("redis://cache?socket_keepalive=no", {"socket_keepalive": False}),
        ("rediss://cache?ssl_cert_reqs=none", {"ssl_cert_reqs": "none"}),
        ("rediss://cache?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/ca.pem", {"ssl_cert_reqs": "required"}),
        ("rediss://cache?ssl_check_hostname=false", {"ssl_check_hostname": False}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("unix://me:p@/run/redis.sock", {"username": "me", "password": "p"}),
    ],
)
def test_the_options_of_a_redis_url_are_applied(url: str, expected: dict[str, object]) -> None:
    found = parse_redis_url(url)
    assert {name: found.parameters.get(name) for name in expected} == expected
    assert issubclass(found.connection_class, SSLConnection) == url.startswith("rediss:")


@pytest.mark.parametrize(
    "option",
    [
        *(
            "decode_responses=True",
            "protocol=3",
            "max_connections=1",
            "retry_on_timeout=1",
            "encoding=latin1",
        ),
        *(
            "db=abc",
            "db=-1",
            "db=",
            "family=5",
            "socket_timeout=0",
            "socket_timeout=nan",
            "socket_timeout=61",
        ),
        *("ssl_cert_reqs=none", "sentinel=x", "socket_keepalive=maybe"),
    ],
)
def test_an_unusable_redis_option_is_rejected_by_name(option: str) -> None:
    with pytest.raises(InvalidUrlError, match=f'"{option.partition("=")[0]}"'):
        parse_redis_url(f"redis://cache?{option}")


@pytest.mark.parametrize(
    "address", ["cache/abc", "cache/-1", "a,b", "cache:0", "cache:65536", "cache:x", "[::1", "a b"]
)
def test_an_unusable_redis_address_is_rejected(address: str) -> None:
    with pytest.raises(InvalidUrlError):
        parse_redis_url(f"redis://{address}")


@pytest.mark.parametrize("url", ["unix://", "unix://host/run/redis.sock"])
def test_a_redis_socket_needs_a_path_and_no_host(url: str) -> None:
    with pytest.raises(InvalidUrlError):
        parse_redis_url(url)


SECRETS = [
    "s3cr/et",
    "s3cr#et",
    "s3cr[et",
    "s3cr]et",
    "s3cr@et",
    "s3cr?et",
    "s3cr%et",
    "12/s3cret",
    "12?s3cret=x",
]


@pytest.mark.parametrize("scheme", READERS)
@pytest.mark.parametrize("secret", SECRETS)
def test_an_unescaped_password_is_rejected_with_the_fix_and_not_repeated(scheme: str, secret: str) -> None:
    with pytest.raises(InvalidUrlError, match="must be percent-encoded") as refused:
        READERS[scheme](f"{scheme}://user:{secret}@host:5432/0")
    assert "s3cr" not in str(refused.value)


visible = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@MODEST
@given(user=visible, password=visible)
def test_any_escaped_password_is_decoded_exactly(user: str, password: str) -> None:
    encoded = f"{quote(user, safe='')}:{quote(password, safe='')}"
    postgres = parse_postgres_url(f"postgresql://{encoded}@db.example/engine?schema=trading")
    assert postgres.parameters == {
        "user": user,
        "password": password,
        "host": "db.example",
        "dbname": "engine",
    }
    redis = parse_redis_url(f"redis://{encoded}@cache").parameters
    assert (redis["username"], redis["password"]) == (user, password)


pieces = st.lists(st.sampled_from(["qzq", "12", *"/?#[]@:%&=,+ "]), min_size=1, max_size=8).map("".join)


@MODEST
@given(secret=pieces, scheme=st.sampled_from(sorted(READERS)))
def test_no_part_of_a_password_is_in_an_error(secret: str, scheme: str) -> None:
    said = ""
    try:
        READERS[scheme](f"{scheme}://u:{secret}@h/0")
    except InvalidUrlError as error:
        said = str(error)
    assert "qzq" not in said


@MODEST
@example(password="%01", schema="%41%80")
@given(password=visible, schema=visible)
def test_any_value_of_a_parameter_is_decoded_exactly(password: str, schema: str) -> None:
    assume(len(schema.encode()) < 64)
    url = f"postgresql:///engine?password={quote(password, safe='')}&schema={quote(schema, safe='')}"
    found = parse_postgres_url(url)
    assert found.parameters == {"password": password, "dbname": "engine"}
    assert found.schema == schema
