"""The configured RPC URLs: their roles and budgets.

``https://host/path?api-key=secret#read;rps=25``: after the URL a role (``#read``, ``#send`` or ``#both``, the
default) and calls per second, in any order; after that of a WebSocket only calls per second. An error never
repeats what was given: a URL may hold a key anywhere.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

_MOST_CALLS_PER_SECOND = 10_000
_SHORTEST_SECRET = 6
_HTTP_PORT, _WEBSOCKET_PORT = 8899, 8900
_SEPARATORS = re.compile("&|%3B", re.IGNORECASE)
_OPTION = re.compile(r"[#;][^#;]*")
_RATE = re.compile(r";rps=([1-9][0-9]{0,4})")


class InvalidRpcUrlsError(ValueError):
    """The list of URLs cannot be used; the message says which one, by its place, and why."""


class Role(StrEnum):
    """What an endpoint is used for."""

    READ = "read"
    SEND = "send"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class RpcUrl:
    """An endpoint as configured.

    Attributes:
        url: The whole URL, a secret: it is not part of the representation.
        name: What logs and errors show: the host, with its place in the list if others have the same host.
        role: What it is used for.
        rps: Reads per second, and sends per second; None: as many as it answers.
    """

    url: str = field(repr=False)
    name: str
    role: Role = Role.BOTH
    rps: int | None = None

    @property
    def host(self) -> str:
        """The host's name, without the port."""
        return urlsplit(self.url).hostname or ""

    def redact(self, text: str) -> str:
        """Return a text of the node without any part of the URL that may be a key."""
        for secret in self.secrets():
            text = text.replace(secret, "***")
        return text

    def secrets(self) -> list[str]:
        """Return all parts that may be a key, as written and as decoded, the longest first."""
        parts = urlsplit(self.url)
        found = {parts.query, parts.path, parts.username or "", parts.password or "", *parts.path.split("/")}
        # A semicolon, which some servers take for a separator, is written as %3B.
        for pair in (*parts.query.split("&"), *_SEPARATORS.split(parts.query)):
            name, is_pair, value = pair.partition("=")
            # A key may stand alone.
            found.add(value if is_pair else name)
        decoded = {decode(each) for each in found for decode in (unquote, unquote_plus)}
        secrets = [each for each in found | decoded if len(each) >= _SHORTEST_SECRET]
        return sorted(secrets, key=len, reverse=True)

    @property
    def reads(self) -> bool:
        """Whether it is read from."""
        return self.role is not Role.SEND

    @property
    def sends(self) -> bool:
        """Whether transactions are sent to it."""
        return self.role is not Role.READ


def parse_rpc_urls(text: str) -> tuple[RpcUrl, ...]:
    """Parse a list of URLs, separated by commas.

    Raises:
        InvalidRpcUrlsError: It is not such a list, or nothing could be read from it or sent to it.
    """
    found = [_parse(part.strip(), place) for place, part in enumerate(text.split(","), 1) if part.strip()]
    if not found:
        raise InvalidRpcUrlsError("must have at least one URL")
    for place, each in enumerate(found, 1):
        if any(each.url == other.url for other in found[: place - 1]):
            raise InvalidRpcUrlsError(f"URL {place} is there twice: each endpoint must be another one")
    if not any(each.reads for each in found) or not any(each.sends for each in found):
        raise InvalidRpcUrlsError("needs an endpoint to read from and one to send to: #read, #send or #both")
    hosts = Counter(each.host for each in found)
    return tuple(
        each if hosts[each.host] == 1 else replace(each, name=f"{each.host} ({place})")
        for place, each in enumerate(found, 1)
    )


def websocket_url(url: str) -> str:
    """Return the WebSocket of an endpoint: the same URL, except that Agave's own port 8899 has it on 8900."""
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    netloc = parts.netloc
    if parts.port == _HTTP_PORT:
        netloc = f"{netloc.removesuffix(str(_HTTP_PORT))}{_WEBSOCKET_PORT}"
    return parts._replace(scheme=scheme, netloc=netloc).geturl()


def parse_websocket_url(text: str) -> RpcUrl:
    """Parse the URL of a WebSocket, which may be followed by its calls per second.

    Raises:
        InvalidRpcUrlsError: It is none.
    """
    url, options = _divide(text)
    rps = _rps(options)
    if options and rps is None:
        raise InvalidRpcUrlsError(
            "may be followed by ;rps= with a whole number from 1 to"
            f" {_MOST_CALLS_PER_SECOND:,}, only; write # and ; of the URL itself as %23 and %3B"
        )
    parts = _split(url, ("ws", "wss"))
    if parts is None:
        raise InvalidRpcUrlsError("must be none, or a URL with a host, beginning with wss:// or ws://")
    return RpcUrl(parts.geturl(), parts.hostname or "", Role.READ, rps)


def _divide(text: str) -> tuple[str, str]:
    """Return a URL, and what follows it."""
    at = next((at for at, character in enumerate(text) if character in "#;"), len(text))
    return text[:at], text[at:]


def _rps(option: str) -> int | None:
    """Return the calls per second of an option; None if it is another one."""
    rate = _RATE.fullmatch(option)
    return int(rate[1]) if rate is not None and int(rate[1]) <= _MOST_CALLS_PER_SECOND else None


def _parse(text: str, place: int) -> RpcUrl:
    url, options = _divide(text)
    role, rps = Role.BOTH, None
    given: set[str] = set()
    for option in _OPTION.findall(options):
        found = _rps(option)
        if option[1:] in tuple(Role):
            role, kind = Role(option[1:]), "role"
        elif found is not None:
            rps, kind = found, "rps"
        else:
            raise InvalidRpcUrlsError(
                f"URL {place} may be followed by #read, #send or #both, and ;rps= with a whole number from 1"
                f" to {_MOST_CALLS_PER_SECOND:,}, only; write # and ; of the URL itself as %23 and %3B"
            )
        if kind in given:
            raise InvalidRpcUrlsError(f"URL {place} has its {kind} twice")
        given.add(kind)
    parts = _split(url, ("http", "https"))
    if parts is None:
        raise InvalidRpcUrlsError(f"URL {place} must be one with a host, beginning with https:// or http://")
    return RpcUrl(parts.geturl(), parts.hostname or "", role, rps)


def _split(url: str, schemes: Collection[str]) -> SplitResult | None:
    """Return a URL's parts, without a difference in case or an empty path; None if it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme not in schemes or not parts.hostname or any(c.isspace() for c in url):
        return None
    login, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}{host.lower()}", path=parts.path or "/")
