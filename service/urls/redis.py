"""Parses a Redis URL into the parameters of redis-py's connections."""

import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)

from service.urls.parts import InvalidUrlError, UrlParts, refuse_option, split

_LONGEST_TIMEOUT_S = 60
_YES_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FAMILIES = {"0": socket.AF_UNSPEC, "4": socket.AF_INET, "6": socket.AF_INET6}


class _TcpConnection(Connection):
    """A connection over IPv4, IPv6, or whichever the host name resolves to."""

    def __init__(self, *, family: int = socket.AF_UNSPEC, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._family = family

    def _connection_arguments(self) -> Mapping[str, object]:
        return {**super()._connection_arguments(), "family": self._family}


class _TlsConnection(_TcpConnection, SSLConnection):
    """A ``_TcpConnection`` with TLS."""


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a Redis URL says.

    Attributes:
        connection_class: The kind of connections that lead there.
        parameters: What they take, by name; what the URL does not set is left out.
    """

    connection_class: type[AbstractConnection]
    parameters: Mapping[str, object]


_CLASSES = {"unix": UnixDomainSocketConnection, "redis": _TcpConnection, "rediss": _TlsConnection}


def parse_redis_url(url: str) -> RedisUrl:
    """Parse ``redis://user:password@host:port/db``, ``rediss://`` or ``unix:///path?db=0``.

    Raises:
        InvalidUrlError: It is malformed, or has an unknown option.
    """
    scheme = url.partition(":")[0]
    parts = split(url)
    parameters = {"unix": _unix, "redis": _tcp, "rediss": _tcp}[scheme](parts)
    parameters |= {"username": parts.user, "password": parts.password}
    known = (
        _OPTIONS | (_TCP_OPTIONS if scheme != "unix" else {}) | (_TLS_OPTIONS if scheme == "rediss" else {})
    )
    for name, value in parts.options:
        if name in _SET_BY_ENGINE:
            raise refuse_option(name, "cannot be set: the engine sets it")
        if name not in known:
            raise refuse_option(name, f"is not an option of {scheme}://")
        try:
            parameters[name] = known[name](value)
        except (ValueError, KeyError):
            # Without the value, since the option may be a password.
            raise refuse_option(name, "has an invalid value") from None
    given = {name: value for name, value in parameters.items() if value is not None}
    return RedisUrl(_CLASSES[scheme], given)


def _unix(parts: UrlParts) -> dict[str, object]:
    if not parts.path or parts.hosts != [("", None)]:
        raise InvalidUrlError("must be of the form unix:///path?db=0")
    return {"path": parts.path}


def _tcp(parts: UrlParts) -> dict[str, object]:
    if len(parts.hosts) != 1:
        raise InvalidUrlError("must name exactly one host; Redis Cluster is not supported")
    [(host, port)] = parts.hosts
    database = parts.path.removeprefix("/") or "0"
    try:
        db = _number(database)
    except ValueError:
        raise InvalidUrlError("the database after the last slash must be a number") from None
    return {"host": host or "localhost", "port": port or 6379, "db": db}


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(text)
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text) or not 0 < float(text) <= _LONGEST_TIMEOUT_S:
        raise ValueError(text)
    return float(text)


def _yes_no(text: str) -> bool:
    return _YES_NO[text.lower()]


def _verify_mode(text: str) -> str:
    text = text.lower().removeprefix("cert_")
    if text not in {"none", "optional", "required"}:
        raise ValueError(text)
    return text


def _tls_version(text: str) -> ssl.TLSVersion:
    return {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[text]


_Reader = Callable[[str], object]
_OPTIONS: dict[str, _Reader] = {
    "db": _number,
    "username": str,
    "password": str,
    "client_name": str,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "health_check_interval": _number,
}
_TCP_OPTIONS: dict[str, _Reader] = {"family": _FAMILIES.__getitem__, "socket_keepalive": _yes_no}
_TLS_OPTIONS: dict[str, _Reader] = {
    "ssl_cert_reqs": _verify_mode,
    "ssl_check_hostname": _yes_no,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_ciphers": str,
    "ssl_min_version": _tls_version,
}
_SET_BY_ENGINE = frozenset(
    {
        "decode_responses",
        "encoding",
        "encoding_errors",
        "legacy_responses",
        "max_connections",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "single_connection_client",
        "timeout",
    }
)
