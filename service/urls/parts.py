"""Splits a server's URL by RFC 3986. Errors contain no part of the URL except names of options."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

_ENCODE = (
    'in a user name, a password and a value, "/", "?", "#", "[", "]", "@" and "%" must be percent-encoded,'
    ' such as "/" as %2F, "#" as %23, "[" as %5B, "@" as %40'
)
_ADDRESS = "must be of the form {scheme}://user:password@host:port/name; its host or port is invalid"

_HOST = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%25[\w.-]+)?\]|[^\[\]:\s]*)(?::(?P<port>[0-9]{1,5})?)?", re.ASCII
)
_OPTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


class InvalidUrlError(ValueError):
    """An invalid URL. The message says why, without anything that may be secret."""


@dataclass(frozen=True, slots=True)
class UrlParts:
    """A URL's parts, percent-decoded.

    Attributes:
        hosts: Each with its port, or None.
        path: With its leading slash.
        options: The query's names and values, in order.
    """

    user: str | None
    password: str | None
    hosts: list[tuple[str, int | None]]
    path: str
    options: list[tuple[str, str]]


def split(url: str) -> UrlParts:
    """Split a URL.

    Raises:
        InvalidUrlError: It is malformed or ambiguous: an unescaped character can end a password early.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    credentials, _, addresses = authority.rpartition("@")
    if (
        "#" in rest
        or "@" in tail
        or re.search(r"[@\[\]]", credentials)
        or re.search(r"%(?![0-9A-Fa-f]{2})", rest)
    ):
        raise InvalidUrlError(_ENCODE)
    path, _, query = tail.partition("?")
    user, _, password = credentials.partition(":")
    return UrlParts(
        user=_decode(user) or None,
        password=_decode(password) or None,
        hosts=[_host(address, scheme) for address in addresses.split(",")],
        path=_decode(path),
        options=_options(query),
    )


def refuse_option(name: str, why: str) -> InvalidUrlError:
    """Return the error of an option that cannot be used."""
    return InvalidUrlError(f'its option "{name}" {why}')


def _decode(text: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidUrlError("a percent-encoded character is not UTF-8") from None
    if "\0" in decoded:
        raise InvalidUrlError("must not contain %00")
    return decoded


def _host(address: str, scheme: str) -> tuple[str, int | None]:
    match = _HOST.fullmatch(address)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise InvalidUrlError(_ADDRESS.format(scheme=scheme))
    return _decode(match["host"]).strip("[]"), port


def _options(query: str) -> list[tuple[str, str]]:
    # Unlike in form data, a plus sign is not a space, as in libpq.
    options = []
    for option in filter(None, query.split("&")):
        name, _, value = option.partition("=")
        name = _decode(name)
        if not _OPTION_NAME.fullmatch(name):
            raise InvalidUrlError("the name of one of its options is invalid")
        options.append((name, _decode(value)))
    return options
