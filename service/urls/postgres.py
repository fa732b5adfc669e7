"""Parses a PostgreSQL URL into libpq's parameters and a schema."""

import re
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from service.urls.parts import UrlParts, refuse_option, split

_CONNECT_TIMEOUT_S = 3
_LONGEST_CONNECT_TIMEOUT_S = 60

_OF_OTHERS = frozenset(
    {
        # Prisma's
        "connection_limit",
        "pool_timeout",
        "pgbouncer",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
        "single_use_connections",
        # Supabase's and Vercel's
        "supa",
        "workaround",
    }
)
"""Options in the URLs of hosting providers that only other clients use."""

_NOT_OURS = frozenset({"client_encoding", "replication", "fallback_application_name"})


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """A parsed PostgreSQL URL.

    Attributes:
        parameters: libpq's, by keyword.
        schema: The schema of the tables.
        connect_timeout_s: How long one connection may take to open.
        ignored: The names of options that only other clients use.
    """

    parameters: dict[str, str]
    schema: str
    connect_timeout_s: int
    ignored: tuple[str, ...]


def parse_postgres_url(url: str) -> PostgresUrl:
    """Parse ``postgresql://user:password@host:port/database?schema=name``, with libpq's options.

    Raises:
        InvalidUrlError: It is malformed, or has an unknown option.
    """
    parts = split(url)
    ignored = tuple(sorted({name for name, _ in parts.options if name in _OF_OTHERS}))
    options = dict(pair for pair in parts.options if pair[0] not in _OF_OTHERS)
    schema = options.pop("schema", "") or "public"
    if len(schema.encode()) > 63:
        raise refuse_option("schema", "must be at most 63 bytes")
    timeout_s = _connect_timeout_s(options.pop("connect_timeout", ""))
    parameters = _address(parts)
    for name, value in options.items():
        parameters |= _libpq_option(name, value)
    return PostgresUrl(parameters, schema, timeout_s, ignored)


def _address(parts: UrlParts) -> dict[str, str]:
    address = {
        "user": parts.user,
        "password": parts.password,
        "host": ",".join(host for host, _ in parts.hosts),
        "dbname": parts.path.removeprefix("/"),
    }
    if any(port for _, port in parts.hosts):
        address["port"] = ",".join(str(port or "") for _, port in parts.hosts)
    return {name: value for name, value in address.items() if value}


def _connect_timeout_s(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,6}", text):
        raise refuse_option("connect_timeout", "must be a whole number of seconds")
    if not text:
        return _CONNECT_TIMEOUT_S
    # In libpq, zero means no time-out.
    return min(int(text) or _LONGEST_CONNECT_TIMEOUT_S, _LONGEST_CONNECT_TIMEOUT_S)


def _libpq_option(name: str, value: str) -> dict[str, str]:
    if name in _NOT_OURS:
        raise refuse_option(name, "cannot be set: the engine sets it")
    if name == "port" and not re.fullmatch(r"[0-9]{1,5}(,[0-9]{0,5})*", value):
        raise refuse_option(name, "must be a port")
    if (name, value) == ("ssl", "true"):
        return {"sslmode": "require"}  # like libpq
    try:
        parse_dsn(make_dsn(**{name: "x"}))
    except psycopg2.Error:
        raise refuse_option(name, "is not an option of libpq or of the engine") from None
    return {name: value}
